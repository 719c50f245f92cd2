"""What the report's nodes show and what they keep to themselves."""

import torch

from dreamorph.evaluation import EvaluationConfig
from dreamorph.pipelines.report.nodes import _as_scored, _predictions, without_paths


def test_the_report_hides_where_the_cohort_lies() -> None:
    given = {"cohort": {"path": "/ward/WARD_7", "manifest": None, "layout": "msd"}, "split": {}}
    shown = {"cohort": {"path": "hidden", "manifest": None, "layout": "msd"}, "split": {}}
    assert without_paths(given) == shown
    assert without_paths({"cohort": {"manifest": "a.csv"}}) == {"cohort": {"manifest": "hidden"}}
    rule = {"regex": "(Doe|Roe)_", "cases_per_subject": 2}
    kept = without_paths({"cohort": {"subject": rule}})["cohort"]["subject"]
    assert kept == {"regex": "hidden", "cases_per_subject": 2}


def test_the_report_tells_how_networks_were_scored_whatever_this_run_asks_for() -> None:
    asked = {"evaluation": EvaluationConfig(views=0, tolerance_mm=3.0, seed=5)}
    scores = {"dream-0": {"evaluation": {"views": 4, "tolerance_mm": 1.0}}}
    shown = _as_scored(asked, scores)
    assert (shown["views"], shown["tolerance_mm"], shown["seed"]) == (4, 1.0, 5)
    assert _as_scored(asked, {})["views"] == 0


def test_predictions_are_those_of_the_first_training_of_the_dream_arm() -> None:
    def labels(value: int) -> dict[str, dict[str, torch.Tensor]]:
        return {"labels": {"a": torch.full((2, 2, 2), value)}}

    scores = {
        "classic-0-x-y": labels(9), "dream-2-x-y": labels(2), "dream-10-x-y": labels(10),
        "dream+atlas-0-x-y": labels(8),
    }  # fmt: skip
    assert (_predictions(scores)["a"] == 2).all()
    assert _predictions({"classic-0-x-y": labels(9)}) == {}
