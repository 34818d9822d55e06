"""One writer at a time, and a results file that survives crashes."""

import contextlib
import os
import platform
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cifar_deploy.core import files, locks
from cifar_deploy.core.errors import Busy, Corrupt, UsageError
from cifar_deploy.core.records import Failure, Reading
from cifar_deploy.core.store import Store, as_artifact, check_name, described, grouped, read_raw, verified
from tests.probes import a_block, a_checkpoint, a_job, a_session


def test_a_second_writer_finds_the_folder_busy(tmp_path: Path) -> None:
    with Store(tmp_path), pytest.raises(Busy, match="another cifar-deploy"), Store(tmp_path):
        pass
    with Store(tmp_path):
        pass
    assert not locks.INHERITED


def test_a_lock_held_by_another_process_ends_with_it(tmp_path: Path) -> None:
    hold = (
        "import sys; from cifar_deploy.core.store import Store\n"
        "with Store(sys.argv[1]): print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Busy), Store(tmp_path):
            pass
        holder.kill()
        holder.wait()
    with Store(tmp_path):
        pass


def test_who_finds_the_folder_busy_is_told_by_whom(tmp_path: Path) -> None:
    holder = rf"^{tmp_path}: another .* here \(process {os.getpid()} on {platform.node()}, since 20.*\); wait, or give"
    with Store(tmp_path), pytest.raises(Busy, match=holder), Store(tmp_path):
        pass


@pytest.mark.parametrize("content", [b"", b"\x1b[2J\xff\n", b"process 1 on \x1b[2J, 2026\n", b"x" * 5000], ids=repr)
def test_a_lock_that_does_not_say_who_holds_it_is_a_lock(content: bytes, tmp_path: Path) -> None:
    with Store(tmp_path):
        (tmp_path / ".lock").write_bytes(content)
        with pytest.raises(Busy, match=r"is at work here; wait, or give another --out$"), Store(tmp_path):
            pass


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_lock_that_is_a_link_writes_nothing_elsewhere(link: Callable[[Path, Path], None], tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("of the user")
    (tmp_path / "out").mkdir()
    link(tmp_path / "mine", tmp_path / "out" / ".lock")
    with contextlib.suppress(UsageError), Store(tmp_path / "out"):
        pass
    assert (tmp_path / "mine").read_text() == "of the user"


def test_an_out_that_cannot_be_a_folder_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file"), Store(tmp_path / "file" / "out"):
        pass


def test_what_a_killed_writer_left_is_deleted_by_the_next(tmp_path: Path) -> None:
    leftover = tmp_path / "exported" / "small" / "onnx" / "model.onnx.tmp.12.0123abcd"
    leftover.parent.mkdir(parents=True)
    leftover.write_text("half")
    with Store(tmp_path):
        assert not leftover.exists()


def test_so_is_the_scratch_of_a_killed_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with files.scratch() as folder:
        pass
    folder.mkdir()
    os.utime(folder, (0, 0))
    with Store(tmp_path / "out"):
        assert not folder.exists()


def test_results_come_back_in_the_order_they_were_added(tmp_path: Path) -> None:
    blocks = [a_block("latency"), a_block("memory")]
    with Store(tmp_path) as store:
        for block in blocks:
            store.append(block)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Store(tmp_path).blocks() == blocks


def test_no_results_yet_is_an_empty_list(tmp_path: Path) -> None:
    assert not Store(tmp_path).blocks()


def test_a_torn_last_line_is_skipped_and_cut_by_the_next_result(tmp_path: Path) -> None:
    first, second = a_block("latency"), a_block("memory")
    with Store(tmp_path) as store:
        store.append(first)
        line = store.results_path.read_bytes()
        store.results_path.write_bytes(line + line[: len(line) // 2])
        with pytest.warns(UserWarning, match="line 2 left out"):
            assert store.blocks() == [first]
        store.append(second)
        assert store.results_path.read_bytes().count(b"\n") == 2
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert store.blocks() == [first, second]


@pytest.mark.parametrize(
    "line", [b"garbage", b"\xff\xfe", b"[]", b"{}", b'"text"', b'{"version": 2}', b'{"version": "x"}'], ids=repr
)
def test_a_line_of_garbage_is_skipped_and_named(tmp_path: Path, line: bytes) -> None:
    block = a_block()
    with Store(tmp_path) as store:
        store.append(block)
        with open(store.results_path, "ab") as file:
            file.write(line + b"\n")
        store.append(block)
        with pytest.warns(UserWarning, match=r"results\.jsonl: line 2 left out"):
            assert store.blocks() == [block, block]


def test_a_line_of_a_newer_version_is_skipped_and_named(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.append(a_block())
        text = store.results_path.read_text()
        store.results_path.write_text(text + text.replace('"version": 2', '"version": 99', 1))
        with pytest.warns(UserWarning, match="line 2 left out: was written by a newer"):
            assert len(store.blocks()) == 1


def test_lines_of_an_earlier_version_are_left_out_with_one_warning(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.append(a_block())
        text = store.results_path.read_text()
        store.results_path.write_text('{"version": 1, "job": {}}\n' * 3 + text)
        with pytest.warns(UserWarning, match="lines 1, 2, 3 left out: is of an earlier version") as warned:
            assert len(store.blocks()) == 1
        assert len(warned) == 1


def test_blocks_of_a_session_are_one_result_and_a_repeated_round_replaces_the_first() -> None:
    latency, memory = a_job("latency"), a_job("memory")
    one, other = a_session(latency), replace(a_session(latency), seed=2)
    blocks = [
        a_block(job=memory),
        a_block(job=latency, session=other, round=0),
        a_block(job=latency, session=one, round=1, value=5.0),
        a_block(job=latency, session=one, round=0, failure=Failure(kind="crashed", reason="died")),
        a_block(job=latency, session=one, round=0, control=True),
        a_block(job=latency, session=one, round=0, value=4.0),
    ]
    results = grouped(blocks)
    assert [(result.job.metric, len(result.blocks), result.control) for result in results] == [
        ("memory", 1, False),
        ("latency", 1, False),
        ("latency", 1, True),
        ("latency", 2, False),
    ]
    assert results[-1].rounds("p50") == {0: 4.0, 1: 5.0} and results[-1].failure is None


def test_a_round_that_failed_is_the_results_failure() -> None:
    failure = Failure(kind="crashed", reason="died")
    session = a_session(a_job())
    (result,) = grouped([a_block(session=session), a_block(session=session, round=1, failure=failure)])
    assert result.failure == failure


def test_samples_that_are_damaged_are_named(tmp_path: Path) -> None:
    path = Store(tmp_path).raw_path("abc")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no archive")
    with pytest.raises(Corrupt, match=r"abc\.npz: cannot be read .*measure again"):
        read_raw(tmp_path / "reports", Reading(values={}, raw="abc"))


def test_a_saved_checkpoint_comes_back_with_its_weights(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        assert store.checkpoint("small") is None
        weights = store.checkpoint_folder("small") / "weights.safetensors"
        with files.staging(weights.parent) as staged:
            (staged / weights.name).write_bytes(b"abc")
            checkpoint = a_checkpoint(described(staged / weights.name))
            store.save_checkpoint(checkpoint, staged)
    assert store.checkpoint("small") == checkpoint
    assert list(store.artifacts("small")) == [as_artifact(checkpoint)]
    assert store.verified(as_artifact(checkpoint)) == {"weights.safetensors": weights}


@pytest.mark.parametrize("content", [b"abd", b"abcd", b"", None])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"abc")
    record = described(path)
    assert verified(path, record) == path
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Corrupt, match=r"weights\.safetensors: is (missing|not the file)"):
        verified(path, record)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "-a", ".hidden", "a b", "x" * 101, "é", "a\n", "a.tmp.1.01234567"]
)
def test_a_name_that_cannot_be_a_folder_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        check_name(name)


def test_an_ordinary_name_is_accepted() -> None:
    assert check_name("resnet8-v1.2_b") == "resnet8-v1.2_b"
