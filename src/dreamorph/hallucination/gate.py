"""The gate: which dreams may be used at all, and why the others may not."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from dreamorph.hallucination.config import AuditConfig
from dreamorph.hallucination.evidence import DreamsLike, Reals
from dreamorph.hallucination.jacobian import measure_folding
from dreamorph.hallucination.jacobian_envelope import (
    Envelope,
    fit_envelope,
    inside_envelope,
    label_volumes,
    log_ratios,
)
from dreamorph.hallucination.provenance import measure_origin, recipe_faults, voxel_coordinates
from dreamorph.hallucination.topology import (
    Topology,
    lost_components,
    same_topology,
    topology_of_source,
)

#: Counts up whenever the same dream may be judged otherwise.
VERSION = 1

GATE_COLUMNS = (
    "dream",
    "source",
    "accepted",
    "reason",
    "folded_voxels",
    "log_jacobian_min",
    "log_jacobian_max",
    "worst_volume_ratio",
    "provenance_error",
)


class Gate:
    """Judges dreams batch by batch against limits that are worked out once.

    Args:
        reals: the cases dreams are made of, in the order of `source_index`.
        pairs: registered real pairs (`pair_jacobians`).
        config: thresholds.
        prior_fingerprint: the prior every recipe must name; None accepts any.

    Raises:
        DreamError: the pairs give no range to hold a dream against.
    """

    def __init__(
        self,
        reals: Reals,
        pairs: pd.DataFrame,
        config: AuditConfig,
        prior_fingerprint: str | None = None,
    ) -> None:
        self.reals = reals
        self.config = config
        self.prior_fingerprint = prior_fingerprint
        self.envelope: Envelope = fit_envelope(reals, pairs)
        self._volumes = label_volumes(reals.labels, reals.n_labels)
        self._topologies: dict[int, Topology] = {}

    def judge(self, dreams: DreamsLike) -> pd.DataFrame:
        """One row per dream, columns GATE_COLUMNS; `reason` joins all that is wrong, '' if none."""
        ratios = log_ratios(
            label_volumes(dreams.labels, self.reals.n_labels),
            self._volumes[dreams.source_index.cpu().numpy()],
        )
        rows = [self._row(dreams, index, ratios[index]) for index in range(len(dreams.recipes))]
        return pd.DataFrame(rows, columns=list(GATE_COLUMNS))

    def _row(self, dreams: DreamsLike, index: int, ratio: np.ndarray) -> tuple[object, ...]:
        source, recipe = int(dreams.source_index[index]), dreams.recipes[index]
        points = dreams.transforms[index : index + 1].points()[0].cpu()
        labels = _array(dreams.labels[index])
        fold = measure_folding(points, self.reals.spacing_mm, dreams.masks[index, 0].cpu())
        reasons = []
        if fold.voxels:
            reasons.append("folds")
        if not inside_envelope(self.envelope, fold.log_min, fold.log_max, ratio):
            reasons.append("jacobian_envelope")
        if self.reals.n_labels and self._other_topology(labels, points, source):
            reasons.append("topology")
        error = float("nan")
        faults = recipe_faults(recipe, source, self.reals, self.prior_fingerprint)
        if self.config.gate_provenance:
            error, invented = self._origin(dreams, index, points, labels)
            faults += ["voxels"] if invented else []
        if faults:
            reasons.append("provenance")
        worst = float(np.exp(ratio[np.abs(ratio).argmax()])) if len(ratio) else float("nan")
        return (
            recipe.dream,
            recipe.source,
            not reasons,
            "; ".join(reasons),
            fold.voxels,
            fold.log_min,
            fold.log_max,
            worst,
            error,
        )

    def _other_topology(self, labels: np.ndarray, points: torch.Tensor, source: int) -> bool:
        n_labels = self.reals.n_labels
        if source not in self._topologies:
            self._topologies[source] = topology_of_source(
                _array(self.reals.labels[source]),
                n_labels,
                self.config.topology_sigma_voxels,
                self.config.topology_controls,
            )
        known = self._topologies[source]
        if not same_topology(labels, known, n_labels):
            return True
        return lost_components(labels, points, self.reals.spacing_mm, known) > 0

    def _origin(
        self, dreams: DreamsLike, index: int, points: torch.Tensor, labels: np.ndarray
    ) -> tuple[float, bool]:
        source = int(dreams.source_index[index])
        reals = self.reals
        found = measure_origin(
            (_array(dreams.images[index]), labels, _array(dreams.masks[index])),
            (
                _array(reals.images[source]),
                _array(reals.labels[source]),
                _array(reals.masks[source]),
            ),
            voxel_coordinates(points, self.reals.spacing_mm),
            self.reals.n_labels,
            self.config.provenance_tolerance,
        )
        return found.error, not found.ok(self.config.provenance_tolerance)


def gate(
    dreams: DreamsLike,
    reals: Reals,
    pairs: pd.DataFrame,
    config: AuditConfig,
    prior_fingerprint: str | None = None,
) -> pd.DataFrame:
    """`Gate(...).judge(dreams)` for one batch."""
    return Gate(reals, pairs, config, prior_fingerprint).judge(dreams)


def rejection_counts(tables: Sequence[pd.DataFrame]) -> dict[str, int]:
    """How many dreams were kept out by reason, for `DreamEvidence.rejected`.

    A dream with several faults counts once, under the first of them.
    """
    reasons = [str(r) for table in tables for r in table.loc[~table["accepted"], "reason"]]
    first = [reason.split("; ")[0] for reason in reasons]
    return {name: first.count(name) for name in sorted(set(first))}


def _array(volume: torch.Tensor) -> np.ndarray:
    return np.asarray(volume[0].detach().cpu().numpy())
