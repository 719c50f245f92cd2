"""Images inside the page."""

import base64
import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from dreamorph.reporting.encode import png_bytes, svg_uri, webp_uri


def drawn() -> Figure:
    figure = Figure(figsize=(2, 2))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.imshow(np.linspace(0, 1, 256).reshape(16, 16), cmap="gray", aspect="auto")
    ax.plot([0, 15], [0, 15], color="#ffb000", linewidth=1.5)
    ax.set_axis_off()
    return figure


def test_a_png_of_few_colours_keeps_greys_grey_and_lines_coloured() -> None:
    figure = drawn()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    exact = np.asarray(Image.open(buffer).convert("RGB")).astype(int)
    small = Image.open(io.BytesIO(png_bytes(figure, dpi=100)))
    assert small.mode == "P"
    got = np.asarray(small.convert("RGB")).astype(int)
    grey = np.ptp(exact, axis=2) == 0
    assert np.ptp(got[grey], axis=1).max() == 0
    assert np.abs(got - exact)[grey].max() <= 1
    assert np.abs(got - exact)[~grey].max() <= 20


def test_a_picture_without_colour() -> None:
    figure = Figure(figsize=(1, 1))
    assert png_bytes(figure).startswith(b"\x89PNG")


def test_a_picture_of_the_page_stays_close_to_what_was_drawn() -> None:
    figure = drawn()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    exact = np.asarray(Image.open(buffer).convert("RGB")).astype(int)
    uri = webp_uri(figure, dpi=100)
    assert uri.startswith("data:image/webp;base64,")
    got = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB"))
    assert np.abs(got - exact).mean() < 3


def test_an_svg_is_the_same_every_time() -> None:
    assert svg_uri(drawn()) == svg_uri(drawn())
    assert svg_uri(drawn()).startswith("data:image/svg+xml;base64,")


def test_a_figure_is_painted_once_and_can_be_taken_in_every_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figure, painted = drawn(), []
    draw = FigureCanvasAgg.draw
    monkeypatch.setattr(FigureCanvasAgg, "draw", lambda own: painted.append(1) or draw(own))
    webp, png, svg = webp_uri(figure), png_bytes(figure), svg_uri(figure)
    assert len(painted) == 1
    assert (webp, png, svg) == (webp_uri(drawn()), png_bytes(drawn()), svg_uri(drawn()))
