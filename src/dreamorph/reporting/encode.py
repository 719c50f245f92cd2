"""Figures as data that a page carries inside itself."""

import base64
import io

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

DPI = 120


def png_uri(figure: Figure, dpi: int = DPI) -> str:
    """A PNG of few colours as a data URI; the figure is emptied."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    figure.clear()
    buffer.seek(0)
    with Image.open(buffer) as image:
        # Grey slices and a few line colours: a palette takes a third of the bytes. Of Pillow's
        # ways to choose one, only this keeps the colours of thin lines (error <= 14 of 255).
        small = image.convert("RGB").quantize(
            256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
    packed = io.BytesIO()
    small.save(packed, format="PNG", optimize=True)
    return _uri("image/png", packed.getvalue())


def svg_uri(figure: Figure) -> str:
    """An SVG as a data URI, the same bytes every time; the figure is emptied."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "dreamorph"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    figure.clear()
    return _uri("image/svg+xml", buffer.getvalue())


def _uri(mime: str, content: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"
