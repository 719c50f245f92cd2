"""One judge for every tool: what it says of maps that are known."""

from collections.abc import Callable

import pytest
import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEventAvg

from benchmarks import registration_gpu
from benchmarks.cohorts import Pairing, Side
from benchmarks.measures import judge
from benchmarks.registration_gpu import Batch, Work, _counts, floor, judged, operations, ours
from benchmarks.tools import Outcome, grid_of
from dreamorph.registration import RegistrationConfig, VelocityConfig
from dreamorph.spatial import identity_affine

SHAPE, SPACING, SHIFT = (16, 14, 12), (1.0, 1.5, 2.0), 3


@pytest.fixture
def pairs() -> Pairing:
    """A cuboid, and the same `SHIFT` voxels further along the first axis; both with padding."""
    labels = torch.zeros(2, 1, *SHAPE, dtype=torch.uint8)
    labels[0, :, 4:8, 4:9, 3:8] = 1
    labels[1, :, 4 + SHIFT : 8 + SHIFT, 4:9, 3:8] = 1
    masks = torch.zeros(2, 1, *SHAPE, dtype=torch.bool)
    masks[:, :, 1:15, 1:13, 1:11] = True
    sides = [Side(labels[[k]].float(), labels[[k]], masks[[k]], (f"case_{k}",)) for k in range(2)]
    return Pairing("known", sides[0], sides[1], SPACING, (1,))


def test_the_right_map_has_full_overlap_no_fold_and_leads_back(pairs: Pairing) -> None:
    here = grid_of(pairs, pairs.fixed, 0)
    there = here + torch.tensor([SHIFT * SPACING[0], 0, 0]).reshape(1, 3, 1, 1, 1)
    score = judge(pairs, 0, Outcome(there, here, 2.0))
    assert (score.dice, score.folded_percent, score.inverse_mm) == (1.0, 0.0, 0.0)
    off = judge(pairs, 0, Outcome(there, here + 0.3, 2.0))
    assert off.inverse_mm == pytest.approx(0.3 * 3**0.5, rel=1e-4)


def test_a_map_that_does_nothing_has_the_overlap_there_was(pairs: Pairing) -> None:
    here = grid_of(pairs, pairs.fixed, 0)
    assert judge(pairs, 0, Outcome(here, here, 0.0)).dice == pytest.approx(1 / 4)


def test_a_mirrored_map_folds_everywhere(pairs: Pairing) -> None:
    here = grid_of(pairs, pairs.fixed, 0)
    mirrored = here * torch.tensor([-1.0, 1, 1]).reshape(1, 3, 1, 1, 1)
    assert judge(pairs, 0, Outcome(mirrored, here, 0.0)).folded_percent == pytest.approx(100)


def test_the_floor_grows_with_voxels_and_steps() -> None:
    base = floor((48, 64, 48), RegistrationConfig())
    larger = floor((96, 128, 96), RegistrationConfig())
    assert [b / a for a, b in zip(base, larger, strict=True)] == pytest.approx([8, 8], rel=0.01)
    fast = floor((48, 64, 48), RegistrationConfig(preset="fast"))
    assert all(a < b for a, b in zip(fast, base, strict=True))


def test_what_is_timed_on_a_gpu_registers_and_is_judged(
    pairs: Pairing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here on the CPU, so that the benchmark for a GPU stays ready to run."""
    monkeypatch.setattr(registration_gpu, "DEVICE", "cpu")
    affine = identity_affine(2, 3)
    affine[:, 0, 3] = SHIFT * SPACING[0]
    batch = Batch(pairs, [0, 0], affine)
    config = RegistrationConfig(affine=None, velocity=VelocityConfig(iterations=(2, 2, 2)))
    points = ours(batch, config)
    assert points.shape == (2, 3, *SHAPE)
    assert float(judged(batch, points)["Dice"]) > 0.8
    monkeypatch.setattr(registration_gpu, "LISTED", 10**6)
    listed = operations(batch, config)
    shares = listed["share, %"].astype(float)
    assert list(shares) == sorted(shares, reverse=True)
    assert shares.sum() == pytest.approx(100, abs=0.05 * len(shares))  # each is rounded
    assert "aten::grid_sampler_3d" in set(listed["operation"])


def test_on_a_gpu_its_programs_are_listed_whatever_their_names() -> None:
    """Not the operations that start them, or each would count twice."""

    def event(key: str, device: DeviceType) -> FunctionEventAvg:
        one = FunctionEventAvg()
        one.key, one.device_type = key, device
        return one

    triton = event("_lncc_kernel", DeviceType.CUDA)
    operation = event("aten::mul", DeviceType.CPU)
    assert [_counts(one, on_gpu=True) for one in (triton, operation)] == [True, False]
    assert [_counts(one, on_gpu=False) for one in (triton, operation)] == [False, True]


def test_every_tool_of_the_gpu_benchmark_has_a_row(
    pairs: Pairing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is run once, here on the CPU; one whose memory does not suffice says so."""
    monkeypatch.setattr(registration_gpu, "DEVICE", "cpu")
    monkeypatch.setattr(registration_gpu, "find_spec", lambda _: None)
    monkeypatch.setattr(registration_gpu, "PRESETS", ("fast",))
    calls: list[int] = []

    def timed(prepare: Callable[[], Work]) -> tuple[float, int, torch.Tensor]:
        calls.append(1)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("full")
        return 0.5, 10**9, prepare()()

    monkeypatch.setattr(registration_gpu, "timed", timed)
    affine = identity_affine(2, 3)
    affine[:, 0, 3] = SHIFT * SPACING[0]
    rows = list(registration_gpu.measured(Batch(pairs, [0, 0], affine), 1e12, 1e13))
    assert [row["tool"] for row in rows] == [
        "dreamorph fast, deformable step",
        "dreamorph default, deformable step, no step recorded",
        "dreamorph default, affine step too",
    ]
    assert rows[0]["pairs/s"] == "4.0"
    assert rows[0]["peak memory, GB"] == "1.00"
    assert float(str(rows[0]["time over floor"])) > 0
    assert rows[1]["pairs/s"] == "out of memory"
    assert "Dice" not in rows[1]
    assert float(str(rows[2]["Dice"])) > 0.8
