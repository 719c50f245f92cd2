"""Measures of success on test subjects, and honest comparisons for few of them."""

from dreamorph.evaluation.classification import classification_metrics
from dreamorph.evaluation.config import EvaluationConfig
from dreamorph.evaluation.evaluate import (
    Scored,
    class_balance,
    evaluate_classification,
    evaluate_segmentation,
    with_absent_labels,
)
from dreamorph.evaluation.metrics import LabelAgreement, label_agreement
from dreamorph.evaluation.statistics import (
    CONFIDENCE,
    FEWEST_RESAMPLED,
    bootstrap_interval,
    compare_arms,
    holm,
    paired,
    subject_means,
    wilcoxon_exact,
)

__all__ = [
    "CONFIDENCE",
    "FEWEST_RESAMPLED",
    "EvaluationConfig",
    "LabelAgreement",
    "Scored",
    "bootstrap_interval",
    "class_balance",
    "classification_metrics",
    "compare_arms",
    "evaluate_classification",
    "evaluate_segmentation",
    "holm",
    "label_agreement",
    "paired",
    "subject_means",
    "wilcoxon_exact",
    "with_absent_labels",
]
