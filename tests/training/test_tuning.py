"""Choices made within the training subjects."""

import pandas as pd
import pytest
from pydantic import ValidationError

from dreamorph.training.tuning import (
    COLUMNS,
    Candidate,
    TuningConfig,
    candidates,
    choose,
    counted,
    deal,
)

SUBJECTS = ("a", "b", "c", "d", "e")


def scores(**means: float) -> pd.DataFrame:
    """Scores of candidates, named as elastic_2 or dream_1, that differ a little by subject."""
    rows = []
    for place, (name, mean) in enumerate(means.items()):
        arm, energy = name.split("_")
        for k, subject in enumerate(SUBJECTS):
            noise = 0.01 * ((k * (place + 2)) % 5 - 2)
            score = mean + 0.1 * k + noise
            rows.append([arm, float(energy), k % 3, subject, "organ", score])
    return pd.DataFrame(rows, columns=list(COLUMNS))


def test_every_subject_is_held_out_exactly_once_with_all_its_volumes() -> None:
    subjects = [s for s in "hgfedcba" for _ in range(2)]
    folds = deal(subjects, [None] * 16, 3, seed=1)
    assert sorted(s for fold in folds for s in fold) == sorted("abcdefgh")
    assert sorted(len(fold) for fold in folds) == [2, 3, 3]


def test_classes_are_dealt_evenly_and_the_deal_depends_on_the_seed_alone() -> None:
    subjects = [f"s{k}" for k in range(12)]
    classes = ["sick" if k % 4 == 0 else "well" for k in range(12)]
    folds = deal(subjects, classes, 3, seed=0)
    own = dict(zip(subjects, classes, strict=True))
    assert [sum(own[s] == "sick" for s in fold) for fold in folds] == [1, 1, 1]
    assert folds == deal(subjects[::-1], classes[::-1], 3, seed=0)
    assert folds != deal(subjects, classes, 3, seed=1)


def test_no_more_folds_than_subjects() -> None:
    assert len(deal(["a", "b"], [None, None], 5, seed=0)) == 2


def test_the_best_strength_of_random_warps_is_taken() -> None:
    table = scores(**{"elastic_0.5": 0.3, "elastic_1": 0.4, "elastic_2": 0.45, "dream_1": 0.4})
    choice = choose(table, 1.0, "segmentation")
    assert choice.energies["elastic"] == 2.0
    assert choice.recommended == "elastic"


def test_another_way_than_learned_directions_needs_a_lead_of_a_standard_error() -> None:
    clear = scores(**{"elastic_1": 0.40, "dream_1": 0.45, "learned_1": 0.43})
    assert choose(clear, 1.0, "segmentation").recommended == "dream"
    slight = scores(**{"elastic_1": 0.402, "dream_1": 0.401, "learned_1": 0.400})
    assert choose(slight, 1.0, "segmentation").recommended == "learned"
    assert "nothing leads learned directions" in choose(slight, 1.0, "segmentation").reason
    random = scores(**{"elastic_1": 0.45, "dream_1": 0.39, "learned_1": 0.40})
    assert choose(random, 1.0, "segmentation").recommended == "elastic"
    assert "random warps lead learned directions" in choose(random, 1.0, "segmentation").reason


def test_where_classes_are_learned_any_warp_needs_a_lead_over_affine_maps() -> None:
    slight = scores(
        **{"classic_1": 0.400, "elastic_1": 0.400, "dream_1": 0.401, "learned_1": 0.402}
    )
    choice = choose(slight, 1.0, "classification")
    assert choice.recommended == "classic"
    assert "nothing leads affine maps alone" in choice.reason
    assert choice.energies == {"elastic": 1.0, "learned": 1.0}
    clear = scores(**{"classic_1": 0.40, "elastic_1": 0.40, "dream_1": 0.40, "learned_1": 0.45})
    choice = choose(clear, 1.0, "classification")
    assert choice.recommended == "learned"
    assert "learned directions lead affine maps alone" in choice.reason
    random = scores(**{"classic_1": 0.40, "elastic_1": 0.46, "elastic_4": 0.45, "learned_1": 0.43})
    choice = choose(random, 1.0, "classification")
    assert (choice.recommended, choice.energies["elastic"]) == ("elastic", 1.0)


def test_affine_maps_alone_stand_to_choice_where_classes_are_learned() -> None:
    config = TuningConfig(energies=(0.5, 2.0))
    more = set(candidates(config, 1.5, "classification"))
    assert more - set(candidates(config, 1.5, "segmentation")) == {Candidate("classic", 1.5)}


def test_labels_that_count_alone_decide() -> None:
    organ = scores(**{"elastic_1": 0.5, "learned_1": 0.5, "dream_1": 0.6})
    lesion = scores(**{"elastic_1": 0.5, "learned_1": 0.5, "dream_1": 0.2}).assign(label="lesion")
    both = pd.concat([organ, lesion])
    assert choose(counted(both, None), 1.0, "segmentation").recommended == "learned"
    assert choose(counted(both, ("organ",)), 1.0, "segmentation").recommended == "dream"
    assert choose(counted(both, ("lesion",)), 1.0, "segmentation").recommended == "learned"
    # a subject without the label that counts is no evidence
    only = both[(both["label"] == "organ") | both["subject"].isin(["a", "b"])]
    choice = choose(counted(only, ("lesion",)), 1.0, "segmentation")
    assert choice.recommended is None
    assert "2 training subjects" in choice.reason


def test_the_reason_names_the_lead_and_its_error() -> None:
    table = scores(**{"elastic_1": 0.0, "dream_1": 0.0})
    table.loc[table["arm"] == "elastic", "score"] = [0.5, 0.5, 0.5, 0.5, 0.5]
    table.loc[table["arm"] == "dream", "score"] = [0.5, 0.6, 0.7, 0.8, 0.9]
    # deviations -.2 -.1 0 .1 .2: variance .025, standard error sqrt(.025 / 5)
    assert (
        "dreams minus random warps +0.2000, standard error 0.0707"
        in choose(table, 1.0, "segmentation").reason
    )


def test_too_few_held_out_subjects_choose_nothing() -> None:
    table = scores(**{"elastic_2": 0.1, "dream_1": 0.9})
    choice = choose(table[table["subject"].isin(["a", "b"])], 0.7, "segmentation")
    assert (choice.energies, choice.recommended) == ({"elastic": 0.7, "learned": 0.7}, None)
    assert "2 training subjects" in choice.reason
    assert choose(pd.DataFrame(columns=list(COLUMNS)), 0.7, "segmentation").recommended is None


def test_a_candidate_that_lacks_a_subject_is_refused() -> None:
    table = scores(**{"elastic_1": 0.1, "learned_1": 0.9})
    with pytest.raises(ValueError, match="same subjects"):
        choose(table.iloc[:-1], 1.0, "segmentation")


def test_dreams_that_some_fold_lacks_do_not_stand_to_choice() -> None:
    table = scores(**{"elastic_1": 0.1, "learned_1": 0.3, "dream_1": 0.9})
    choice = choose(table.iloc[:-1], 1.0, "segmentation")
    assert choice.recommended == "learned"
    assert "not every fold had dreams" in choice.reason
    assert "dreams minus" not in choice.reason
    nowhere = choose(table[table["arm"] != "dream"], 1.0, "segmentation")
    assert nowhere == choice
    assert "not every fold" not in choose(table, 1.0, "segmentation").reason


def test_random_and_learned_directions_have_a_strength_each() -> None:
    table = scores(**{"elastic_1": 0.40, "elastic_2": 0.3, "learned_1": 0.40, "learned_2": 0.45})
    choice = choose(table, 1.0, "segmentation")
    assert choice.energies == {"elastic": 1.0, "learned": 2.0}
    assert choice.recommended == "learned"


def test_candidates_are_dreams_and_all_strengths_in_random_and_in_learned_directions() -> None:
    assert candidates(TuningConfig(energies=(0.5, 2.0)), 1.5, "segmentation") == [
        Candidate("elastic", 0.5),
        Candidate("elastic", 2.0),
        Candidate("learned", 0.5),
        Candidate("learned", 2.0),
        Candidate("dream", 1.5),
    ]


def test_without_strengths_to_choose_from_all_warps_are_as_strong_as_given() -> None:
    """`elastic_warps.energy` then says how strong, and nothing overrides it."""
    assert {(one.arm, one.energy) for one in candidates(TuningConfig(), 0.5, "segmentation")} == {
        ("elastic", 0.5), ("learned", 0.5), ("dream", 0.5),
    }  # fmt: skip


@pytest.mark.parametrize("energies", [(), (0.0, 1.0), (1.0, 1.0)])
def test_bad_energies_are_refused(energies: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError, match="distinct positive"):
        TuningConfig(energies=energies)
