"""Files that are whole, records that survive JSON, results that survive a crash, workers that fail in every way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cifar_deploy.core import files, isolate, machine
from cifar_deploy.core.errors import Busy, Corrupt, DataError, UnknownName, UsageError, WorkerFailed, one_line
from cifar_deploy.core.records import Checkpoint, Recipe, Result, from_json, to_json
from cifar_deploy.core.registry import load_object
from cifar_deploy.core.store import Store
from cifar_deploy.recipes import RECIPES


def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, 1)
    with pytest.raises(RuntimeError), files.whole(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert files.read_json(path) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_sweeping_deletes_only_what_killed_processes_left(tmp_path: Path) -> None:
    for name in ("model.onnx.tmp.123.0a1b2c3d", "notes.tmp.txt", "a.tmp.1.xyz"):
        (tmp_path / name).write_text("")
    (tmp_path / "onnx.tmp.7.01234567").mkdir()
    files.sweep(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"notes.tmp.txt", "a.tmp.1.xyz"}


def test_results_and_checkpoints_go_to_json_and_back(road: Path) -> None:
    store = Store(road)
    checkpoint = store.checkpoint("resnet8")
    assert checkpoint and from_json(Checkpoint, json.loads(json.dumps(to_json(checkpoint)))) == checkpoint
    for result in store.results():
        assert from_json(Result, json.loads(json.dumps(to_json(result)))) == result


@pytest.mark.parametrize(
    ("change", "word"),
    [({"epochs": "many"}, "Recipe.epochs"), ({"optimizer": "magic"}, "Recipe.optimizer"), ({"new": 1}, "Recipe")],
)
def test_a_record_that_does_not_fit_is_refused_by_its_field(change: dict[str, object], word: str) -> None:
    with pytest.raises(Corrupt, match=word):
        from_json(Recipe, {**to_json(RECIPES["paper"]), **change})


def test_a_torn_last_line_is_cut_and_bad_lines_are_named(road: Path, tmp_path: Path) -> None:
    good = Store(road).results()
    lines = (road / "reports" / "results.jsonl").read_bytes().splitlines(keepends=True)
    store = Store(tmp_path)
    store.reports.mkdir()
    newer = json.dumps({**json.loads(lines[0]), "version": 99}).encode() + b"\n"
    store.results_path.write_bytes(lines[0] + b"garbage\n" + newer + lines[1] + lines[2][:50])
    with pytest.warns(UserWarning) as warned:
        assert store.results() == good[:2]
    assert [f"line {number} " in str(warning.message) for number, warning in zip((2, 3, 5), warned, strict=True)]
    store.append(good[2])
    with pytest.warns(UserWarning):
        assert store.results() == good[:3]


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    with Store(tmp_path), pytest.raises(Busy, match="at work here"), Store(tmp_path):
        pass
    with Store(tmp_path):
        pass


def test_a_worker_returns_a_record() -> None:
    assert isolate.call("tests.workers:echo", Recipe, recipe=RECIPES["paper"]) == RECIPES["paper"]


def test_a_worker_keeps_the_thread_variables_it_was_given() -> None:
    assert isolate.call("tests.workers:variable", str, pool_threads=2, name="OMP_NUM_THREADS") == "2"


def test_an_expected_failure_is_raised_as_itself() -> None:
    with pytest.raises(DataError, match="no images"):
        isolate.call("tests.workers:fail", str, how="expected")


@pytest.mark.parametrize(
    ("how", "kind", "word"),
    [
        ("raise", "failed", "ValueError: surprise"),
        ("abort", "crashed", "SIGABRT"),
        ("kill", "crashed", "perhaps out of memory"),
        ("exit", "crashed", "exit code 3"),
        ("memory", "out of memory", "MemoryError"),
    ],
)
def test_a_worker_that_dies_says_how(how: str, kind: str, word: str) -> None:
    with pytest.raises(WorkerFailed, match=word) as caught:
        isolate.call("tests.workers:fail", str, how=how)
    assert caught.value.kind == kind


def test_a_worker_without_progress_is_stopped_and_one_with_progress_is_not() -> None:
    begun = time.monotonic()
    with pytest.raises(WorkerFailed) as caught:
        isolate.call("tests.workers:sleep", str, timeout_s=1.0, seconds=60.0, reporting=False)
    assert caught.value.kind == "timed out" and time.monotonic() - begun < 20
    seen = []
    isolate.call("tests.workers:sleep", str, timeout_s=1.5, on_progress=seen.append, seconds=3.0, reporting=True)
    assert len(seen) > 2


def test_a_worker_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = (
        f"from cifar_deploy.core import isolate; isolate.call('tests.workers:note_and_sleep', str, path={str(note)!r})"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as parent:
        deadline = time.monotonic() + 30
        while not (note.exists() and note.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        parent.send_signal(signal.SIGKILL)
    worker = int(note.read_text())
    while _is_alive(worker):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_quota_of_a_cgroup_limits_the_threads(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("0::/box/job\n")
    (tmp_path / "v2" / "box" / "job").mkdir(parents=True)
    (tmp_path / "v2" / "box" / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "v2" / "box" / "job" / "cpu.max").write_text("max 100000\n")
    assert machine.allowed_threads(tmp_path / "v2", own) == 1
    own.write_text("4:cpu,cpuacct:/box\n")
    (tmp_path / "v1" / "cpu" / "box").mkdir(parents=True)
    (tmp_path / "v1" / "cpu" / "box" / "cpu.cfs_quota_us").write_text("-1")
    (tmp_path / "v1" / "cpu" / "box" / "cpu.cfs_period_us").write_text("100000")
    assert machine.allowed_threads(tmp_path / "v1", own) == len(os.sched_getaffinity(0))


def test_a_plugin_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match="no_such_module"):
        load_object("network", "no_such_module:build")
    with pytest.raises(UnknownName, match="linear"):
        load_object("network", "tests.workers:liner")


def test_an_error_is_one_line_without_control_characters() -> None:
    line = one_line("a\nb \x1b[31mred\x07 " + "x" * 400)
    assert len(line) == 300 and line.isprintable() and line.startswith("a b \\x1b[31m")
