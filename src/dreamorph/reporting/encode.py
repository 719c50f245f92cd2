"""Figures as data that a page carries inside itself, and as files beside it."""

import base64
import io
from weakref import WeakKeyDictionary

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

DPI = 120
#: Of WebP, in percent: less tints thin coloured lines.
_QUALITY = 90
_GREYS, _GREY_SPREAD = 144, 8
_PAINTED: WeakKeyDictionary[Figure, tuple[int, np.ndarray]] = WeakKeyDictionary()


def webp_uri(figure: Figure, dpi: int = DPI) -> str:
    """A WebP as a data URI, half the bytes of a PNG of few colours."""
    packed = io.BytesIO()
    Image.fromarray(_painted(figure, dpi)).save(packed, format="WEBP", quality=_QUALITY, method=4)
    return _uri("image/webp", packed.getvalue())


def png_bytes(figure: Figure, dpi: int = DPI) -> bytes:
    """A PNG of few colours, which every dashboard shows."""
    small = _few_colours(_painted(figure, dpi))
    packed = io.BytesIO()
    small.save(packed, format="PNG", optimize=True)
    return packed.getvalue()


def svg_uri(figure: Figure) -> str:
    """An SVG as a data URI, the same bytes every time."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "dreamorph"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return _uri("image/svg+xml", buffer.getvalue())


def _painted(figure: Figure, dpi: int) -> np.ndarray:
    """Pixels `(H, W, 3)`; painting takes longest, so a figure is painted once."""
    known = _PAINTED.get(figure)
    if known is not None and known[0] == dpi:
        return known[1]
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.ascontiguousarray(np.array(canvas.buffer_rgba())[..., :3])
    _PAINTED[figure] = dpi, pixels
    return pixels


def _few_colours(pixels: np.ndarray) -> Image.Image:
    """An image `(H, W, 3)` of 256 colours, a third of the bytes: even greys stay grey.

    Ways to choose a palette for all pixels at once tint the greys or lose thin lines.
    """
    values = pixels.astype(np.int16)
    grey = np.ptp(values, axis=2) <= _GREY_SPREAD
    index = np.rint(values.mean(axis=2) * (_GREYS - 1) / 255).astype(np.uint8)
    ramp = np.rint(np.linspace(0, 255, _GREYS)).astype(np.uint8)
    palette = np.repeat(ramp[:, None], 3, axis=1)
    if not grey.all():
        strip = Image.fromarray(pixels[~grey][None])
        rest = strip.quantize(
            256 - _GREYS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
        colours = np.array(rest.getpalette(), dtype=np.uint8).reshape(-1, 3)
        palette = np.concatenate([palette, colours[: 256 - _GREYS]])
        index[~grey] = np.asarray(rest)[0] + _GREYS
    small = Image.fromarray(index)
    small.putpalette(palette.tobytes())
    return small


def _uri(mime: str, content: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"
