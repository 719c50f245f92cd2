"""A plain classifier on plain features: what a deep network has to beat."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from dreamorph.config import Config
from dreamorph.errors import CohortError


class ShapeClassifierConfig(Config):
    """The plain classifier.

    Attributes:
        kind: `logistic` regression on standardised features, or a random `forest`.
        inverse_penalty: of the logistic regression; smaller is smoother.
        trees: of the forest.
        seed: of the forest.
    """

    kind: Literal["logistic", "forest"] = "forest"
    inverse_penalty: float = Field(default=0.1, gt=0)
    trees: int = Field(default=300, ge=1)
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class ShapeClassifier:
    """A fitted classifier.

    Attributes:
        model: scikit-learn estimator.
        features: names of the columns it was fitted on.
        n_classes: of the cohort, also those without a training case.
    """

    model: Any
    features: tuple[str, ...]
    n_classes: int

    def predict(self, features: pd.DataFrame) -> np.ndarray:
        """Probabilities `(N, n_classes)`; zero for a class without a training case."""
        found = self.model.predict_proba(features[list(self.features)].to_numpy())
        probabilities = np.zeros((len(features), self.n_classes))
        probabilities[:, self.model.classes_] = found
        return probabilities


def fit_shape_classifier(
    features: pd.DataFrame,
    classes: np.ndarray,
    n_classes: int,
    config: ShapeClassifierConfig | None = None,
) -> ShapeClassifier:
    """Fit on training cases only; classes count alike however many cases they have.

    Args:
        features: as `shape_features` gives them, `(N, F)`.
        classes: integers `(N,)`.
        n_classes: of the cohort.

    Raises:
        CohortError: all training cases are of one class.
    """
    config = config or ShapeClassifierConfig()
    classes = np.asarray(classes)
    if len(np.unique(classes)) < 2:
        raise CohortError(
            "the training cases are all of one class, expected at least two: "
            "add cases of another class or change the split"
        )
    if config.kind == "logistic":
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        model = make_pipeline(
            StandardScaler(),
            LogisticRegression(C=config.inverse_penalty, class_weight="balanced", max_iter=2000),
        )
    else:
        from sklearn.ensemble import RandomForestClassifier

        model = RandomForestClassifier(
            n_estimators=config.trees,
            class_weight="balanced",
            min_samples_leaf=2,
            random_state=config.seed,
            n_jobs=1,
        )
    model.fit(features.to_numpy(), classes)
    return ShapeClassifier(model, tuple(features.columns), n_classes)
