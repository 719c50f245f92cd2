"""Every error ends as one line that says what to do."""

import errno

import pytest
import torch
from kedro.io.core import DatasetError
from pydantic import BaseModel, ConfigDict, Field

from dreamorph.config import Config
from dreamorph.errors import CohortError, ParameterError
from dreamorph.tracking.failures import check_parameters, expected, one_line, scrub


class Optimiser(Config):
    learning_rate: float = Field(0.1, gt=0)
    steps: int = 10


class ArmConfig(Config):
    optimiser: Optimiser = Optimiser()


class Parameters(Config):
    registration: Optimiser | None = None
    arms: dict[str, ArmConfig] = Field(default_factory=dict)
    cohort_path: str = "x"


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    needed: int


def chained(error: Exception, *wrappers: Exception) -> Exception:
    for wrapper in wrappers:
        try:
            raise wrapper from error
        except Exception as caught:
            error = caught
    return error


def test_the_clearest_cause_is_told() -> None:
    error = chained(CohortError("too few\n  cases"), DatasetError("Failed while saving"))
    assert one_line(error) == "too few cases"
    assert expected(error)


def test_a_surprise_says_that_it_is_one() -> None:
    assert one_line(ZeroDivisionError("division")) == "unexpected ZeroDivisionError: division"
    assert not expected(ZeroDivisionError("division"))
    assert len(one_line(ValueError("x " * 2000))) <= 600


def test_machine_limits() -> None:
    full = chained(OSError(errno.ENOSPC, "No space left"), RuntimeError("x"))
    assert one_line(full).startswith("no space left")
    assert "GPU" in one_line(torch.OutOfMemoryError("CUDA out of memory"))
    assert "memory" in one_line(MemoryError())
    assert expected(MemoryError())


def test_data_that_no_step_has_made() -> None:
    error = DatasetError("Data for MemoryDataset has not been saved yet.")
    assert "run the earlier step" in one_line(error)


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (
            {"registration": {"learnin_rate": 1.0}},
            "parameter 'registration.learnin_rate' is unknown; "
            "did you mean 'registration.learning_rate'?",
        ),
        (
            {"registraton": {"steps": 1}},
            "parameter 'registraton' is unknown; did you mean 'registration'?",
        ),
        (
            {"arms": {"dream": {"optimiser": {"step": 1}}}},
            "parameter 'arms.dream.optimiser.step' is unknown; "
            "did you mean 'arms.dream.optimiser.steps'?",
        ),
        (
            {"zzz": 1},
            "parameter 'zzz' is unknown; known here: registration, arms, cohort_path",
        ),
        (
            {"registration": {"learning_rate": -1}},
            "parameter 'registration.learning_rate' = -1 is not valid: "
            "Input should be greater than 0",
        ),
    ],
)
def test_parameters_are_checked_by_name(raw: dict, line: str) -> None:
    with pytest.raises(ParameterError) as caught:
        check_parameters(raw, Parameters)
    assert str(caught.value) == line


def test_several_findings_share_the_line() -> None:
    with pytest.raises(ParameterError, match=r"'needed' is missing"):
        check_parameters({}, Loose)
    with pytest.raises(ParameterError, match=r"steps.*; .*unknown"):
        check_parameters({"registration": {"steps": "a", "b": 1}}, Parameters)


def test_good_parameters_pass() -> None:
    check_parameters({"registration": {"steps": 3}, "arms": {"none": {}}}, Parameters)


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("no folder /data/ward 3/x", "no folder [path]"),
        ("no folder /data/doe_jane/scan.nii.gz here", "no folder [path]"),
        ("../shared/data/Task04: empty", "[path]: empty"),
        ("~/scans/a.nii, b", "[path]"),
        ("'/data/John Doe/scan.nii.gz' is cut", "'[path]' is cut"),
        ("cut: /data/John Doe/scan.nii.gz; repair it", "cut: [path]; repair it"),
        ("'/data/Sean O'Hara/x.nii' is cut", "'[path]' is cut"),
        ("/data/O'Hara/x", "[path]"),
        ("see file:///home/u/x", "see [path]"),
        ("see sqlite:////home/u/x", "see [path]"),
        (r"C:\data\Anna\x: empty", "[path]: empty"),
        (r"D:/data/Anna/x: empty", "[path]: empty"),
        (r"\\host\Anna: empty", "[path]: empty"),
        ("PosixPath('/data/Anna/x')", "PosixPath('[path]')"),
        ("cohort.path: data/John Doe does not exist", "cohort.path: [path]"),
        ("unexpected OSError: John Doe/scan is cut", "unexpected OSError: [path]"),
        ("volume: Doe John.nii.gz is cut; repair it", "volume: [path]; repair it"),
        ("~doe/x", "[path]"),
        ("rate 1/2 and a/b", "rate 1/2 and a/b"),
        ("'C' and https://host/x", "'C' and [path]"),
        (
            "parameter 'a.b' = -1.5 is not valid: it's 3; no",
            "parameter 'a.b' = -1.5 is not valid: it's 3; no",
        ),
    ],
)
def test_no_path_is_left(text: str, scrubbed: str) -> None:
    assert scrub(text) == scrubbed
