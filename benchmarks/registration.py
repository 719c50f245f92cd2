"""Registration tools side by side on the same pairs, in one process and on one thread.

    python -m benchmarks.registration --data hippocampus --pairs 20 --slow-pairs 8

prints one table, writes it with `--write` into docs/benchmarks.md, and the figures of every pair to
benchmarks/results. Needs the extra `benchmark`; a peer that is not installed is left out by name.
"""

import argparse
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

# before torch and ITK are imported: each tool gets one thread, or CPU-seconds mean nothing
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"

import pandas as pd
import torch

from benchmarks.cohorts import DEVELOPMENT_PAIRS, ROOT, TURNED, Pairing, load_pairs
from benchmarks.measures import judge
from benchmarks.tools import Ants, AsTheyAre, FireAnts, Greedy, Ours, Tool, on_cpu, versions

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
#: The row that the others are compared with.
REFERENCE = "dreamorph default"
CC = (("syn_metric", "CC"), ("syn_sampling", 2), ("reg_iterations", (100, 70, 50)))
#: greedy's, other than its own of 1.732 and .707 voxels: the best on development pairs from our
#: affine maps, of hippocampi and of simulated patients.
SMOOTHINGS = ("-s 2vox 1vox", "-s 3vox 0.7071vox")

#: Name, what runs it, the package it needs, and whether it is slow.
TOOLS: tuple[tuple[str, Tool, str, bool], ...] = (
    ("as they are", AsTheyAre(), "torch", False),
    ("dreamorph affine", Ours(on_cpu(velocity=None)), "torch", False),
    ("dreamorph fast", Ours(on_cpu(preset="fast")), "torch", False),
    (REFERENCE, Ours(on_cpu()), "torch", False),
    ("dreamorph accurate", Ours(on_cpu(preset="accurate")), "torch", False),
    ("dreamorph default, guided by labels", Ours(on_cpu(), True), "torch", False),
    ("greedy -sv 100x50x10", Greedy("100x50x10"), "picsl_greedy", False),
    ("greedy -sv 100x100x50", Greedy("100x100x50"), "picsl_greedy", False),
    ("greedy -sv 100x100x50, our affine", Greedy("100x100x50", True), "picsl_greedy", False),
    *(
        (
            f"greedy -sv 100x100x50 {smoothing}, our affine",
            Greedy("100x100x50", True, smoothing),
            "picsl_greedy",
            False,
        )
        for smoothing in SMOOTHINGS
    ),
    ("FireANTs greedy 100x50x20, our affine", FireAnts(), "fireants", False),
    ("ANTs SyN", Ants(), "antspyx", False),
    ("ANTs SyN-CC 100x70x50", Ants(CC), "antspyx", True),
    ("ANTs SyN-CC 100x70x50, our affine", Ants(CC, True), "antspyx", True),
)

#: On scans of different contrasts. The row of REFERENCE shows what a wrong similarity does there.
CROSS_TOOLS: tuple[tuple[str, Tool, str, bool], ...] = (
    ("as they are", AsTheyAre(), "torch", False),
    (REFERENCE, Ours(on_cpu()), "torch", False),
    ("dreamorph mind", Ours(on_cpu(similarity="mind")), "torch", False),
    ("ANTs SyN (mutual information)", Ants(), "antspyx", False),
    (
        "ANTs SyN (mutual information), our affine",
        Ants((), True, "mind"),
        "antspyx",
        False,
    ),
)


def main(arguments: list[str] | None = None) -> None:
    """Run the tools, print the table, write the results."""
    options = _options(arguments)
    torch.set_num_threads(1)
    pairs = load_pairs(options.data, options.pairs)
    rows = list(_scores(pairs, options.slow_pairs, options.tools))
    scores = pd.DataFrame(rows)
    RESULTS.mkdir(exist_ok=True)
    if options.tools:  # a part of the tools is no table
        sys.stdout.write(f"{as_markdown(summary(scores))}\n")
        return
    scores.round(6).to_csv(RESULTS / f"registration_{options.data}.csv", index=False)
    table = summary(scores)
    text = f"{heading(options.data, len(pairs), options.slow_pairs)}\n\n{as_markdown(table)}\n"
    sys.stdout.write(f"\n{text}")
    if options.write:
        write_section(PAGE, options.data, text)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument(
        "--data", choices=sorted({*DEVELOPMENT_PAIRS, *TURNED}), default="hippocampus"
    )
    parser.add_argument("--pairs", type=int, default=20, help="pairs for all but the slow tools")
    parser.add_argument("--slow-pairs", type=int, default=10, help="the first so many for those")
    parser.add_argument("--tools", default="", help="look at these alone; nothing is kept")
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    return parser.parse_args(arguments)


def _scores(pairs: Pairing, slow_pairs: int, only: str) -> Iterator[dict[str, object]]:
    installed = versions()
    for name, tool, package, slow in CROSS_TOOLS if pairs.name == "contrasts" else TOOLS:
        if only not in name:
            continue
        if package not in installed:
            sys.stderr.write(f"{name}: left out, {package} is not installed\n")
            continue
        part = pairs[list(range(min(slow_pairs, len(pairs))))] if slow else pairs
        for row, outcome in enumerate(tool(part)):
            score = judge(part, row, outcome)
            sys.stderr.write(f"{name}: {score}\n")
            yield {"tool": name, "pair": row, **asdict(score)}


def summary(scores: pd.DataFrame) -> pd.DataFrame:
    """One row a tool, in the order in which they ran."""
    first = scores.loc[scores["tool"] == REFERENCE].set_index("pair")
    rows = []
    for name, part in scores.groupby("tool", sort=False):
        same = first.reindex(part["pair"])
        row: dict[str, object] = {
            "tool": name,
            "pairs": len(part),
            "Dice": f"{part['dice'].mean():.3f}",
            "ours on these": f"{same['dice'].mean():.3f}",
            "worst Dice": f"{part['dice'].min():.3f}",
            "reported failures": int((part["failure"] != "").sum()),
            "folds, % of voxels": f"{part['folded_percent'].mean():.4f}",
            "pairs with folds": int((part["folded_percent"] > 0).sum()),
            "inverse error, mm": f"{part['inverse_mm'].mean():.3f}".replace("nan", "-"),
        }
        if part["error_mm"].notna().all():
            row["error, mm"] = f"{part['error_mm'].mean():.2f}"
            row["our error on these"] = f"{same['error_mm'].mean():.2f}"
        row["CPU-s a pair"] = f"{part['seconds'].mean():.2f}"
        row["CPU, ours = 1"] = f"{part['seconds'].mean() / same['seconds'].mean():.2f}"
        rows.append(row)
    return pd.DataFrame(rows)


def heading(data: str, count: int, slow: int) -> str:
    """What the table is of, and how to make it again."""
    found = ", ".join(f"{name} {number}" for name, number in versions().items())
    return (
        f"### {data}, {count} pairs\n\n"
        f"`python -m benchmarks.registration --data {data} --pairs {count} --slow-pairs {slow} "
        f"--write`; one thread; Python {platform.python_version()}, {found}."
    )


def as_markdown(table: pd.DataFrame) -> str:
    """A table with its numbers to the right."""
    names = [str(name) for name in table.columns]
    lines = [
        "| " + " | ".join(names) + " |",
        "|" + "|".join("---" if name == "tool" else "---:" for name in names) + "|",
    ]
    lines += ["| " + " | ".join(str(v) for v in row) + " |" for row in table.to_numpy().tolist()]
    return "\n".join(lines)


def write_section(page: Path, name: str, text: str) -> None:
    """Replace the part of a page between two comments that carry a name."""
    before, after = around_section(page, name)
    page.write_text(f"{before}\n{text}{after}")


def around_section(page: Path, name: str) -> tuple[str, str]:
    """What stands before and after the part of a page, its two comments included.

    Raises:
        SystemExit: the page has no such part; ask before long work.
    """
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    whole = page.read_text()
    if start not in whole or end not in whole:
        raise SystemExit(f"{page} has no place for {name}: expected the comment {start} and {end}")
    return whole[: whole.index(start) + len(start)], whole[whole.index(end) :]


if __name__ == "__main__":
    main()
