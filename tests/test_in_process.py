"""A command in the tests' own process ends as in one of its own, and leaves nothing in it."""

import logging
import os
import shutil
import signal
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from cifar_deploy import cli, process, steps
from cifar_deploy.core import machine, progress, trust
from cifar_deploy.core.errors import DataError, WorkerFailed
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.progress import Progress
from cifar_deploy.stages import prepare
from tests import probes
from tests.conftest import TINY, run_cli
from tests.in_process import run_here, workers_here
from tests.test_docs import COMMANDS

# By command, a line that ends soon, well if it can: `out` is a copy of the road.
_LINES = {
    "run": ["run", "--network", "mobilnet", "--out", "out"],
    "data": ["data", "--dataset", "digits"],
    "train": ["train", "resnet8", *TINY, "--out", "out"],
    "train-all": ["train-all", "--network", "resnet8", *TINY, "--out", "out"],
    "add": ["add", "mine", "--network", "resnet8"],
    "export": ["export", "--format", "onnx", "--out", "out"],
    "evaluate": ["evaluate", "--format", "onnx", "--backend", "onnxruntime", "--metric", "file_size", "--out", "out"],
    "quickstart": ["quickstart", "--rounds", "0"],
    "bench": ["bench", "gone.onnx"],
    "pack": ["pack", "--format", "torchscript", "--out", "out"],
    "import": ["import", "out", "--out", "out"],
    "report": ["report", "--out", "out"],
    "choose": ["choose", "--max-latency", "5s", "--out", "out"],
    "predict": ["predict", "resnet8", "nowhere.png", "--out", "out"],
    "profile": ["profile", "nowhere", "--out", "out"],
    "compare": ["compare", "out", "out", "--fail-if-slower", "5%"],
    "selftest": ["selftest", "--frobnicate"],
    "list": ["list", "everything"],
    "doctor": ["doctor", "--out", ""],
    "device": ["device"],
    "device ssh": ["device", "ssh", "-x"],
    "env": ["env"],
    "env create": ["env", "create", "nowhere"],
    "env list": ["env", "list"],
    "env remove": ["env", "remove", "nowhere"],
}


@pytest.fixture
def inside(road: Path, tmp_path: Path) -> Path:
    shutil.copytree(road, tmp_path / "out")
    return tmp_path


# Of each kind of command one: with a document, tables, workers, a training, a refusal. The others are alike, and take long.
_FIRST = {"list", "choose", "report", "evaluate", "train", "quickstart", "device", "env list"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in _FIRST else pytest.mark.slow) for name in COMMANDS]
)
def test_a_command_ends_as_in_a_process_of_its_own(name: str, inside: Path) -> None:
    here, apart = (run(*_LINES[name], cwd=inside) for run in (run_here, run_cli))
    assert (here.returncode, here.stdout, here.stderr) == (apart.returncode, apart.stdout, apart.stderr)
    assert here.returncode in (0, 1, 2) and here.stdout + here.stderr


def _state() -> dict[str, Any]:
    root = logging.getLogger()
    return {
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "streams": (sys.stdin, sys.stdout, sys.stderr, sys.unraisablehook),
        "imports": (list(sys.argv), list(sys.path), "mine" in sys.modules),
        "here": (Path.cwd(), dict(os.environ), tempfile.tempdir),
        "warnings": (list(warnings.filters), warnings.showwarning),
        "log": (list(root.handlers), root.level, logging.raiseExceptions, steps.log_file),
        "trusted": trust.given(),
        "signal": (process._code, process._is_raising, process._since),
        "caches": [cached.cache_info().currsize for cached in (machine._this, machine.commit, prepare._verified)],
    }


def test_nothing_of_it_stays(inside: Path) -> None:
    (inside / "mine.py").write_text("import tempfile\ntempfile.gettempdir()\nFORMAT = None\n")
    for cached in (machine._this, machine.commit, prepare._verified):
        cached.cache_clear()
    before = _state()
    done = run_here("report", "--out", "out", "--trust-code", "mine:FORMAT", cwd=inside)
    assert done.returncode == 0, done.stderr
    done = run_here("export", "--format", "mine:FORMAT", "--memory-limit", "2G", "--out", "out", cwd=inside)
    assert done.returncode, "mine.py was imported, and its format is none"
    assert _state() == before


def test_it_sees_nothing_that_the_tests_have_done(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was trusted, remembered or set up in this process is not there for a command."""
    monkeypatch.setattr(trust, "_given", {"mine:METRIC"})
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    (inside / "mine.py").write_text("METRIC = None\n")
    seen: list[Any] = []
    monkeypatch.setattr(cli.pipeline, "catalogue", lambda: seen.extend([trust.given(), tempfile.gettempdir()]) or [])
    assert run_here("list", cwd=inside).returncode == 0
    assert seen == [[], tempfile._candidate_tempdir_list()[0]]
    assert trust.given() == ["mine:METRIC"] and tempfile.tempdir == "/nowhere"


def test_a_worker_here_answers_as_one_apart_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere")
    environment, threads = dict(os.environ), torch.get_num_threads()
    with workers_here():
        assert Worker().call(probes.process) == os.getpid()
        assert Path(Worker().call(probes.variable, name="TMPDIR")).parts[-1] == "temporary"
        told: list[Progress] = []
        assert Worker(on_progress=told.append).call(probes.report_for, seconds=0.1) == "done"
        assert told[-1].milestones == ("began",)
        with pytest.raises(DataError, match="odd"):
            Worker().call(probes.raise_data_error, message="odd")
        with pytest.raises(WorkerFailed, match="ValueError: odd") as caught:
            Worker().call(probes.raise_value_error, message="odd")
        assert "printed before the error" in caught.value.log
    assert (dict(os.environ), torch.get_num_threads()) == (environment, threads) and progress.report.folder is None
    monkeypatch.undo()
    assert Worker().call(probes.process) != os.getpid()
