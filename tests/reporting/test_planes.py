"""Orientation: a voxel on the patient's right must appear at the viewer's left."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from dreamorph.reporting.figures import planes
from dreamorph.reporting.style import new_figure

FULL = ((0, 3), (0, 4), (0, 5))


def marked(index: tuple[int, int, int]) -> torch.Tensor:
    volume = torch.zeros(4, 5, 6)
    volume[index] = 1
    return volume


@pytest.mark.parametrize(
    ("plane", "index", "row", "column"),
    [
        # right, anterior, superior ends of the axes have the highest index
        (planes.AXIAL, (3, 4, 0), "top", "left"),
        (planes.AXIAL, (0, 0, 0), "bottom", "right"),
        (planes.CORONAL, (3, 0, 5), "top", "left"),
        (planes.CORONAL, (0, 0, 0), "bottom", "right"),
        (planes.SAGITTAL, (0, 4, 5), "top", "left"),
        (planes.SAGITTAL, (0, 0, 0), "bottom", "right"),
    ],
)
def test_radiological_orientation(
    plane: planes.Plane, index: tuple[int, int, int], row: str, column: str
) -> None:
    cut = planes.cut(plane, index, (1, 1, 1), FULL)
    (place,) = np.argwhere(cut.view(marked(index)) == 1)
    shape = cut.view(marked(index)).shape
    assert place[0] == (0 if row == "top" else shape[0] - 1)
    assert place[1] == (0 if column == "left" else shape[1] - 1)


def test_the_letters_match_the_orientation() -> None:
    assert planes.AXIAL.letters == "RLAP"
    assert planes.CORONAL.letters == "RLSI"
    assert planes.SAGITTAL.letters == "APSI"


def test_the_view_keeps_its_millimetres() -> None:
    cut = planes.cut(planes.CORONAL, (0, 0, 0), (1.0, 9.0, 3.0), FULL)
    assert cut.size_mm == (4.0, 18.0)
    assert cut.height == pytest.approx(4.5)


def test_the_box_holds_all_content_and_a_voxel_more() -> None:
    masks = torch.stack([marked((1, 2, 3)), marked((2, 2, 4))]) > 0
    assert planes.bounds(masks) == ((0, 3), (1, 3), (2, 5))
    assert planes.bounds(torch.zeros(4, 5, 6, dtype=torch.bool)) == FULL


def test_a_cropped_view_shows_the_same_voxel() -> None:
    index = (2, 3, 4)
    cut = planes.cut(planes.AXIAL, index, (1, 1, 1), ((1, 3), (2, 4), (0, 5)))
    assert cut.view(marked(index)).tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_the_focus_is_where_most_of_the_label_is() -> None:
    labels = torch.zeros(8, 8, 8, dtype=torch.uint8)
    labels[2:5, 3, 1:7] = 1
    at = planes.focus(labels)
    assert at[0] == 3
    assert at[1] == 3
    assert at[2] in (3, 4)
    assert planes.widest_plane(labels) == planes.CORONAL


def test_the_focus_of_nothing_is_the_middle() -> None:
    empty = torch.zeros(8, 6, 4, dtype=torch.uint8)
    assert planes.focus(empty) == (4, 3, 2)
    assert planes.focus(empty, torch.zeros(8, 6, 4, dtype=torch.bool)) == (4, 3, 2)


def test_contours_follow_the_label_in_the_view() -> None:
    labels = torch.zeros(8, 8, 8, dtype=torch.uint8)
    labels[5:7, 2:4, 4] = 1
    cut = planes.cut(planes.AXIAL, (0, 0, 4), (1, 1, 1), ((0, 7), (0, 7), (0, 7)))
    ax = Figure().subplots()
    planes.contours(ax, labels, cut)
    (path,) = ax.collections[0].get_paths()
    # x 5..6 is shown in columns 1..2, y 2..3 in rows 4..5, each outline half a voxel further out
    assert path.vertices.min(axis=0).tolist() == [0.5, 3.5]
    assert path.vertices.max(axis=0).tolist() == [2.5, 5.5]


def test_the_window_ignores_padding_and_survives_a_constant() -> None:
    image = torch.full((4, 4, 4), -100.0)
    image[1:3] = torch.linspace(0, 1, 32).reshape(2, 4, 4)
    low, high = planes.window(image, image > -1)
    assert 0 <= low < 0.05
    assert 0.95 < high <= 1
    assert planes.window(torch.ones(2, 2, 2), torch.ones(2, 2, 2)) == (0.5, 1.5)


def test_many_labels_leave_the_panels_their_room() -> None:
    heights = []
    for count in (2, 30):
        figure = new_figure(4.8, 3.0)
        ax = figure.subplots()
        planes.legend(figure, {k: f"structure {k}" for k in range(1, count + 1)}, {})
        figure.draw_without_rendering()
        heights.append(ax.get_position().height * figure.get_figheight())
        box = figure.legends[0].get_window_extent()
        assert box.y1 <= ax.get_window_extent().y0
    assert heights[1] > 0.8 * heights[0]


@pytest.mark.parametrize("width", [3.0, 4.8, 9.6])
@pytest.mark.parametrize("names", [4 * ["bone"], ["lateral ventricles", "thalamus", "caudate"]])
def test_a_legend_stays_within_its_figure(width: float, names: list[str]) -> None:
    figure = new_figure(width, 3.0)
    figure.subplots()
    lines = {"outline of the source": {"color": "white"}}
    planes.legend(figure, dict(enumerate(names, start=1)), lines)
    figure.canvas.draw()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
