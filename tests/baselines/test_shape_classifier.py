import numpy as np
import pandas as pd
import pytest

from dreamorph.baselines import ShapeClassifierConfig, fit_shape_classifier
from dreamorph.errors import CohortError


def cohort(seed: int, count: int = 40):
    rng = np.random.default_rng(seed)
    classes = np.arange(count) % 2
    volume = 5.0 + classes + 0.3 * rng.normal(size=count)
    return pd.DataFrame({"volume_ml": volume, "noise": rng.normal(size=count) * 1e3}), classes


@pytest.mark.parametrize("kind", ["logistic", "forest"])
def test_learns_a_difference_in_volume(kind):
    config = ShapeClassifierConfig(kind=kind, trees=50)
    classifier = fit_shape_classifier(*cohort(0), 2, config)
    features, classes = cohort(1)
    probabilities = classifier.predict(features)
    assert np.allclose(probabilities.sum(1), 1)
    assert (probabilities.argmax(1) == classes).mean() > 0.85


def test_columns_are_taken_by_name():
    classifier = fit_shape_classifier(*cohort(0), 2, ShapeClassifierConfig(trees=10))
    features, _ = cohort(1)
    turned = features[features.columns[::-1]]
    assert np.array_equal(classifier.predict(features), classifier.predict(turned))


def test_a_class_without_training_cases_gets_no_probability():
    features, classes = cohort(0)
    classifier = fit_shape_classifier(features, 2 * classes, 4, ShapeClassifierConfig(trees=10))
    probabilities = classifier.predict(features)
    assert probabilities.shape == (40, 4)
    assert not probabilities[:, [1, 3]].any()


def test_same_seed_same_forest():
    one, two = (fit_shape_classifier(*cohort(0), 2, ShapeClassifierConfig(trees=20)) for _ in "ab")
    features, _ = cohort(1)
    assert np.array_equal(one.predict(features), two.predict(features))


def test_one_class_only_is_an_error():
    features, classes = cohort(0)
    with pytest.raises(CohortError, match="all of one class"):
        fit_shape_classifier(features, 0 * classes, 2)
