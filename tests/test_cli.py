"""What a person at the keyboard sees: one line per error, and runs that survive a kill."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from filelock import FileLock
from kedro.framework.startup import bootstrap_project

from dreamorph.cli import cli
from dreamorph.datasets.atomic import host_id
from tests.test_hooks import arms, parents, runs


def invoke(project: Path, *arguments: str) -> Result:
    metadata = bootstrap_project(project)
    return CliRunner().invoke(cli, arguments, obj=metadata)


def start(project: Path, *arguments: str) -> subprocess.Popen[str]:
    """`kedro` in a process of its own, as from a shell."""
    command = [sys.executable, "-m", "kedro", *arguments]
    return subprocess.Popen(
        command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_what_takes_seconds_to_load_waits_until_it_is_needed() -> None:
    """Every command loads the nodes, to list the pipelines; most of their libraries can wait."""
    heavy = (
        "lightning",
        "torch._dynamo",
        "monai",
        "highdicom",
        "matplotlib.pyplot",
        "sklearn",
        "scipy.stats",
    )
    program = (
        "import sys, dreamorph.cli; from kedro.framework import project;"
        "project.configure_project('dreamorph'); assert dict(project.pipelines);"
        "import os; assert os.environ['CUBLAS_WORKSPACE_CONFIG'] == ':4096:8';"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--env", "hipocampus"], "did you mean 'hippocampus'?"),
        (["--pipelines", "pars"], "no pipeline 'pars': there are parts; did you mean 'parts'?"),
        (["--params", "work.item=3"], "'work.item' is unknown; did you mean 'work.items'?"),
        (["--params", "wok.items=3"], "parameter 'wok' is unknown; did you mean 'work'?"),
        (["--params", "work.items=many"], "parameter 'work.items' = 'many' is not valid"),
        (["--params", "work.fail=items"], "cohort.path: expected volumes, got none"),
        (["--params", "work.fail=total"], "unexpected ZeroDivisionError"),
        (["--runner", "ParallelRunner"], "ParallelRunner: steps run one after the other"),
        (["--runner", "ThreadRunner"], "ThreadRunner: steps run one after the other"),
        (["--nodes", "absent"], "Pipeline does not contain nodes named"),
        (["--from-inputs", "total"], "Pipeline contains no nodes"),
    ],
)  # fmt: skip
def test_errors_are_one_line(project: Path, arguments: list[str], line: str) -> None:
    result = invoke(project, "run", *arguments)
    assert result.exit_code == 1
    errors = [text for text in result.stderr.splitlines() if text.startswith("Error: ")]
    assert len(errors) == 1
    assert line in errors[0]
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1] == errors[0]
    assert not [run for run in runs(project) if run.info.status == "RUNNING"]


def test_a_runner_that_is_refused_locks_nothing(project: Path) -> None:
    (project / "data").mkdir(exist_ok=True)
    assert invoke(project, "run", "--runner", "ParallelRunner").exit_code == 1
    with FileLock(project / "data" / ".simulated.lock", timeout=0):
        assert not parents(project)


def test_a_server_that_does_not_answer_stops_the_run_first(project: Path) -> None:
    (project / "conf/local").mkdir(exist_ok=True)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"http://someone:secret@127.0.0.1:{closed.getsockname()[1]}"
        config = (
            f"server:\n  mlflow_tracking_uri: {uri}\ntracking:\n  experiment:\n    name: test\n"
        )
        (project / "conf/local/mlflow.yml").write_text(config)
        result = invoke(project, "run")
    assert result.exit_code == 1
    (line,) = [text for text in result.stderr.splitlines() if text.startswith("Error: ")]
    assert "the MLflow server http://127.0.0.1:" in line
    assert "does not answer" in line
    assert "secret" not in result.output
    assert not (project / "computed.txt").exists()


def test_a_result_that_is_missing_names_the_way_out(project: Path) -> None:
    catalog = project / "conf/base/catalog.yml"
    catalog.write_text(catalog.read_text().replace("items: &items", "elsewhere: &items"))
    result = invoke(project, "run", "--nodes", "add_up")
    assert result.exit_code == 1
    assert "kept in memory only: run the earlier step" in result.stderr


@pytest.mark.parametrize("how", ["option", "environment"])
def test_tracebacks_on_request(project: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    arguments = ["run", "--params", "work.fail=total"]
    if how == "option":
        arguments.append("--verbose")
    else:
        monkeypatch.setenv("DREAMORPH_DEBUG", "1")
    assert isinstance(invoke(project, *arguments).exception, ZeroDivisionError)


def test_usage_errors_stay_click_s_own(project: Path) -> None:
    result = invoke(project, "run", "--params", "nonsense")
    assert result.exit_code == 2
    assert "must contain a key and a value" in result.stderr


def test_a_good_run_tells_its_steps_and_results(project: Path) -> None:
    result = invoke(project, "run", "--pipelines", "parts,__default__")
    assert result.exit_code == 0, result.stderr
    assert [run.info.status for run in parents(project)] == ["FINISHED"]


def test_the_options_of_kedro_are_kept() -> None:
    text = CliRunner().invoke(cli, ["run", "--help"]).output
    for option in ("--pipelines", "--from-nodes", "--params", "--env", "--runner", "--verbose"):
        assert option in text


def test_no_dashboard_before_the_first_run(project: Path) -> None:
    result = invoke(project, "dashboard")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: nothing is tracked yet: run `make run` (or `kedro run`) first\n"
    )


def test_an_interrupted_run_says_that_it_resumes(project: Path) -> None:
    result = invoke(project, "run", "--params", "work.fail=interrupt")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "stopped; the same command resumes"
    assert [run.info.status for run in parents(project)] == ["KILLED"]
    assert invoke(project, "run").exit_code == 0
    assert len((project / "computed.txt").read_text().split()) == 4


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_stopped_run_resumes(project: Path, number: signal.Signals) -> None:
    process = start(project, "run", "--params", "work.seconds=0.5")
    log = project / "computed.txt"
    end = time.monotonic() + 120
    while not (log.exists() and len(log.read_text().split()) >= 3) and time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
        # The reaper runs at the next start: leave what a kill in the middle of a write leaves.
        folder = project / "data/02_intermediate/simulated/items"
        foreign = next(folder.glob("*.pt")).name
        sibling = f".tmp-{host_id()}-{process.pid}-00000000-{foreign}"
        (folder / sibling).write_bytes(b"half")
    else:
        assert process.returncode == 128 + number
        assert stderr.splitlines()[-1].endswith("; the same command resumes")
        assert "Traceback" not in stderr
        assert [run.info.status for run in parents(project)] == ["KILLED"]
    result = invoke(project, "run")
    assert result.exit_code == 0, result.stderr
    computed = log.read_text().split()
    assert sorted(set(computed)) == [f"item_{i}" for i in range(4)]
    assert len(computed) <= 5  # the one in the making, at most, twice
    assert [run.info.status for run in parents(project)] == ["KILLED", "FINISHED"]
    assert parents(project)[-1].data.metrics["test/dice_mean"] == 600.0
    assert set(arms(project, parents(project)[-1])) == {"elastic", "dream"}
    assert not list(project.rglob(".tmp-*"))


@pytest.mark.slow
def test_the_shell_is_quiet_and_clear(project: Path) -> None:
    """In a process of its own: no warning, no plugin's chatter, one line per step."""
    done = subprocess.run(
        [sys.executable, "-m", "kedro", "run"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.partition(" ")[2] for line in done.stderr.splitlines()]
    assert lines == [
        "step 1 of 3: make arms",
        "step 2 of 3: make items",
        "step 3 of 3: add up",
        "verdict: pass",
        f"report: {project}/data/08_reporting/simulated/report.html",
    ]
    assert done.stdout == ""
