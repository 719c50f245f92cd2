"""Every threshold, margin and seed of the audit, in one place.

Most rules need no number: the same quantity is measured real against real, one subject left out,
and the dreams must stay inside that range. The numbers below are what remains.

The parameters of a run can make the audit stricter and never looser: each number is bounded by its
default on the side on which more would pass, or less be asked. Where it is not plain which side
that is, the bound is said beside it.
"""

from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

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

#: Expected checks that are claims of a run, tagged where they do not hold. All others are gates,
#: whatever their row or the parameters say.
STATED = frozenset({"baseline_first", "dream_ablation"})
GATES = frozenset(name for names in EXPECTED.values() for name in names) - STATED

#: Checks of dreams that a cohort without label maps gives no occasion for. No check of networks is
#: among them: a run in which none was asked what it draws must not pass.
OF_LABELS = frozenset({"topology", "cohort_constraint"})


class RemovalConfig(Config):
    """How a structure is painted out of an image (check `remove`)."""

    model_config = ConfigDict(allow_inf_nan=False)

    dilate_voxels: int = Field(default=2, ge=0, le=2)
    """The label is widened by so much, so that its blurred edge goes too. More would take away the
    surroundings that make a network draw."""
    noise: Literal[True] = True
    """Add noise with the spread and grain of the surroundings to the smooth filling, which would
    else stand out as such."""
    sham_share: float = Field(default=0.5, ge=0.5, le=1)
    """A sham place must offer at least this share of the structure's own volume."""


class AuditConfig(Config):
    """Parameters of the hallucination checks and of the gate that every dream must pass.

    Floats must be finite, so that no bound can be stepped around.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    seed: int = Field(default=0, ge=0)
    confidence: float = Field(default=0.95, ge=0.9, le=0.95)
    """Of the bounds that real subjects set. Intervals and tests of claims are at .95 always, where
    less would be looser."""
    severity: dict[str, Severity] = Field(default_factory=dict)
    """Check name -> severity: a claim may be made a gate, but no gate a claim."""

    min_subjects: int = Field(default=4, ge=4)
    """Fewer real subjects than this cannot say what is inside the real range."""
    min_real_cases: int = Field(default=10, ge=10)
    """Fewer real labelled cases leave `cohort_constraint` not assessable."""
    min_test_subjects: int = Field(default=6, ge=6)
    """At five subjects the smallest exact two-sided Wilcoxon p is 1/16: nothing can be shown."""
    useful_bound: float = Field(default=0.9, gt=0, le=0.9)
    """A real-against-real bound on a share above this could hardly fail: not assessable."""

    provenance_tolerance: float = Field(default=1e-5, gt=0, le=1e-5)
    """Share of the source's intensity range, beyond coordinate round-off (see `provenance`)."""
    topology_sigma_voxels: float = Field(default=0.7, ge=0, le=0.7)
    """Labels are smoothed so much before Betti numbers are counted, source and dream alike: at 0.7
    features one voxel wide in two directions vanish, a tear one voxel thick does not. 0: exact."""
    topology_controls: int = Field(default=12, ge=0, le=12)
    """Affine resamplings of each source; a dream's Betti numbers must lie in their range, which
    more of them widen."""
    duplicate_correlation: float = Field(default=0.95, gt=0, le=0.95)
    """Two contents whose signatures correlate so much are the same scan under two names; more is
    asked of a cohort whose different subjects are alike themselves (see `lineage`)."""

    two_sample_dreams_per_subject: int = Field(default=20, ge=20)
    """Fewer would find less."""
    two_sample_permutations: int = Field(default=200, ge=99)
    """Fewer make the bound coarser, not looser."""
    two_sample_components: int = Field(default=6, ge=6, le=12)
    """Fewer see less of the image; many hide what there is to see among what there is not."""
    two_sample_detectable_auc: float = Field(default=0.9, gt=0.5, le=0.9)
    """With less than 80 % power against this AUC, not finding a difference says nothing."""

    diversity_pairs: int = Field(default=60, ge=60)
    """Of fewer pairs the largest mean with one subject left out, which is the limit, is larger."""
    diversity_ssim_margin: float = Field(default=0.05, ge=0, le=0.05)
    diversity_overlap_margin: float = Field(default=0.1, ge=0, le=0.1)
    diversity_min_strength: float = Field(default=0.25, ge=0.25)
    """Least range of log det J within a dream, as a share of that of registered real pairs."""
    diversity_coverage_margin: float = Field(default=0.25, ge=0, le=0.25)
    diversity_min_spread: float = Field(default=0.25, ge=0.25)
    """Without labels: least RMS difference of two dreams' displacements from one source, as a share
    of the RMS displacement itself."""

    removal: RemovalConfig = RemovalConfig()
    remove_floor_share: float = Field(default=0.1, ge=0, le=0.1)
    """False positives up to this share of the structure's own volume are tolerated, since painting
    out is itself imperfect. The same in sham regions leaves the check not assessable."""
    remove_cap_share: float = Field(default=0.2, ge=0, le=0.2)
    """However much a net draws on truly empty volumes, more than this share of the structure's own
    volume fails, there and where it was painted out: at a fifth, one empty volume of five holds the
    whole structure."""
    remove_min_dice: float = Field(default=0.5, ge=0.5, lt=1)
    """A net that misses the structure where it is present proves nothing where it is absent."""
    remove_min_sham_dice: float = Field(default=0.8, ge=0.8, lt=1)
    """The net's answer to the intact structure must survive painting elsewhere."""

    gate_provenance: Literal[True] = True
    """Also recompute image and label of every dream in the gate (about a third of its time): the
    check `provenance` itself looks at the first accepted dreams only."""

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
    def _only_raised(cls, value: dict[str, Severity]) -> dict[str, Severity]:
        known = GATES | STATED
        if unknown := sorted(set(value) - known):
            raise ValueError(f"no check named {unknown[0]!r}; known: {', '.join(sorted(known))}")
        if lowered := sorted(name for name in GATES & set(value) if value[name] != "gate"):
            raise ValueError(
                f"expected 'gate' for {lowered[0]!r}, which decides in every run, got "
                f"{value[lowered[0]]!r}; only {', '.join(sorted(STATED))} may be either"
            )
        return value
