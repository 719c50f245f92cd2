"""Check `topology`: a dream's labels hang together as its source's do.

Hand-drawn labels carry handles and holes one voxel wide, which open and close when a label is
merely resampled: counted exactly, a fifth of mild smooth warps of hippocampus labels "changes"
topology. So each mask, source and dream alike, is smoothed by 0.7 voxel and cut at one half before
counting. A tunnel or island one voxel wide vanishes by that on both sides; a tear one voxel thick
through the whole label stays, and so does a hole of three voxels. What vanishes here is still
caught where it was invented: `provenance` recomputes every label voxel.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from dreamorph.hallucination.betti import Betti, betti_numbers
from dreamorph.hallucination.config import AuditConfig
from dreamorph.hallucination.evidence import DreamEvidence
from dreamorph.hallucination.registry import check
from dreamorph.hallucination.result import Finding

#: A label that loses more than this share of its volume to the smoothing is too thin for it.
_THIN = 0.3


@dataclass(frozen=True)
class Topology:
    """Betti numbers of a labelled volume.

    Attributes:
        betti: one triple per label 1..n, and one of all labels together where there are several.
        sigmas: the smoothing each was counted under, voxels; 0 for labels too thin for it.
    """

    betti: tuple[Betti, ...]
    sigmas: tuple[float, ...]


def topology_of_source(labels: np.ndarray, n_labels: int, sigma: float) -> Topology:
    """Betti numbers of a source's labels `(*shape)`, choosing per label whether it is too thin."""
    parts = _parts(labels, n_labels)
    sigmas = tuple(_fitting_sigma(part, sigma) for part in parts)
    return Topology(_count(parts, sigmas), sigmas)


def same_topology(labels: np.ndarray, source: Topology, n_labels: int) -> bool:
    """Whether a dream's labels `(*shape)` have the source's Betti numbers, counted alike."""
    return _count(_parts(labels, n_labels), source.sigmas) == source.betti


@check(
    "topology",
    stage="dreams",
    severity="gate",
    quantity="dreams whose labels have other Betti numbers than their source's",
    unit="%",
    source="Betti numbers as in FDA SyIDE; smoothing by 0.7 voxel on both sides",
    needs_labels=True,
)
def topology(evidence: DreamEvidence, config: AuditConfig) -> Finding:
    """Share of dreams that tear, hole or merge a label; none is allowed."""
    n = len(evidence.dreams.labels)
    if not n:
        return Finding(float("nan"), 0.0, "0", 0, None, "no dream")
    changed, thin = _changed(evidence, config.topology_sigma_voxels)
    detail = f"{changed} of {n} dreams; counted without smoothing {_changed(evidence, 0)[0]}"
    if config.topology_sigma_voxels and thin:
        detail += f"; {thin} sources have a label too thin to smooth, counted exactly"
    if evidence.rejection_note:
        detail += f"; {evidence.rejection_note}"
    return Finding(100 * changed / n, 0.0, "0: equal to the source's", n, changed == 0, detail)


def _changed(evidence: DreamEvidence, sigma: float) -> tuple[int, int]:
    """Dreams of another topology than their source's, and sources with a label too thin."""
    reals, dreams = evidence.reals, evidence.dreams
    rows = dreams.source_index.tolist()
    sources = {
        row: topology_of_source(_array(reals.labels[row]), reals.n_labels, sigma)
        for row in set(rows)
    }
    changed = sum(
        not same_topology(_array(labels), sources[row], reals.n_labels)
        for labels, row in zip(dreams.labels, rows, strict=True)
    )
    return changed, sum(0 in source.sigmas for source in sources.values())


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
