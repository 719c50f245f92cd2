"""Registration tools behind one interface: pairs in, maps of points and CPU-seconds out.

All tools see the same normalised volumes. The peers get each volume cut to its scanned box, which
is how these files come; ours gets it on the common grid with the box as its mask. The box of a
volume that was turned has corners without content, which get the nearest values from within. Every
tool starts with the centres of the grid over each other, and does its own affine step unless its
name says so.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.cohorts import Pairing, Side
from dreamorph.registration import RegistrationConfig, register
from dreamorph.registration.config import Similarity
from dreamorph.registration.pyramid import fill_beyond_mask
from dreamorph.spatial import SpatialTransform, apply_affine, extent, points_like, sample


@dataclass(frozen=True)
class Outcome:
    """What a tool made of one pair.

    Attributes:
        forward: `(1, 3, *fixed box)`, where the fixed volume's voxels lie in the moving one, in
            grid millimetres.
        home: `(1, 3, *fixed box)`, where the tool's own inverse takes those points. A tool whose
            result is a displacement field has an inverse that is one, read linearly.
        seconds: CPU time.
        failure: what the tool itself says is wrong with the pair; empty for nothing.
    """

    forward: torch.Tensor
    home: torch.Tensor
    seconds: float
    failure: str = ""


Tool = Callable[[Pairing], Iterator[Outcome]]


def on_cpu(**given: Any) -> RegistrationConfig:
    """Our registration where CPU-seconds mean something, whatever else the machine has."""
    return RegistrationConfig(device="cpu", **given)


@dataclass(frozen=True)
class AsTheyAre:
    """No registration: what the pairs begin with."""

    def __call__(self, pairs: Pairing) -> Iterator[Outcome]:
        """Leave the pairs."""
        for row in range(len(pairs)):
            points = grid_of(pairs, pairs.fixed, row)
            yield Outcome(points, points, 0.0)


@dataclass(frozen=True)
class Ours:
    """`dreamorph.registration`, all pairs in one call.

    Attributes:
        config: how.
        guided: whether the labels of both volumes are shown to it.
    """

    config: RegistrationConfig
    guided: bool = False

    def __call__(self, pairs: Pairing) -> Iterator[Outcome]:
        """Register the pairs."""
        fixed, moving = pairs.fixed, pairs.moving
        labels = (relevant(fixed, pairs), relevant(moving, pairs)) if self.guided else (None, None)
        start = time.process_time()
        found = register(
            fixed.images, moving.images, self.config, *labels, fixed.masks, moving.masks,
            pairs.spacing_mm,
        )  # fmt: skip
        transform = found.transform
        common = (time.process_time() - start) / len(pairs)
        for row in range(len(pairs)):
            start = time.process_time()
            points = transform[[row]].points()
            seconds = common + time.process_time() - start
            outcome = _outcome(transform[[row]], points, pairs, row, seconds)
            yield replace(outcome, failure=found.failures[row])


def relevant(side: Side, pairs: Pairing) -> torch.Tensor:
    """Labels that correspond between subjects, numbered from one; the others are background."""
    labels = torch.zeros_like(side.labels)
    for number, value in enumerate(pairs.labels, start=1):
        labels[side.labels == value] = number
    return labels


def _outcome(
    transform: SpatialTransform, points: torch.Tensor, pairs: Pairing, row: int, seconds: float
) -> Outcome:
    box = (slice(None), slice(None), *pairs.fixed.box(row))
    return Outcome(points[box], transform.inverse().map(points)[box], seconds)


@dataclass(frozen=True)
class Greedy:
    """picsl-greedy, `-a` and then a stationary velocity field by `-sv`.

    Attributes:
        iterations: of the deformable step, coarse to fine.
        our_affine: whether our affine map replaces its own.
        options: further options of the deformable step.
    """

    iterations: str = "100x100x50"
    our_affine: bool = False
    options: str = ""

    def __call__(self, pairs: Pairing) -> Iterator[Outcome]:
        """Register the pairs one by one."""
        from picsl_greedy import Greedy3D

        for row in range(len(pairs)):
            start = time.process_time()
            greedy = Greedy3D()
            images = {
                "F": _sitk(pairs.fixed, pairs, row),
                "M": _sitk(pairs.moving, pairs, row),
            }
            metric, quiet = "-m NCC 2x2x2", "-threads 1 -V 0"
            if self.our_affine:
                affine = Ours(on_cpu(velocity=None))
                matrix = _our_affine(affine, pairs, row)
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder, "affine.mat")
                    np.savetxt(path, _mirrored(matrix))
                    greedy.execute(
                        f"-i F M -sv -n {self.iterations} {metric} {quiet} {self.options} "
                        f"-it {path} -o W -oinv I",
                        **images, W=None, I=None,
                    )  # fmt: skip
            else:
                greedy.execute(
                    f"-i F M -a -dof 12 -ia-identity -n 100x50x10 {metric} {quiet} -o A",
                    **images, A=None,
                )  # fmt: skip
                matrix = _mirrored(np.asarray(greedy["A"]))
                greedy.execute(
                    f"-i F M -sv -n {self.iterations} {metric} {quiet} {self.options} "
                    "-it A -o W -oinv I",
                    W=None, I=None,
                )  # fmt: skip
            there, back = (_field(greedy[name]) for name in ("W", "I"))
            seconds = time.process_time() - start
            # x -> A . W(x), and back y -> I(A^-1 y) with I on the fixed volume's grid
            grid = grid_of(pairs, pairs.fixed, row)
            affine = torch.from_numpy(matrix)[None]
            forward = apply_affine(affine, grid + there)
            home = apply_affine(torch.linalg.inv(affine), forward)
            yield Outcome(forward, home + sample_box(back, home, grid, pairs), seconds)


def _our_affine(tool: Ours, pairs: Pairing, row: int) -> np.ndarray:
    one = pairs[[row]]
    result = register(
        one.fixed.images, one.moving.images, tool.config, None, None, one.fixed.masks,
        one.moving.masks, pairs.spacing_mm,
    )  # fmt: skip
    return result.affine[0].numpy()


def _mirrored(matrix: np.ndarray) -> np.ndarray:
    """Between RAS, in which greedy writes matrices, and LPS, in which its images are."""
    mirror = np.diag([-1.0, -1.0, 1.0, 1.0])
    return mirror @ matrix @ mirror


@dataclass(frozen=True)
class Ants:
    """ANTs through antspyx: rigid, affine, SyN.

    Attributes:
        options: of `ants.registration`.
        our_affine: whether our affine map replaces its own two linear steps.
        similarity: of our affine map.
    """

    options: tuple[tuple[str, object], ...] = ()
    our_affine: bool = False
    similarity: Similarity = "lncc"

    def __call__(self, pairs: Pairing) -> Iterator[Outcome]:
        """Register the pairs one by one."""
        import ants

        for row in range(len(pairs)):
            fixed, moving = (
                ants.from_numpy(
                    _positive(_content(side, row)),
                    origin=[float(v) for v in grid_of(pairs, side, row)[0, :, 0, 0, 0]],
                    spacing=[float(s) for s in pairs.spacing_mm],
                )
                for side in (pairs.fixed, pairs.moving)
            )
            with tempfile.TemporaryDirectory() as folder:
                start = time.process_time()
                options = dict(self.options) | {"type_of_transform": "SyN"}
                if self.our_affine:
                    affine = Ours(on_cpu(velocity=None, similarity=self.similarity))
                    matrix = _our_affine(affine, pairs, row)
                    first = ants.create_ants_transform(
                        transform_type="AffineTransform", dimension=3,
                        matrix=matrix[:3, :3], translation=matrix[:3, 3],
                    )  # fmt: skip
                    ants.write_transform(first, f"{folder}/ours.mat")
                    options |= {
                        "type_of_transform": "SyNOnly",
                        "initial_transform": f"{folder}/ours.mat",
                    }
                result = ants.registration(
                    fixed, moving, random_seed=1, outprefix=f"{folder}/", **options
                )
                seconds = time.process_time() - start
                outward = ants.apply_transforms(
                    fixed, moving, result["fwdtransforms"], compose=f"{folder}/there_"
                )
                back = ants.apply_transforms(
                    moving, fixed, result["invtransforms"], compose=f"{folder}/back_",
                    whichtoinvert=[True, False],
                )  # fmt: skip
                forward, backward = (
                    torch.from_numpy(ants.image_read(name).numpy()).float().movedim(-1, 0)[None]
                    for name in (outward, back)
                )
            forward = forward + grid_of(pairs, pairs.fixed, row)
            there = grid_of(pairs, pairs.moving, row)
            home = forward + sample_box(backward, forward, there, pairs)
            yield Outcome(forward, home, seconds)


@dataclass(frozen=True)
class FireAnts:
    """FireANTs' greedy registration from our affine map.

    Its own inverse is an optimisation of its own and is not asked for.

    Attributes:
        iterations: at factors 4, 2 and 1.
    """

    iterations: tuple[int, ...] = (100, 50, 20)

    def __call__(self, pairs: Pairing) -> Iterator[Outcome]:
        """Register the pairs one by one."""
        affine = Ours(on_cpu(velocity=None))
        for row in range(len(pairs)):
            start = time.process_time()
            matrix = torch.from_numpy(_our_affine(affine, pairs, row))[None]
            fixed, moving = (
                fill_beyond_mask(side.images[[row]], side.masks[[row]].float())
                for side in (pairs.fixed, pairs.moving)
            )
            sides = tuple(fireants_images(one, pairs.spacing_mm) for one in (fixed, moving))
            points = fireants_points(sides, matrix, pairs.spacing_mm, self.iterations)
            seconds = time.process_time() - start
            forward = points[(slice(None), slice(None), *pairs.fixed.box(row))]
            yield Outcome(forward, torch.full_like(forward, torch.nan), seconds)


def fireants_images(volume: torch.Tensor, spacing_mm: tuple[float, ...]) -> Any:
    """FireANTs' record of volumes `(B, 1, *shape)`, on their device.

    It knows no masks, so the volumes are already continued beyond their scanned boxes.
    """
    import SimpleITK
    from fireants.io.image import BatchedImages, Image

    shape = volume.shape[2:]
    edges = [n * s for n, s in zip(shape, spacing_mm, strict=True)]
    blank = SimpleITK.GetImageFromArray(np.zeros(shape, np.float32))
    blank.SetSpacing([float(s) for s in spacing_mm[::-1]])
    blank.SetOrigin([(s - e) / 2 for s, e in zip(spacing_mm[::-1], edges[::-1], strict=True)])
    images = BatchedImages([Image(blank, device=str(volume.device))] * len(volume))
    images.batch_tensor = volume
    return images


def fireants_points(
    sides: tuple[Any, ...],
    affine: torch.Tensor,
    spacing_mm: tuple[float, ...],
    iterations: tuple[int, ...],
) -> torch.Tensor:
    """Where the fixed voxels lie in the moving volumes, `(B, 3, *shape)`, after FireANTs' greedy.

    Through its public interface; `sides` are fixed and moving, `affine` `(B, 4, 4)` is ours.
    """
    from fireants.registration.greedy import GreedyRegistration

    device = sides[0].batch_tensor.device
    # its points are x, y, z where ours are in the order of the array
    mirror = torch.eye(4, dtype=torch.float64)[[2, 1, 0, 3]]
    registration = GreedyRegistration(
        scales=[4, 2, 1], iterations=list(iterations), fixed_images=sides[0],
        moving_images=sides[1], init_affine=(mirror @ affine.cpu() @ mirror).float().to(device),
        progress_bar=False, cc_kernel_size=5,
    )  # fmt: skip
    registration.optimize()
    with torch.no_grad():
        corners = registration.get_warped_coordinates(*sides).movedim(-1, 1).flip(1)
    shape = sides[0].batch_tensor.shape[2:]
    half = [(n - 1) / 2 * s for n, s in zip(shape, spacing_mm, strict=True)]
    return corners * torch.tensor(half, device=device).reshape(1, 3, 1, 1, 1)


def _content(side: Side, row: int) -> torch.Tensor:
    """A volume cut to its scanned box, continued where that has no content."""
    one = [row]
    filled = fill_beyond_mask(side.images[one], side.masks[one].float())
    return filled[0, 0][side.box(row)]


def _positive(volume: torch.Tensor) -> np.ndarray:
    """From zero upwards: with negative values ANTs' affine step fails on some pairs."""
    return np.ascontiguousarray((100 * (volume - volume.min())).numpy())


def _sitk(side: Side, pairs: Pairing, row: int) -> object:
    import SimpleITK

    voxels = _content(side, row).numpy()
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(voxels.transpose()))
    image.SetSpacing([float(s) for s in pairs.spacing_mm])
    image.SetOrigin([float(v) for v in grid_of(pairs, side, row)[0, :, 0, 0, 0]])
    return image


def _field(image: object) -> torch.Tensor:
    """An ITK displacement field `(1, 3, *shape)` in our order of axes."""
    import SimpleITK

    array = SimpleITK.GetArrayFromImage(image)
    return torch.from_numpy(array.transpose(3, 2, 1, 0).copy()).float()[None]


def grid_of(pairs: Pairing, side: Side, row: int) -> torch.Tensor:
    """Grid millimetres of the voxels of a scanned box."""
    points = points_like(tuple(side.images.shape[2:]), pairs.spacing_mm)
    return points[(slice(None), slice(None), *side.box(row))]


def sample_box(
    field: torch.Tensor, points: torch.Tensor, grid: torch.Tensor, pairs: Pairing
) -> torch.Tensor:
    """A field on a box, with voxel centres `grid`, at points anywhere."""
    shape = field.shape[2:]
    centre = grid.flatten(2).mean(-1).reshape(1, 3, 1, 1, 1)
    return sample(field, points - centre, extent(shape, pairs.spacing_mm))


def versions() -> dict[str, str]:
    """Versions of the peers that are installed."""
    found = {}
    for package in ("picsl_greedy", "antspyx", "fireants", "torch"):
        try:
            found[package] = version(package)
        except ModuleNotFoundError:
            continue
    return found
