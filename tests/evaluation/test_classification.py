import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from dreamorph.evaluation import (
    Scored,
    classification_metrics,
    evaluate_classification,
    subject_means,
)
from dreamorph.evaluation.classification import accuracy, auc, balanced_accuracy


def two(p: list[float]) -> np.ndarray:
    return np.stack([1 - np.array(p), np.array(p)], axis=1)


def cases(true, probabilities, arm="dream", subjects=None, names=("normal", "enlarged")):
    subjects = range(len(true)) if subjects is None else subjects
    scored = [Scored(arm, f"c{i}", f"s{s}") for i, s in enumerate(subjects)]
    return evaluate_classification(scored, probabilities, true, names)


def test_auc_by_hand():
    """Of the four pairs, three are in order and one is a tie: 3.5 / 4."""
    true = np.array([0, 1, 0, 1])
    assert auc(true, two([0.1, 0.9, 0.5, 0.5])) == pytest.approx(3.5 / 4)


def test_balanced_accuracy_by_hand():
    """All of three and none of one: accuracy 3/4, balanced 1/2."""
    true, probabilities = np.array([0, 0, 0, 1]), two([0.1, 0.1, 0.1, 0.1])
    assert accuracy(true, probabilities) == 0.75
    assert balanced_accuracy(true, probabilities) == 0.5


def test_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    true = rng.integers(3, size=60)
    probabilities = rng.dirichlet(np.ones(3), size=60)
    expected = metrics.roc_auc_score(true, probabilities, multi_class="ovr")
    assert auc(true, probabilities) == pytest.approx(expected)
    assert balanced_accuracy(true, probabilities) == pytest.approx(
        metrics.balanced_accuracy_score(true, probabilities.argmax(1))
    )


def test_one_class_has_no_auc():
    assert np.isnan(auc(np.zeros(4, int), two([0.1, 0.2, 0.3, 0.4])))


def test_table_of_cases():
    table = cases([0, 1], two([0.2, 0.4]))
    assert table["class"].tolist() == ["normal", "enlarged"]
    assert table["predicted"].tolist() == ["normal", "normal"]
    assert table["correct"].tolist() == [1.0, 0.0]
    assert table["p_enlarged"].tolist() == pytest.approx([0.2, 0.4])


def test_the_mean_over_cases_is_balanced_accuracy():
    true = [0, 0, 0, 1]
    table = cases(true, two([0.1, 0.9, 0.1, 0.7]))
    assert table["balanced_accuracy"].tolist() == pytest.approx([2 / 3, 0, 2 / 3, 2])
    assert table["balanced_accuracy"].mean() == pytest.approx((2 / 3 + 1) / 2)


def test_with_one_case_a_subject_the_weights_are_exactly_those_of_cases():
    rng = np.random.default_rng(0)
    true = rng.integers(3, size=50)
    table = cases(true, rng.dirichlet(np.ones(3), size=50), names=("a", "b", "c"))
    size = table.groupby("class")["class"].transform("size")
    expected = table["correct"] * len(table) / (table["class"].nunique() * size)
    assert table["balanced_accuracy"].tolist() == expected.tolist()


def test_the_mean_over_subjects_is_balanced_accuracy_whatever_their_numbers_of_cases():
    """One well subject of four cases, four of one case, two sick ones: six of one case."""
    true = [0] * 8 + [1] * 2
    subjects = [0, 0, 0, 0, 1, 2, 3, 4, 5, 6]

    def score(wrong):
        p = np.array(true, float)
        p[wrong] = 1 - p[wrong]
        table = cases(true, two(p), subjects=subjects)
        return subject_means(table, "balanced_accuracy")["dream"].mean()

    assert score([]) == pytest.approx(1)
    assert score([0, 1, 2, 3]) == pytest.approx((4 / 5 + 1) / 2)
    assert score([4, 5, 6, 7]) == pytest.approx((1 / 5 + 1) / 2)
    assert score([0, 1]) == pytest.approx((4.5 / 5 + 1) / 2)
    assert score([8]) == pytest.approx((1 + 1 / 2) / 2)
    assert score(list(range(8))) == score([8, 9]) == pytest.approx(0.5)


def test_a_subject_of_both_classes_counts_for_each_by_its_cases():
    """Half a subject and one are well, half a one and one are sick."""
    table = cases([0, 1, 0, 1], two([0.1, 0.1, 0.1, 0.9]), subjects=[0, 0, 1, 2])
    found = subject_means(table, "balanced_accuracy")["dream"].mean()
    assert found == pytest.approx((1 + 1 / 1.5) / 2)


def test_table_refuses_other_shapes():
    with pytest.raises(ValueError, match="one column per class"):
        cases([0, 1], np.zeros((2, 3)))


def test_intervals_hold_the_value():
    rng = np.random.default_rng(0)
    true = np.arange(40) % 2
    table = cases(true, two(np.clip(0.5 + 0.2 * (true - 0.5) + 0.2 * rng.normal(size=40), 0, 1)))
    found = classification_metrics(table, ["normal", "enlarged"]).set_index("metric")
    assert (found["lower"] < found["value"]).all()
    assert (found["value"] < found["upper"]).all()
    assert (found["n_subjects"] == 40).all()


def test_cases_of_a_subject_are_resampled_together():
    """Repeating each case of a subject must not narrow the interval."""
    rng = np.random.default_rng(1)
    true = np.arange(20) % 2
    probabilities = rng.uniform(size=20)
    once = cases(true, two(probabilities))
    often = cases(
        np.repeat(true, 5), two(np.repeat(probabilities, 5)), subjects=np.arange(100) // 5
    )
    widths = []
    for table in (once, often):
        found = classification_metrics(table, ["normal", "enlarged"]).set_index("metric")
        widths.append(found.loc["accuracy", "upper"] - found.loc["accuracy", "lower"])
    assert widths[0] == pytest.approx(widths[1], abs=0.06)


def test_resamplings_without_a_class_are_left_out():
    """To call all eleven well is never right for more than one class of two, whoever is drawn."""
    table = cases([0] * 9 + [1] * 2, two([0.1] * 11))
    found = classification_metrics(table, ["normal", "enlarged"]).set_index("metric")
    row = found.loc["balanced_accuracy"]
    assert (row["lower"], row["value"], row["upper"]) == (0.5, 0.5, 0.5)
    assert found.loc["accuracy", "upper"] == 1


def test_a_class_of_one_subject_leaves_accuracy_alone_an_interval():
    """Whoever is drawn, its recall would be that of the same subject."""
    table = cases([0] * 9 + [1], two([0.1] * 5 + [0.9] * 4 + [0.1]))
    found = classification_metrics(table, ["normal", "enlarged"]).set_index("metric")
    assert found["value"].notna().all()
    assert found.loc[["auc", "balanced_accuracy"], ["lower", "upper"]].isna().all(axis=None)
    assert found.loc["accuracy", ["lower", "upper"]].notna().all()


def test_one_subject_has_no_interval():
    table = cases([0, 1], two([0.2, 0.7]), subjects=[0, 0])
    found = classification_metrics(table, ["normal", "enlarged"])
    assert found["lower"].isna().all()
    assert (found["value"] == 1).all()


def test_seeds_of_an_arm_are_no_ensemble():
    """Three networks that are each right on two cases of three: so is the arm, not always right."""
    true, names = [0, 1, 1], ["normal", "enlarged"]
    tables = []
    for seed in range(3):
        p = np.array(true, float)
        p[seed] = 0.6 - 0.2 * p[seed]
        tables.append(cases(true, two(p)).assign(seed=seed))
    together = classification_metrics(pd.concat(tables), names).set_index("metric")["value"]
    alone = [classification_metrics(one, names).set_index("metric")["value"] for one in tables]
    assert together["accuracy"] == pytest.approx(2 / 3)
    for metric in together.index:
        assert together[metric] == pytest.approx(np.mean([one[metric] for one in alone]))
