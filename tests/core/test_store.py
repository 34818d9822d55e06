"""One writer at a time, and a results file that survives crashes."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from cifar_deploy.core import isolate
from cifar_deploy.core.errors import Busy, Corrupt, UsageError
from cifar_deploy.core.store import Store, as_artifact, check_name, described, verified
from tests.probes import a_checkpoint, a_result


def test_a_second_writer_finds_the_folder_busy(tmp_path: Path) -> None:
    with Store(tmp_path), pytest.raises(Busy, match="another cifar-deploy"), Store(tmp_path):
        pass
    with Store(tmp_path):
        pass
    assert not isolate.INHERITED


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


def test_results_come_back_in_the_order_they_were_added(tmp_path: Path) -> None:
    results = [a_result("latency"), a_result("memory")]
    with Store(tmp_path) as store:
        for result in results:
            store.append(result)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Store(tmp_path).results() == results


def test_no_results_yet_is_an_empty_list(tmp_path: Path) -> None:
    assert Store(tmp_path).results() == []


def test_a_torn_last_line_is_skipped_and_cut_by_the_next_result(tmp_path: Path) -> None:
    first, second = a_result("latency"), a_result("memory")
    with Store(tmp_path) as store:
        store.append(first)
        line = store.results_path.read_bytes()
        store.results_path.write_bytes(line + line[: len(line) // 2])
        with pytest.warns(UserWarning, match="line 2 is left out"):
            assert store.results() == [first]
        store.append(second)
        assert store.results_path.read_bytes().count(b"\n") == 2
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert store.results() == [first, second]


@pytest.mark.parametrize(
    "line", [b"garbage", b"\xff\xfe", b"[]", b"{}", b'"text"', b'{"version": 1}', b'{"version": "x"}'], ids=repr
)
def test_a_line_of_garbage_is_skipped_and_named(tmp_path: Path, line: bytes) -> None:
    result = a_result()
    with Store(tmp_path) as store:
        store.append(result)
        with open(store.results_path, "ab") as file:
            file.write(line + b"\n")
        store.append(result)
        with pytest.warns(UserWarning, match=r"results\.jsonl: line 2 is left out"):
            assert store.results() == [result, result]


def test_a_line_of_a_newer_version_is_skipped_and_named(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.append(a_result())
        text = store.results_path.read_text()
        store.results_path.write_text(text + text.replace('"version": 1', '"version": 99', 1))
        with pytest.warns(UserWarning, match="line 2 is left out: was written by a newer"):
            assert len(store.results()) == 1


def test_a_saved_checkpoint_comes_back_with_its_weights(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        assert store.checkpoint("small") is None
        weights = store.checkpoint_folder("small") / "weights.safetensors"
        weights.parent.mkdir(parents=True)
        weights.write_bytes(b"abc")
        checkpoint = a_checkpoint(described(weights))
        store.save_checkpoint(checkpoint)
    assert store.checkpoint("small") == checkpoint
    assert list(store.artifacts("small")) == [as_artifact(checkpoint)]
    assert store.verified(as_artifact(checkpoint)) == [weights]


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
