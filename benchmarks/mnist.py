"""Digits: 6,000 with dreams against 60,000 without, and against 6,000 with random warps.

    python -m benchmarks.mnist --write

takes small sets of 10, 50, 100 and 600 digits of every class. It learns class-wise priors from a
small set alone, chooses the settings of every arm within it, trains an MLP and a ConvNet per arm
and seed with the same steps (ten seeds with 600 of a class and with all digits, else three), and
prints the errors on all 10,000 test digits. Every finished training is a row of
benchmarks/results/mnist.csv; what is there is not done again.
"""

import argparse
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from benchmarks.cohorts import ROOT
from benchmarks.digits import (
    CLASSES,
    PARTNERS,
    PRIOR,
    REGISTRATION,
    SIDE,
    DigitDreams,
    Digits,
    SummedWarps,
    learn_deviations,
    load_digits,
    random_warps,
    still,
)
from benchmarks.registration import as_markdown, write_section
from dreamorph.dreaming import AffineWarpConfig, AffineWarps
from dreamorph.dreaming.samplers import WarpSampler
from dreamorph.fingerprint import fingerprint
from dreamorph.spatial import sample
from dreamorph.training import MixedWarps

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "evidence.md"
CACHE = ROOT / "data" / "benchmarks" / "mnist"

BATCH, RATE, STEPS, TUNING_STEPS = 64, 1e-3, 6000, 1500
#: Share of warped samples, and shapes drawn per class.
FRACTION, POOL = 0.8, 1000
#: While settings are chosen, all digits of a small set judge in turn, in so many folds: fewer tie.
#: With more than `FEW` of a class, first five of every six teach and one judges; so many go on.
FOLDS, FEW, TEACHING, FINALISTS = 5, 100, 5 / 6, 4
AFFINE = AffineWarpConfig(rotation_deg=10.0, log_scale=0.1, shear=0.1, shift_mm=1.5)
#: What may be chosen: for random warps, alone or on top of dreams, energy (pixels^2) and width
#: (pixels), for dreams alone the scale; for all, affine maps or none.
RANDOM = tuple(itertools.product((0.5, 1.5, 4.0, 10.0), (1.5, 2.0, 3.0), (False, True)))
DREAMT = tuple(itertools.product((0.4, 0.7, 1.0, 1.4), (False, True)))
#: Random warps on top of dreams of that scale.
BOTH = tuple(itertools.product((0.5, 1.5), (2.0, 3.0), (False, True)))
SCALE_BELOW = 0.7
GRIDS = {"elastic": RANDOM, "dream": DREAMT, "mix": BOTH}
#: Of few digits affine maps are always made. There the scale of dreams and the energy of random
#: warps both end where some small set would have them (docs/evidence.md).
AFFINE_GRIDS = {arm: tuple(one for one in grid if one[-1]) for arm, grid in GRIDS.items()}
AFFINE_GRIDS["dream"] = tuple(one for one in AFFINE_GRIDS["dream"] if one[0] <= 1)
ARMS = ("plain", "affine", "elastic", "dream", "mix")
NETS = ("mlp", "convnet")
#: Digits of every class in the small sets; seeds of the few, and of the others and of all digits.
PER_CLASS = (10, 50, 100, 600)
SEEDS = (3, 10)
COLUMNS = ["digits", "arm", "net", "seed", "steps", "settings", "error"]


@dataclass(frozen=True)
class Settings:
    """What was chosen for an arm and a net."""

    values: tuple[float, ...] = ()
    affine: bool = False

    def __str__(self) -> str:
        text = " ".join(f"{value:g}" for value in self.values)
        return f"{text}{' affine' if self.affine else ''}".strip() or "-"


class SmallSet:
    """Digits that all is learned from, and the warps of every arm."""

    def __init__(self, digits: Digits, name: str) -> None:
        self.digits, self.name = digits, name

    @cached_property
    def deviations(self) -> torch.Tensor:
        """What the priors of its classes know; learned once and kept."""
        how = fingerprint("deviations", REGISTRATION, PRIOR, PARTNERS, POOL)
        return learn_deviations(self.digits, POOL, CACHE / f"{self.name}-{how}.pt")

    def warps(self, arm: str, settings: Settings) -> WarpSampler:
        """How an arm warps."""
        if arm == "plain":
            return still()
        affine = AFFINE if settings.affine or arm == "affine" else None
        if arm == "affine":
            warped = still()
        elif arm == "elastic":
            warped = random_warps(*settings.values)
        elif arm == "dream":
            warped = DigitDreams(self.deviations, self.digits.classes, settings.values[0])
        else:
            dreams = DigitDreams(self.deviations, self.digits.classes, SCALE_BELOW)
            warped = SummedWarps(dreams, random_warps(*settings.values))
        return MixedWarps(
            warped if affine is None else AffineWarps(warped, affine), still(), FRACTION
        )


def network(name: str) -> nn.Module:
    """An MLP with dropout, or a ConvNet of two convolutions."""
    if name == "mlp":
        return nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(SIDE * SIDE, 800), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(800, 800), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(800, CLASSES),
        )  # fmt: skip
    return nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(50 * 25, 500), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(500, CLASSES),
    )  # fmt: skip


def train(digits: Digits, warps: WarpSampler, net: str, seed: int, steps: int) -> nn.Module:
    """A net trained for so many steps; Adam, cosine decay."""
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # with channels last, the ConvNet's step takes a third less on a CPU
    model = network(net).to(device).to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(len(digits), (BATCH,), generator=generator)
        sources, transform = warps.sample(rows, generator)
        transform = transform.to(device)
        points = transform.quick_points()
        images = sample(digits.images[sources].to(device), points, transform.extent_mm, "zeros")
        optimiser.zero_grad()
        loss = functional.cross_entropy(model(images), digits.classes[sources].to(device))
        loss.backward()
        optimiser.step()
        schedule.step()
    return model.cpu().eval()


def error_of(model: nn.Module, digits: Digits) -> float:
    """Share of digits that a net gets wrong, in percent."""
    with torch.inference_mode():
        found = torch.cat([model(part).argmax(1) for part in digits.images.split(1000)])
    return 100 * float((found != digits.classes).float().mean())


def chosen(per_class: int, train_set: Digits, arm: str, net: str) -> Settings:
    """Settings of an arm, by the error on digits of the small set that taught nothing.

    All its digits judge in turn, in `FOLDS` folds; of larger sets, only the `FINALISTS` that did
    best on a sixth of it: more would take hours.
    """
    if arm not in GRIDS:
        return Settings()
    key = {"digits": per_class * CLASSES, "arm": arm, "net": net, "steps": TUNING_STEPS}
    grid = _grid(per_class, arm)
    if per_class > FEW:
        count = round(per_class * TEACHING)
        small = SmallSet(train_set.first_per_class(count), f"teaching_{count}")
        _judge(key | {"seed": 0}, grid, small, train_set.first_per_class(per_class - count, count))
        grid = _ranked(key, grid, [0])[:FINALISTS]
    everything = train_set.first_per_class(per_class)
    for number, seed in enumerate(_seeds_of_folds(per_class)):
        teaching, judges = everything.fold(number, FOLDS)
        small = SmallSet(teaching, f"first_{per_class}_without_{number}_of_{FOLDS}")
        _judge(key | {"seed": seed}, grid, small, judges)
    return _ranked(key, grid, _seeds_of_folds(per_class))[0]


def settled(digits: int, arm: str, net: str) -> Settings:
    """What `chosen` came to by what is judged so far; of larger sets, by a sixth if no more is."""
    if arm not in GRIDS or digits // CLASSES not in PER_CLASS:
        return Settings()
    per_class = digits // CLASSES
    key = {"digits": digits, "arm": arm, "net": net, "steps": TUNING_STEPS}
    grid, seeds = _grid(per_class, arm), _seeds_of_folds(per_class)
    if per_class > FEW:
        grid = _ranked(key, grid, [0])[:FINALISTS]
    return (_ranked(key, grid, seeds) or grid)[0]


def _grid(per_class: int, arm: str) -> list[Settings]:
    grids = AFFINE_GRIDS if per_class <= FEW else GRIDS
    return [Settings(tuple(values[:-1]), bool(values[-1])) for values in grids[arm]]


def _seeds_of_folds(per_class: int) -> range:
    """Which mark their rows: of larger sets, the first is that of the sixth that judges before."""
    first = int(per_class > FEW)
    return range(first, first + FOLDS)


def _judge(key: dict[str, object], grid: list[Settings], small: SmallSet, judges: Digits) -> None:
    """The errors that are not known yet, into the table."""
    file, seed = RESULTS / "mnist_tuning.csv", int(str(key["seed"]))
    for settings in grid:
        own = key | {"settings": str(settings)}
        if not _known(file, own):
            warps = small.warps(str(key["arm"]), settings)
            model = train(small.digits, warps, str(key["net"]), seed, TUNING_STEPS)
            _append(file, own | {"error": error_of(model, judges)})


def _ranked(key: dict[str, object], grid: list[Settings], seeds: Sequence[int]) -> list[Settings]:
    """Settings by their mean error over splits, the best first; none if one is not known."""
    table = pd.read_csv(RESULTS / "mnist_tuning.csv")
    table = table[_same(table, key) & table["seed"].isin(seeds)]
    table = table[table["settings"].isin([str(settings) for settings in grid])]
    if len(table) < len(grid) * len(seeds):
        return []
    means = table.groupby("settings", sort=False)["error"].mean().sort_values(kind="stable")
    named = {str(settings): settings for settings in grid}
    return [named[name] for name in means.index]


def run(
    sets: tuple[Digits, Digits],
    per_class: int,
    seeds: int,
    nets: tuple[str, ...],
    arms: tuple[str, ...],
) -> None:
    """All trainings that are missing; of the whole training set, only the plain ones."""
    train_set, test = sets
    everything = "all" in arms and per_class > FEW
    small = SmallSet(train_set.first_per_class(per_class), f"first_{per_class}")
    for net in nets:
        jobs: list[tuple[str, Digits, Settings]] = []
        for arm in arms:
            if arm != "all":
                jobs.append((arm, small.digits, chosen(per_class, train_set, arm, net)))
        if everything:
            jobs.append(("plain", train_set, Settings()))
        for seed, (arm, digits, settings) in itertools.product(range(seeds), jobs):
            key = {"digits": len(digits), "arm": arm, "net": net, "seed": seed}
            key |= {"steps": STEPS, "settings": str(settings)}
            if _known(RESULTS / "mnist.csv", key):
                continue
            model = train(digits, small.warps(arm, settings), net, seed, STEPS)
            row = key | {"error": error_of(model, test)}
            _append(RESULTS / "mnist.csv", row)
            sys.stderr.write(f"{row}\n")


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """One row an arm: mean error over seeds with its standard deviation, for every net."""
    rows = []
    newest = results[results["steps"] == STEPS]
    keys = newest[["digits", "arm", "net"]].itertuples(index=False, name=None)
    # settings that are not chosen any more are another arm
    newest = newest[[str(settled(*key)) for key in keys] == newest["settings"]]
    for (digits, arm), part in newest.groupby(["digits", "arm"], sort=False):
        row: dict[str, object] = {"digits": digits, "arm": arm}
        for net in NETS:
            values = part.loc[part["net"] == net, "error"].to_numpy(dtype=float)
            shown = f"{values.mean():.2f} ± {values.std(ddof=1):.2f}" if len(values) > 1 else "-"
            row |= {f"{net}, error %": shown, f"{net}, seeds": len(values)}
        rows.append(row)
    table = pd.DataFrame(rows)
    order = {arm: place for place, arm in enumerate(ARMS)}
    return table.sort_values(
        ["digits", "arm"], key=lambda c: c.map(order) if c.name == "arm" else c
    )


def _known(file: Path, key: dict[str, object]) -> bool:
    if not file.exists():
        return False
    return bool(_same(pd.read_csv(file), key).any())


def _same(table: pd.DataFrame, key: dict[str, object]) -> np.ndarray:
    same: np.ndarray = np.logical_and.reduce(
        [table[name].astype(str) == str(value) for name, value in key.items()]
    )
    return same


def _append(file: Path, row: dict[str, object]) -> None:
    """One line more, in one write, so that two processes may share a file."""
    file.parent.mkdir(exist_ok=True)
    line = pd.DataFrame([row])[COLUMNS].to_csv(index=False, header=not file.exists())
    with file.open("a") as out:
        out.write(line)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def _words(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    words = tuple(text.split(","))
    if unknown := set(words) - set(known):
        raise argparse.ArgumentTypeError(f"{sorted(unknown)}, expected some of {list(known)}")
    return words


def _lines(results: pd.DataFrame) -> Iterator[str]:
    yield f"`python -m benchmarks.mnist`; {STEPS} steps of {BATCH} digits in every arm.\n\n"
    yield as_markdown(summary(results))
    yield "\n"


def main(arguments: list[str] | None = None) -> None:
    """Train what is missing, print the table, write it into the docs if asked."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument(
        "--per-class", type=_numbers, default=PER_CLASS, help="digits of every class, as 10,600"
    )
    parser.add_argument(
        "--seeds", type=int, help=f"{SEEDS[0]} up to {FEW} a class, else {SEEDS[1]}"
    )
    parser.add_argument("--nets", type=lambda t: _words(t, NETS), default=NETS)
    parser.add_argument("--arms", type=lambda t: _words(t, (*ARMS, "all")), default=(*ARMS, "all"))
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    sets = load_digits()
    for per_class in options.per_class:
        seeds = options.seeds or SEEDS[per_class > FEW]
        run(sets, per_class, seeds, options.nets, options.arms)
    text = "".join(_lines(pd.read_csv(RESULTS / "mnist.csv")))
    sys.stdout.write(text)
    if options.write:
        write_section(PAGE, "mnist", text)


if __name__ == "__main__":
    main()
