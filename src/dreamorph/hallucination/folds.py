"""Check `folds`: a warp must be one-to-one on its grid (see `jacobian` for what is measured)."""

from math import prod

from dreamorph.hallucination.config import AuditConfig
from dreamorph.hallucination.evidence import DreamEvidence
from dreamorph.hallucination.registry import check
from dreamorph.hallucination.result import Finding


@check(
    "folds",
    stage="dreams",
    severity="gate",
    quantity="voxels with a one-sided determinant <= 0",
    unit="%",
    source="Liu et al., IJCV 2024 (digital diffeomorphism, ten determinants)",
)
def folds(evidence: DreamEvidence, config: AuditConfig) -> Finding:
    """Share of folded voxels over all dreams; none is allowed."""
    found = evidence.foldings
    if not found:
        return Finding(float("nan"), 0.0, "0", 0, None, "no dream")
    voxels = sum(f.voxels for f in found)
    bad = sum(f.voxels > 0 for f in found)
    cubic_mm = voxels * prod(evidence.reals.spacing_mm)
    detail = f"{bad} of {len(found)} dreams fold, {cubic_mm:g} mm3 in all"
    if evidence.rejection_note:
        detail += f"; {evidence.rejection_note}"
    share = 100 * voxels / sum(f.total for f in found)
    return Finding(share, 0.0, "0, hard", len(found), voxels == 0, detail)
