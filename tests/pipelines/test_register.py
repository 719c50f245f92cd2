"""Registration as a step of its own, for those who want the maps and nothing else."""

import pandas as pd

from tests.pipelines.conftest import Workplace


def test_scans_are_registered_without_the_steps_after_it(workplace: Workplace) -> None:
    result = workplace.run("--env", "tiny", "--pipelines", "register")
    assert result.returncode == 0, result.stderr[-3000:]
    (table,) = workplace.root.glob("data/04_feature/tiny/pair_table.csv")
    # nothing here gives a verdict; the table of pairs is what the run was for
    assert "verdict" not in result.stderr
    assert f"pairs: {table}" in result.stderr
    pairs = pd.read_csv(table)
    kept = pairs[pairs["set_aside"].isna()]
    assert len(kept) > 0
    assert (kept["folded_voxels"] == 0).all()
    assert (kept["similarity_after"] > kept["similarity_before"]).all()
    assert not list(workplace.root.glob("data/0[5-8]*/tiny/*"))
