"""Arms compared on held-out subjects."""

from typing import Any

import numpy as np
from pydantic import BaseModel

from dreamorph.evaluation import FEWEST_RESAMPLED, classification_metrics
from dreamorph.reporting.figures import arms as figures
from dreamorph.reporting.inputs import AVERAGED_ARMS, NETWORK_ARMS, ReportInputs
from dreamorph.reporting.parts import Listed, listed, number, picture, signed, span
from dreamorph.reporting.statements import best_baseline
from dreamorph.reporting.style import arm_name
from dreamorph.reporting.wording import INTERVAL, METRIC_NAMES, NOTHING, UNITS
from dreamorph.training.tuning import SCALED, counted
from dreamorph.volumes.records import rows as records

_METRICS = (("dice", "Dice"), ("hd95_mm", "HD95 mm"), ("surface_dice", "surface Dice"))
_DECIMALS = {"dice": 3, "hd95_mm": 2, "surface_dice": 3}
_WORST_TITLES = {
    "dice": "mean Dice",
    "hd95_mm": "mean HD95 mm",
}
_FEW = f"Fewer than {FEWEST_RESAMPLED} test subjects give no interval."
_NO_CASES = "No test case was scored."
_SCORES_CAPTION = {
    "segmentation": f"Large marks are means over test subjects, bars their {INTERVAL} (bootstrap"
    f" over subjects), small points single subjects, seeds and labels averaged. {_FEW}",
    "classification": f"Large marks are the scores over all test subjects, bars their {INTERVAL}"
    " (bootstrap over subjects). On the right every test subject is a point: the probability that"
    " the arm gives to its true class, seeds averaged; beyond the dotted line it is recognised."
    f" {_FEW}",
}


def build(inputs: ReportInputs) -> dict[str, Any]:
    """Scores, differences, training curves and worst cases."""
    best = best_baseline(inputs)
    first = ", of its first training" if inputs.n_seeds > 1 else ""
    return {
        "scores": picture(
            figures.scores(inputs),
            "scores",
            "Mean score of every arm with its interval and a point for every test subject",
            _SCORES_CAPTION[inputs.task],
            kind="svg",
        ),
        "table_of_scores": (
            _class_table(inputs) if inputs.task == "classification" else _table(inputs)
        ),
        "differences": picture(
            figures.differences(inputs),
            "differences",
            "Paired differences between arms with their intervals",
            f"Differences within the same subjects, each with its {INTERVAL}. An interval across"
            f" zero shows no difference. {_FEW}",
            kind="svg",
        ),
        "comparisons": _comparisons(inputs),
        "tuning": _tuning(inputs),
        "chosen": _chosen(inputs),
        "curves": picture(
            figures.curves(inputs),
            "training_curves",
            "Training curves of every arm",
            "Training, smoothed; thin lines are single seeds. A low training loss is no merit:"
            " arms with harder samples end higher.",
            kind="svg",
        ),
        "worst": picture(
            figures.worst(inputs),
            "worst_cases",
            "The test cases that the dream arm segments worst, with reference and predicted"
            " outlines",
            f"The worst test cases of the dream arm{first}: reference outlines in colour, the"
            " prediction white and dotted.",
        )
        if inputs.task == "segmentation"
        else None,
        "worst_table": _worst_table(inputs),
        "averaged": any(arm in AVERAGED_ARMS for arm in inputs.arms),
        "baselines": [arm_name(arm) for arm in inputs.baselines],
        "best_baseline": None if best is None else arm_name(best),
        "views": _views(inputs),
        "seeds": inputs.n_seeds,
    }


def _table(inputs: ReportInputs) -> Listed:
    if not inputs.arms:
        return _NO_CASES
    known = [(m, title) for m, title in _METRICS if m in inputs.cases]
    rows = []
    for name, own in inputs.cases.groupby("label_name", sort=False):
        for arm in inputs.arms:
            part = own[own["arm"] == arm]
            if len(part):
                per_case = part.groupby("case")[[m for m, _ in known]].mean()
                cells = [_spread(per_case[m].to_numpy(dtype=float), _DECIMALS[m]) for m, _ in known]
                scored = per_case["dice"] if "dice" in per_case else per_case.iloc[:, 0]
                rows.append([name, arm_name(arm), int(scored.notna().sum()), *cells])
    tolerance = _evaluation(inputs).get("tolerance_mm")
    within = f" Surface Dice forgives {tolerance:g} mm." if tolerance is not None else ""
    return listed(
        "Scores per label on the test cases: mean ± standard deviation over cases. Where a label"
        f" was missed altogether, HD95 is the diagonal of the volume.{within} Cases without a label"
        " in reference and answer have no score here; where arms are compared, and in the picture"
        " of means, they count as Dice 1.",
        ("label", "arm", "cases", *(title for _, title in known)),
        rows,
        _NO_CASES,
    )


def _spread(values: np.ndarray, decimals: int) -> str:
    values = values[np.isfinite(values)]
    if not len(values):
        return NOTHING
    if len(values) < 2:
        return f"{values[0]:.{decimals}f}"
    return f"{values.mean():.{decimals}f} ± {values.std(ddof=1):.{decimals}f}"


def _class_table(inputs: ReportInputs) -> Listed:
    if not inputs.arms:
        return _NO_CASES
    try:
        table = classification_metrics(inputs.cases, inputs.cohort.class_names)
    except KeyError as error:
        return f"The table of cases has no column {error}, so the arms cannot be compared."
    rows = []
    for arm in inputs.arms:
        own = table[table["arm"] == arm].set_index("metric")
        cells = [
            f"{number(row['value'])} ({number(row['lower'])} to {number(row['upper'])})"
            for row in records(own)
        ]
        rows.append([arm_name(arm), int(own["n_cases"].iloc[0]), *cells])
        metrics = [METRIC_NAMES.get(str(m), str(m)) for m in own.index]
    return listed(
        f"Scores on the test cases, in brackets the {INTERVAL} over subjects. {_blind(inputs)}",
        ("arm", "cases", *metrics),
        rows,
        _NO_CASES,
    )


def _blind(inputs: ReportInputs) -> str:
    """What an answer scores that never looks at a volume."""
    classes = inputs.cases.drop_duplicates("case")["class"].value_counts(normalize=True)
    if len(classes) < 2:
        return f"All test cases are {classes.index[0]}: accuracy says nothing, and there is no AUC."
    return (
        f"To call every case {classes.index[0]} would score an accuracy of"
        f" {classes.iloc[0]:.3f}, a balanced accuracy of {1 / len(classes):.3f} and an AUC"
        " of 0.500."
    )


def _comparisons(inputs: ReportInputs) -> Listed:
    rows = []
    for row in records(inputs.comparisons):
        metric = str(row["metric"])
        rows.append(
            [
                arm_name(row["first"]),
                arm_name(row["second"]),
                METRIC_NAMES.get(metric, metric) + UNITS.get(metric, ""),
                row["n_subjects"],
                signed(row["difference"]),
                span(row["lower"], row["upper"]),
                _p_value(row["p"]),
                _p_value(row["p_holm"]),
                row["note"],
            ]
        )
    columns = ["first", "second", "metric", "subjects", "difference", INTERVAL, "p",
               "p (Holm)", "note"]  # fmt: skip
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return listed(
        "Paired differences, first minus second; p of the exact Wilcoxon signed-rank test, and"
        " corrected for the number of comparisons (Holm): dreams against other networks, other"
        " networks among themselves, and averages, each of these together; against a plain method"
        " every network by itself. Subjects on whom both arms score the same (tied) say nothing to"
        " the test and are left out of p. " + _FEW,
        columns,
        rows,
        "No two arms were compared.",
    )


def _tuning(inputs: ReportInputs) -> Listed:
    """Mean score of every candidate over held-out training subjects, for each label."""
    rows: list[list[Any]] = []
    names: list[str] = []
    labels = inputs.choice.get("counted_labels")
    if not inputs.tuning.empty:
        names = list(inputs.tuning["label"].drop_duplicates())
        for (arm, energy), part in inputs.tuning.groupby(["arm", "energy"], sort=False):
            strength = f"{energy:g}" if arm in SCALED else NOTHING
            counts = counted(part, labels).groupby("subject")["score"].mean()
            own = [part.loc[part["label"] == name, "score"] for name in names]
            cells = [_spread(scores.to_numpy(dtype=float), 3) for scores in (counts, *own)]
            cells = cells[: 1 if len(names) < 2 else None]
            rows.append([arm_name(str(arm)), strength, len(counts), *cells])
    score, columns = "Dice", ["Dice"]
    if inputs.task == "classification":
        score = "probability of the true class, classes alike"
        columns = [score]
    elif len(names) > 1:
        columns = ["Dice that counts" if labels else "Dice, all labels", *names]
    which = f" The choice was made by {' and '.join(labels)} alone." if labels else ""
    return listed(
        "Networks trained without some of the training subjects and scored on those, shorter than"
        f" the arms: mean {score} ± standard deviation over subjects. Strength is the energy of the"
        f" warps, relative to that of the dreams.{which}",
        ("samples", "strength", "subjects", *columns),
        rows,
        "",
    )


def _evaluation(inputs: ReportInputs) -> dict[str, Any]:
    """How networks were asked and scored."""
    config = inputs.parameters.get("evaluation") or {}
    return config.model_dump() if isinstance(config, BaseModel) else dict(config)


def _views(inputs: ReportInputs) -> int:
    """In how many affine views a network saw each test volume, besides as it is."""
    return int(_evaluation(inputs).get("views", 0)) if inputs.task == "segmentation" else 0


def _chosen(inputs: ReportInputs) -> str:
    """What followed from the cross-validation, in one sentence."""
    if inputs.tuning.empty:
        energy = float(inputs.choice.get("elastic_energy", 1))
        reason = inputs.choice.get("choice_reason", "tuning was not asked for")
        return (
            f"Nothing was chosen by cross-validation in this run ({reason}): random warps have"
            f" {energy:g} times the energy of the dreams, as the parameters say."
        )
    choice = inputs.choice
    arm = str(choice.get("recommended_arm", ""))
    if arm not in NETWORK_ARMS:
        return f"Nothing was chosen by cross-validation: {choice.get('choice_reason', NOTHING)}."
    return (
        f"Random warps got {float(choice['elastic_energy']):g} times the energy of the dreams,"
        f" warps in learned directions {float(choice['learned_energy']):g} times. The"
        f" network to use is that of the arm “{arm_name(arm)}”: {choice['choice_reason']}."
    )


def _p_value(value: float | None) -> str:
    if value is None:
        return "underpowered"
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _worst_table(inputs: ReportInputs) -> Listed:
    if inputs.task != "segmentation" or "dice" not in inputs.cases:
        return ""
    own = inputs.cases[inputs.cases["arm"] == "dream"]
    worst = own.groupby("case")[[c for c in _WORST_TITLES if c in own]].mean().nsmallest(5, "dice")
    rows = [[case, *values] for case, values in zip(worst.index, worst.to_numpy(), strict=True)]
    return listed(
        "The five worst test cases of the dream arm, labels averaged.",
        ("case", *(_WORST_TITLES[str(c)] for c in worst.columns)),
        rows,
        "The dream arm has no scored test case.",
    )
