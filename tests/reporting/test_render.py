"""The page as a whole: complete, self-contained, honest about what is missing, safe."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from dreamorph.evaluation import CONFIDENCE
from dreamorph.reporting import ReportInputs, render_report, summarise
from dreamorph.reporting.inputs import Task
from dreamorph.reporting.parts import Table
from dreamorph.reporting.render import SECTIONS
from dreamorph.reporting.sections import arms as arms_section
from dreamorph.reporting.sections import cohort as cohort_section
from dreamorph.reporting.sections import verdict as verdict_section
from dreamorph.reporting.sections.making import build_limits

BROKEN = "could not be drawn"


class Page(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] not in ("style", "script"):
            self.text += " " + " ".join(data.split())

    def ids(self) -> set[str | None]:
        return {attrs["id"] for _, attrs in self.tags if "id" in attrs}


@pytest.fixture(scope="module")
def html(complete: ReportInputs) -> str:
    return render_report(complete)


def test_all_sections_are_there_and_the_contents_lead_to_them(html: str) -> None:
    page = Page(html)
    expected = {section.key for section in SECTIONS if section.key != "recovery"}
    assert expected <= page.ids()
    links = {a["href"] for tag, a in page.tags if tag == "a"}
    assert links == {f"#{key}" for key in expected}
    assert page.stack == []
    assert BROKEN not in html


def test_nothing_is_loaded_from_outside(html: str) -> None:
    for tag, attrs in Page(html).tags:
        for name in ("src", "href", "srcset", "data", "action"):
            value = attrs.get(name)
            if value is not None:
                assert value.startswith(("data:", "#")), (tag, name, value[:60])
    assert not re.search(r"@import|url\(|https?://", html)
    assert "default-src 'none'" in html


def test_every_image_is_described(html: str) -> None:
    images = [attrs for tag, attrs in Page(html).tags if tag == "img"]
    assert len(images) >= 10
    assert all(len(attrs.get("alt") or "") > 20 for attrs in images)


def test_the_page_is_light(html: str) -> None:
    assert len(html) < 3e6


def test_tables_name_what_was_set_aside_and_rejected(html: str) -> None:
    text = Page(html).text
    assert "case_90" in text
    assert "empty label" in text
    assert "folds in 3 voxels" in text
    assert "no reason given" in text
    assert "registration.window" in text


@pytest.mark.usefixtures("quick")
def test_the_same_inputs_give_the_same_page(light: ReportInputs) -> None:
    inputs = replace(light, dreams=None, prior=None)
    assert render_report(inputs) == render_report(inputs)


@pytest.mark.usefixtures("quick")
def test_simulated_patients_are_named_so_wherever_the_name_stands(light: ReportInputs) -> None:
    recovery = {
        "registration": {
            "before_mean_mm": [3.0, 4.0], "before_p95_mm": [6.0, 7.0],
            "after_mean_mm": [1.0, 1.5], "after_p95_mm": [2.0, 3.0],
        },
        "modes": {"n_modes": 4, "explained": 0.6},
    }  # fmt: skip
    html = render_report(replace(light, prior=None, simulated=True, recovery=recovery))
    page = Page(html)
    assert "Simulated patients." in page.text
    for found in re.finditer("ellipsoids", page.text):
        assert page.text[found.start() :].startswith("ellipsoids (simulated patients)")
    assert "from 3.50 mm to 1.25 mm" in page.text
    assert "recovery" in page.ids()
    assert BROKEN not in html


def test_real_patients_are_not_called_simulated(html: str) -> None:
    assert "simulated" not in Page(html).text.lower()


@pytest.mark.usefixtures("quick")
def test_a_bare_run_says_what_is_missing(bare: ReportInputs) -> None:
    html = render_report(bare)
    text = Page(html).text
    assert BROKEN not in html
    for sentence in (
        "Nothing was set aside",
        "No pair was registered",
        "No prior was learned",
        "No accepted dream",
        "No dream was made",
        "No test case was scored",
        "No two arms were compared",
        "No training curve was recorded",
        "No check was run",
        "No dream arm was evaluated",
        "No plain baseline was evaluated",
    ):
        assert sentence in text, sentence


@pytest.mark.parametrize(
    "parts",
    [
        {"prior": None},
        {"dreams": None},
        {"cases": pd.DataFrame(), "dream_table": pd.DataFrame({"dream": []})},
    ],
)
@pytest.mark.usefixtures("quick")
def test_one_missing_part_leaves_the_rest(light: ReportInputs, parts: dict) -> None:
    assert BROKEN not in render_report(replace(light, **parts))


@pytest.mark.usefixtures("quick")
def test_hostile_names_stay_text(light: ReportInputs) -> None:
    evil = "<script>alert('$x')</script>&\"${{7*7}}"
    cohort = light.cohort
    cases = [evil if k == 0 else case for k, case in enumerate(cohort.cases)]
    old = cohort.cases[0]
    assert light.dreams is not None
    recipes = tuple(
        replace(r, source=evil if r.source == old else r.source) for r in light.dreams.recipes
    )
    inputs = replace(
        light,
        study=evil,
        version=evil,
        prior=None,
        cohort=replace(
            cohort, table=cohort.table.assign(case=cases), label_names={1: evil, 2: "海马 $a_b$"}
        ),
        dreams=replace(light.dreams, recipes=recipes),
        quarantine=pd.DataFrame([(evil, "quarantined", evil, evil)],
                                columns=["case", "status", "reason", "detail"]),
        checks=light.checks.assign(detail=evil),
        history=light.history.assign(metric=evil),
        parameters={evil: {evil: evil}},
    )  # fmt: skip
    html = render_report(inputs)
    assert BROKEN not in html
    assert html.count("<script") == 1
    assert "alert('$x')" not in html
    assert evil in Page(html).text


@pytest.mark.usefixtures("quick")
def test_that_every_volume_counts_as_another_subject_is_said(light: ReportInputs) -> None:
    """Nobody told which volumes are of one person: the scores may be too good."""
    said = "every volume counts as another subject"
    table = light.cohort.table.assign(subject=[f"s{k}" for k in range(len(light.cohort))])
    real = replace(light, simulated=False)
    assert said in render_report(replace(real, cohort=replace(light.cohort, table=table)))
    table.loc[table.index[:2], "subject"] = "s0"
    assert said not in render_report(replace(real, cohort=replace(light.cohort, table=table)))
    assert said not in render_report(replace(light, simulated=True))


def test_averaged_views_are_said(light: ReportInputs) -> None:
    said = "as it is and 3 times more"
    shown = [
        Page(render_report(replace(light, parameters={"evaluation": {"views": count}}))).text
        for count in (3, 0)
    ]
    assert [said in text for text in shown] == [True, False]


@pytest.mark.usefixtures("quick")
def test_a_single_training_of_each_arm_is_said_beside_the_verdict(
    light: ReportInputs, bare: ReportInputs
) -> None:
    said = "Every arm was trained once."
    assert said in render_report(light)
    again = light.cases[light.cases["arm"] != "atlas"].assign(seed=1)
    twice = pd.concat([light.cases, again], ignore_index=True)
    assert said not in render_report(replace(light, cases=twice))
    assert said not in render_report(bare)


def test_the_summary_says_what_the_page_says_first(light: ReportInputs) -> None:
    summary = summarise(light)
    said = verdict_section.build(light)
    assert summary.startswith(f"**Hallucination checks: {said['word']}**")
    assert len(said["statements"]) >= 3
    for statement in said["statements"]:
        line = f"- **{statement.question}** {statement.answer}. {statement.sentence}"
        assert line in summary.splitlines()
    assert "(simulated patients)" not in summary
    assert "(simulated patients)" in summarise(replace(light, simulated=True)).splitlines()[0]
    for line in (said["claims"], said["not_of_dreams"]):
        assert line in summary


def test_a_broken_summary_spares_the_report(
    light: ReportInputs, caplog: pytest.LogCaptureFixture
) -> None:
    broken = replace(light, comparisons=pd.DataFrame({"metric": ["dice"]}))
    assert "could not be written" in summarise(broken)
    assert "pass" not in summarise(broken)
    assert "the summary cannot be written" in caplog.text


def test_a_broken_section_is_named_and_spares_the_rest(
    light: ReportInputs, caplog: pytest.LogCaptureFixture
) -> None:
    html = render_report(
        replace(light, prior=None, dreams=None, comparisons=pd.DataFrame({"metric": ["dice"]}))
    )
    assert html.count(BROKEN) == 2
    assert "KeyError" in html
    assert "arms" in caplog.text
    assert "checks" in Page(html).ids()


@pytest.mark.usefixtures("quick")
def test_grey_scans_without_labels_are_not_said_to_have_outlines(
    classification: ReportInputs,
) -> None:
    cohort = replace(classification.cohort, modality="MR", label_names={})
    pairs = classification.pairs.drop(columns=list(classification.pairs.filter(like="dice")))
    scans = replace(classification, cohort=cohort, pairs=pairs)
    text = Page(render_report(scans)).text
    assert BROKEN not in text
    for word in ("Coloured outlines", "together with its labels", "correlation and Dice"):
        assert word not in text
    assert "Coloured outlines" in Page(render_report(classification)).text


@pytest.mark.usefixtures("quick")
def test_classification_shows_its_own_scores(classification: ReportInputs) -> None:
    html = render_report(replace(classification, pair_examples=[]))
    text = Page(html).text
    assert BROKEN not in html
    assert "AUC" in text
    assert "balanced accuracy" in text
    assert re.search(r"To call every case \w+ would score an accuracy of 0\.500", text)
    assert "shape features (plain)" in text
    assert "class large" in text
    assert "Dice" not in text.split("Arms compared")[-1].split("The checks")[0]


@pytest.mark.usefixtures("quick")
def test_pairs_set_aside_are_counted_by_reason(light: ReportInputs) -> None:
    reasons = ["folds in 3 voxels", "folds in 12 voxels", "similarity fell from 0.5 to 0.4"]
    text = Page(render_report(replace(light, pairs=light.pairs.assign(set_aside=reasons)))).text
    assert "3 of 3 pairs were set aside" in text
    assert re.search(r"\(2 . folds in … voxels, 1 . similarity fell from … to …\)", text)
    assert "folds in 12 voxels" in text


@pytest.mark.parametrize(("task", "expected"), [("segmentation", True), ("classification", False)])
def test_limits_name_the_length_of_training(
    light: ReportInputs, task: Task, expected: bool
) -> None:
    length = replace(light, task=task, parameters={"training": {"steps": 1234}})
    limits = dict(build_limits(length)["limits"])
    assert "1,234 steps" in limits["Length of training"]
    assert ("hippocampus" in limits["Length of training"]) == expected
    assert list(limits).index("Length of training") == list(limits).index("Numbers") + 1
    assert "Length of training" not in dict(build_limits(light)["limits"])


def test_parameters_of_earlier_runs_are_marked(light: ReportInputs) -> None:
    making = next(section for section in SECTIONS if section.key == "making")
    assert making.build(light)["earlier"] == ""
    assert making.build(replace(light, earlier=["cohort", "prior"]))["earlier"] == "cohort, prior"


def test_labels_are_counted_where_they_are(light: ReportInputs) -> None:
    labels = light.cohort.labels.clone()
    labels[0:6][labels[0:6] == 2] = 0
    inputs = replace(light, cohort=replace(light.cohort, labels=labels))
    table = cohort_section.build(inputs)["labels"]
    assert isinstance(table, Table)
    counts = [row[:4] for row in table.rows]
    assert counts == [("1", "front", "6", "6"), ("2", "back", "0", "6")]


@pytest.mark.usefixtures("quick")
def test_volumes_that_the_prior_leaves_out_are_named(light: ReportInputs) -> None:
    assert "left out of the prior" not in render_report(light)
    table = light.cohort.table.replace({"case": {"case_00": "case_50", "case_06": "case_56"}})
    text = Page(render_report(replace(light, cohort=replace(light.cohort, table=table)))).text
    assert "2 of 12 volumes are left out of the prior" in text
    assert "case_50, case_56" in text
    assert "cannot be sources of dreams (labelled among them: 1)" in text


@pytest.mark.usefixtures("quick")
def test_all_intervals_are_of_one_level(light: ReportInputs) -> None:
    text = Page(render_report(light)).text
    levels = set(re.findall(r"(\d+(?:\.\d+)?) % interval", text))
    assert levels == {f"{100 * CONFIDENCE:g}"}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("what", ["three subjects", "one class"])
def test_few_test_subjects_or_one_class_leave_the_arms(
    classification: ReportInputs, what: str
) -> None:
    cases = classification.cases
    if what == "three subjects":
        cases = cases[cases["subject"].isin(cases["subject"].unique()[:3])]
    else:
        cases = cases[cases["class"] == cases["class"].iloc[0]]
    context = arms_section.build(replace(classification, cases=cases))
    assert isinstance(context["table_of_scores"], Table)
    assert BROKEN not in render_report(
        replace(classification, cases=cases, prior=None, dreams=None, pair_examples=[])
    )
    assert ("there is no AUC" in context["table_of_scores"].caption) == (what == "one class")


def test_seeds_are_counted_over_networks(complete: ReportInputs) -> None:
    """Plain baselines have none, and say 0."""
    assert complete.n_seeds == 1
    networks = ~complete.cases["arm"].isin(complete.baselines)
    cases = complete.cases.assign(seed=np.where(networks, 7, 0))
    assert cases["seed"].nunique() == 2
    assert replace(complete, cases=cases).n_seeds == 1
    assert replace(complete, cases=complete.cases.drop(columns="seed")).n_seeds == 0
