"""Nodes of the evaluation step."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch

from dreamorph.baselines.atlas import Atlases, FusionConfig, fuse
from dreamorph.baselines.shape_classifier import ShapeClassifierConfig, fit_shape_classifier
from dreamorph.baselines.shape_features import shape_features
from dreamorph.datasets import StoredItems
from dreamorph.dreaming import AffineWarpConfig
from dreamorph.errors import CohortError, StaleError
from dreamorph.evaluation import (
    EvaluationConfig,
    Scored,
    classification_metrics,
    compare_arms,
    evaluate_classification,
    evaluate_segmentation,
    with_absent_labels,
)
from dreamorph.fingerprint import fingerprint
from dreamorph.pipelines.common import Items, progress, task_of
from dreamorph.pipelines.current import MADE_OF, mark_of_scores
from dreamorph.pipelines.train.nodes import from_item, stored_network
from dreamorph.training import Views, predict_each
from dreamorph.volumes.cohort import Cohort
from dreamorph.volumes.native import native_labels, read_label
from dreamorph.volumes.records import CohortFacts

#: Names of the plain baselines in the case table.
ATLAS, SHAPE = "atlas", "shape_features"
#: Networks whose answers are also averaged with those of the atlas fusion, and how that is called.
AVERAGED = ("elastic", "dream", "learned")
WITH_ATLAS = f"+{ATLAS}"
#: Counts up whenever the same answers would be scored otherwise.
VERSION = 6
#: Where scores say how they were made, and what they say.
SCORED_BY, SCORING = "evaluation", ("views", "tolerance_mm")
#: Comparisons, in families whose p-values are corrected together. The first is that of the check
#: `dream_ablation`: one claim, one family.
FAMILIES = (
    (("dream", "elastic"), ("dream", "classic"), ("dream", "none"), ("dream", "learned")),
    (("learned", "elastic"), ("elastic", "classic")),
    (
        (f"dream{WITH_ATLAS}", ATLAS),
        (f"dream{WITH_ATLAS}", "dream"),
        (f"dream{WITH_ATLAS}", f"elastic{WITH_ATLAS}"),
        (f"learned{WITH_ATLAS}", f"elastic{WITH_ATLAS}"),
    ),
)
#: Networks held against the plain method, each a question of its own.
AGAINST_PLAIN = ("dream", "learned", "elastic", "classic")


def score_arms(
    cohort: Cohort,
    case_table: pd.DataFrame,
    facts: dict[str, Any],
    plan: pd.DataFrame,
    arms: Items,
    plain: Items,
    affine: AffineWarpConfig,
    fusion: FusionConfig,
    evaluation: EvaluationConfig,
    device: str,
    done: StoredItems,
) -> Iterator[dict[str, Any]]:
    """Show each trained network the held-out subjects and score what it says.

    Alone, and averaged with the plain method, which errs otherwise than a network does.
    """
    voted = _plain_keys(cohort, case_table, fusion, evaluation)
    views = views_of(cohort, affine, evaluation)
    how = affine.model_dump(mode="json") if views else {}
    mark = _mark(
        cohort, case_table, evaluation, fusion.model_dump(mode="json"), evaluation.views, how
    )
    keys = [f"{key}-{mark}" for key in plan["key"]]
    by = evaluation.model_dump(mode="json", include=set(SCORING))
    yield done.stale(keys)
    for row, key in zip(plan.itertuples(index=False), keys, strict=True):
        if key in done:
            continue
        item = stored_network(arms, str(row.arm), str(row.key))
        trained = from_item(item)
        tests = cohort.select(cohort.indices("test"))
        check_unseen(item, tests)
        answers = predict_each(trained.build(), tests.images, tests.masks, device, views)
        if task_of(cohort) == "segmentation":
            judge = _Judge(cohort, case_table, facts, evaluation)
            tables, labels = [], {}
            for case, answer in zip(tests.cases, answers, strict=True):
                rows, (_, labels[case]) = judge.score(case, answer, trained.arm, trained.seed)
                tables.append(rows)
                if row.arm in AVERAGED:
                    both = (answer + plain[voted[case]]["probabilities"][None] / 255) / 2
                    name = f"{trained.arm}{WITH_ATLAS}"
                    tables.append(judge.score(case, both, name, trained.seed)[0])
            scored = _joined(tables, labels)
        else:
            table = _classified(cohort, torch.cat(list(answers)), trained.arm, trained.seed)
            scored = _joined([table], {})
        yield {key: scored | {SCORED_BY: by}}


def views_of(
    cohort: Cohort, affine: AffineWarpConfig, evaluation: EvaluationConfig
) -> Views | None:
    """How else a network sees the test volumes."""
    if evaluation.views == 0:
        return None
    return Views.draw(evaluation.views, affine, cohort.spacing_mm)


def score_plain(
    cohort: Cohort,
    case_table: pd.DataFrame,
    facts: dict[str, Any],
    fusion: FusionConfig,
    classifier: ShapeClassifierConfig,
    evaluation: EvaluationConfig,
    done: StoredItems,
) -> Iterator[dict[str, Any]]:
    """Score the plain method that a network has to beat, case by case."""
    if task_of(cohort) == "classification":
        key = f"{SHAPE}-{_mark(cohort, case_table, evaluation, classifier)}"
        yield done.stale([key])
        if key not in done:
            yield {key: _plain_classes(cohort, classifier)}
        return
    keys = _plain_keys(cohort, case_table, fusion, evaluation)
    yield done.stale(list(keys.values()))
    found = _fused(cohort, case_table, facts, fusion, evaluation, keys, set(done))
    yield from progress(found, list(keys.values()), done, "atlas fusion")


def collect_scores(
    cohort: Cohort,
    case_table: pd.DataFrame,
    scores: Items,
    plain: Items,
    evaluation: EvaluationConfig,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any], dict[str, Any], dict[str, str]]:
    """All scores in one table, the comparisons of the arms, the metrics to track, and a mark."""
    items = [scores[key] for key in scores] + [plain[key] for key in plain]
    cases = pd.concat([pd.DataFrame(item["rows"]) for item in items], ignore_index=True)
    rng = np.random.default_rng(evaluation.seed)
    if task_of(cohort) == "classification":
        metric, plain_arm = "balanced_accuracy", SHAPE
        summary = classification_metrics(cases, cohort.class_names, rng)
        values = {
            arm: {"test": dict(zip(part["metric"], part["value"], strict=True))}
            for arm, part in summary.groupby("arm")
        }
    else:
        metric, plain_arm = "dice", ATLAS
        values = {str(arm): {"test": _means(part)} for arm, part in cases.groupby("arm")}
    judged = with_absent_labels(cases) if metric == "dice" else cases
    present = set(cases["arm"])
    families = [*FAMILIES, *(((arm, plain_arm),) for arm in AGAINST_PLAIN)]
    known = [[pair for pair in family if set(pair) <= present] for family in families]
    tables = [
        compare_arms(judged, pairs, metric, evaluation.seed)
        for pairs in [pairs for pairs in known if pairs] or [[]]
    ]
    comparisons = pd.concat(tables, ignore_index=True)
    own = values.get("dream", {}).get("test", {})
    made_of = {MADE_OF: mark_of_scores(cohort, case_table, scores, plain)}
    return cases, comparisons, {str(k): v for k, v in values.items()}, {"test": own}, made_of


def check_unseen(item: dict[str, Any], tests: Cohort) -> None:
    """Refuse to score a network on those it learned from, after a changed split, say.

    Raises:
        CohortError: a test subject or volume was among its training subjects.
    """
    subjects = set(item["subjects"]) & {str(s) for s in tests.table["subject"]}
    volumes = set(item["volumes"]) & {str(mark) for mark in tests.table["fingerprint"]}
    if subjects or volumes:
        raise CohortError(
            f"the network of arm {item['arm']} learned from {max(len(subjects), len(volumes))} of "
            "the test cases: the split has changed since; run all steps again"
        )


class _Judge:
    """Scores answers on the common grid in the geometry of each case's own label."""

    def __init__(
        self,
        cohort: Cohort,
        case_table: pd.DataFrame,
        facts: dict[str, Any],
        evaluation: EvaluationConfig,
    ) -> None:
        self.cohort, self.evaluation = cohort, evaluation
        self.values = CohortFacts.model_validate(facts).label_values
        columns = case_table["case"], case_table["label"], case_table["label_content"]
        self.files = {case: (file, content) for case, file, content in zip(*columns, strict=True)}

    def score(
        self, case: str, probabilities: torch.Tensor, arm: str, seed: int
    ) -> tuple[pd.DataFrame, tuple[str, torch.Tensor]]:
        """Rows of the case table and the label map on the common grid, for `(1, L, *shape)`."""
        row = self.cohort.index_of(case)
        file, content = self.files[case]
        try:
            reference, affine = read_label(str(file), self.values, str(content))
        except (CohortError, StaleError) as error:
            raise type(error)(f"label of the test case {case}: {error}") from error
        native = native_labels(
            probabilities[0].numpy(), self.cohort.affines[row], reference.shape, affine
        )
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        scored = Scored(arm, case, str(self.cohort.table["subject"][row]), seed)
        table = evaluate_segmentation(
            scored,
            native,
            reference,
            tuple(float(s) for s in spacing),
            self.cohort.label_names,
            self.evaluation.tolerance_mm,
        )
        return table, (case, probabilities[0].argmax(dim=0).to(torch.uint8))


def _fused(
    cohort: Cohort,
    case_table: pd.DataFrame,
    facts: dict[str, Any],
    fusion: FusionConfig,
    evaluation: EvaluationConfig,
    keys: dict[str, str],
    done: set[str],
) -> Iterator[dict[str, Any]]:
    """Atlas fusion of the test cases that are not scored yet."""
    missing = [case for case, key in keys.items() if key not in done]
    if not missing:
        return
    train = cohort.select(cohort.indices("train"))
    atlases = Atlases(train.images, train.labels, train.masks, cohort.n_labels)
    tests = cohort.select([cohort.index_of(case) for case in missing])
    judge = _Judge(cohort, case_table, facts, evaluation)
    votes = fuse(tests.images, tests.masks, atlases, cohort.spacing_mm, fusion)
    for case, probabilities in zip(missing, votes, strict=True):
        rows, labels = judge.score(case, probabilities, ATLAS, 0)
        coarse = {"probabilities": (255 * probabilities[0]).round().to(torch.uint8)}
        yield {keys[case]: _joined([rows], dict([labels])) | coarse}


def _plain_keys(
    cohort: Cohort, case_table: pd.DataFrame, fusion: FusionConfig, evaluation: EvaluationConfig
) -> dict[str, str]:
    """Name of the plain method's result on each test case."""
    mark = _mark(cohort, case_table, evaluation, fusion.model_dump(mode="json"))
    return {case: f"{ATLAS}-{case}-{mark}" for case in _test_cases(cohort)}


def _plain_classes(cohort: Cohort, config: ShapeClassifierConfig) -> dict[str, Any]:
    train, tests = (cohort.select(cohort.indices(split)) for split in ("train", "test"))
    features = [shape_features(part.images, part.masks, part.spacing_mm) for part in (train, tests)]
    codes = np.array([cohort.class_names.index(str(c)) for c in train.table["class"]])
    model = fit_shape_classifier(features[0], codes, len(cohort.class_names), config)
    probabilities = torch.from_numpy(model.predict(features[1]))
    return _joined([_classified(cohort, probabilities, SHAPE, 0)], {})


def _classified(cohort: Cohort, probabilities: torch.Tensor, arm: str, seed: int) -> pd.DataFrame:
    table = cohort.table.iloc[cohort.indices("test")]
    scored = [
        Scored(arm, str(case), str(subject), seed)
        for case, subject in zip(table["case"], table["subject"], strict=True)
    ]
    codes = [cohort.class_names.index(str(c)) for c in table["class"]]
    return evaluate_classification(scored, probabilities, codes, cohort.class_names)


def _means(cases: pd.DataFrame) -> dict[str, float]:
    """Means over cases: of all labels together, and of each.

    Together, Dice counts absent labels as the comparisons do; of each, cases that have it.
    """
    values = {}
    for metric in ("dice", "hd95_mm", "surface_dice"):
        judged = with_absent_labels(cases) if metric == "dice" else cases
        values[f"{metric}_mean"] = float(judged[metric].mean())
        for label, part in cases.groupby("label_name"):
            values[f"{metric}_{label}"] = float(part[metric].mean())
    return values


def _joined(tables: list[pd.DataFrame], labels: dict[str, torch.Tensor]) -> dict[str, Any]:
    rows = pd.concat(tables, ignore_index=True)
    return {"rows": {str(k): v for k, v in rows.to_dict("list").items()}, "labels": labels}


def _test_cases(cohort: Cohort) -> list[str]:
    return [cohort.cases[row] for row in cohort.indices("test")]


def _mark(
    cohort: Cohort, case_table: pd.DataFrame, evaluation: EvaluationConfig, *more: Any
) -> str:
    """What scores depend on besides the network.

    Of the labels the files too: on the common grid a small change of theirs may not show.
    """
    files = case_table.loc[case_table["split"] == "test", "label_content"].astype(str).to_list()
    known = cohort.fingerprint(), files, evaluation.tolerance_mm
    return fingerprint(VERSION, *known, *more)
