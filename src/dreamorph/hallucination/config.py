"""Every threshold, margin and seed of the audit, in one place.

Most rules need no number: the same quantity is measured real against real, one subject left out,
and the dreams must stay inside that range. The numbers below are what remains.
"""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from dreamorph.config import Config

Stage = Literal["dreams", "nets"]
Severity = Literal["gate", "claim"]

#: Parameters that decide about a single dream.
GATE_FIELDS = {
    "provenance_tolerance",
    "topology_sigma_voxels",
    "topology_controls",
    "gate_provenance",
}

#: The checks that must be present, kept apart from the registry: a check that vanishes is missed.
EXPECTED: dict[Stage, tuple[str, ...]] = {
    "dreams": (
        "folds",
        "jacobian_envelope",
        "topology",
        "provenance",
        "lineage",
        "cohort_constraint",
        "two_sample",
        "diversity",
    ),
    "nets": ("baseline_first", "dream_ablation", "small_n", "remove"),
}


class RemovalConfig(Config):
    """How a structure is painted out of an image (check `remove`)."""

    dilate_voxels: int = Field(default=2, ge=0)
    """The label is widened by so much, so that its blurred edge goes too."""
    noise: bool = True
    """Add noise with the spread and grain of the surroundings to the smooth filling."""
    sham_share: float = Field(default=0.5, gt=0, le=1)
    """A sham place must offer at least this share of the structure's own volume."""


class AuditConfig(Config):
    """Parameters of the hallucination checks and of the gate that every dream must pass."""

    seed: int = Field(default=0, ge=0)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Of ranges, intervals and bounds; 1 - confidence is the level of each family of tests."""
    severity: dict[str, Severity] = Field(default_factory=dict)
    """Check name -> severity, to override a check's own: a gate decides, a claim is tagged."""

    min_subjects: int = Field(default=4, ge=3)
    """Fewer real subjects than this cannot say what is inside the real range."""
    min_real_cases: int = Field(default=10, ge=4)
    """Fewer real labelled cases leave `cohort_constraint` not assessable."""
    min_test_subjects: int = Field(default=6, ge=2)
    """At five subjects the smallest exact two-sided Wilcoxon p is 1/16: nothing can be shown."""
    useful_bound: float = Field(default=0.9, gt=0, le=1)
    """A real-against-real bound on a share above this could hardly fail: not assessable."""

    provenance_tolerance: float = Field(default=1e-5, gt=0)
    """Share of the source's intensity range, beyond coordinate round-off (see `provenance`)."""
    topology_sigma_voxels: float = Field(default=0.7, ge=0, le=1.5)
    """Labels are smoothed so much before Betti numbers are counted, source and dream alike: at 0.7
    features one voxel wide in two directions vanish, a tear one voxel thick does not. 0: exact."""
    topology_controls: int = Field(default=12, ge=0)
    """Affine resamplings of each source; a dream's Betti numbers must lie in their range."""
    duplicate_correlation: float = Field(default=0.95, gt=0, le=1)
    """Two contents whose signatures correlate so much are the same scan under two names; more is
    asked of a cohort whose different subjects are alike themselves (see `lineage`)."""

    two_sample_dreams_per_subject: int = Field(default=20, ge=2)
    two_sample_permutations: int = Field(default=200, ge=99)
    two_sample_components: int = Field(default=6, ge=1)
    two_sample_detectable_auc: float = Field(default=0.9, gt=0.5, lt=1)
    """With less than 80 % power against this AUC, not finding a difference says nothing."""

    diversity_pairs: int = Field(default=60, ge=10)
    diversity_ssim_margin: float = Field(default=0.05, ge=0)
    diversity_overlap_margin: float = Field(default=0.1, ge=0)
    diversity_min_strength: float = Field(default=0.25, ge=0)
    """Least range of log det J within a dream, as a share of that of registered real pairs."""
    diversity_coverage_margin: float = Field(default=0.25, ge=0)
    diversity_min_spread: float = Field(default=0.25, ge=0)
    """Without labels: least RMS difference of two dreams' displacements from one source, as a share
    of the RMS displacement itself."""

    removal: RemovalConfig = RemovalConfig()
    remove_floor_share: float = Field(default=0.1, ge=0, lt=1)
    """False positives up to this share of the structure's own volume are tolerated, since painting
    out is itself imperfect. The same in sham regions leaves the check not assessable."""
    remove_cap_share: float = Field(default=0.2, ge=0, lt=1)
    """However much a net draws on truly empty volumes, more than this share of the structure's own
    volume fails, there and where it was painted out: at a fifth, one empty volume of five holds the
    whole structure."""
    remove_min_dice: float = Field(default=0.5, ge=0, lt=1)
    """A net that misses the structure where it is present proves nothing where it is absent."""
    remove_min_sham_dice: float = Field(default=0.8, ge=0, lt=1)
    """The net's answer to the intact structure must survive painting elsewhere."""

    gate_provenance: bool = True
    """Also recompute image and label of every dream in the gate (about a third of its time)."""

    def of_the_gate(self) -> dict[str, Any]:
        """What the gate reads: dreams are judged anew when one of these changes, and no other."""
        return self.model_dump(mode="json", include=GATE_FIELDS)

    @model_validator(mode="after")
    def _floor_below_cap(self) -> Self:
        if self.remove_cap_share < self.remove_floor_share:
            raise ValueError(
                f"expected remove_cap_share not below remove_floor_share {self.remove_floor_share},"
                f" got {self.remove_cap_share}"
            )
        return self

    @field_validator("severity")
    @classmethod
    def _known(cls, value: dict[str, Severity]) -> dict[str, Severity]:
        known = {name for names in EXPECTED.values() for name in names}
        if unknown := sorted(set(value) - known):
            raise ValueError(f"no check named {unknown[0]!r}; known: {', '.join(sorted(known))}")
        return value
