"""Files appear whole or not at all."""

import errno
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cifar_deploy.core import files
from cifar_deploy.core.errors import Unwritable


def test_a_file_is_replaced_only_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "value.txt"
    files.write_text(path, "old")
    with files.atomic_write(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
        assert part.parent == path.parent and files.is_leftover(part.name)
    assert path.read_text() == "new"
    assert [file.name for file in path.parent.iterdir()] == ["value.txt"]


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "value.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), files.atomic_write(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_takes_no_more_is_named_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "value.txt"
    path.write_text("old")
    with pytest.raises(Unwritable) as caught, files.atomic_write(path) as part:
        part.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert f"{path}: cannot be written (No space left on device); make room" in str(caught.value)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_library_that_words_a_full_disk_its_own_way_is_corrected(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(Unwritable) as caught, files.atomic_write(tmp_path / "state.pt") as part:
            part.write_bytes(bytes(1000))
            raise RuntimeError("unexpected pos")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "state.pt: cannot be written (File too large)" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_error_that_is_not_the_disks_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="unexpected"), files.atomic_write(tmp_path / "state.pt") as part:
        part.write_bytes(bytes(10))
        raise RuntimeError("unexpected")


def test_a_staging_folder_is_beside_its_target_and_gone_at_the_end(tmp_path: Path) -> None:
    with pytest.raises(ValueError), files.staging(tmp_path / "a" / "onnx") as staged:
        assert staged.parent == tmp_path / "a" and files.is_leftover(staged.name)
        (staged / "model.onnx").write_bytes(b"half")
        raise ValueError
    assert list((tmp_path / "a").iterdir()) == []


def test_a_folder_is_discarded_at_once_or_by_the_next_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "training"
    files.write_text(folder / "deep" / "a.json", "{}")
    with monkeypatch.context() as killed_then:
        killed_then.setattr(files.shutil, "rmtree", lambda *_, **__: None)
        files.discard(folder)
    assert not folder.exists() and [files.is_leftover(path.name) for path in tmp_path.iterdir()] == [True]
    files.sweep(tmp_path)
    assert not list(tmp_path.iterdir())
    files.discard(folder)


def test_sweep_deletes_leftovers_and_nothing_else(tmp_path: Path) -> None:
    kept = ["notes.tmp.txt", "a.tmp.12.xyz", "b.tmp.12.0123456", "c.tmp.12.01234567.json", ".tmp.old"]
    for name in [*kept, "deep/w.json.tmp.12.0123abcd", "deep/onnx.tmp.7.89abcdef/model.onnx"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    files.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
    assert list((tmp_path / "deep").iterdir()) == []


def test_scratch_is_gone_at_the_end_and_so_is_that_of_a_killed_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "another-program").mkdir()
    code = "import sys\nfrom cifar_deploy.core import files\nwith files.temporary_folder() as f:\n print(f, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        assert process.stdout
        line = process.stdout.readline().strip()
        assert line
        others = Path(line)
        (others / "half").write_text("x")
        os.utime(others, (0, 0))
        with files.temporary_folder() as own:
            files.sweep_temporary_folders()
            assert own.parent == others.parent == tmp_path and (others / "half").exists()
        process.kill()
    with files.temporary_folder() as own:
        files.sweep_temporary_folders()
        assert own.is_dir() and not others.exists()
    others.mkdir()  # by a process that has not come to lock it
    files.sweep_temporary_folders()
    assert others.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"another-program", others.name}
