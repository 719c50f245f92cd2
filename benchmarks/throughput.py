"""Warped labelled volumes per second: dreams beside the elastic transforms of other packages.

    python -m benchmarks.throughput --write

times each way of warping one volume and its label map on one thread, all in one process, at two
sizes, and counts how many voxels fold: coordinates are warped along as further channels, so a
peer's map is known without its help. On a machine with a GPU our rows run there too.
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd
import torch

from benchmarks.cohorts import ROOT
from benchmarks.registration import as_markdown, write_section
from dreamorph.dreaming import Dreamer, Dreams, DreamWarps
from dreamorph.prior import DeformationPrior
from dreamorph.spatial import folded_voxels, gaussian_smooth, points_like
from dreamorph.training import Augmenter, TrainingData

PAGE = ROOT / "docs" / "benchmarks.md"
SIZES = ((40, 56, 40), (128, 128, 128))
N_LABELS, MEMBERS, BATCH, POOL = 2, 30, 4, 32
#: Voxels of a batch on a GPU, which small batches leave idle.
GPU_VOXELS = 2**25
#: Root mean square of the velocities of the dreams, mm; peers keep their defaults.
STRENGTH_MM = 2.0

#: Warps an image `(C, *shape)` and its label map `(1, *shape)` together.
Peer = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Volumes:
    """A batch that is warped: images and labels `(B, 1, *shape)`."""

    images: torch.Tensor
    labels: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one volume."""
        return tuple(self.images.shape[2:])


def volumes(shape: tuple[int, ...]) -> Volumes:
    """Smooth noise, and two labels where it is high."""
    generator = torch.Generator().manual_seed(0)
    images = gaussian_smooth(torch.randn(BATCH, 1, *shape, generator=generator), 2.0)
    scale = images.std()
    labels = (images > scale).to(torch.uint8) + (images > 2 * scale).to(torch.uint8)
    return Volumes(images, labels)


def prior_of(shape: tuple[int, ...]) -> DeformationPrior:
    """A prior of smooth random members on half the grid, as registration gives it."""
    coarse = [n // 2 for n in shape]
    generator = torch.Generator().manual_seed(1)
    noise = (torch.randn(1, 3, *coarse, generator=generator) for _ in range(MEMBERS))
    fields = torch.cat([gaussian_smooth(one, 4.0) for one in noise])
    fields = fields * (STRENGTH_MM / fields.square().sum(1).mean().sqrt())
    return DeformationPrior().fit(fields - fields.mean(0), [float(n) for n in shape])


class Ours:
    """Batches as training makes them: out of a pool of judged dreams, or drawn for every sample."""

    def __init__(self, data: Volumes, prior: DeformationPrior, fresh: bool, device: str) -> None:
        self.dreamer, self.fresh = Dreamer(prior), fresh
        self.generator = torch.Generator().manual_seed(3)
        self.cases, self.shape = prior.members[:BATCH], data.shape
        self.sampler = self._sampler(POOL)
        masks = torch.ones_like(data.images, dtype=torch.bool)
        images, labels, masks = (v.to(device) for v in (data.images, data.labels, masks))
        self.data = TrainingData(images, labels, masks, None, N_LABELS + 1)
        self.device = device
        self.batch = BATCH if device == "cpu" else max(BATCH, GPU_VOXELS // math.prod(self.shape))

    def __call__(self) -> int:
        """Make a batch; how many volumes it holds."""
        sampler = self._sampler(self.batch) if self.fresh else self.sampler
        members = torch.arange(self.batch) % BATCH
        Augmenter(self.data, sampler, None, self.device)(members, self.generator)
        return self.batch

    def folds(self) -> float:
        """Percentage of voxels that fold, by the quick maps that warp training samples."""
        shares = []
        for start in range(0, POOL, BATCH):
            rows = torch.arange(start, start + BATCH) % BATCH
            _, transform = self._sampler(BATCH).sample(rows, self.generator)
            shares.append(_folded(transform.quick_points()))
        return sum(shares) / len(shares)

    def _sampler(self, count: int) -> DreamWarps:
        drawn = list(self.dreamer.drawn(count, range(BATCH), self.generator))
        recipes, draws = [recipe for recipe, _ in drawn], [draw for _, draw in drawn]
        classes = [None] * len(self.cases)
        return DreamWarps(self.dreamer, recipes, self.cases, classes, self.shape, draws=draws)


class Kept:
    """Dreams by `Dreamer.dream`, with the recipe of each: by the map that the gate judges."""

    batch = 8

    def __init__(self, data: Volumes, prior: DeformationPrior, device: str) -> None:
        self.dreamer = Dreamer(prior)
        self.images, self.labels = data.images.to(device), data.labels.to(device)
        self.generator = torch.Generator().manual_seed(3)

    def __call__(self) -> int:
        """Make some; how many."""
        self._dream()
        return self.batch

    def folds(self) -> float:
        """Percentage of voxels that fold."""
        return _folded(self._dream().transforms.points())

    def _dream(self) -> Dreams:
        return self.dreamer.dream(self.images, self.labels, self.batch, self.generator)


class Theirs:
    """A peer, one volume at a time, as its own data loaders do."""

    def __init__(self, data: Volumes, peer: Peer) -> None:
        self.data, self.peer, self.turn = data, peer, 0

    def __call__(self) -> int:
        """Warp the next volume; one."""
        row = self.turn % BATCH
        self.turn += 1
        self.peer(self.data.images[row], self.data.labels[row])
        return 1

    def folds(self) -> float:
        """Percentage of voxels that fold: the coordinates are warped as three more channels."""
        grid = points_like(self.data.shape, (1.0,) * 3)[0]
        inner = (slice(None), slice(None), *[slice(8, -8)] * 3)  # beyond the border nothing is seen
        shares = []
        for row in range(BATCH):
            image = torch.cat([self.data.images[row], grid])
            moved, _ = self.peer(image, self.data.labels[row])
            shares.append(_folded(torch.as_tensor(moved)[None, 1:][inner]))
        return sum(shares) / len(shares)


def torchio(data: Volumes) -> Peer:
    """`RandomElasticDeformation` with its defaults."""
    import torchio as tio

    transform = tio.RandomElasticDeformation()

    def warp(image: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        subject = tio.Subject(image=tio.ScalarImage(tensor=image), label=tio.LabelMap(tensor=label))
        found = transform(subject)
        return found.image.data, found.label.data

    return warp


def monai(data: Volumes) -> Peer:
    """`Rand3DElasticd` with the widths and magnitudes of its own example."""
    from monai.transforms import Rand3DElasticd

    transform = Rand3DElasticd(
        ("image", "label"), (5, 8), (100, 200), prob=1.0, mode=("bilinear", "nearest")
    )

    def warp(image: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = transform({"image": image, "label": label})
        return found["image"], found["label"]

    return warp


def batchgenerators(data: Volumes) -> Peer:
    """`SpatialTransform` of batchgeneratorsv2, its elastic part alone, with its defaults."""
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

    transform = SpatialTransform(data.shape, 0, random_crop=False, p_elastic_deform=1.0)

    def warp(image: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = transform(image=image, segmentation=label.to(torch.int16))
        return found["image"], found["segmentation"]

    return warp


#: Name, package, and what makes the tool.
PEERS: tuple[tuple[str, str, Callable[[Volumes], Peer]], ...] = (
    ("TorchIO RandomElasticDeformation", "torchio", torchio),
    ("MONAI Rand3DElasticd", "monai", monai),
    ("batchgeneratorsv2 SpatialTransform, elastic", "batchgeneratorsv2", batchgenerators),
)


def rate(tool: Ours | Kept | Theirs, seconds: float, device: str) -> float:
    """Volumes per second of wall time."""
    tool()  # what is done once
    _wait(device)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        count += tool()
    _wait(device)
    return count / (time.perf_counter() - start)


def rows(shape: tuple[int, ...], seconds: float) -> Iterator[dict[str, object]]:
    """Rate and folds of every tool at one size."""
    data, prior = volumes(shape), prior_of(shape)
    size = "x".join(map(str, shape))
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    tools: list[tuple[str, Ours | Kept | Theirs, str]] = [
        (f"dreams, {what} ({device})", Ours(data, prior, fresh, device), device)
        for device in devices
        for what, fresh in (("out of a pool", False), ("drawn for every sample", True))
    ]
    tools += [
        (f"dreams by Dreamer.dream ({device})", Kept(data, prior, device), device)
        for device in devices
    ]
    for name, package, make in PEERS:
        try:
            tools.append((f"{name} {version(package)}", Theirs(data, make(data)), "cpu"))
        except PackageNotFoundError:
            sys.stderr.write(f"{name}: left out, {package} is not installed\n")
    for name, tool, device in tools:
        found = rate(tool, seconds, device)
        moved = found * floor(shape) / 1e9
        sys.stderr.write(f"{size} {name}: {found:.2f} volumes/s, {moved:.1f} GB/s at least\n")
        yield {"size": size, "tool": name, "rate": found, "folds": tool.folds()}


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Rates beside that of dreams out of a pool on the CPU."""
    shown = []
    for _, part in table.groupby("size", sort=False):
        own = part["rate"].iloc[0]
        for row in part.to_dict("records"):
            shown.append(
                {
                    "tool": row["tool"],
                    "size": row["size"],
                    "labelled volumes/s": f"{row['rate']:.2f}",
                    "dreams out of a pool, times as fast": f"{own / row['rate']:.1f}",
                    "folds, % of voxels": f"{row['folds']:.4f}",
                }
            )
    return pd.DataFrame(shown)


def floor(shape: tuple[int, ...]) -> int:
    """Bytes that a warped volume cannot do without: each voxel read and written, the map read.

    Image of 4 bytes, label and mask of one; three components of velocity on half the grid.
    """
    voxels = math.prod(shape)
    return 2 * 6 * voxels + 12 * voxels // 8


def _folded(points: torch.Tensor) -> float:
    return 100 * float(folded_voxels(points.float(), (1.0,) * 3).float().mean())


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def main(arguments: list[str] | None = None) -> None:
    """Time all tools, print the table, write it into the docs if asked."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="for every tool and size")
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    table = pd.DataFrame([row for shape in SIZES for row in rows(shape, options.seconds)])
    text = f"`python -m benchmarks.throughput`, one thread.\n\n{as_markdown(summary(table))}\n"
    sys.stdout.write(text)
    if options.write:
        write_section(PAGE, "throughput", text)


if __name__ == "__main__":
    main()
