"""One writer at a time; records are found where they belong, with their files, and newer ones are read."""

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

from cifar_deploy.core import files, locks, sealing, upgrades
from cifar_deploy.core.errors import Busy, Corrupt, UsageError
from cifar_deploy.core.records import Addition
from cifar_deploy.core.store import Store, as_artifact, check_name, described, verified
from tests.probes import a_checkpoint


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
    with files.temporary_folder() as folder:
        pass
    folder.mkdir()
    os.utime(folder, (0, 0))
    with Store(tmp_path / "out"):
        assert not folder.exists()


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


@pytest.fixture
def made(tmp_path: Path) -> Store:
    """A store with a trained network, two exports of it, and a training that is not finished."""
    with Store(tmp_path) as store:
        for format in ("checkpoint", "onnx", "torchscript"):
            folder = store.artifact_folder("small", format)
            with files.staging(folder) as staged:
                (staged / "weights.safetensors").write_bytes(b"abc")
                checkpoint = a_checkpoint(described(staged / "weights.safetensors"))
                if format == "checkpoint":
                    store.save_checkpoint(checkpoint, staged)
                else:
                    store.save_artifact(replace(as_artifact(checkpoint), format=format), staged)
        store.begin(replace(checkpoint.training, name="other"))
        (store.training_folder("other") / "state.1.pt").write_bytes(b"")
    return Store(tmp_path)


def read_all(store: Store) -> tuple[object, ...]:
    return store.checkpoint("small"), *store.artifacts("small"), store.unfinished("other")


def test_every_record_says_its_version(made: Store) -> None:
    found = [*made.exported.rglob("*.json"), *made.training.rglob("*.json")]
    assert [sealing.read_record(path, "")["version"] for path in found] == [upgrades.VERSION] * 4


@pytest.mark.parametrize("name", ["checkpoint.json", "artifact.json", "training.json"])
@pytest.mark.parametrize("more", [{"version": 99}, {"mood": "good"}], ids=str)
def test_newer_records_are_read_with_one_warning_for_each_kind_of_file(
    more: dict[str, object], name: str, made: Store
) -> None:
    before = read_all(made)
    for path in made.root.rglob(name):
        sealing.write_record(path, {**sealing.read_record(path, ""), **more})
    with pytest.warns(UserWarning, match=f"{name}: .*(version 99|mood)") as warned:
        assert read_all(made) == before
        assert read_all(made) == before
    assert len(warned) == 1


@pytest.mark.parametrize("name", ["checkpoint.json", "artifact.json", "training.json"])
def test_records_of_before_there_were_versions_are_read(name: str, made: Store) -> None:
    before = read_all(made)
    for path in made.root.rglob(name):
        record = sealing.read_record(path, "")
        del record["version"]
        if name == "artifact.json":
            del record["input"]
            record |= record.pop("origin")
            del record["kind"]
        sealing.write_json(path, record)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_all(made) == before


def test_damaged_weights_are_named_with_the_command_that_makes_them_again(made: Store) -> None:
    checkpoint = made.checkpoint("small")
    assert checkpoint
    for format in ("checkpoint", "onnx"):
        (made.artifact_folder("small", format) / "weights.safetensors").write_bytes(b"abd")
    exported = replace(as_artifact(checkpoint), format="onnx")
    addition = Addition(
        name="small", network="resnet8", data=checkpoint.training.data, normalisation=None, weights=None
    )
    added = as_artifact(replace(checkpoint, training=addition))
    for artifact, remedy in (
        (
            as_artifact(checkpoint),
            "restore it from a copy, or run its `cifar-deploy train resnet8 ... --force` with its options",
        ),
        (exported, "run `cifar-deploy export small --format onnx --force`"),
        (replace(exported, input="uint8"), "run `cifar-deploy export small --format onnx --input uint8 --force`"),
        (added, "restore it from a copy, or run its `cifar-deploy add small ... --force` with its options"),
    ):
        with pytest.raises(Corrupt) as raised:
            made.verified(artifact)
        assert str(raised.value).endswith(f"; {remedy}")


@pytest.mark.parametrize("content", [b"abd", b"abcd", b"", None])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"abc")
    record = described(path)
    assert verified(path, record, "restore it") == path
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Corrupt, match=r"weights\.safetensors: is (missing|not the file).*; restore it$"):
        verified(path, record, "restore it")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "-a", ".hidden", "a b", "x" * 101, "é", "a\n", "a.tmp.1.01234567"]
)
def test_a_name_that_cannot_be_a_folder_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        check_name(name)


def test_an_ordinary_name_is_accepted() -> None:
    assert check_name("resnet8-v1.2_b") == "resnet8-v1.2_b"
