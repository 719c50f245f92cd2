"""What the prior of a few volumes knows: how much labels vary, in dreams and in reality.

    python -m benchmarks.prior --draws 2 --write

takes draws of the evidence's hippocampus study (see `benchmarks.evidence`), prepares those that are
not prepared yet, and holds the label volumes of dreams, and of training volumes warped into the
shape of every member of the prior, against the true ones of these members. Labels of unlabelled
members are looked up for this table only. The figures of every draw go to
benchmarks/results/prior.csv, with the diagnostics of its prior.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from benchmarks.evidence import PAGE, STUDIES, WORK
from benchmarks.pieces import Piece, Workshop
from benchmarks.registration import as_markdown, write_section
from dreamorph.dreaming.dreams import recipes_from_table
from dreamorph.pipelines.common import replay, sources_of
from dreamorph.prior import DeformationPrior
from dreamorph.spatial import SpatialTransform
from dreamorph.spatial.affine import with_rigid_part
from dreamorph.volumes.cohort import Cohort

STUDY = STUDIES["hippocampus"]
RESULTS = STUDY.results.with_name("prior.csv")
LABELS = {1: "anterior", 2: "posterior"}
CHUNK = 32
#: Columns of the table in the docs; the diagnostics of the prior go to the file as well.
SHOWN = [
    "n", "label", "SD of log volume, real", "dreams / real", "accepted dreams / real",
    "members' fields / real", "correlation, unlabelled members", "unexplained",
]  # fmt: skip


def log_volumes(labels: torch.Tensor) -> np.ndarray:
    """Logarithm of the voxels of every label, `(B, labels)`."""
    counts = [(labels == label).flatten(1).sum(dim=1).double() for label in LABELS]
    return torch.stack(counts, dim=1).log().numpy()


def of_members(cohort: Cohort, prior: DeformationPrior) -> np.ndarray:
    """Log volumes of each labelled volume warped into every member: `(B, members, labels)`."""
    sources = sources_of(cohort)
    found = []
    for row, case in enumerate(sources.cases):
        own = prior.members.index(case)
        pose = prior.affines[own]
        before = [torch.linalg.inv(with_rigid_part(other, pose)) for other in prior.affines]
        count = len(before)
        transforms = SpatialTransform(
            torch.stack(before), prior.fields[own] - prior.fields, pose.expand(count, 4, 4).clone(),
            cohort.shape, cohort.spacing_mm,
        )  # fmt: skip
        picked = [row] * count
        _, labels = transforms.warp_with_labels(
            sources.images[picked], sources.labels[picked], len(LABELS)
        )
        found.append(log_volumes(labels))
    return np.stack(found)


def of_dreams(cohort: Cohort, prior: DeformationPrior, dreams: pd.DataFrame) -> np.ndarray:
    """Log volumes of the dreams of a table, `(dreams, labels)`."""
    sources = sources_of(cohort)
    parts = []
    for start in range(0, len(dreams), CHUNK):
        recipes = recipes_from_table(dreams.iloc[start : start + CHUNK])
        parts.append(log_volumes(replay(prior, sources, recipes).labels))
    return np.concatenate(parts)


def measured(shop: Workshop, labelled: int, draw: int) -> pd.DataFrame:
    """One row a label: ratios of standard deviations of log volumes, correlation, unexplained."""
    cohort, prepared = shop.cohort(labelled, draw), shop.prepared(labelled, draw)
    prior, dreams = prepared.prior, prepared.dreams
    everyone = shop.everyone
    real = log_volumes(everyone.labels[[everyone.index_of(case) for case in prior.members]])
    foretold = of_members(cohort, prior).mean(axis=0)
    drawn = of_dreams(cohort, prior, dreams)
    accepted = drawn[dreams["accepted"].to_numpy(dtype=bool)]
    own = {prior.members.index(case) for case in sources_of(cohort).cases}
    others = [row for row in range(len(real)) if row not in own]
    rows = []
    for k, name in enumerate(LABELS.values()):
        sd = real[:, k].std(ddof=1)
        rows.append(
            {
                "n": labelled,
                "draw": draw,
                "label": name,
                "SD of log volume, real": sd,
                "dreams / real": drawn[:, k].std(ddof=1) / sd,
                "accepted dreams / real": accepted[:, k].std(ddof=1) / sd,
                "members' fields / real": foretold[:, k].std(ddof=1) / sd,
                "correlation, unlabelled members": np.corrcoef(
                    foretold[others, k], real[others, k]
                )[0, 1],
                **prior.diagnostics,
            }
        )
    return pd.DataFrame(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write it into the docs if asked."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--labelled", default="3,5,10,20")
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    options = parser.parse_args(arguments)
    shop = Workshop(STUDY.parameters, WORK / STUDY.name)
    tables = []
    for labelled in (int(word) for word in options.labelled.split(",")):
        for draw in range(options.draws):
            if not shop.done(Piece("prepare", labelled, draw)):
                shop(Piece("prepare", labelled, draw))
            tables.append(measured(shop, labelled, draw))
    whole = pd.concat(tables)
    whole.round(6).to_csv(RESULTS, index=False)
    table = whole[SHOWN].groupby(["n", "label"], as_index=False).mean()
    shown = table.round(2).assign(n=table["n"])
    text = (
        f"`python -m benchmarks.prior --draws {options.draws}`; means over the draws.\n\n"
        f"{as_markdown(shown)}\n"
    )
    sys.stdout.write(text)
    if options.write:
        write_section(PAGE, "prior", text)


if __name__ == "__main__":
    main()
