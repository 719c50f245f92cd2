"""Hallucination checks: what a dream or a net shows must be earned by real data.

Importing this package registers every check. `run_checks("dreams", evidence, config)` runs a stage;
`overall_verdict` sums up; `Gate` judges single dreams before they are used.
"""

from dreamorph.hallucination import (
    baseline_first,
    cohort_constraint,
    diversity,
    dream_ablation,
    folds,
    jacobian_envelope,
    lineage,
    provenance,
    remove,
    small_n,
    topology,
    two_sample,
)
from dreamorph.hallucination.betti import betti_numbers
from dreamorph.hallucination.config import EXPECTED, AuditConfig, RemovalConfig
from dreamorph.hallucination.evidence import DreamEvidence, NetEvidence, Reals
from dreamorph.hallucination.gate import Gate, gate, rejection_counts
from dreamorph.hallucination.inpainting import remove_structure, sham
from dreamorph.hallucination.jacobian import measure_folding
from dreamorph.hallucination.jacobian_envelope import pair_jacobians
from dreamorph.hallucination.lineage import content_signatures, lineage_rows, recorded_rows
from dreamorph.hallucination.registry import check, run_checks
from dreamorph.hallucination.removal import TestImages, measure_removal
from dreamorph.hallucination.result import (
    CheckResult,
    Finding,
    Verdict,
    decides,
    from_table,
    to_table,
)
from dreamorph.hallucination.shown import draw_shown
from dreamorph.hallucination.verdict import overall_verdict, tags

#: The modules whose import registers the checks.
CHECK_MODULES = (
    baseline_first,
    cohort_constraint,
    diversity,
    dream_ablation,
    folds,
    jacobian_envelope,
    lineage,
    provenance,
    remove,
    small_n,
    topology,
    two_sample,
)

__all__ = [
    "CHECK_MODULES",
    "EXPECTED",
    "AuditConfig",
    "CheckResult",
    "DreamEvidence",
    "Finding",
    "Gate",
    "NetEvidence",
    "Reals",
    "RemovalConfig",
    "TestImages",
    "Verdict",
    "betti_numbers",
    "check",
    "content_signatures",
    "decides",
    "draw_shown",
    "from_table",
    "gate",
    "lineage_rows",
    "measure_folding",
    "measure_removal",
    "overall_verdict",
    "pair_jacobians",
    "recorded_rows",
    "rejection_counts",
    "remove_structure",
    "run_checks",
    "sham",
    "tags",
    "to_table",
]
