"""Registering the chosen pairs of a cohort: affine first, then deformable in a common space.

The affine maps of the pairs are reconciled into one map per volume. All volumes are then resampled
into the common space these maps share, so that the velocity fields of all pairs live in one space
and can be compared.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch

from dreamorph.fingerprint import fingerprint
from dreamorph.parallel import side_by_side
from dreamorph.registration.batching import batch_size, in_batches
from dreamorph.registration.config import RegistrationConfig
from dreamorph.registration.quality import PairQuality, measure
from dreamorph.registration.register import computing_device, register
from dreamorph.spatial.affine import identity_affine
from dreamorph.spatial.transform import SpatialTransform
from dreamorph.volumes.cohort import Cohort

#: Pairs registered together. Rounding may differ with the size of a batch, and a resumed run has to
#: give the result of an unbroken one: so the size is fixed, and cut only where memory is short.
CHUNKS = {"cpu": 8, "cuda": 64}

#: Counts up whenever the same parameters would give another registration.
VERSION = 15


@dataclass(frozen=True)
class Group:
    """Volumes on one grid, in one order.

    Attributes:
        images: `(N, 1, *shape)` float32.
        labels: `(N, 1, *shape)` uint8, zero where not labelled.
        masks: `(N, 1, *shape)` bool.
        labelled: `(N,)` bool, whose labels may guide a registration.
        spacing_mm: voxel size.
        fingerprints: identity of the content of each volume.
    """

    images: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor
    labelled: torch.Tensor
    spacing_mm: tuple[float, ...]
    fingerprints: tuple[str, ...]

    @classmethod
    def of_members(cls, cohort: Cohort) -> "Group":
        """The volumes that teach the prior: those for training and the unlabelled, never a test.

        Binary shapes are their own labels, so that their surface guides a registration.
        """
        part = cohort.select(member_rows(cohort))
        labels, labelled = part.labels, torch.tensor(part.table["labelled"].to_list())
        if part.modality == "shape":
            labels, labelled = (part.images > 0.5).to(torch.uint8), torch.ones(len(part)).bool()
        marks = tuple(str(mark) for mark in part.table["fingerprint"])
        return cls(part.images, labels, part.masks, labelled, part.spacing_mm, marks)

    def in_common_space(self, affines: torch.Tensor) -> "Group":
        """Each volume pulled through its map `(N, n, n)` from the common space.

        A slice at a time: the probabilities of all labels of all volumes may not fit in memory.
        """
        shape = tuple(self.images.shape[2:])
        eye = identity_affine(len(affines), len(shape))
        transform = SpatialTransform(eye, None, affines.double(), shape, self.spacing_mm)
        n_labels = max(1, int(self.labels.max()))

        def work(part: slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            maps = transform[part]
            images, labels = maps.warp_with_labels(self.images[part], self.labels[part], n_labels)
            masks = maps.warp(self.masks[part].float(), padding="zeros") > 0.5
            return images * masks, labels * masks, masks

        size = batch_size(self.images[0].numel(), self.images.device, n_labels=n_labels)
        parts = in_batches(len(affines), size, work)
        images, labels, masks = (torch.cat(part) for part in zip(*parts, strict=True))
        marks = tuple(
            fingerprint(mark, affine)
            for mark, affine in zip(self.fingerprints, affines, strict=True)
        )
        return replace(self, images=images, labels=labels, masks=masks, fingerprints=marks)

    def keys(self, plan: pd.DataFrame, config: RegistrationConfig, step: str) -> list[str]:
        """Names of the results of a plan: they change with whatever the results depend on."""
        how = config.model_dump(mode="json", exclude={"batch_size", "device"})
        return [
            fingerprint(
                VERSION, step, how, kind, self.spacing_mm,
                self.fingerprints[fixed], self.fingerprints[moving],
            )
            for fixed, moving, kind in zip(plan.fixed, plan.moving, plan.kind, strict=True)
        ]  # fmt: skip


@dataclass(frozen=True)
class Alignment:
    """The members of the prior in their common space.

    Attributes:
        cases: names of the members.
        affines: `(N, n, n)` float64 maps from the common space to each member.
        group: the members resampled into the common space.
    """

    cases: tuple[str, ...]
    affines: torch.Tensor
    group: Group


def member_rows(cohort: Cohort) -> list[int]:
    """Rows of the cohort that teach the prior, ascending."""
    return sorted([*cohort.indices("train"), *cohort.indices("unlabelled")])


def register_plan(
    group: Group, plan: pd.DataFrame, keys: list[str], config: RegistrationConfig, done: set[str]
) -> Iterator[dict[str, dict[str, Any]]]:
    """Register the pairs of a plan whose keys are not done, a chunk at a time.

    Args:
        group: the volumes.
        plan: columns fixed, moving, kind; labels guide the pairs of kind `labelled`.
        keys: name of each pair's result.
        config: how.
        done: names of results that exist.

    Yields:
        One result a time: affine `(n, n)`, velocity `(ndim, *coarse)` if there is one, the quality
        before and after as plain values, and why the affine step failed if it did.
    """
    size = CHUNKS[computing_device(config, group.images).type]
    chunks = [
        (part.iloc[start : start + size], kind == "labelled")
        for kind, part in plan.assign(key=keys).groupby("kind", sort=True)
        for start in range(0, len(part), size)
    ]
    missing = [(chunk, guided) for chunk, guided in chunks if not set(chunk.key) <= done]

    def work(item: tuple[pd.DataFrame, bool]) -> list[dict[str, Any]]:
        return _register_chunk(group, item[0], config, guided=item[1])

    for (chunk, _), results in zip(missing, side_by_side(work, missing), strict=True):
        for key, result in zip(chunk.key, results, strict=True):
            if key not in done:
                yield {key: result}


def _register_chunk(
    group: Group, chunk: pd.DataFrame, config: RegistrationConfig, guided: bool
) -> list[dict[str, Any]]:
    device = computing_device(config, group.images)
    i, j = torch.tensor(chunk.fixed.to_list()), torch.tensor(chunk.moving.to_list())
    fixed, moving = group.images[i].to(device), group.images[j].to(device)
    masks = group.masks[i].to(device), group.masks[j].to(device)
    fixed_labels = group.labels[i].to(device) if guided else None
    moving_labels = group.labels[j].to(device) if guided else None
    result = register(
        fixed, moving, config, fixed_labels, moving_labels, *masks, spacing=group.spacing_mm
    )
    shape = group.images.shape[2:]
    still = SpatialTransform.identity(len(chunk), shape, group.spacing_mm, device)
    size = config.batch_size or batch_size(
        group.images[0].numel(), device, config.similarity, int(group.labels.max())
    )

    def judged(transform: SpatialTransform) -> list[PairQuality]:
        def work(part: slice) -> list[PairQuality]:
            return measure(
                transform[part],
                fixed[part],
                moving[part],
                masks[0][part],
                masks[1][part],
                None if fixed_labels is None else fixed_labels[part],
                None if moving_labels is None else moving_labels[part],
                config.similarity,
                config.window,
            )

        return [one for some in in_batches(len(chunk), size, work) for one in some]

    before, after = judged(still), judged(result.transform)
    items = []
    for k in range(len(chunk)):
        item: dict[str, Any] = {"affine": result.affine[k].cpu().clone()}
        if result.transform.velocity is not None:
            item["velocity"] = result.velocity[k].cpu().clone()
        item["before"], item["after"] = before[k].as_dict(), after[k].as_dict()
        item["failure"] = result.failures[k]
        items.append(item)
    return items


def quality_table(plan: pd.DataFrame, results: list[dict[str, Any]]) -> pd.DataFrame:
    """One row a pair: quality before and after, and the reason where it is set aside.

    A pair is set aside when its affine step failed from every start, or its map folds or makes the
    volumes less alike than they were.
    """
    rows = []
    for row, result in zip(plan.itertuples(), results, strict=True):
        before, after = result["before"], result["after"]
        rows.append(
            {
                "fixed": row.fixed,
                "moving": row.moving,
                "kind": row.kind,
                "similarity_before": before["similarity"],
                "similarity_after": after["similarity"],
                "dice_before": before["dice"],
                "dice_after": after["dice"],
                "folded_voxels": after["folded"],
                "log_jacobian_min": after["log_jacobian_min"],
                "log_jacobian_max": after["log_jacobian_max"],
                "inverse_error_mm": after["inverse_error_mm"],
                "set_aside": result.get("failure") or _fault(before, after),
            }
        )
    return pd.DataFrame(rows)


def _fault(before: dict[str, float], after: dict[str, float]) -> str:
    if after["folded"] > 0:
        return f"folds in {int(after['folded'])} voxels"
    if not after["similarity"] >= before["similarity"]:
        return f"similarity fell from {before['similarity']:.5f} to {after['similarity']:.5f}"
    return ""
