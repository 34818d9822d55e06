"""However a worker ends, its parent goes on and knows why."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cifar_deploy.core.errors import DataError, WorkerFailed
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.launch import Setting
from cifar_deploy.core.progress import Progress
from tests import probes, pythons
from tests.conftest import need_package
from tests.probes import a_checkpoint


def fails(function: Callable[..., object], timeout_s: float = 60, **arguments: object) -> WorkerFailed:
    with pytest.raises(WorkerFailed) as caught:
        Worker(timeout_s=timeout_s).call(function, **arguments)
    return caught.value


def test_a_value_comes_back_and_arguments_arrive_as_annotated(tmp_path: Path) -> None:
    recipe = a_checkpoint().training.recipe
    told = Worker().call(probes.describe, recipe=recipe, numbers=(1, 2), folder=tmp_path)
    assert told == ["adam", "3", type(tmp_path).__name__]


def test_a_record_comes_back_equal() -> None:
    recipe = a_checkpoint().training.recipe
    assert Worker().call(probes.same_recipe, recipe=recipe) == recipe


def test_a_worker_starts_without_torch() -> None:
    assert Worker().call(probes.knows_torch) is False


def test_an_expected_failure_is_raised_as_it_was() -> None:
    with pytest.raises(DataError, match=r"^größer: no images$"):
        Worker().call(probes.raise_data_error, message="größer: no images")


def test_an_unexpected_error_fails_with_the_end_of_the_log() -> None:
    failure = fails(probes.raise_value_error, message="odd")
    assert failure.kind == "failed"
    assert "ValueError: odd" in str(failure)
    assert "printed before the error" in failure.log and "Traceback" in failure.log


def test_a_memory_error_is_out_of_memory() -> None:
    assert fails(probes.raise_memory_error).kind == "out of memory"


def test_a_function_that_a_fresh_python_cannot_find_fails_with_its_name() -> None:
    def within() -> None: ...

    failure = fails(within)
    assert failure.kind == "failed" and "within" in str(failure)


def test_a_segmentation_fault_is_a_crash_with_its_signal() -> None:
    failure = fails(probes.segfault)
    assert failure.kind == "crashed" and "SIGSEGV" in str(failure)
    assert "in segfault" in failure.log


def test_a_killed_worker_becomes_a_failure_with_its_signal() -> None:
    failure = fails(probes.kill_oneself)
    assert failure.kind == "crashed" and "SIGKILL" in str(failure)


def test_an_exit_without_a_reply_is_a_crash_with_its_code() -> None:
    failure = fails(probes.exit_silently)
    assert failure.kind == "crashed" and "exit code 3" in str(failure)


def test_a_worker_without_progress_is_timed_out() -> None:
    started = time.monotonic()
    failure = fails(probes.sleep_forever, timeout_s=1)
    assert failure.kind == "timed out" and "1 s" in str(failure)
    assert time.monotonic() - started < 10


def test_progress_is_shown_and_extends_the_limit() -> None:
    seen: list[Progress] = []
    done = Worker(timeout_s=2, on_progress=seen.append).call(probes.report_for, seconds=3.5)
    assert done == "done"
    assert len(seen) > 3
    assert [step.done for step in seen] == sorted(step.done for step in seen)
    assert seen[-1].milestones == ("began",) and seen[-1].message == "counting"


def test_the_thread_variables_are_set_for_every_pool() -> None:
    told = Worker(pool_threads=3).call(probes.thread_variables)
    assert set(told.values()) == {"3"}


def test_no_library_reports_its_use_and_a_call_adds_variables_of_its_own() -> None:
    assert Worker().call(probes.variable, name="ORT_DISABLE_TELEMETRY") == "1"
    assert Worker().call(probes.variable, name="MLFLOW_DISABLE_TELEMETRY") == "true"
    assert Worker(variables={"OF_THE_CALL": "x"}).call(probes.variable, name="OF_THE_CALL") == "x"


def test_what_a_killed_worker_and_its_libraries_put_aside_goes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert fails(probes.put_aside_and_die).kind == "crashed"
    assert not list(tmp_path.iterdir())


def test_what_is_compiled_is_kept_for_later_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR_DEPLOY_CACHE", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)  # torch sets it in the process that has compiled
    kept = Path(Worker().call(probes.compiled_code))
    assert kept.parent == tmp_path


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to tell a zombie")
def test_a_worker_dies_when_its_parent_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    program = "import sys; from tests.probes import parent_of_a_sleeper; parent_of_a_sleeper(sys.argv[1])"
    # Its box is not deleted by a killed parent: it shall be where pytest deletes it.
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", program, str(path)], env=environment)
    try:
        assert _soon(path.exists)
        worker = int(path.read_text())
        assert _lives(worker)
    finally:
        parent.kill()
        assert parent.wait() == -signal.SIGKILL
    assert _soon(lambda: not _lives(worker))


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc to find it")
@pytest.mark.parametrize(("ends", "timeout_s"), [("well", 60), ("crashed", 60), ("late", 4)])
def test_what_a_worker_started_in_a_session_of_its_own_goes_with_it(ends: str, timeout_s: int, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with contextlib.suppress(WorkerFailed):
        Worker(timeout_s=timeout_s).call(probes.leave_a_session_behind, path=path, ends=ends)
    assert _soon(lambda: not _lives(int(path.read_text())), seconds=5)


class Elsewhere:
    """A launcher for a host that shares no folder: it sends the request and brings back what the worker wrote."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.status = 0

    @contextlib.contextmanager
    def start(self, folder: Path, setting: Setting) -> Iterator["Elsewhere"]:
        self._home = folder
        (self.place / "request.json").write_bytes((folder / "request.json").read_bytes())
        command = [setting.interpreter.python, "-m", "cifar_deploy.core.worker", str(self.place)]
        with open(self.place / "log.txt", "wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=self.place,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={**os.environ, **setting.variables, "PYTHONPATH": str(Path(__file__).parents[2])},
            )
        try:
            yield self
        finally:
            self._process.kill()
            self._process.communicate()

    def ended(self, timeout_s: float) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.status = self._process.wait(timeout_s)
        for name in ("progress.json", "reply.json", "log.txt"):
            with contextlib.suppress(FileNotFoundError):
                (self._home / name).write_bytes((self.place / name).read_bytes())
        return self._process.poll() is not None


def test_another_launcher_runs_the_same_worker_elsewhere(tmp_path: Path) -> None:
    seen: list[Progress] = []
    away = Worker(
        launcher=Elsewhere(tmp_path), variables={"OF_THE_CALL": "there"}, on_progress=seen.append, timeout_s=30
    )
    assert away.call(probes.variable, "OF_THE_CALL") == "there"
    assert json.loads((tmp_path / "request.json").read_text())["function"] == "tests.probes:variable"
    assert away.call(probes.report_for, seconds=1.5) == "done"
    assert seen and seen[-1].milestones == ("began",)
    with pytest.raises(DataError, match=r"^größer: no images$"):
        away.call(probes.raise_data_error, message="größer: no images")


def test_what_dies_elsewhere_is_told_as_here(tmp_path: Path) -> None:
    with pytest.raises(WorkerFailed) as caught:
        Worker(launcher=Elsewhere(tmp_path), timeout_s=30).call(probes.exit_silently)
    assert caught.value.kind == "crashed" and "exit code 3" in str(caught.value)


def test_a_renamed_argument_is_an_error_of_types(tmp_path: Path) -> None:
    """What a string could not show."""
    need_package("mypy")
    program = """
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.launch import Setting

def measure(seconds: float) -> int:
    return 1

right: int = Worker().call(measure, seconds=1.0)
Worker().call(measure, duration=1.0)  # renamed
Worker().call(measure)  # missing
reply: str = Worker().call(measure, 1.0)  # of another type
"""
    (tmp_path / "program.py").write_text(program)
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache")]
    found = subprocess.run(
        [*command, str(tmp_path / "program.py")],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "MYPYPATH": ""},
    )
    lines = {int(line.split(":")[1]) for line in found.stdout.splitlines() if ": error:" in line}
    wrong = {number for number, line in enumerate(program.splitlines(), start=1) if "#" in line}
    assert lines == wrong, found.stdout + found.stderr


def _soon(holds: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.05)
    return False


def _lives(pid: int) -> bool:
    """Whether the process runs; a zombie does not, and an orphan stays one where nothing reaps it."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.parametrize("version", [f"3.{minor}" for minor in pythons.MINORS])
def test_a_worker_runs_on_a_devices_own_python(version: str) -> None:
    if version not in pythons.others():
        pytest.skip(f"no other Python {version} is here")
    code = "from cifar_deploy.core import isolate, machine; print(isolate.Worker().call(machine.now))"
    asked = subprocess.run(
        [pythons.others()[version], "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert asked.returncode == 0 and asked.stdout.startswith("20"), asked.stderr
