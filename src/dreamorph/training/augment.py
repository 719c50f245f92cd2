"""Batches of warped volumes, made on the training device."""

from dataclasses import dataclass, replace

import torch

from dreamorph.dreaming.rendering import render
from dreamorph.dreaming.samplers import WarpSampler
from dreamorph.spatial import SpatialTransform
from dreamorph.training.config import IntensityConfig
from dreamorph.training.data import TrainingData
from dreamorph.training.intensity import draw_intensity


@dataclass(frozen=True)
class Batch:
    """What a network sees in one step.

    Attributes:
        images: `(B, 1, *shape)` float32, zero outside the masks.
        labels: `(B, 1, *shape)` uint8, zero outside the masks.
        masks: `(B, 1, *shape)` bool.
        sources: `(B,)` rows of the cohort that were warped.
        classes: `(B,)` int64 of the sources, or None.
    """

    images: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor
    sources: torch.Tensor
    classes: torch.Tensor | None


class Augmenter:
    """Renders batches of a cohort: one warp, one interpolation, then one change of brightness.

    Args:
        data: the volumes, on whichever device they fit.
        sampler: draws sources and warps.
        intensity: random changes of brightness, or None for none.
        device: where batches are made.
    """

    def __init__(
        self,
        data: TrainingData,
        sampler: WarpSampler,
        intensity: IntensityConfig | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.data, self.sampler, self.intensity = data, sampler, intensity
        self.device = torch.device(device)
        self.n_labels = data.n_outputs - 1 if data.task == "segmentation" else 0

    def __call__(self, members: torch.Tensor, generator: torch.Generator) -> Batch:
        """The batch of `members` `(B,)`; it follows from them and the generator alone."""
        sources, transform = self.sampler.sample(members, generator)
        sources = sources.cpu()
        batch = self._render(sources, transform.to(self.device))
        if self.intensity is not None:
            change = draw_intensity(len(members), self.data.ndim, self.intensity, generator)
            images = change.to(self.device).apply(batch.images, batch.masks)
            batch = replace(batch, images=images)
        return batch

    def _render(self, sources: torch.Tensor, transform: SpatialTransform) -> Batch:
        """Warp images, masks and labels together. Beyond the grid there is padding."""
        images, labels, masks = (
            volumes[sources.to(volumes.device)].to(self.device)
            for volumes in (self.data.images, self.data.labels, self.data.masks)
        )
        images, labels, masks = render(images, labels, masks, self.n_labels, transform)
        classes = self.data.classes
        return Batch(
            images=images,
            labels=labels,
            masks=masks,
            sources=sources,
            classes=None
            if classes is None
            else classes[sources.to(classes.device)].to(self.device),
        )
