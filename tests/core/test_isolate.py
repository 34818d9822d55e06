"""However a worker ends, its parent goes on and knows why."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cifar_deploy.core.errors import DataError, WorkerFailed
from cifar_deploy.core.isolate import call
from cifar_deploy.core.progress import Progress
from cifar_deploy.core.records import Recipe
from tests.probes import a_checkpoint


def fails(name: str, timeout_s: float = 60, **arguments: object) -> WorkerFailed:
    with pytest.raises(WorkerFailed) as caught:
        call(f"tests.probes:{name}", type(None), timeout_s=timeout_s, **arguments)
    return caught.value


def test_a_value_comes_back_and_arguments_arrive_as_annotated(tmp_path: Path) -> None:
    recipe = a_checkpoint().training.recipe
    told = call("tests.probes:describe", list[str], recipe=recipe, numbers=(1, 2), folder=tmp_path)
    assert told == ["adam", "3", type(tmp_path).__name__]


def test_a_record_comes_back_equal() -> None:
    recipe = a_checkpoint().training.recipe
    assert call("tests.probes:same_recipe", Recipe, recipe=recipe) == recipe


def test_a_worker_starts_without_torch() -> None:
    assert call("tests.probes:knows_torch", bool) is False


def test_an_expected_failure_is_raised_as_it_was() -> None:
    with pytest.raises(DataError, match=r"^größer: no images$"):
        call("tests.probes:raise_data_error", type(None), message="größer: no images")


def test_an_unexpected_error_fails_with_the_end_of_the_log() -> None:
    failure = fails("raise_value_error", message="odd")
    assert failure.kind == "failed"
    assert "ValueError: odd" in str(failure)
    assert "printed before the error" in failure.log and "Traceback" in failure.log


def test_a_memory_error_is_out_of_memory() -> None:
    assert fails("raise_memory_error").kind == "out of memory"


def test_a_function_that_does_not_exist_fails_with_its_name() -> None:
    failure = fails("no_such_function")
    assert failure.kind == "failed" and "no_such_function" in str(failure)


def test_a_segmentation_fault_is_a_crash_with_its_signal() -> None:
    failure = fails("segfault")
    assert failure.kind == "crashed" and "SIGSEGV" in str(failure)
    assert "in segfault" in failure.log


def test_a_killed_worker_becomes_a_failure_with_its_signal() -> None:
    failure = fails("kill_oneself")
    assert failure.kind == "crashed" and "SIGKILL" in str(failure)


def test_an_exit_without_a_reply_is_a_crash_with_its_code() -> None:
    failure = fails("exit_silently")
    assert failure.kind == "crashed" and "exit code 3" in str(failure)


def test_a_worker_without_progress_is_timed_out() -> None:
    started = time.monotonic()
    failure = fails("sleep_forever", timeout_s=1)
    assert failure.kind == "timed out" and "1 s" in str(failure)
    assert time.monotonic() - started < 10


def test_progress_is_shown_and_extends_the_limit() -> None:
    seen: list[Progress] = []
    done = call("tests.probes:report_for", str, timeout_s=2, on_progress=seen.append, seconds=3.5)
    assert done == "done"
    assert len(seen) > 3
    assert [step.done for step in seen] == sorted(step.done for step in seen)
    assert seen[-1].milestones == ("began",) and seen[-1].message == "counting"


def test_the_thread_variables_are_set_for_every_pool() -> None:
    told = call("tests.probes:thread_variables", dict[str, str], pool_threads=3)
    assert set(told.values()) == {"3"}


def test_no_runtime_reports_its_use_and_a_call_adds_variables_of_its_own() -> None:
    assert call("tests.probes:variable", str, name="ORT_DISABLE_TELEMETRY") == "1"
    assert call("tests.probes:variable", str, name="OF_THE_CALL", variables={"OF_THE_CALL": "x"}) == "x"


def test_what_a_killed_worker_and_its_libraries_put_aside_goes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert fails("put_aside_and_die").kind == "crashed"
    assert not list(tmp_path.iterdir())


def test_what_is_compiled_is_kept_for_later_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR_DEPLOY_CACHE", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)  # torch sets it in the process that has compiled
    kept = Path(call("tests.probes:compiled_code", str))
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
@pytest.mark.parametrize("ends", ["well", "crashed", "late"])
def test_what_a_worker_started_in_a_session_of_its_own_goes_with_it(ends: str, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with contextlib.suppress(WorkerFailed):
        call("tests.probes:leave_a_session_behind", type(None), timeout_s=1.5, path=path, ends=ends)
    assert _soon(lambda: not _lives(int(path.read_text())), seconds=5)


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
