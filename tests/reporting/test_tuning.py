"""What was chosen within the training subjects, as the report tells it."""

from dataclasses import replace

import pandas as pd

from dreamorph.reporting import ReportInputs
from dreamorph.reporting.parts import Table
from dreamorph.reporting.sections import arms
from dreamorph.reporting.wording import NOTHING
from dreamorph.training.tuning import COLUMNS

WAYS = (
    ("elastic", 1.0, 0.70),
    ("elastic", 2.0, 0.72),
    ("classic", 1.0, 0.6),
    ("dream", 1.0, 0.8),
)
CHOICE = {
    "recommended_arm": "dream",
    "choice_reason": "dream leads by more than one standard error",
    "elastic_energy": 2.0,
    "learned_energy": 4.0,
}


def tuned(complete: ReportInputs) -> ReportInputs:
    rows = [
        [arm, energy, 0, subject, label, score - lower]
        for arm, energy, score in WAYS
        for subject in ("a", "b", "c")
        for label, lower in (("organ", 0.0), ("lesion", 0.5))
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return replace(complete, tuning=table, choice=CHOICE)


def test_every_candidate_has_a_row_and_the_choice_a_sentence(complete: ReportInputs) -> None:
    section = arms.build(tuned(complete))
    assert isinstance(section["tuning"], Table)
    assert [row[:2] for row in section["tuning"].rows] == [
        ("random warp", "1"),
        ("random warp", "2"),
        ("affine maps alone", NOTHING),
        ("dream", NOTHING),
    ]
    assert section["tuning"].rows[1][2:] == (
        "3", "0.470 ± 0.000", "0.720 ± 0.000", "0.220 ± 0.000",
    )  # fmt: skip
    assert section["tuning"].columns[3:] == ("Dice, all labels", "organ", "lesion")
    assert "alone" not in section["tuning"].caption
    assert "2 times the energy" in section["chosen"]
    assert "leads by more than one standard error" in section["chosen"]


def test_the_report_names_the_labels_that_counted(complete: ReportInputs) -> None:
    section = arms.build(replace(tuned(complete), choice={**CHOICE, "counted_labels": ["organ"]}))
    assert "by organ alone" in section["tuning"].caption
    assert section["tuning"].columns[3] == "Dice that counts"
    assert [row[3] for row in section["tuning"].rows][1] == "0.720 ± 0.000"


def test_without_cross_validation_the_report_says_so(complete: ReportInputs) -> None:
    section = arms.build(complete)
    assert section["tuning"] == ""
    assert section["chosen"].startswith("Nothing was chosen")
