"""The common anatomy behind a prior: members pulled into the common space and averaged."""

from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from dreamorph.prior import DeformationPrior
from dreamorph.reporting.figures.planes import Plane, reading_plane
from dreamorph.reporting.inputs import ReportInputs, outlined_cohort
from dreamorph.spatial import SpatialTransform
from dreamorph.spatial.affine import identity_affine
from dreamorph.spatial.transform import one_hot

_CHUNK = 8


@dataclass(frozen=True, eq=False)
class Template:
    """Mean of the registered members.

    Attributes:
        image: `(1, 1, D, H, W)` float.
        labels: `(1, 1, D, H, W)` uint8, vote of the labelled members.
        mask: `(1, 1, D, H, W)` bool, where at least half of the members have content.
        spacing_mm: voxel size.
        names: of the labels.
        plane: that the cohort is best read in.
    """

    image: torch.Tensor
    labels: torch.Tensor
    mask: torch.Tensor
    spacing_mm: tuple[float, ...]
    names: dict[int, str]
    plane: Plane

    def moved(self, velocity: torch.Tensor) -> "Template":
        """The template as the subject at `velocity` `(3, *coarse)` of the common space."""
        shape = tuple(self.image.shape[2:])
        eye = identity_affine(1, 3)
        transform = SpatialTransform(eye, -velocity[None], eye, shape, self.spacing_mm)
        n_labels = max(1, int(self.labels.max()))
        image, labels = transform.warp_with_labels(self.image, self.labels, n_labels)
        mask = transform.warp(self.mask.float(), padding="zeros") > 0.5
        return replace(self, image=image, labels=labels * mask, mask=mask)


@lru_cache(maxsize=1)
def template(inputs: ReportInputs) -> Template | str:
    """The mean anatomy of a run, or why there is none; the last one is remembered."""
    prior = inputs.prior
    if prior is None:
        return "No prior was learned."
    known = {case: row for row, case in enumerate(inputs.cohort.cases)}
    if any(member not in known for member in prior.members):
        return "The prior's members are not cases of this cohort, so nothing can be shown of them."
    return _average(inputs, prior, [known[member] for member in prior.members])


def _average(inputs: ReportInputs, prior: DeformationPrior, rows: list[int]) -> Template:
    volumes = outlined_cohort(inputs)
    shape = tuple(volumes.images.shape[2:])
    n_labels = max([*volumes.names, 1])
    total = torch.zeros(1, 1, *shape)
    weight = torch.zeros(1, 1, *shape)
    votes = torch.zeros(1, n_labels + 1, *shape)
    for start in range(0, len(rows), _CHUNK):
        part = slice(start, start + _CHUNK)
        chosen = rows[part]
        transform = SpatialTransform(
            identity_affine(len(chosen), 3), prior.fields[part], prior.affines[part],
            shape, volumes.spacing_mm,
        )  # fmt: skip
        masks = (transform.warp(volumes.masks[chosen].float(), padding="zeros") > 0.5).float()
        total += (transform.warp(volumes.images[chosen]) * masks).sum(0, keepdim=True)
        weight += masks.sum(0, keepdim=True)
        labelled = (volumes.labels[chosen].flatten(1) > 0).any(1)
        if bool(labelled.any()):
            hot = transform[labelled].warp(one_hot(volumes.labels[chosen], n_labels)[labelled])
            votes += hot.sum(0, keepdim=True)
    labels = votes.argmax(1, keepdim=True).to(torch.uint8)
    mask = weight >= max(1.0, len(rows) / 2)
    image = total / weight.clamp(min=1)
    plane = reading_plane(volumes.labels, volumes.masks)
    return Template(image, labels * mask, mask, volumes.spacing_mm, volumes.names, plane)
