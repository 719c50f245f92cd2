"""Simulated patients: volumes with labels, drawn from a known prior of shapes."""

import logging
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from dreamorph.simulation.anatomy import CENTRE_MM, LABEL_NAMES, load_anatomy
from dreamorph.simulation.appearance import Appearance, apply_appearance, draw_appearance
from dreamorph.simulation.config import SimulationConfig
from dreamorph.simulation.shapes import Shape, ShapePrior, draw_shape, shape_prior, transforms
from dreamorph.simulation.truth import Truth
from dreamorph.spatial import extent, gaussian_smooth, points_like, sample
from dreamorph.spatial.transform import argmax_labels, one_hot

logger = logging.getLogger(__name__)

CLASSES = ("normal", "enlarged")

Split = Literal["train", "unlabelled", "test"]


@dataclass(frozen=True)
class SimulatedVolume:
    """One simulated scan.

    Attributes:
        case, subject, cls, split: as in the manifest.
        image: `(D, H, W)` int16, arbitrary units.
        label: `(D, H, W)` uint8, see `LABEL_NAMES`; known for every case, but withheld from the
            folder where split is 'unlabelled'.
        affine: `(4, 4)` float64, voxel to RAS mm.
    """

    case: str
    subject: str
    cls: str
    split: Split
    image: np.ndarray
    label: np.ndarray
    affine: np.ndarray


@dataclass(frozen=True)
class SimulatedCohort:
    """All volumes of a simulation, in the order of the manifest and of the truth.

    Attributes:
        config: what it was made from.
        volumes: the scans.
        truth: the maps and the prior behind them.
        template: the shared anatomy on the simulated grid, float32 `(D, H, W)` from 0 to 1.
        template_label: its labels, uint8 `(D, H, W)`.
    """

    config: SimulationConfig
    volumes: tuple[SimulatedVolume, ...]
    truth: Truth
    template: np.ndarray
    template_label: np.ndarray


@dataclass(frozen=True)
class _Scene:
    """The anatomy as channels to be sampled together: intensity, three tissues, labels."""

    channels: torch.Tensor
    extent_mm: tuple[float, ...]

    def at(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Intensity, tissues and labels at points `(1, 3, D, H, W)`, by one interpolation."""
        values = sample(self.channels, points, self.extent_mm, padding="zeros")
        return values[:, :1], values[:, 1:4], argmax_labels(values[:, 4:])


def simulate(config: SimulationConfig) -> SimulatedCohort:
    """Draw anatomies from the true prior and scan each once.

    The same configuration gives the same cohort; every subject has a random stream of its own.
    Raises ParameterError where the amplitudes are so large that maps fold.
    """
    prior, scene = shape_prior(config), _scene(config)
    plans = _plans(config)
    shapes, volumes, affines = [], [], []
    for index, (split, cls) in enumerate(plans, start=1):
        generator = np.random.default_rng([config.seed, index])
        shape = draw_shape(config, prior, cls, generator)
        appearance = draw_appearance(config.appearance, _extent(config), generator)
        image, label = _scan(config, scene, shape, appearance, generator)
        shapes.append(shape)
        affines.append(_to_own_centre(shape.affine, appearance, config.spacing_mm))
        world = _world(config, appearance)
        volumes.append(
            SimulatedVolume(
                f"sim_{index:03d}", f"subject_{index:03d}", cls, split, image, label, world
            )
        )
    logger.info("simulated %d volumes", len(volumes))
    truth = _truth(config, prior, volumes, shapes, torch.stack(affines))
    intensity, _, labels = scene.at(_points(config))
    return SimulatedCohort(
        config, tuple(volumes), truth, intensity[0, 0].numpy(), labels[0, 0].numpy()
    )


def _plans(config: SimulationConfig) -> list[tuple[Split, str]]:
    """Split and class of every subject; the classes alternate within each split."""
    sizes: list[tuple[Split, int]] = [
        ("train", config.n_labelled),
        ("unlabelled", config.n_unlabelled),
        ("test", config.n_test),
    ]
    return [(split, CLASSES[k % len(CLASSES)]) for split, n in sizes for k in range(n)]


def _scene(config: SimulationConfig) -> _Scene:
    """Blurred to what a voxel of the simulated grid averages over, so that nothing aliases."""
    anatomy = load_anatomy()
    channels = torch.cat(
        [anatomy.intensity, anatomy.tissues, one_hot(anatomy.labels, len(LABEL_NAMES))], dim=1
    )
    return _Scene(gaussian_smooth(channels, 0.4 * config.spacing_mm), anatomy.extent_mm)


def _scan(
    config: SimulationConfig,
    scene: _Scene,
    shape: Shape,
    appearance: Appearance,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Image and label of one subject, cut to its field of view."""
    spacing = (config.spacing_mm,) * 3
    points = transforms([shape], config.shape, spacing).inverse().points()
    intensity, tissues, labels = scene.at(points)
    kind = config.appearance.noise_kind
    image = apply_appearance(intensity, tissues, appearance, kind, generator)
    seen = tuple(
        slice(low, n - high) for n, (low, high) in zip(config.shape, appearance.crop, strict=True)
    )
    voxels = image[0, 0].numpy()[seen].round().clip(-32768, 32767).astype(np.int16)
    return np.ascontiguousarray(voxels), np.ascontiguousarray(labels[0, 0].numpy()[seen])


def _to_own_centre(affine: torch.Tensor, appearance: Appearance, spacing_mm: float) -> torch.Tensor:
    """The map to millimetres from the centre of the cut volume, not of the full grid."""
    shift = torch.eye(4, dtype=torch.float64)
    for axis, (low, high) in enumerate(appearance.crop):
        shift[axis, 3] = -0.5 * (low - high) * spacing_mm
    return shift @ affine


def _world(config: SimulationConfig, appearance: Appearance) -> np.ndarray:
    """Voxel to MNI mm: where the scanner would have put an aligned head."""
    affine = np.diag([*(config.spacing_mm,) * 3, 1.0])
    for axis, (low, _) in enumerate(appearance.crop):
        first = low - (config.shape[axis] - 1) / 2
        affine[axis, 3] = CENTRE_MM[axis] + first * config.spacing_mm
    return affine


def _truth(
    config: SimulationConfig,
    prior: ShapePrior,
    volumes: list[SimulatedVolume],
    shapes: list[Shape],
    affines: torch.Tensor,
) -> Truth:
    amounts = [shape.enlargement_mm for shape in shapes]
    return Truth(
        cases=tuple(volume.case for volume in volumes),
        classes=tuple(volume.cls for volume in volumes),
        shape=config.shape,
        spacing_mm=(config.spacing_mm,) * 3,
        velocities=torch.stack([shape.velocity for shape in shapes]),
        affines=affines,
        modes=prior.modes,
        mode_sds_mm=prior.mode_sds_mm,
        enlargement=prior.enlargement,
        coefficients=torch.stack([shape.coefficients for shape in shapes]),
        enlargements_mm=torch.tensor(amounts, dtype=torch.float64),
    )


def _extent(config: SimulationConfig) -> tuple[float, ...]:
    return extent(config.shape, (config.spacing_mm,) * 3)


def _points(config: SimulationConfig) -> torch.Tensor:
    return points_like(config.shape, (config.spacing_mm,) * 3)
