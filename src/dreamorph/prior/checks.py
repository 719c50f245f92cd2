"""What a population has to be like for a prior to be learned from it."""

import math
from collections.abc import Sequence, Sized

import torch

from dreamorph.errors import PriorError
from dreamorph.spatial.affine import affine_log_where


def check_members(
    fields: torch.Tensor,
    extent_mm: Sequence[float],
    affines: torch.Tensor,
    members: Sequence[str],
    subjects: Sequence[str],
    classes: Sequence[str | None],
) -> None:
    """Raise PriorError, in one line, where what `DeformationPrior.fit` is given does not fit."""
    given: dict[str, Sized] = {
        "members": members,
        "subjects": subjects,
        "classes": classes,
        "affines": affines,
    }
    for what, values in given.items():
        if len(values) != len(fields):
            raise PriorError(
                f"expected one of {what} for each of {len(fields)} fields, got {len(values)}"
            )
    if len(set(members)) < len(members):
        raise PriorError("members of the prior must have different names")
    _check_geometry(fields, extent_mm, affines)
    _check_affines(affines, members)
    if len(subjects) < 3 or len(set(subjects)) < 2:
        raise PriorError(
            f"a prior needs three volumes of two subjects at least, got {len(subjects)} "
            f"of {len(set(subjects))}"
        )
    if not bool(torch.isfinite(fields).all()):
        raise PriorError("the population fields hold values that are not finite")


def _check_geometry(
    fields: torch.Tensor, extent_mm: Sequence[float], affines: torch.Tensor
) -> None:
    axes = fields.shape[1]
    if fields.dim() != axes + 2:
        raise PriorError(
            f"expected fields (N, ndim, *coarse) with a component for each axis, got"
            f" {tuple(fields.shape)}"
        )
    if len(extent_mm) != axes:
        raise PriorError(f"expected the grid's {axes} edge lengths, got {len(extent_mm)}")
    if not all(math.isfinite(edge) and edge > 0 for edge in extent_mm):
        raise PriorError(f"expected edge lengths above 0 mm, got {tuple(extent_mm)}")
    if affines.shape[1:] != (axes + 1, axes + 1):
        raise PriorError(
            f"expected affines (N, {axes + 1}, {axes + 1}) for fields of {axes} axes, got"
            f" {tuple(affines.shape)}"
        )


def _check_affines(affines: torch.Tensor, members: Sequence[str]) -> None:
    if not bool((torch.linalg.det(affines) > 0).all()):
        raise PriorError("an affine map of the population mirrors or is not invertible")
    exists = affine_log_where(affines)[1].tolist()
    turned = [member for member, real in zip(members, exists, strict=True) if not real]
    if turned:
        raise PriorError(
            f"the affine map of {turned[0]} turns by half a circle, so that no mean of maps"
            " exists: turn the volumes alike first"
        )
