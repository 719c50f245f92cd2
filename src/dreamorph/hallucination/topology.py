"""Check `topology`: a dream's labels hang together as its source's do.

Hand-drawn labels carry handles and holes one voxel wide, which open and close when a label is
merely resampled: counted exactly, a fifth of mild smooth warps of hippocampus labels "changes"
topology. So each mask, source and dream alike, is smoothed by 0.7 voxel and cut at one half before
counting. A tunnel or island one voxel wide vanishes by that on both sides; a tear one voxel thick
through the whole label stays, and so does a hole of three voxels. What vanishes here is still
caught where it was invented: `provenance` recomputes every label voxel.

What the source has and the smoothing takes away can still be lost: an island of two voxels a side
is gone on both sides, whether the dream shows it or not. So each connected component of the
source's labels, as they are, has to be shown by at least one voxel of the dream. One whose image
leaves the grid counts as lost, as it does in the Betti numbers.

Some labels have no countable topology on their grid: a wall one voxel thin, bone cut out by a
threshold. An affine map cannot tear anything, so what it changes is resampling alone. Each source
is therefore resampled under several small affine maps, and a dream's numbers must lie in the range
these controls give. For a solid label the range is a single value. In the same way a dream may lose
a component that a control loses.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy import ndimage

from dreamorph.dreaming import AffineWarpConfig
from dreamorph.dreaming.samplers import random_affine
from dreamorph.hallucination.betti import Betti, betti_numbers
from dreamorph.hallucination.components import Components, components_of, shown_components
from dreamorph.hallucination.config import AuditConfig
from dreamorph.hallucination.evidence import DreamEvidence
from dreamorph.hallucination.registry import check
from dreamorph.hallucination.result import Finding
from dreamorph.spatial import SpatialTransform, sample
from dreamorph.spatial.transform import argmax_labels, one_hot

#: A label that loses more than this share of its volume to the smoothing is too thin for it.
_THIN = 0.3
#: The controls: small maps, in voxels, such as the pose of a dream may bring.
_CONTROLS = AffineWarpConfig(rotation_deg=10.0, log_scale=0.1, shear=0.05, shift_mm=1.0)


@dataclass(frozen=True)
class Topology:
    """Betti numbers of a labelled volume.

    Attributes:
        betti: one triple per label 1..n, and one of all labels together where there are several.
        sigmas: the smoothing each was counted under, voxels; 0 for labels too thin for it.
        lowest, highest: range of the same numbers over the source and its affine controls.
        components: the connected components of the labels.
        may_go: which of them resampling alone loses, by their numbers.
    """

    betti: tuple[Betti, ...]
    sigmas: tuple[float, ...]
    lowest: tuple[Betti, ...]
    highest: tuple[Betti, ...]
    components: Components = field(compare=False, repr=False)
    may_go: tuple[bool, ...]

    @property
    def uncertain(self) -> bool:
        """Whether resampling alone changes some number."""
        return self.lowest != self.highest


def topology_of_source(
    labels: np.ndarray, n_labels: int, sigma: float, controls: int = 0
) -> Topology:
    """Betti numbers of a source's labels `(*shape)`, choosing per label whether it is too thin.

    `controls` affine resamplings of the labels, always the same, say what resampling changes.
    """
    parts = _parts(labels, n_labels)
    sigmas = tuple(_fitting_sigma(part, sigma) for part in parts)
    betti = _count(parts, sigmas)
    components = components_of(labels, n_labels)
    counts, may_go = [betti], np.zeros(len(components.label_of), bool)
    for moved, shown in _resampled(labels, components, n_labels, controls):
        counts.append(_count(_parts(moved, n_labels), sigmas))
        may_go |= ~shown
    seen = np.array(counts)
    lowest, highest = _triples(seen.min(0)), _triples(seen.max(0))
    return Topology(betti, sigmas, lowest, highest, components, tuple(may_go.tolist()))


def same_topology(labels: np.ndarray, source: Topology, n_labels: int) -> bool:
    """Whether a dream's labels `(*shape)` have Betti numbers in the range of the source's."""
    found = np.array(_count(_parts(labels, n_labels), source.sigmas))
    return bool((found >= source.lowest).all() and (found <= source.highest).all())


def lost_components(
    labels: np.ndarray, points: torch.Tensor, spacing_mm: Sequence[float], source: Topology
) -> int:
    """How many components of the source a dream does not show, though resampling keeps them.

    Args:
        labels: of the dream, `(*shape)`.
        points: where each of its voxels reads, `(ndim, *shape)` in grid millimetres.
        spacing_mm: voxel size.
        source: of `topology_of_source`.
    """
    places = points.detach().cpu().numpy()
    shown = shown_components(labels, places, spacing_mm, source.components)
    return int(np.count_nonzero(~shown & ~np.array(source.may_go)))


@check(
    "topology",
    stage="dreams",
    severity="gate",
    quantity="dreams whose labels have other Betti numbers than their source resampled",
    unit="%",
    source="Betti numbers as in FDA SyIDE; smoothing and affine controls are our own",
    needs_labels=True,
)
def topology(evidence: DreamEvidence, config: AuditConfig) -> Finding:
    """Share of dreams that tear, hole or merge a label; none is allowed."""
    n = len(evidence.dreams.labels)
    rule = "0: in the range of the source's affine resamplings, and no component lost"
    if not n:
        return Finding(float("nan"), 0.0, rule, 0, None, "no dream")
    sources = _sources(evidence, config.topology_sigma_voxels, config.topology_controls)
    poorer = _poorer(evidence, sources)
    changed = int((poorer | _changed(evidence, sources)).sum())
    exactly = int(_changed(evidence, _sources(evidence, 0, 0)).sum())
    detail = (
        f"{changed} of {n} dreams, {int(poorer.sum())} of them lost a component; Betti numbers "
        f"without smoothing and controls {exactly}"
    )
    if uncertain := sum(source.uncertain for source in sources.values()):
        detail += f"; {uncertain} of {len(sources)} sources change when merely resampled"
    if small := sum(sum(source.may_go) for source in sources.values()):
        total = sum(len(source.may_go) - 1 for source in sources.values())
        detail += f", {small} of their {total} components can get lost by it"
    if evidence.rejection_note:
        detail += f"; {evidence.rejection_note}"
    return Finding(100 * changed / n, 0.0, rule, n, changed == 0, detail)


def _sources(evidence: DreamEvidence, sigma: float, controls: int) -> dict[int, Topology]:
    reals = evidence.reals
    return {
        row: topology_of_source(_array(reals.labels[row]), reals.n_labels, sigma, controls)
        for row in set(evidence.dreams.source_index.tolist())
    }


def _changed(evidence: DreamEvidence, sources: dict[int, Topology]) -> np.ndarray:
    """Which dreams have other Betti numbers than their source, bool `(n,)`."""
    rows = evidence.dreams.source_index.tolist()
    same = [
        same_topology(_array(labels), sources[row], evidence.reals.n_labels)
        for labels, row in zip(evidence.dreams.labels, rows, strict=True)
    ]
    return ~np.array(same, bool)


def _poorer(evidence: DreamEvidence, sources: dict[int, Topology]) -> np.ndarray:
    """Which dreams lost a component of their source, bool `(n,)`."""
    dreams, spacing_mm = evidence.dreams, evidence.reals.spacing_mm
    lost = []
    for index, row in enumerate(dreams.source_index.tolist()):
        points = dreams.transforms[index : index + 1].points()[0]
        lost.append(lost_components(_array(dreams.labels[index]), points, spacing_mm, sources[row]))
    return np.array(lost, int) > 0


def _resampled(
    labels: np.ndarray, components: Components, n_labels: int, controls: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Labels under small affine maps, rendered as dreams are, and the components that they show.

    Nothing leaves the grid by it.
    """
    where = np.nonzero(labels)
    if not controls or not len(where[0]):
        return
    box = tuple(slice(w.min(), w.max() + 1) for w in where)
    inner = labels[box]
    rim = [(3 + n // 4,) * 2 for n in inner.shape]
    inner = np.pad(inner, rim)
    source = replace(components, numbers=np.pad(components.numbers[box], rim))
    ndim = inner.ndim
    generator = torch.Generator().manual_seed(0)
    affines = random_affine(controls, ndim, _CONTROLS, generator)
    still = SpatialTransform.identity(1, inner.shape, (1.0,) * ndim)
    chances = one_hot(torch.from_numpy(inner)[None, None], n_labels)
    for affine in affines:
        points = still.before(affine[None]).points()
        moved = _array(argmax_labels(sample(chances, points, still.extent_mm))[0])
        yield moved, shown_components(moved, points[0].numpy(), still.spacing_mm, source)


def _triples(numbers: np.ndarray) -> tuple[Betti, ...]:
    return tuple((int(a), int(b), int(c)) for a, b, c in numbers)


def _array(labels: torch.Tensor) -> np.ndarray:
    return np.asarray(labels[0].detach().cpu().numpy())


def _parts(labels: np.ndarray, n_labels: int) -> list[np.ndarray]:
    parts = [labels == value for value in range(1, n_labels + 1)]
    if n_labels > 1:
        # all together: labels that drift apart or grow into one another change only this one
        parts.append(labels > 0)
    return parts


def _count(parts: Sequence[np.ndarray], sigmas: Sequence[float]) -> tuple[Betti, ...]:
    return tuple(
        betti_numbers(_smoothed(part, sigma)) for part, sigma in zip(parts, sigmas, strict=True)
    )


def _fitting_sigma(part: np.ndarray, sigma: float) -> float:
    before = np.count_nonzero(part)
    lost = before - np.count_nonzero(_smoothed(part, sigma))
    return 0.0 if lost > _THIN * before else sigma


def _smoothed(part: np.ndarray, sigma: float) -> np.ndarray:
    where = np.nonzero(part)
    if sigma == 0 or not len(where[0]):
        return part
    box = tuple(slice(w.min(), w.max() + 1) for w in where)
    padded = np.pad(part[box], 2).astype(np.float32)
    return np.asarray(ndimage.gaussian_filter(padded, sigma, mode="constant", truncate=3.0) >= 0.5)
