"""The verdict, first of all."""

from typing import Any

from dreamorph.reporting.inputs import RANDOM, ReportInputs
from dreamorph.reporting.statements import (
    LEVEL,
    against,
    best_baseline,
    claims,
    hallucination,
    not_of_dreams,
    overall,
    recommendation,
)
from dreamorph.reporting.style import arm_name
from dreamorph.reporting.wording import VERDICT_SYMBOLS, VERDICT_WORDS


def build(inputs: ReportInputs) -> dict[str, Any]:
    """Three questions with their answers."""
    verdict = overall(inputs)
    plain = best_baseline(inputs)
    plain_name = "the plain baseline" if plain is None else f"the plain baseline, {_bare(plain)}"
    chosen = recommendation(inputs)
    return {
        "verdict": verdict,
        "word": VERDICT_WORDS[verdict],
        "symbol": VERDICT_SYMBOLS[verdict],
        "statements": [
            against(inputs, RANDOM, "the random warp"),
            against(inputs, plain, plain_name),
            hallucination(inputs),
            *([] if chosen is None else [chosen]),
        ],
        "claims": claims(inputs),
        "not_of_dreams": not_of_dreams(inputs),
        "level": f"{LEVEL:g}",
        "one_seed": inputs.n_seeds == 1,
        "n_test": inputs.cases["subject"].nunique() if "subject" in inputs.cases else 0,
    }


def _bare(arm: str) -> str:
    return arm_name(arm).removesuffix(" (plain)")
