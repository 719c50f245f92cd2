"""The known prior of the simulated anatomies: smooth modes, an enlargement, and affine maps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import fft

from dreamorph.errors import ParameterError
from dreamorph.simulation.anatomy import load_anatomy
from dreamorph.simulation.config import ShapeConfig, SimulationConfig
from dreamorph.spatial import (
    SpatialTransform,
    affine_exp,
    coarse_shape,
    extent,
    gaussian_smooth,
    points_like,
    sample,
)

_ATTEMPTS = 50


@dataclass(frozen=True)
class ShapePrior:
    """Velocities are a sum of modes, an enlargement and a residual; all `(3, d, h, w)` fields.

    Attributes:
        modes: `(K, 3, d, h, w)` float32, orthonormal in that the root mean square length of each
            vector field is 1 mm, without affine part and without enlargement.
        mode_sds_mm: `(K,)` standard deviations of their coefficients.
        enlargement: `(3, d, h, w)`, away from the ventricles, largest length 1 mm.
    """

    modes: torch.Tensor
    mode_sds_mm: torch.Tensor
    enlargement: torch.Tensor


@dataclass(frozen=True)
class Shape:
    """One subject's map from the shared anatomy, `y = affine . exp(velocity)(x)`.

    Attributes:
        velocity: `(3, d, h, w)` float32 in mm.
        affine: `(4, 4)` float64 in grid millimetres.
        coefficients: `(K,)` of the modes, in mm.
        enlargement_mm: coefficient of the enlargement.
    """

    velocity: torch.Tensor
    affine: torch.Tensor
    coefficients: torch.Tensor
    enlargement_mm: float


def shape_prior(config: SimulationConfig) -> ShapePrior:
    """The true prior of a simulation, drawn once from its seed."""
    shapes = config.shapes
    coarse = coarse_shape(config.shape, shapes.factor)
    edges = extent(config.shape, (config.spacing_mm,) * 3)
    generator = np.random.default_rng([config.seed, 0])
    raw = smooth_fields(shapes.n_modes, coarse, edges, shapes.mode_length_mm, generator)
    enlargement = enlargement_field(coarse, edges)
    basis = torch.cat([affine_fields(coarse, edges), enlargement[None]]).flatten(1).double()
    modes = _orthonormal(raw.flatten(1).double(), basis) * raw[0, 0].numel() ** 0.5
    sds = shapes.mode_sd_mm * shapes.mode_decay ** torch.arange(shapes.n_modes)
    return ShapePrior(modes.float().reshape(raw.shape), sds, enlargement)


def draw_shape(
    config: SimulationConfig, prior: ShapePrior, cls: str, generator: np.random.Generator
) -> Shape:
    """A shape of one class ('normal' or 'enlarged') whose map is free of folds on the grid.

    Raises ParameterError where the amplitudes are so large that hardly any map is.
    """
    for _ in range(_ATTEMPTS):
        shape = _propose(config, prior, cls, generator)
        inverse = transforms([shape], config.shape, (config.spacing_mm,) * 3).inverse()
        smallest = float(inverse.jacobian_determinant().min())
        if smallest > config.shapes.smallest_determinant:
            return shape
    raise ParameterError(
        f"simulation.shapes: {_ATTEMPTS} drawn shapes in a row fold (smallest determinant of the "
        f"last {smallest:.2f}); lower mode_sd_mm, residual_sd_mm or enlarged_mm"
    )


def transforms(
    shapes: Sequence[Shape], shape: Sequence[int], spacing_mm: Sequence[float]
) -> SpatialTransform:
    """The maps from the shared anatomy to the subjects, on a grid that covers the velocities."""
    velocity = torch.stack([s.velocity for s in shapes])
    affine = torch.stack([s.affine for s in shapes])
    eye = torch.eye(4, dtype=torch.float64).expand(len(shapes), 4, 4).clone()
    return SpatialTransform(eye, velocity, affine, tuple(shape), tuple(spacing_mm))


def smooth_fields(
    count: int,
    shape: Sequence[int],
    extent_mm: Sequence[float],
    length_mm: float,
    generator: np.random.Generator,
    channels: int = 3,
) -> torch.Tensor:
    """Gaussian random fields `(count, channels, *shape)` of unit root mean square length.

    White noise in the cosine basis divided by `(1 + (length k)^2)^2`: in three dimensions almost
    all have square-integrable second derivatives. They are drawn on a larger grid and cut, since
    near the border of the basis the variance is larger; their mean is left out.
    """
    spacing = [e / n for e, n in zip(extent_mm, shape, strict=True)]
    margins = [math.ceil(2 * length_mm / s) for s in spacing]
    larger = [n + 2 * m for n, m in zip(shape, margins, strict=True)]
    axes = [np.pi * np.arange(n) / (n * s) for n, s in zip(larger, spacing, strict=True)]
    squared = sum(k**2 for k in np.meshgrid(*axes, indexing="ij"))
    noise = (
        generator.standard_normal((count, channels, *larger)) / (1 + length_mm**2 * squared) ** 2
    )
    fields = fft.idctn(noise, axes=tuple(range(2, noise.ndim)), norm="ortho")
    inside = tuple(slice(m, m + n) for m, n in zip(margins, shape, strict=True))
    cut = torch.from_numpy(np.ascontiguousarray(fields[(slice(None), slice(None), *inside)]))
    cut -= cut.mean(dim=tuple(range(2, cut.dim())), keepdim=True)
    power = cut.square().sum(dim=1, keepdim=True).flatten(1).mean(dim=1)
    return (cut / power.sqrt().reshape(-1, *[1] * (cut.dim() - 1))).float()


def enlargement_field(shape: Sequence[int], extent_mm: Sequence[float]) -> torch.Tensor:
    """Velocity `(3, *shape)` down the slope of the blurred ventricles, largest length 1 mm.

    The sum of a narrow and a wide blur points outward at the wall and fades over some centimetres.
    """
    anatomy = load_anatomy()
    ventricles = (anatomy.labels == 1).float()
    field = torch.zeros(1, 3, *ventricles.shape[2:])
    for sigma_mm in (4.0, 8.0):
        blurred = gaussian_smooth(ventricles, sigma_mm)
        slope = torch.stack(torch.gradient(blurred[0, 0]))[None]
        field -= slope / slope.norm(dim=1).max()
    spacing = [e / n for e, n in zip(extent_mm, shape, strict=True)]
    coarse = sample(field, points_like(shape, spacing), anatomy.extent_mm)[0]
    return coarse / coarse.norm(dim=0).max()


def affine_fields(shape: Sequence[int], extent_mm: Sequence[float]) -> torch.Tensor:
    """The twelve velocities of affine maps on a grid, `(12, 3, *shape)`, not normalised."""
    spacing = [e / n for e, n in zip(extent_mm, shape, strict=True)]
    points = points_like(shape, spacing)[0]
    scalars = [torch.ones(1, *shape), *points.unsqueeze(1)]
    fields = [torch.zeros(3, *shape) for _ in range(12)]
    for index, field in enumerate(fields):
        field[index % 3] = scalars[index // 3][0]
    return torch.stack(fields)


def _propose(
    config: SimulationConfig, prior: ShapePrior, cls: str, generator: np.random.Generator
) -> Shape:
    shapes = config.shapes
    sds = prior.mode_sds_mm.double()
    coefficients = torch.from_numpy(generator.standard_normal(len(sds))) * sds
    mean = shapes.enlarged_mm if cls == "enlarged" else shapes.normal_mm
    amount = mean + shapes.enlargement_sd_mm * float(generator.standard_normal())
    coarse = prior.enlargement.shape[1:]
    edges = extent(config.shape, (config.spacing_mm,) * 3)
    residual = smooth_fields(1, coarse, edges, shapes.residual_length_mm, generator)[0]
    velocity = (
        torch.einsum("k,kcdhw->cdhw", coefficients, prior.modes.double())
        + amount * prior.enlargement
        + shapes.residual_sd_mm * residual
    )
    return Shape(velocity.float(), _draw_affine(shapes, generator), coefficients, amount)


def _draw_affine(shapes: ShapeConfig, generator: np.random.Generator) -> torch.Tensor:
    log = np.zeros((4, 4))
    x, y, z = generator.standard_normal(3) * np.deg2rad(shapes.rotation_degrees)
    log[:3, :3] = [[0, -z, y], [z, 0, -x], [-y, x, 0]]
    log[:3, :3] += np.diag(generator.standard_normal(3) * shapes.log_scale)
    log[:3, 3] = generator.standard_normal(3) * shapes.shift_mm
    return affine_exp(torch.from_numpy(log)[None])[0]


def _orthonormal(rows: torch.Tensor, without: torch.Tensor) -> torch.Tensor:
    """Rows `(K, P)` made orthonormal in order, after removing the span of `without`."""
    return torch.linalg.qr(torch.cat([without, rows]).T)[0].T[len(without) :]
