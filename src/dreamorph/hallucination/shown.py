"""Which test volumes networks are shown without their structures."""

from collections.abc import Sequence

import numpy as np
import torch

from dreamorph.hallucination.config import AuditConfig


def draw_shown(
    labels: torch.Tensor,
    subjects: Sequence[str],
    n_labels: int,
    count: int,
    config: AuditConfig,
) -> list[int]:
    """Rows of at most so many volumes, drawn at random and ascending.

    As many subjects with each label as the check `remove` needs, and as many without it, as far as
    there are so many; the rarest first, the rest at random. No subject comes a second time before
    every other has come once, unless a rare label asks for it.

    Args:
        labels: `(N, 1, *shape)` integers.
        subjects: N names.
        n_labels: labels without background.
        count: how many volumes.
        config: seed, and how many subjects are needed.
    """
    names = np.array(subjects, object)
    order = _by_turns(names, np.random.default_rng(config.seed))
    present = [(labels == k).flatten(1).any(1).cpu().numpy() for k in range(1, n_labels + 1)]
    kinds = [*present, *(~own for own in present)]
    chosen: list[int] = []
    for kind in sorted(kinds, key=lambda kind: len(set(names[kind]))):
        for row in order:
            known = {names[k] for k in chosen if kind[k]}
            if len(chosen) == count or len(known) >= config.min_test_subjects:
                break
            if kind[row] and row not in chosen and names[row] not in known:
                chosen.append(row)
    rest = [row for row in order if row not in chosen]
    return sorted(chosen + rest[: count - len(chosen)])


def _by_turns(names: np.ndarray, generator: np.random.Generator) -> list[int]:
    """Random order of rows: one of each subject, then the second of those who have one, ..."""
    seen: dict[str, int] = {}
    turns = []
    for row in generator.permutation(len(names)).tolist():
        seen[names[row]] = seen.get(names[row], 0) + 1
        turns.append((seen[names[row]], row))
    return [row for _, row in sorted(turns, key=lambda turn: turn[0])]
