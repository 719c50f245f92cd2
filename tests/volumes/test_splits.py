"""By subject, stratified, deterministic, and never overlapping."""

import pandas as pd
import pytest

from dreamorph.errors import CohortError
from dreamorph.volumes.config import SplitConfig
from dreamorph.volumes.records import frame, rows
from dreamorph.volumes.splits import SPLITS, assign_splits, check_disjoint, check_members
from dreamorph.volumes.validation import GOOD_COLUMNS


def table(subjects, per_subject=1, labelled=None, classes=None, splits=None):
    cases = []
    for s in range(subjects):
        for c in range(per_subject):
            bare = labelled is not None and s >= labelled
            cases.append(
                {
                    "case": f"case_{s}_{c}",
                    "subject": f"subject-{s}",
                    "image": f"{s}_{c}.nii",
                    "label": None if bare or labelled == 0 else f"{s}_{c}_label.nii",
                    "class": classes[s] if classes else None,
                    "split": splits[s] if splits else None,
                    "content": f"{s}_{c}",
                }
            )
    return frame(cases, GOOD_COLUMNS)


def counts(result):
    groups = result.groupby("split")["subject"].nunique()
    return {split: int(groups.get(split, 0)) for split in SPLITS}


def test_numbers_of_subjects():
    config = SplitConfig(train_subjects=5, unlabelled_subjects=30)
    result = assign_splits(table(60, per_subject=2), config)
    assert counts(result) == {"train": 5, "unlabelled": 30, "test": 25}
    assert result.groupby("subject")["split"].nunique().max() == 1


def test_labels_of_the_unlabelled_part_are_withheld():
    classes = ["a", "b"] * 10
    config = SplitConfig(train_subjects=5, unlabelled_subjects=5)
    result = rows(assign_splits(table(20, classes=classes), config))
    for case in result:
        known = case["split"] != "unlabelled"
        assert case["labelled"] is known
        assert (case["label"] is not None) is known
        assert (case["class"] is not None) is known


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, (6, 4, 6)),
        ({"train_subjects": 5}, (5, 4, 7)),
        ({"test_subjects": 5}, (7, 4, 5)),
        ({"train_subjects": 3, "test_subjects": 2}, (3, 4, 2)),
        ({"unlabelled_subjects": 2}, (6, 2, 6)),
        ({"unlabelled_subjects": 8}, (4, 8, 4)),
        ({"unlabelled_subjects": 0, "train_fraction": 0.75}, (9, 0, 3)),
    ],
)
def test_defaults_adapt(config, expected):
    result = assign_splits(table(16, labelled=12), SplitConfig(**config))
    assert tuple(counts(result).values()) == expected


def test_truly_unlabelled_subjects_come_first():
    result = assign_splits(table(16, labelled=12), SplitConfig(unlabelled_subjects=6))
    bare = {f"subject-{s}" for s in range(12, 16)}
    assert bare < set(result.loc[result["split"] == "unlabelled", "subject"])


@pytest.mark.parametrize("count", [2, 3])
def test_the_smallest_cohorts(count):
    result = counts(assign_splits(table(count), SplitConfig()))
    assert result["train"] >= 1
    assert result["test"] >= 1


def test_a_prior_needs_three_volumes_that_do_not_test():
    check_members(assign_splits(table(4), SplitConfig()))
    check_members(assign_splits(table(4, labelled=3), SplitConfig()))
    with pytest.raises(CohortError, match=r"and 1 for testing: add unlabelled volumes$"):
        check_members(assign_splits(table(3), SplitConfig()))
    with pytest.raises(CohortError, match=r"add unlabelled volumes, or lower split.test_subjects$"):
        check_members(assign_splits(table(4), SplitConfig(test_subjects=2)))


def test_one_labelled_subject_cannot_teach_how_subjects_differ():
    split = assign_splits(table(5, labelled=2), SplitConfig())
    with pytest.raises(CohortError, match=r"at least 2 labelled training subjects .* there is 1"):
        check_members(split)


@pytest.mark.parametrize(
    "config",
    [
        {"train_subjects": 12},
        {"train_subjects": 7, "test_subjects": 6},
        {"test_subjects": 12},
        {"unlabelled_subjects": 16},
        {"train_subjects": 5, "unlabelled_subjects": 30},
    ],
)
def test_numbers_that_do_not_fit(config):
    with pytest.raises(CohortError, match="12 labelled and 4 unlabelled subjects"):
        assign_splits(table(16, labelled=12), SplitConfig(**config))


def test_too_few_labelled():
    with pytest.raises(CohortError, match="no case has a label map or class"):
        assign_splits(table(5, labelled=0), SplitConfig())
    with pytest.raises(CohortError, match="only one labelled subject"):
        assign_splits(table(5, labelled=1), SplitConfig())
    with pytest.raises(CohortError, match="only one labelled subject"):
        assign_splits(table(1, per_subject=4), SplitConfig())
    quarantine = frame(
        [{"case": "x", "status": "quarantined", "reason": "empty label", "detail": ""}],
        ("case", "status", "reason", "detail"),
    )
    with pytest.raises(CohortError, match="usable cases: 1, set aside: 1 empty label"):
        assign_splits(table(1), SplitConfig(), quarantine)


def test_deterministic_in_the_seed_and_not_in_the_order():
    first = assign_splits(table(20), SplitConfig(seed=3))
    assert first.equals(assign_splits(table(20), SplitConfig(seed=3)))
    assert not first.equals(assign_splits(table(20), SplitConfig(seed=4)))
    shuffled = assign_splits(table(20).sample(frac=1, random_state=0), SplitConfig(seed=3))
    assert shuffled.sort_values("case")["split"].tolist() == (
        first.sort_values("case")["split"].tolist()
    )


def test_more_training_keeps_what_was_there():
    def train(n):
        result = assign_splits(table(20), SplitConfig(train_subjects=n, test_subjects=8))
        return [set(result.loc[result["split"] == s, "subject"]) for s in ("train", "test")]

    assert train(3)[0] < train(5)[0] < train(10)[0]
    assert train(3)[1] == train(10)[1]


def test_stratified_by_class():
    classes = ["well"] * 20 + ["sick"] * 10
    config = SplitConfig(train_subjects=6, unlabelled_subjects=6)
    result = assign_splits(table(30, labelled=0, classes=classes), config)
    shares = result[result["split"] != "unlabelled"].groupby("split")["class"].value_counts()
    assert 1 <= shares["train", "sick"] <= 3
    assert 5 <= shares["test", "sick"] <= 7


def test_every_class_trains():
    classes = ["a"] * 38 + ["b", "c"]
    with pytest.raises(CohortError, match="lacks the classes"):
        assign_splits(table(40, labelled=0, classes=classes), SplitConfig(train_subjects=2))
    result = assign_splits(table(40, labelled=0, classes=classes), SplitConfig(train_subjects=3))
    assert set(result.loc[result["split"] == "train", "class"]) == {"a", "b", "c"}
    with pytest.raises(CohortError, match=r"at least 2 classes to tell apart, got only \['a'\]"):
        assign_splits(table(4, labelled=0, classes=["a"] * 4), SplitConfig())


def test_unlabelled_cases_of_a_training_subject_are_unused():
    cases = rows(table(4, per_subject=2))
    for case in cases[1::2]:
        case["label"] = None
    result = rows(assign_splits(frame(cases, GOOD_COLUMNS), SplitConfig()))
    assert [case["split"] == "unused" for case in result] == [False, True] * 4
    assert all(case["labelled"] for case in result if case["split"] in ("train", "test"))


def test_own_split_is_kept():
    splits = ["train"] * 10 + ["unlabelled"] * 4 + ["test"] * 6
    whole = assign_splits(table(20, splits=splits), SplitConfig())
    assert whole["split"].tolist() == splits
    config = SplitConfig(train_subjects=3, unlabelled_subjects=2, test_subjects=5)
    part = assign_splits(table(20, splits=splits), config)
    assert tuple(counts(part).values()) == (3, 2, 5)
    for before, after in zip(splits, part["split"], strict=True):
        assert after in (before, "unused")
    with pytest.raises(CohortError, match=r"unlabelled_subjects asks for 5, .* has 4"):
        assign_splits(table(20, splits=splits), SplitConfig(unlabelled_subjects=5))
    with pytest.raises(CohortError, match="has 0 usable subjects in 'test'; usable cases: 20"):
        assign_splits(table(20, splits=["train"] * 20), SplitConfig())


def test_a_scan_without_label_of_a_subject_that_has_others_is_not_used(caplog):
    cases = rows(table(6, splits=["train"] * 4 + ["test"] * 2))
    cases[1] |= {"subject": cases[0]["subject"], "label": None}
    result = assign_splits(frame(cases, GOOD_COLUMNS), SplitConfig())
    assert result["split"].tolist() == ["train", "unused", "train", "train", "test", "test"]
    assert "1 cases of split 'train' have no label and are not used" in caplog.text


def test_own_split_with_faults():
    with pytest.raises(CohortError, match="2 cases of split 'test' have no label"):
        assign_splits(table(6, labelled=4, splits=["train"] * 4 + ["test"] * 2), SplitConfig())
    with pytest.raises(CohortError, match="1 cases have no split"):
        assign_splits(table(3, splits=["train", "test", None]), SplitConfig())
    cases = rows(table(4, splits=["train", "train", "test", "test"]))
    cases[3]["subject"] = cases[0]["subject"]
    with pytest.raises(CohortError, match="1 subjects are in several, for example subject-0 in"):
        assign_splits(frame(cases, GOOD_COLUMNS), SplitConfig())


def test_classes_of_labelled_cases_are_given_for_all_or_none():
    classes = ["a", "b", None, "a", "b", None, "a", None]
    with pytest.raises(CohortError, match=r"2 of 6 cases .* have no class, for example case_2"):
        assign_splits(table(8, labelled=6, classes=classes), SplitConfig())
    split = ["unlabelled" if cls is None else "train" for cls in classes[:7]] + ["test"]
    classes[7] = "b"
    assign_splits(table(8, classes=classes, splits=split), SplitConfig())


def test_leaks_are_caught():
    result = assign_splits(table(8), SplitConfig())
    check_disjoint(result)
    train = result.index[result["split"] == "train"][0]
    test = result.index[result["split"] == "test"][0]
    leaked = result.copy()
    leaked.loc[test, "subject"] = leaked.loc[train, "subject"]
    with pytest.raises(CohortError, match="1 subjects are in several"):
        check_disjoint(leaked)
    copied = result.copy()
    copied.loc[test, "content"] = copied.loc[train, "content"]
    with pytest.raises(CohortError, match="1 equal images are in several"):
        check_disjoint(copied)
    unused = leaked.copy()
    unused.loc[test, "split"] = "unused"
    check_disjoint(unused)


def test_survives_a_way_through_csv(tmp_path):
    table(8, labelled=6).to_csv(tmp_path / "good.csv", index=False)
    read = assign_splits(pd.read_csv(tmp_path / "good.csv"), SplitConfig())
    direct = assign_splits(table(8, labelled=6), SplitConfig())
    assert read["split"].tolist() == direct["split"].tolist()
    assert read["label"].tolist() == direct["label"].tolist()
