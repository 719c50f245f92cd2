"""Check `lineage`: no test subject behind a registration, the prior, a dream or a net.

Names can lie, so contents are compared too: by the fingerprint of the image alone (a case whose
label is withheld has another fingerprint as a whole), and by a signature that survives rescaling of
intensities, smoothing and small noise. Registrations and the prior may be older than the cohort at
hand: what they name and it does not know fails, since nobody can say whom it shows.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from dreamorph.fingerprint import fingerprint
from dreamorph.hallucination.config import AuditConfig
from dreamorph.hallucination.evidence import LINEAGE_COLUMNS, DreamEvidence
from dreamorph.hallucination.features import block_means
from dreamorph.hallucination.registry import check
from dreamorph.hallucination.result import Finding

REQUIRED_ROLES = ("registration", "prior", "training")
_SIGNATURE = 16
#: As alike as a scan and its copy with noise, another contrast or blur: never two subjects.
_SURELY_THE_SAME = 0.995
RULE = "0, hard: by subject, case, fingerprint and content"


def lineage_rows(
    role: str,
    cases: Sequence[str],
    subjects: Sequence[str],
    images: torch.Tensor,
    masks: torch.Tensor,
) -> pd.DataFrame:
    """Columns LINEAGE_COLUMNS for the cases that played a role; concatenate those of all roles.

    Args:
        role: `registration`, `prior`, `training`, `test`, or any other use of a case.
        cases, subjects: B names.
        images: `(B, 1, *shape)`; their contents are fingerprinted.
        masks: `(B, 1, *shape)` foreground.
    """
    signatures = content_signatures(images, masks)
    rows = [
        (role, case, subject, fingerprint(image.contiguous()), signature)
        for case, subject, image, signature in zip(cases, subjects, images, signatures, strict=True)
    ]
    return pd.DataFrame(rows, columns=list(LINEAGE_COLUMNS), dtype=object)


def recorded_rows(
    role: str, recorded: Iterable[tuple[Any, Any]], known: pd.DataFrame
) -> pd.DataFrame:
    """Columns LINEAGE_COLUMNS for cases that an earlier result names.

    Each case as it is known now and, where that differs, by the subject it was recorded with. One
    that is not known has no fingerprint, on which the check fails.

    Args:
        role: as of `lineage_rows`.
        recorded: case and subject, any number of times.
        known: `lineage_rows` of all cases there are now, of whatever role.
    """
    names = {(str(c), None if pd.isna(s) else str(s)) for c, s in recorded}
    said = pd.DataFrame(sorted(names, key=str), columns=["case", "subject"], dtype=object)
    contents = known[["case", "fingerprint", "signature"]]
    both = pd.concat(
        [said.merge(contents, on="case", how="left"), known[known["case"].isin(said["case"])]]
    )
    return both.drop_duplicates(["case", "subject"]).assign(role=role)[list(LINEAGE_COLUMNS)]


def content_signatures(images: torch.Tensor, masks: torch.Tensor) -> np.ndarray:
    """Unit vectors `(B, d)` whose inner product is the correlation of two coarse volumes."""
    inside = masks.float()
    centre = _inner_mean(images.float(), inside)
    blocks = block_means((images.float() - centre) * inside, _SIGNATURE)
    coarse = blocks.flatten(1).double().cpu().numpy()
    coarse -= coarse.mean(axis=1, keepdims=True)
    return np.asarray(coarse / np.maximum(np.linalg.norm(coarse, axis=1, keepdims=True), 1e-12))


@check(
    "lineage",
    stage="dreams",
    severity="gate",
    quantity="uses of a test subject in registration, prior, dreams or training",
    unit="uses",
    source="Yagis 2021",
)
def lineage(evidence: DreamEvidence, config: AuditConfig) -> Finding:
    """Count cases in use that share subject, name or content with a test case."""
    table = pd.concat([evidence.lineage, _dream_sources(evidence)], ignore_index=True)
    test, used = table[table["role"] == "test"], table[table["role"] != "test"]
    if broken := _incomplete(table):
        return Finding(float("nan"), 0.0, RULE, len(used), False, broken)
    reasons = {
        name: set(used.loc[used[name].isin(set(test[name])), "case"])
        for name in ("subject", "case", "fingerprint")
    }
    reasons["content"] = _twins(test, used, config.duplicate_correlation)
    liars = _disowned(evidence)
    leaked = used["case"].isin(set().union(*reasons.values()))
    uses = int(leaked.sum()) + len(liars)
    parts = [f"same {name}: {_some(cases)}" for name, cases in reasons.items() if cases]
    if liars:
        parts.append(f"recipes name another subject than their source's: {_some(liars)}")
    if uses:
        parts.append("roles: " + ", ".join(sorted(set(used.loc[leaked, "role"]))))
    checked = f"{len(test)} test cases against {len(used)} uses"
    return Finding(uses, 0.0, RULE, len(used), uses == 0, "; ".join([checked, *parts]))


def _inner_mean(images: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    axes = tuple(range(1, images.dim()))
    total = inside.sum(axes, keepdim=True).clamp_min(1)
    return (images * inside).sum(axes, keepdim=True) / total


def _dream_sources(evidence: DreamEvidence) -> pd.DataFrame:
    """The sources of the dreams at hand, by what the recipes say and by the volumes themselves."""
    reals, dreams = evidence.reals, evidence.dreams
    rows = sorted(set(dreams.source_index.tolist()))
    volumes = lineage_rows(
        "dream source",
        [reals.cases[row] for row in rows],
        [reals.subjects[row] for row in rows],
        reals.images[rows],
        reals.masks[rows],
    )
    place = {row: index for index, row in enumerate(rows)}
    said = [
        {
            **volumes.iloc[place[row]].to_dict(),
            "role": "dream recipe",
            "case": recipe.source,
            "subject": recipe.source_subject,
        }
        for recipe, row in zip(dreams.recipes, dreams.source_index.tolist(), strict=True)
    ]
    recipes = pd.DataFrame(said, columns=list(LINEAGE_COLUMNS), dtype=object)
    recipes = recipes.drop_duplicates(["case", "subject"])
    return pd.concat([volumes, recipes], ignore_index=True)


def _incomplete(table: pd.DataFrame) -> str:
    """Why the question cannot be answered from this table; '' if it can."""
    roles = set(table["role"])
    if absent := [role for role in (*REQUIRED_ROLES, "test") if role not in roles]:
        return f"no row for the role {absent[0]!r}: nothing to compare, failed closed"
    for name in ("case", "subject", "fingerprint"):
        unusable = table[name].isna() | (table[name].astype(str).str.strip() == "")
        if unusable.any():
            where = "" if name == "case" else f" ({_some(set(table.loc[unusable, 'case']))})"
            return f"{int(unusable.sum())} rows without a {name}{where}: failed closed"
    sizes = {np.shape(signature) for signature in table["signature"]}
    if len(sizes) != 1 or not all(np.isfinite(s).all() for s in table["signature"]):
        return "rows without a usable content signature: failed closed"
    return ""


def _twins(test: pd.DataFrame, used: pd.DataFrame, least: float) -> set[str]:
    """Cases in use whose content is that of a test case under another name."""
    mine, theirs = (np.stack(part["signature"].tolist()) for part in (used, test))
    threshold = content_threshold(test, used, least)
    return set(used.loc[(mine @ theirs.T).max(axis=1) >= threshold, "case"])


def content_threshold(test: pd.DataFrame, used: pd.DataFrame, least: float) -> float:
    """How much two signatures correlate that are of one scan; `least`, or more.

    Twins are at least four times nearer to correlation one than the most similar two subjects in
    use are, and `least` in any case. On MSD hippocampus volumes different subjects reach 0.79, two
    sides of one subject 0.83, copies with noise, another contrast or blur 0.995 and more.

    Args:
        test, used: rows of columns LINEAGE_COLUMNS.
        least: the lowest answer.
    """
    once = used.drop_duplicates(["subject", "case", "fingerprint"])
    nearest = _nearest_subjects(test, once, 1 - 4 * (1 - least))
    return float(min(max(least, 1 - (1 - nearest) / 4), _SURELY_THE_SAME))


def _nearest_subjects(test: pd.DataFrame, used: pd.DataFrame, enough: float) -> float:
    """Correlation of the most similar two subjects in use, sought down to `enough`.

    Copies must not say how alike subjects are, or a leak would raise the bar that it has to clear:
    one scan saved twice is one case, and so are two cases that are as much like one test case as
    they are like each other.
    """
    mine, theirs = (np.stack(part["signature"].tolist()) for part in (used, test))
    # a case recorded with two subjects is not two subjects that look alike
    names = (used[name].to_numpy() for name in ("subject", "case"))
    apart = np.logical_and(*(name[:, None] != name[None] for name in names))
    among, to_test = mine @ mine.T, mine @ theirs.T
    among[~apart | (among >= _SURELY_THE_SAME)] = -1.0
    while (nearest := float(among.max())) > enough:
        a, b = np.unravel_index(int(among.argmax()), among.shape)
        if np.minimum(to_test[a], to_test[b]).max() < nearest:
            break
        among[a, b] = among[b, a] = -1.0
    return nearest


def _disowned(evidence: DreamEvidence) -> set[str]:
    """Dreams whose recipe gives another source or subject than the row they were made from."""
    reals = evidence.reals
    return {
        recipe.dream
        for recipe, row in zip(
            evidence.dreams.recipes, evidence.dreams.source_index.tolist(), strict=True
        )
        if (recipe.source, recipe.source_subject) != (reals.cases[row], reals.subjects[row])
    }


def _some(names: set[str]) -> str:
    listed = sorted(map(str, names))
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
