"""Connected components of a source's labels, and which of them a dream still shows.

A dream voxel interpolates the voxels of one cell of the source, which all touch one another. So
those of them that have the dream voxel's label are of one component: the one that it shows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import ndimage


@dataclass(frozen=True)
class Components:
    """The components of a labelled volume, numbered from 1 over all labels.

    Attributes:
        numbers: component of each voxel, `(*shape)`, 0 where there is no label.
        label_of: label of each component, `(n + 1,)`; 0 for number 0.
    """

    numbers: np.ndarray
    label_of: np.ndarray


def components_of(labels: np.ndarray, n_labels: int) -> Components:
    """Components of each label 1..n of `(*shape)`, through faces, edges and corners."""
    numbers = np.zeros(labels.shape, np.int32)
    label_of = [0]
    boxes = ndimage.find_objects(labels.astype(np.int32), n_labels)
    for label, box in enumerate(boxes, start=1):
        if box is None:
            continue
        own = labels[box] == label
        found, n = ndimage.label(own, np.ones((3,) * labels.ndim, bool))
        numbers[box][own] = found[own] + len(label_of) - 1
        label_of += [label] * n
    kind = np.min_scalar_type(len(label_of))  # one of these is kept for every source
    return Components(numbers.astype(kind), np.array(label_of))


def shown_components(
    labels: np.ndarray, points: np.ndarray, spacing_mm: Sequence[float], source: Components
) -> np.ndarray:
    """Which components of the source some voxel of a dream shows, bool `(n + 1,)`; 0 always.

    Args:
        labels: of the dream, `(*shape)`.
        points: where each voxel reads, `(ndim, *shape)` in grid millimetres of the source.
        spacing_mm: voxel size of the source.
        source: its components.
    """
    several = np.bincount(source.label_of, minlength=int(labels.max(initial=0)) + 1) > 1
    present = np.bincount(labels.ravel(), minlength=len(several)) > 0
    # the only component of its label is there if the label is
    shown = np.where(several[source.label_of], False, present[source.label_of])
    shown[0] = True
    if shown.all():
        return shown
    where = several[labels]
    given = labels[where]
    for place in _corners(points[:, where], source.numbers.shape, spacing_mm):
        seen = source.numbers[place]
        shown[seen[source.label_of[seen] == given]] = True
        if shown.all():
            break
    return shown


def _corners(
    points: np.ndarray, shape: Sequence[int], spacing_mm: Sequence[float]
) -> Iterator[tuple[np.ndarray, ...]]:
    """Voxels that are interpolated at points `(ndim, n)`: first the nearest, which mostly says it.

    Beyond the grid its outermost voxels are repeated.
    """
    sides = []
    for axis, size, step in zip(points, shape, spacing_mm, strict=True):
        at = np.clip(axis / step + (size - 1) / 2, 0, size - 1)
        sides.append([np.rint(at), np.floor(at), np.ceil(at)])
    indices = [[side.astype(np.intp) for side in axis] for axis in sides]
    yield tuple(axis[0] for axis in indices)
    yield from product(*(axis[1:] for axis in indices))
