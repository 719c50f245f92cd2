"""Figures one by one: what can be drawn is drawn, and what moves moves the right way."""

from dataclasses import replace

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from dreamorph.registration.groupwise import Group
from dreamorph.reporting import ReportInputs, draw_report
from dreamorph.reporting.figures import arms, dreams, population, registration
from dreamorph.reporting.style import plain


@pytest.mark.usefixtures("quick")
def test_pictures_of_a_complete_run(complete: ReportInputs) -> None:
    pictures = draw_report(complete)[1]
    assert [picture.name for picture in pictures] == [
        "registration_pair_1", "registration_pair_2", "registration_quality", "prior_modes",
        "prior_draws", "prior_spectrum", "dreams_gallery", "dreams_planes", "label_volumes",
        "scores", "differences", "training_curves", "worst_cases",
    ]  # fmt: skip
    assert all(picture.figure.axes for picture in pictures)


@pytest.mark.usefixtures("quick")
def test_pictures_of_classes_have_safe_names(classification: ReportInputs) -> None:
    pictures = draw_report(replace(classification, pair_examples=[], dreams=None))[1]
    names = [picture.name for picture in pictures]
    assert {"prior_modes_1_large", "prior_modes_2_small"} <= set(names)
    assert "worst_cases" not in names


@pytest.mark.usefixtures("quick")
def test_a_bare_run_has_no_picture(bare: ReportInputs) -> None:
    assert draw_report(bare)[1] == []


def test_figures_leave_no_global_state(complete: ReportInputs) -> None:
    before = dict(matplotlib.rcParams)
    registration.quality(complete)
    assert dict(matplotlib.rcParams) == before


def test_the_affine_step_is_shown_where_there_is_one(complete: ReportInputs) -> None:
    figure = registration.pair(complete)
    assert isinstance(figure, Figure)
    titles = [ax.get_title() for ax in figure.axes[:5]]
    assert titles == ["fixed", "moving, before", "after affine", "after warp",
                      "fixed / warped tiles"]  # fmt: skip
    fixed, moving, transform = complete.pair_examples[0]
    eye = torch.eye(4, dtype=torch.float64)[None]
    still = replace(complete, pair_examples=[(fixed, moving, replace(transform, post=eye))])
    figure = registration.pair(still)
    assert isinstance(figure, Figure)
    assert "after affine" not in [ax.get_title() for ax in figure.axes]


def test_in_the_common_space_the_volume_is_shown_as_it_was_before(
    complete: ReportInputs,
) -> None:
    cohort, prior = complete.cohort, complete.prior
    assert prior is not None
    rows = [cohort.index_of(member) for member in prior.members]
    part = cohort.select(rows)
    group = Group(
        part.images, part.labels, part.masks, torch.ones(len(rows), dtype=torch.bool),
        part.spacing_mm, tuple(part.cases),
    )  # fmt: skip
    figure = registration.pair(replace(complete, common=group))
    assert isinstance(figure, Figure)
    titles = [ax.get_title() for ax in figure.axes[:5]]
    assert titles[1:4] == ["moving, before", "after affine", "after warp"]
    assert registration.pair_names(replace(complete, common=group), 1) == ("case_02", "case_06")


def test_the_template_is_the_mean_of_the_members_in_the_common_space(
    complete: ReportInputs,
) -> None:
    common = population.template(complete)
    assert isinstance(common, population.Template)
    assert set(common.labels.unique().tolist()) == {0, 1, 2}
    still = common.moved(torch.zeros(3, 4, 4, 4))
    assert torch.allclose(still.image, common.image, atol=1e-5)


def test_the_template_moves_with_the_velocity(complete: ReportInputs) -> None:
    common = population.template(complete)
    assert isinstance(common, population.Template)
    velocity = torch.zeros(3, 4, 4, 4)
    velocity[0] = 2.0  # a subject that lies 2 mm, which is two voxels, further right
    moved = common.moved(velocity)
    assert torch.equal(moved.labels[0, 0, 4:-2], common.labels[0, 0, 2:-4])


def test_volumes_in_millilitres() -> None:
    labels = torch.zeros(2, 1, 10, 10, 10, dtype=torch.uint8)
    labels[1, 0, :5] = 2
    assert dreams.volumes_ml(labels, 2, (1.0, 2.0, 1.0)).tolist() == [0.0, 1.0]


def test_the_worst_cases_are_the_worst(complete: ReportInputs) -> None:
    worst = arms.worst_cases(complete)
    own = complete.cases[complete.cases["arm"] == "dream"].groupby("case")["dice"].mean()
    assert [case for case, _ in worst] == own.nsmallest(3).index.tolist()


def test_the_worst_cases_are_those_of_the_training_whose_predictions_are_shown(
    complete: ReportInputs,
) -> None:
    """Another training turns the order round."""
    first = complete.cases[complete.cases["seed"] == complete.cases["seed"].min()]
    other = first.assign(seed=first["seed"].max() + 1, dice=1 - first["dice"])
    both = replace(complete, cases=pd.concat([first, other]))
    assert arms.worst_cases(both) == arms.worst_cases(replace(complete, cases=first))
    assert len(arms.worst_cases(both)) == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb", "a b"),
        ("$x_1$", r"\$x_1\$"),
        ("海马", "??"),
        ("x" * 40, "x" * 31 + "…"),
    ],
)
def test_text_from_outside_is_made_safe(text: str, expected: str) -> None:
    assert plain(text) == expected


def test_every_test_subject_is_a_point_of_its_class(classification: ReportInputs) -> None:
    figure = arms.scores(classification)
    assert isinstance(figure, Figure)
    ax = figure.axes[-1]
    assert "true class" in ax.get_title()
    points = sum(len(drawn.get_offsets()) for drawn in ax.collections)
    assert points == len(classification.cases)
    own = classification.cases[classification.cases["arm"] == "dream"]
    given = [row[f"p_{row['class']}"] for row in own.to_dict("records")]
    place = classification.arms.index("dream")
    drawn = np.concatenate([np.asarray(d.get_offsets()) for d in ax.collections])
    shown = drawn[np.abs(drawn[:, 1] - place) < 0.5, 0]
    assert sorted(shown) == pytest.approx(sorted(given))
