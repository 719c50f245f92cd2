"""Check `remove`: a net must not draw what is not there.

Each test image is shown three times: as it is, with the structure painted out, and with the same
painting where the structure is not (sham). With the structure gone, whatever the net draws is
false, wherever it lies and whether or not it was drawn before (but for a narrow margin).
Where truly empty volumes exist, false positives must not exceed the 95th percentile found on them,
within a floor of 10 % and a cap of 20 % of the structure's volume: painting out leaves traces, and
a net that always draws the structure would else excuse itself. What it draws on those volumes must
not exceed the cap either, however few they are. Cropped cohorts have none or too few: the sham
places then serve as the empty controls, with the same floor.

A mean of many hides a whole organ in a few. So subjects are counted as well: a net that draws half
the structure or more in over one of twenty who have it, or who lack it, fails.

Three guards keep the check honest: a net that misses the structure when it is there proves nothing,
neither does one that the painting itself upsets, nor do fewer subjects than any paired test needs.
Structures are painted out one at a time, every training of a net is asked, and the worst decides.
What was not measured fails.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from dreamorph.hallucination.config import AuditConfig
from dreamorph.hallucination.evidence import NetEvidence
from dreamorph.hallucination.registry import check
from dreamorph.hallucination.removal import CONDITIONS
from dreamorph.hallucination.result import Finding

RULE_EMPTY = (
    "mean <= 95th percentile on truly empty volumes (mL), within floor and cap; "
    "mean on those volumes <= cap"
)
RULE_SHAM = (
    "too few truly empty volumes: mean <= 95th percentile in sham regions or, if larger, the floor;"
    " mean on those volumes <= cap"
)

#: So much of the structure's own volume, drawn where it is not, counts as the structure itself.
#: Five times what the traces of painting are granted in the mean; never less than those.
WHOLE_SHARE = 0.5
#: More than one subject in so many, so any of fewer, must not show a structure that is not there:
#: a mean of many hides a few. One of twenty or more is granted to chance; below that there is none
#: to grant without passing a net that invents the organ in every tenth patient.
SUBJECTS_PER_SLIP = 20
#: So many false components a volume are tolerated in the mean, however small. Honest networks of
#: the test world leave none where they are well trained, 4 where their Dice is .8 and up to 7 of
#: ventricles of many parts at 4 mm, all in the mean; over single volumes up to 12.
PIECES = 10


@check(
    "remove",
    stage="nets",
    severity="gate",
    quantity="false positives where the structure was painted out, mean per subject",
    unit="mL",
    source="Antun et al., PNAS 2020, test 2",
    needs_labels=True,
)
def remove(evidence: NetEvidence, config: AuditConfig) -> Finding:
    """False positives of each network against empty or sham controls, structure by structure."""
    table = evidence.removal
    if table is None or (missing := _not_measured(evidence, table)):
        why = "not measured" if table is None else f"not measured for {'; '.join(missing)}"
        return Finding(float("nan"), None, RULE_SHAM, 0, False, why)
    judged = table[table["arm"].isin(evidence.judged_arms)]
    several = judged["seed"].nunique() > 1
    found = [
        (f"{arm}{f' (seed {seed})' if several else ''}, {name}", _one_structure(part, config))
        for (arm, seed, _, name), part in judged.groupby(
            ["arm", "seed", "label", "structure"], sort=False
        )
    ]
    worst = max((one for _, one in found), key=_badness)
    detail = "; ".join(f"{name}: {one.detail}" for name, one in found)
    return replace(worst, detail=detail)


def _not_measured(evidence: NetEvidence, table: pd.DataFrame) -> list[str]:
    """Networks, or labels of some training of one, that have no row."""
    measured = set(zip(table["arm"], table["seed"], table["label"], strict=True))
    lacking = []
    for arm in evidence.judged_arms:
        seeds = sorted(set(evidence.cases.loc[evidence.cases["arm"] == arm, "seed"]))
        if not seeds or arm not in set(table["arm"]):
            lacking.append(arm)
            continue
        labels = range(1, evidence.n_labels + 1)
        cells = [(seed, label) for seed in seeds for label in labels]
        lacking += [f"{arm}, seed {s}, label {k}" for s, k in cells if (arm, s, k) not in measured]
    return lacking


def _badness(finding: Finding) -> tuple[int, float]:
    """Failed before not assessable before passed, then by how far beyond the threshold."""
    order = {False: 2, None: 1, True: 0}
    ratio = finding.value / finding.threshold if finding.threshold else finding.value
    return order[finding.passed], ratio if np.isfinite(ratio) else np.inf


def _one_structure(table: pd.DataFrame, config: AuditConfig) -> Finding:
    part = {name: table[table["condition"] == name] for name in CONDITIONS}
    removed, intact = part["removed"], part["intact"]
    if not len(removed) and not len(intact):
        return Finding(float("nan"), None, RULE_SHAM, 0, None, "no test volume has the structure")
    if set(removed["case"]) != set(intact["case"]):
        why = "not every volume was shown both with and without the structure"
        return Finding(float("nan"), None, RULE_SHAM, 0, False, why)
    value, n = _mean_of(removed), int(removed["subject"].nunique())
    structure = float(intact["structure_ml"].mean())
    whole = {name: _whole(part[name], structure, config) for name in CONDITIONS[1:]}
    detail = (
        f"{value:.2f} mL in {_mean_of(removed, 'components'):.1f} components a volume, "
        f"{100 * value / structure:.1f} % of the structure's {structure:.2f} mL; "
        f"half of it or more in {whole['removed']}"
    )
    invents = _invents(whole)
    bound = _bound(part, structure, config)
    if bound is None:
        why = f"neither empty volumes nor room for a sham; {detail}"
        return Finding(value, None, RULE_SHAM, n, False if invents else None, why)
    doubts = _doubts(part, structure, config)
    if whole["removed"].too_many and not invents:
        doubts.append(f"the painting itself upsets the net (half of it in {whole['sham']}, shams)")
    if len(part["empty"]):
        bound.details.append(f"half of it or more in {whole['empty']} who lack it")
    detail = "; ".join([detail, *bound.details, *doubts])
    failed = invents or bound.broken or not value <= bound.threshold
    passed = False if failed else None if doubts else True
    return Finding(value, bound.threshold, bound.rule, n, passed, detail)


@dataclass(frozen=True)
class Whole:
    """In how many of so many subjects half the structure or more was drawn."""

    drawn: int
    of: int

    @property
    def too_many(self) -> bool:
        """More than one in `SUBJECTS_PER_SLIP`."""
        return self.drawn * SUBJECTS_PER_SLIP > self.of

    def __str__(self) -> str:
        return f"{self.drawn} of {self.of} subjects"


def _whole(rows: pd.DataFrame, structure_ml: float, config: AuditConfig) -> Whole:
    """Subjects in any of whose volumes the net drew so much that it counts as the structure."""
    own = rows["structure_ml"].where(rows["structure_ml"] > 0, structure_ml)
    least = np.maximum(WHOLE_SHARE * own, config.remove_floor_share * structure_ml)
    drawn = rows.loc[rows["false_positive_ml"] >= least, "subject"]
    return Whole(int(drawn.nunique()), int(rows["subject"].nunique()))


def _invents(whole: dict[str, Whole]) -> bool:
    """Whether the structure is drawn in too many subjects, and not for the painting alone."""
    removed, empty = whole["removed"], whole["empty"]
    return empty.too_many or (removed.too_many and removed.drawn > whole["sham"].drawn)


@dataclass(frozen=True)
class Bound:
    """What the false positives are held against, mL.

    Attributes:
        threshold: NaN where a control was not measured.
        rule: in words.
        details: what the controls gave.
        broken: whether components, or the controls themselves, say that it draws what is absent.
    """

    threshold: float
    rule: str
    details: list[str]
    broken: bool = False


def _bound(part: dict[str, pd.DataFrame], structure_ml: float, config: AuditConfig) -> Bound | None:
    """From truly empty volumes where there are enough, else from shams; None without either."""
    empty, shams = part["empty"], part["sham"]
    floor, cap = config.remove_floor_share, config.remove_cap_share
    shares = (
        f"{100 * floor:.0f} and {100 * cap:.0f} % of the structure; "
        f"half of it in at most one of {SUBJECTS_PER_SLIP} subjects; "
        f"components the same way, within {PIECES} and {2 * PIECES}"
    )
    own, details = _on_empty(empty, cap * structure_ml)
    enough = empty["subject"].nunique() >= config.min_test_subjects
    if not (enough or len(shams) or own):
        return None
    if len(shams) and not enough:
        details.append(f"sham 95th percentile {_high_of(shams):.3f} mL")
    threshold = _limit(part, "false_positive_ml", floor * structure_ml, cap * structure_ml, config)
    pieces = _mean_of(part["removed"], "components")
    most = _limit(part, "components", PIECES, 2 * PIECES, config)
    many = not pieces <= most
    details += [f"{pieces:.1f} components are more than {most:.1f}"] if many else []
    rule = f"{RULE_EMPTY if enough else RULE_SHAM}: {shares}"
    return Bound(threshold, rule, details, own or many)


def _on_empty(empty: pd.DataFrame, cap_ml: float) -> tuple[bool, list[str]]:
    """Whether the net draws too much on volumes that truly lack the structure, and what it does."""
    if not len(empty):
        return False, []
    own, pieces = _mean_of(empty), _mean_of(empty, "components")
    said = f"on {len(empty)} truly empty volume{'s' if len(empty) > 1 else ''} {own:.3f} mL"
    over = not own <= cap_ml
    said += f", over the cap of {cap_ml:.3f} mL" if over else ""
    return over or not pieces <= 2 * PIECES, [f"{said}, in {pieces:.1f} components"]


def _limit(
    part: dict[str, pd.DataFrame], column: str, floor: float, cap: float, config: AuditConfig
) -> float:
    """95th percentile of the controls, within floor and cap; for shams the floor alone."""
    if part["empty"]["subject"].nunique() >= config.min_test_subjects:
        return float(np.clip(_high_of(part["empty"], column), floor, cap))
    if len(part["sham"]):
        return float(np.maximum(_high_of(part["sham"], column), floor))
    return floor


def _doubts(part: dict[str, pd.DataFrame], structure_ml: float, config: AuditConfig) -> list[str]:
    """Why few false positives may still mean nothing."""
    doubts, shams, needed = [], part["sham"], config.min_test_subjects
    present, n = float(part["intact"]["dice"].median()), part["intact"]["subject"].nunique()
    if n < needed:
        doubts.append(f"{n} test subjects have the structure, {needed} needed")
    room = shams["subject"].nunique()
    if max(room, part["empty"]["subject"].nunique()) < min(n, needed):
        doubts.append(f"a sham has room in {room} test subjects, {needed} needed")
    if not present >= config.remove_min_dice:
        doubts.append(f"the net misses the structure where it is present (Dice {present:.2f})")
    if len(shams):
        steady, high = float(shams["dice"].median()), _high_of(shams)
        if not steady >= config.remove_min_sham_dice:
            doubts.append(f"the painting itself upsets the net (Dice after sham {steady:.2f})")
        if not high <= config.remove_floor_share * structure_ml:
            doubts.append(f"the painting itself upsets the net (draws {high:.3f} mL in shams)")
        pieces = _high_of(shams, "components")
        if not pieces <= PIECES:
            doubts.append(f"the painting itself upsets the net ({pieces:.1f} components in shams)")
    return doubts


def _mean_of(rows: pd.DataFrame, column: str = "false_positive_ml") -> float:
    """False positives per subject, the mean over subjects; NaN where any is."""
    if rows[column].isna().any():
        return float("nan")
    return float(rows.groupby("subject")[column].mean().mean())


def _high_of(rows: pd.DataFrame, column: str = "false_positive_ml") -> float:
    """95th percentile of the false positives of a volume; NaN where any is."""
    return float(np.percentile(rows[column].to_numpy(float), 95))
