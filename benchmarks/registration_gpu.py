"""How many pairs a second a GPU registers, and how far that is from what its memory allows.

    python -m benchmarks.registration_gpu --write
    python -m benchmarks.registration_gpu --operations 256

The hippocampus pairs of `benchmarks.registration`, as they are and brought to 128^3, repeated until
a batch is full, all from one affine map of ours. FireANTs runs beside ours where it is installed.
Every row is in benchmarks/results/registration_gpu.csv as soon as it is measured, in place of those
of an earlier call. Where there is no GPU the command says so in one line. The second command prints
what a batch of so many pairs spends its time on.
"""

import argparse
import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property, partial
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import pandas as pd
import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEventAvg

from benchmarks.cohorts import ROOT, Pairing, Side, load_pairs
from benchmarks.measures import dice, folded_share
from benchmarks.registration import PAGE, as_markdown, write_section
from benchmarks.tools import fireants_images, fireants_points
from dreamorph.registration import RegistrationConfig, descent, register
from dreamorph.registration.config import PRESETS
from dreamorph.registration.folds import without_folds
from dreamorph.registration.pyramid import Pairs, comparable, fill_beyond_mask
from dreamorph.registration.svf import register_velocity
from dreamorph.spatial import (
    SpatialTransform,
    coarse_shape,
    extent,
    identity_affine,
    sample,
)
from dreamorph.spatial.transform import argmax_labels, one_hot

RESULTS = ROOT / "benchmarks" / "results" / "registration_gpu.csv"
LARGE = (128, 128, 128)
#: Pairs at once, at the native size and at 128^3.
BATCHES, LARGE_BATCHES = (1, 8, 64, 256), (1, 4, 16)
#: Iterations of FireANTs' greedy at factors 4, 2, 1: of its own example, and about twice as many.
ITERATIONS = ((100, 50, 20), (200, 100, 50))
REPEATS = 3
#: Operations that are listed, the longest first.
LISTED = 20
DEVICE = "cuda"

#: Registers a batch: where the fixed voxels lie in the moving volumes.
Work = Callable[[], torch.Tensor]


@dataclass(frozen=True)
class Batch:
    """As many pairs as asked for, on the GPU.

    Attributes:
        pairs: the disjoint pairs of which the batch is made.
        rows: which pair each place of the batch holds.
        affine: our affine map of each, `(B, 4, 4)`.
    """

    pairs: Pairing
    rows: list[int]
    affine: torch.Tensor

    @cached_property
    def prepared(self) -> Pairs:
        """The same as the deformable step takes them."""
        fixed, moving, *masks = self.volumes
        sides = [comparable(*side) for side in ((fixed, masks[0]), (moving, masks[1]))]
        edges = extent(fixed.shape[2:], self.pairs.spacing_mm)
        return Pairs(*sides, *masks, None, None, edges)

    @cached_property
    def volumes(self) -> tuple[torch.Tensor, ...]:
        """Fixed and moving images, fixed and moving masks, on the GPU."""
        fixed, moving = self.pairs.fixed, self.pairs.moving
        parts = (fixed.images, moving.images, fixed.masks, moving.masks)
        return tuple(part[self.rows].to(DEVICE).float() for part in parts)


def main(arguments: list[str] | None = None) -> None:
    """Time every grid, batch size and tool."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--development", action="store_true", help="pairs for choosing parameters")
    for name, sizes_of in (("--batches", BATCHES), ("--large-batches", LARGE_BATCHES)):
        parser.add_argument(name, type=_numbers, default=sizes_of, help="pairs at once, as 1,8")
    parser.add_argument("--operations", type=int, help="pairs of which to list the operations")
    parser.add_argument("--write", action="store_true", help="put the tables into the docs")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device on this machine: nothing was measured")
    found = load_pairs("hippocampus", options.pairs, options.development)
    if options.operations:
        (batch,) = batches_of(found, [options.operations])
        sys.stdout.write(as_markdown(operations(batch, RegistrationConfig(affine=None))) + "\n")
        return
    bandwidth, arithmetic = memory_bandwidth(), arithmetic_rate()
    asked = " ".join(sys.argv[1:] if arguments is None else arguments)
    head = (
        f"`python -m benchmarks.registration_gpu {asked}`, {date.today()};"
        f" {torch.cuda.get_device_name()}, torch {torch.__version__}, {_peer()}; a copy moves"
        f" {bandwidth / 1e12:.2f} TB/s, a float32 matrix product does {arithmetic / 1e12:.0f}"
        " TFLOP/s.\n\n"
    )
    sys.stderr.write(head)
    rows = []
    wanted = (options.batches, options.large_batches)
    for pairs, batches in zip(sizes(found), wanted, strict=True):
        for batch in batches_of(pairs, batches):
            for row in measured(batch, bandwidth, arithmetic):
                sys.stderr.write(f"{row}\n")
                rows.append(row)
                RESULTS.parent.mkdir(exist_ok=True)
                pd.DataFrame(rows).to_csv(RESULTS, index=False)
    text = f"{head}{as_markdown(pd.DataFrame(rows).fillna('-'))}\n"
    sys.stdout.write(text)
    if options.write:
        write_section(PAGE, "gpu", text)


def batches_of(pairs: Pairing, sizes: Sequence[int]) -> Iterator[Batch]:
    """The pairs, repeated until a batch is full, for every size."""
    affine = register(
        pairs.fixed.images, pairs.moving.images, RegistrationConfig(velocity=None), None, None,
        pairs.fixed.masks, pairs.moving.masks, pairs.spacing_mm,
    ).affine  # fmt: skip
    for size in sizes:
        places = [k % len(pairs) for k in range(size)]
        yield Batch(pairs, places, affine[places])


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(",") if word)


def _peer() -> str:
    if find_spec("fireants") is None:
        return "FireANTs not installed and not timed"
    fused = "with" if find_spec("fireants_fused_ops") else "without"
    return f"FireANTs {version('fireants')} {fused} its fused operations"


def sizes(pairs: Pairing) -> Iterator[Pairing]:
    """The pairs on their own grid, and brought to 128^3."""
    yield pairs
    scale = [n / m for n, m in zip(LARGE, pairs.fixed.images.shape[2:], strict=True)]

    def larger(side: Side) -> Side:
        images = torch.nn.functional.interpolate(side.images, LARGE, mode="trilinear")
        labels = torch.nn.functional.interpolate(side.labels, LARGE, mode="nearest-exact")
        masks = torch.nn.functional.interpolate(side.masks.float(), LARGE, mode="nearest-exact")
        return Side(images, labels, masks > 0.5, side.cases)

    spacing = tuple(s / f for s, f in zip(pairs.spacing_mm, scale, strict=True))
    yield replace(pairs, fixed=larger(pairs.fixed), moving=larger(pairs.moving), spacing_mm=spacing)


def measured(batch: Batch, bandwidth: float, arithmetic: float) -> Iterator[dict[str, object]]:
    """One row a tool."""
    whole = RegistrationConfig(device=DEVICE, batch_size=len(batch.rows))
    # each gives, once it is its turn, what is then timed: what it prepares lies on the GPU
    tools: dict[str, Callable[[], Work]] = {}
    configs = {
        f"dreamorph {preset}, deformable step": RegistrationConfig(preset=preset, affine=None)
        for preset in PRESETS
    }
    for name, config in configs.items():
        tools[name] = partial(partial, ours, batch, config)
    tools["dreamorph default, deformable step, no step recorded"] = partial(
        partial, unrecorded, batch, RegistrationConfig(affine=None)
    )
    tools["dreamorph default, affine step too"] = partial(partial, ours, batch, whole)
    if find_spec("fireants") is not None:
        for iterations in ITERATIONS:
            name = f"FireANTs greedy {'x'.join(map(str, iterations))}"
            tools[name] = partial(fireants, batch, iterations)
    batch.volumes, batch.prepared  # noqa: B018 - on the device before anything is counted
    for name, prepare in tools.items():
        row: dict[str, object] = {
            "grid": "x".join(map(str, batch.pairs.fixed.images.shape[2:])),
            "pairs at once": len(batch.rows),
            "tool": name,
        }
        try:
            seconds, peak, points = timed(prepare)
        except torch.OutOfMemoryError:
            yield row | {"pairs/s": "out of memory"}
            continue
        row["pairs/s"] = f"{len(batch.rows) / seconds:.1f}"
        row["peak memory, GB"] = f"{peak / 1e9:.2f}"
        row |= judged(batch, points)
        del points
        if name in configs:
            least, operations = floor(tuple(batch.pairs.fixed.images.shape[2:]), configs[name])
            row["floor, GB a pair"] = f"{least / 1e9:.3f}"
            row["floor, GFLOP a pair"] = f"{operations / 1e9:.1f}"
            shortest = max(least / bandwidth, operations / arithmetic)
            row["time over floor"] = f"{seconds / (len(batch.rows) * shortest):.1f}"
        yield row


def ours(batch: Batch, config: RegistrationConfig) -> torch.Tensor:
    """Where the voxels of the fixed volumes lie in the moving ones, `(B, 3, *shape)`.

    Without an affine step of its own it starts from the given maps and from volumes that lie ready,
    as FireANTs does.
    """
    volumes, spacing = batch.volumes, batch.pairs.spacing_mm
    if config.affine is not None:
        return register(*volumes[:2], config, None, None, *volumes[2:], spacing).transform.points()
    pairs = batch.prepared
    affine = batch.affine.to(DEVICE)
    velocity = register_velocity(pairs, affine, config)
    eye = identity_affine(len(batch.rows), 3, DEVICE)
    return without_folds(SpatialTransform(eye, velocity, affine, pairs.shape, spacing)).points()


def unrecorded(batch: Batch, config: RegistrationConfig) -> torch.Tensor:
    """As `ours`, every kernel launched by the interpreter."""
    usual, descent.RECORDED = descent.RECORDED, False
    try:
        return ours(batch, config)
    finally:
        descent.RECORDED = usual


def operations(batch: Batch, config: RegistrationConfig) -> pd.DataFrame:
    """What the second of two registrations, no step recorded, spends its device's time on.

    On a GPU these are its programs, ours among them, by their own names.
    """
    unrecorded(batch, config)
    with torch.profiler.profile() as seen:
        unrecorded(batch, config)
    on_gpu = batch.volumes[0].is_cuda
    events = [event for event in seen.key_averages() if _counts(event, on_gpu)]
    spent = {
        event.key: (event.self_device_time_total if on_gpu else event.self_cpu_time_total, event)
        for event in events
    }
    total = sum(time for time, _ in spent.values())
    rows = [
        {"operation": name, "calls": event.count, "share, %": f"{100 * time / total:.1f}"}
        for name, (time, event) in sorted(spent.items(), key=lambda item: -item[1][0])
    ]
    return pd.DataFrame(rows).head(LISTED)


def _counts(event: FunctionEventAvg, on_gpu: bool) -> bool:
    """Whether it is a program of the GPU, or an operation on the CPU that is none of our names."""
    if on_gpu:
        return bool(event.device_type != DeviceType.CPU)
    return event.key.startswith("aten::")


def fireants(batch: Batch, iterations: tuple[int, ...]) -> Callable[[], torch.Tensor]:
    """FireANTs' greedy registration of volumes continued beyond their boxes, ready to run."""
    volumes, spacing = batch.volumes, batch.pairs.spacing_mm
    sides = tuple(
        fireants_images(fill_beyond_mask(volume, mask), spacing)
        for volume, mask in zip(volumes[:2], volumes[2:], strict=True)
    )
    return partial(fireants_points, sides, batch.affine, spacing, iterations)


def timed(prepare: Callable[[], Work]) -> tuple[float, int, torch.Tensor]:
    """Seconds of the fastest of several runs after one to warm up, peak of memory, last result.

    The memory is that which is taken on top of what lay ready on the device.
    """
    gc.collect()
    torch.cuda.empty_cache()
    work = prepare()
    before = torch.cuda.memory_allocated()
    best, found = float("inf"), work()
    for _ in range(REPEATS):
        del found
        gc.collect()  # FireANTs' optimiser holds itself
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
        start = time.perf_counter()
        found = work()
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best, torch.cuda.max_memory_allocated() - before, found


def judged(batch: Batch, points: torch.Tensor) -> dict[str, object]:
    """Mean Dice and share of folded voxels over the different pairs of a batch."""
    pairs = batch.pairs
    edges = extent(pairs.fixed.images.shape[2:], pairs.spacing_mm)
    scores, folds = [], []
    for place, row in enumerate(batch.rows[: len(pairs)]):
        box = (slice(None), slice(None), *pairs.fixed.box(row))
        fixed, moving = (
            side.labels[[row]].to(points.device) for side in (pairs.fixed, pairs.moving)
        )
        hot = one_hot(moving, max(pairs.labels))
        there = points[[place]][box]
        moved = argmax_labels(sample(hot, there, edges))
        scores.append(dice(fixed[box], moved, pairs.labels))
        folds.append(folded_share(there, pairs.spacing_mm))
    return {
        "Dice": f"{np.mean(scores):.3f}",
        "folds, % of voxels": f"{100 * np.mean(folds):.4f}",
    }


def memory_bandwidth() -> float:
    """Bytes a second that a copy of 1 GB reads and writes."""
    source = torch.empty(2**28, device=DEVICE)
    target = torch.empty_like(source)
    seconds, *_ = timed(lambda: lambda: target.copy_(source))
    return 2 * source.numel() * 4 / seconds


def arithmetic_rate() -> float:
    """Operations a second of a large float32 matrix product."""
    size = 2**13
    factor = torch.randn(size, size, device=DEVICE)
    seconds, *_ = timed(lambda: lambda: factor @ factor)
    return 2 * size**3 / seconds


def floor(shape: tuple[int, ...], config: RegistrationConfig) -> tuple[float, float]:
    """Bytes and operations that the deformable steps of one pair cannot do without.

    As if each step were one perfect kernel for the loss and one for its gradient: each reads fixed,
    moving and mask once; the velocity of 3 components is read and written with its gradient and
    the two moments of Adam (7 transfers). Operations per voxel: interpolation 40 forward and 80
    back, upsampling three components 3 * 16 each way, correlation 3 moments by 3 axes by 2 * 5
    each way; per velocity voxel (squarings + 1) * 3 interpolations each way.
    """
    how = config.velocity
    assert how is not None
    total_bytes = total_operations = 0.0
    for factor, iterations in zip(how.levels, how.iterations, strict=True):
        voxels = _count(coarse_shape(shape, factor))
        nodes = _count(coarse_shape(shape, max(factor, how.factor)))
        total_bytes += iterations * 4 * (2 * 3 * voxels + 7 * 3 * nodes)
        total_operations += iterations * (
            voxels * (120 + 2 * 48 + 2 * 90) + nodes * (how.squarings + 1) * 120 * 3
        )
    return total_bytes, total_operations


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


if __name__ == "__main__":
    main()
