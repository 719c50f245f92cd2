"""Two cohorts of one name are not one study, and what a cohort lacks is said at once."""

from pathlib import Path

import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, node

from dreamorph.datasets import AtomicStore
from dreamorph.errors import CohortError
from dreamorph.hooks import TrackingHook
from dreamorph.pipelines.ingest.nodes import check_origin, note_origin, of_simulated
from dreamorph.training.tuning import TuningConfig, check_counted
from dreamorph.volumes.config import CohortConfig


def at(path: Path | str | None) -> CohortConfig:
    return CohortConfig(path=path)


@pytest.fixture
def origin(tmp_path: Path) -> AtomicStore:
    """What a study keeps of the cohort /a/nifti."""
    store = AtomicStore(str(tmp_path / "origin"))
    check_origin(at("/a/nifti"), store.load())
    store.save(note_origin(at("/a/nifti"), {}))
    return store


@pytest.mark.parametrize(
    "other", [at("/b/nifti"), at(None), CohortConfig(manifest="/a/nifti/b.csv")]
)
def test_a_study_is_of_one_cohort(origin: AtomicStore, other: CohortConfig) -> None:
    with pytest.raises(CohortError, match="of a cohort in another place: give study=NAME"):
        check_origin(other, origin.load())


def test_the_same_cohort_goes_on(
    origin: AtomicStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_origin(at("/a/../a/nifti/"), origin.load())
    (tmp_path / "study").mkdir()
    monkeypatch.chdir(tmp_path)
    origin.save(note_origin(at("study"), {}))
    check_origin(at(tmp_path / "study"), origin.load())


def test_a_later_step_alone_knows_whose_results_it_builds_on(origin: AtomicStore) -> None:
    """Its parameters may name the study and not the cohort."""
    assert not of_simulated(at(None), origin.load())
    assert of_simulated(at(None), note_origin(at(None), {}))
    assert of_simulated(at(None), {})
    assert not of_simulated(at("/a/nifti"), {})


def test_a_run_of_later_steps_is_tagged_with_whose_results_it_builds_on(
    origin: AtomicStore,
) -> None:
    def patients(cohort: CohortConfig, *made: str, asked: str | None = None) -> str:
        catalog = DataCatalog({"origin_before": origin})
        catalog["parameters"] = {"cohort": cohort}
        steps = Pipeline([node(lambda: None, None, name, name=name) for name in made])
        return TrackingHook._patients(steps, catalog, {"path": asked})

    assert patients(at(None), "arms") == "real"
    assert patients(at("/a/nifti"), "arms", asked="/a/nifti") == "real"
    assert patients(at(None), "origin", "arms") == "simulated"
    assert patients(at("/a/preset/has/its/own"), "arms") == "real"
    with pytest.raises(CohortError, match="of a cohort in another place"):
        patients(at("/b/nifti"), "arms", asked="/b/nifti")


def test_no_place_is_kept_in_clear(origin: AtomicStore) -> None:
    files = [file.read_bytes() for file in origin.path.iterdir()]
    assert files
    assert not [data for data in files if b"nifti" in data]


def test_a_label_that_is_to_count_must_be_one_of_the_cohort() -> None:
    check_counted(TuningConfig(), [])
    check_counted(TuningConfig(labels="bone"), ["tumour", "bone"])
    with pytest.raises(CohortError, match=r"labels of the cohort \(tumour, bone\), got 'bones'"):
        check_counted(TuningConfig(labels=("bone", "bones")), ["tumour", "bone"])
    with pytest.raises(CohortError, match="it has none"):
        check_counted(TuningConfig(labels=("bone",)), [])
