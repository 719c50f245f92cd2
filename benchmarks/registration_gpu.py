"""How many pairs a second a GPU registers, and how far that is from what its memory allows.

    python -m benchmarks.registration_gpu

prints one table: grid, batch size, pairs/s, peak memory, the floor and the gap to it. Where there
is no GPU it says so in one line. FireANTs is timed beside it where it is installed.
"""

import argparse
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec

import torch

from benchmarks.registration import as_markdown
from dreamorph.registration import RegistrationConfig, register
from dreamorph.spatial import coarse_shape, gaussian_smooth

SHAPES = ((48, 64, 48), (128, 128, 128))
BATCHES = (1, 4, 16, 64)


def main(arguments: list[str] | None = None) -> None:
    """Time every grid and batch size."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--preset", default="default")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device on this machine: nothing was measured")
    import pandas as pd

    config = RegistrationConfig(preset=options.preset, device="cuda")
    bandwidth = memory_bandwidth()
    sys.stdout.write(f"{torch.cuda.get_device_name()}, {bandwidth / 1e9:.0f} GB/s by copying\n")
    rows = []
    for shape in SHAPES:
        for batch in BATCHES:
            row = _row(shape, batch, config, bandwidth, options.repeats)
            sys.stderr.write(f"{row}\n")
            rows.append(row)
    sys.stdout.write(as_markdown(pd.DataFrame(rows)) + "\n")
    if find_spec("fireants") is None:
        sys.stdout.write("FireANTs is not installed: no peer was timed\n")
    else:
        sys.stdout.write(f"FireANTs greedy, pairs/s: {fireants_pairs_per_second()}\n")


def _row(
    shape: tuple[int, ...], batch: int, config: RegistrationConfig, bandwidth: float, repeats: int
) -> dict[str, object]:
    row: dict[str, object] = {"grid": "x".join(map(str, shape)), "batch": batch}
    fixed, moving = pair(shape, batch)
    config = config.model_copy(update={"batch_size": batch})
    torch.cuda.reset_peak_memory_stats()
    try:
        seconds = timed(lambda: register(fixed, moving, config), repeats)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return row | {"pairs/s": "out of memory"}
    bytes_moved, operations = floor(shape, config)
    least = batch * bytes_moved / bandwidth
    return row | {
        "pairs/s": f"{batch / seconds:.2f}",
        "peak memory, GB": f"{torch.cuda.max_memory_allocated() / 1e9:.2f}",
        "floor, GB a pair": f"{bytes_moved / 1e9:.2f}",
        "operations, GFLOP a pair": f"{operations / 1e9:.1f}",
        "time over floor": f"{seconds / least:.1f}",
    }


def pair(shape: tuple[int, ...], batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two smooth random volumes for each pair."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 1, 1, *shape, generator=generator).cuda()
    both = [gaussian_smooth(volume, 2.0).repeat(batch, 1, 1, 1, 1) for volume in noise]
    return both[0], both[1]


def timed(work: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of several runs, after one to warm up."""
    best = float("inf")
    for run in range(repeats + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        if run > 0:
            best = min(best, time.perf_counter() - start)
    return best


def memory_bandwidth() -> float:
    """Bytes a second that a copy of 1 GB reads and writes."""
    source = torch.empty(2**28, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / timed(lambda: target.copy_(source), 5)


def floor(shape: tuple[int, ...], config: RegistrationConfig) -> tuple[float, float]:
    """Bytes and operations that the deformable steps of one pair cannot do without.

    As if each step were one perfect kernel for the loss and one for its gradient: each reads fixed,
    moving and mask once; the velocity of 3 components is read and written with its gradient and
    the two moments of Adam (7 transfers). Operations per voxel: interpolation 40 forward and 80
    back, upsampling three components 3 * 16 each way, correlation 3 moments by 3 axes by 2 * 5
    each way; per velocity voxel (squarings + 1) * 3 interpolations each way.
    """
    how = config.velocity
    if how is None:
        return 0.0, 0.0
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


def fireants_pairs_per_second() -> str:
    """The peer's own greedy registration on the same volumes, through its public interface."""
    import SimpleITK
    from fireants.io.image import BatchedImages, Image
    from fireants.registration.greedy import GreedyRegistration

    found = []
    for shape in SHAPES:
        fixed, moving = (
            BatchedImages(
                [Image(SimpleITK.GetImageFromArray(v[0, 0].cpu().numpy()), device="cuda")]
            )
            for v in pair(shape, 1)
        )

        def work(fixed: object = fixed, moving: object = moving) -> None:
            GreedyRegistration(
                scales=[4, 2, 1], iterations=[100, 100, 50], fixed_images=fixed,
                moving_images=moving, cc_kernel_size=5,
            ).optimize()  # fmt: skip

        found.append(f"{'x'.join(map(str, shape))} {1 / timed(work, 3):.2f}")
    return ", ".join(found)


if __name__ == "__main__":
    main()
