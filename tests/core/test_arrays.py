"""Arrays from files that somebody else may have written."""

import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifar_deploy.core import arrays
from cifar_deploy.core.errors import Corrupt


class Intent:
    """Makes a folder when unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("intent",)


def refused(path: Path, message: str, most_bytes: int = 10**6) -> None:
    with pytest.raises(Corrupt, match=message):
        arrays.read_npz(path, most_bytes)


def test_an_npz_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = {
        "samples": np.arange(5.0),
        "labels": np.arange(6, dtype=np.int64).reshape(2, 3).T,
        "none": np.zeros((0, 3)),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **written)
        read = arrays.read_npz(tmp_path / "a.npz", 10**6)
        assert read.keys() == written.keys()
        for name, array in written.items():
            assert np.array_equal(read[name], array) and read[name].dtype == array.dtype


def test_arrays_that_are_too_large_together_are_refused_before_they_are_inflated(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(5_000_000, np.uint8), b=np.zeros(5_000_000, np.uint8))
    assert (tmp_path / "a.npz").stat().st_size < 20_000
    tracemalloc.start()
    refused(tmp_path / "a.npz", "holds 10,000,256 bytes, and at most 6,000,000 are read", 6_000_000)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()
    assert len(arrays.read_npz(tmp_path / "a.npz", 10_000_256)) == 2


def test_an_array_that_inflates_to_more_than_it_claims_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.zeros(20_000_000, np.uint8))
    path.write_bytes(path.read_bytes().replace(struct.pack("<L", 20_000_128), struct.pack("<L", 1000)))
    tracemalloc.start()
    refused(path, "cannot be read")
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


def test_a_header_that_claims_more_than_there_is_allocates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=np.zeros(9, np.uint8))
    with zipfile.ZipFile(path) as archive:
        content = archive.read("a.npy").replace(b"(9,), }          ", b"(99999999999,), }")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", content)
    refused(path, "a.npy is shorter than its shape")


def test_objects_are_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "a.npz", a=np.array([Intent()], object))
    refused(tmp_path / "a.npz", "cannot be read")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", pickle.dumps(Intent()))
    refused(tmp_path / "a.npz", "cannot be read")
    np.save(tmp_path / "b.npy", np.array([Intent()], object))
    (tmp_path / "c.npy").write_bytes(pickle.dumps(Intent()))
    for name in ("b.npy", "c.npy"):
        with pytest.raises(Corrupt, match="is no array"):
            arrays.mapped(tmp_path / name)
    assert not (tmp_path / "intent").exists()


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_that_numpy_never_uses_is_refused(tmp_path: Path, compression: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", compression) as archive:
        archive.writestr("a.npy", bytes(1000))
    refused(tmp_path / "a.npz", "neither stored nor deflated")


def test_what_is_no_npz_is_refused_and_a_pipe_never_waited_for(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    refused(tmp_path / "a.npy", "cannot be read")
    refused(tmp_path / "absent.npz", "cannot be read")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "is a named pipe")
    with pytest.raises(Corrupt, match="is a named pipe"):
        arrays.mapped(tmp_path / "pipe")


def test_an_archive_by_the_name_of_an_array_is_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(Corrupt, match="is no array"):
        arrays.mapped(tmp_path / "a.npy")
