"""What the report's nodes show and what they keep to themselves."""

from dreamorph.pipelines.report.nodes import without_paths


def test_the_report_hides_where_the_cohort_lies() -> None:
    given = {"cohort": {"path": "/ward/WARD_7", "manifest": None, "layout": "msd"}, "split": {}}
    shown = {"cohort": {"path": "hidden", "manifest": None, "layout": "msd"}, "split": {}}
    assert without_paths(given) == shown
    assert without_paths({"cohort": {"manifest": "a.csv"}}) == {"cohort": {"manifest": "hidden"}}
