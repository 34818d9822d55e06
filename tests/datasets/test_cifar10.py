"""CIFAR-10's format on small batches of our own: a folder, an archive, damage, and a pickle with intent."""

import gzip
import hashlib
import io
import os
import pickle
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from cifar_deploy.core.errors import Corrupt, DataError, UsageError
from cifar_deploy.datasets import cifar10
from cifar_deploy.datasets.cifar10 import identify, load

TRAIN = [f"data_batch_{number}" for number in range(1, 6)]
NAMES = [*TRAIN, "test_batch", "batches.meta"]


class Intent:
    """Runs a command when unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch intent",)


def state_md5s(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torchvision state the md5 of our files."""
    md5 = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in NAMES}
    monkeypatch.setattr(CIFAR10, "train_list", [[name, md5[name]] for name in TRAIN])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": md5["batches.meta"]})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """cifar-10-batches-py with two images a batch, and torchvision stating its md5s."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number, name in enumerate(NAMES[:-1]):
        batch = {"data": generator.integers(0, 256, (2, 3072), np.uint8), "labels": [number, 9]}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    classes = {"label_names": [f"class {number}" for number in range(10)]}
    (folder / "batches.meta").write_bytes(pickle.dumps(classes, protocol=2))
    state_md5s(folder, monkeypatch)
    return folder


def archived(folder: Path) -> Path:
    path = folder.parent / "archive" / "cifar-10-python.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, folder.name)
    return path


def test_the_batches_are_read_in_order_with_red_first(folder: Path) -> None:
    loaded = load(folder)
    assert loaded.train_images.shape == (10, 32, 32, 3) and loaded.test_images.shape == (2, 32, 32, 3)
    assert loaded.train_labels.tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9] and loaded.test_labels.tolist() == [5, 9]
    assert loaded.classes[3] == "class 3" and len(loaded.classes) == 10
    row = pickle.loads((folder / "data_batch_2").read_bytes())["data"][0]
    image = loaded.train_images[2]
    assert image[0, 1].tolist() == [row[1], row[1024 + 1], row[2048 + 1]]
    assert image[1, 0, 0] == row[32]


def test_folder_parent_and_archive_give_equal_arrays(folder: Path) -> None:
    archive = archived(folder)
    expected = load(folder)
    for path in (folder.parent, archive, archive.parent):
        loaded = load(path)
        assert np.array_equal(loaded.train_images, expected.train_images)
        assert np.array_equal(loaded.test_images, expected.test_images)
        assert identify(path) == identify(folder)


def test_a_wrong_md5_is_refused_naming_the_batch(folder: Path) -> None:
    content = bytearray((folder / "data_batch_3").read_bytes())
    content[-100] ^= 1
    (folder / "data_batch_3").write_bytes(content)
    with pytest.raises(DataError, match="data_batch_3: md5 is"):
        load(folder)
    with pytest.raises(DataError, match="data_batch_3: md5 is"):
        load(archived(folder))


@pytest.mark.parametrize("name", ["data_batch_1", "batches.meta"])
def test_a_pickle_that_refers_to_a_command_is_not_read_even_with_the_right_md5(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(folder)
    (folder / name).write_bytes(pickle.dumps({"data": Intent()}, protocol=2))
    state_md5s(folder, monkeypatch)
    with pytest.raises(DataError, match=r"refers to \w+\.system"):
        load(folder)
    assert not (folder / "intent").exists()


def test_a_missing_batch_is_named(folder: Path) -> None:
    (folder / "data_batch_4").unlink()
    with pytest.raises(DataError, match="data_batch_4"):
        load(folder)
    with pytest.raises(DataError, match="data_batch_4"):
        load(archived(folder))


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_truncated_archive_is_refused(folder: Path, kept: float) -> None:
    path = archived(folder)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz"):
        load(path)


def test_a_place_without_cifar10_is_refused(tmp_path: Path) -> None:
    for function in (identify, load):
        with pytest.raises(DataError, match="holds no CIFAR-10"):
            function(tmp_path)
        with pytest.raises(UsageError, match=r"--data-dir: .*absent does not exist"):
            function(tmp_path / "absent")


def packed(path: Path, members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return path


def claimed(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
    info.size = size
    return info


@pytest.fixture
def inflated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each read of a decompressed archive gave."""
    sizes: list[int] = []
    read = gzip.GzipFile.read

    def counting(self: gzip.GzipFile, size: int | None = -1) -> bytes:
        content = read(self, size)
        sizes.append(len(content))
        return content

    monkeypatch.setattr(gzip.GzipFile, "read", counting)
    return sizes


def test_a_file_that_is_larger_than_the_original_is_refused_before_it_is_decompressed(
    tmp_path: Path, inflated: list[int]
) -> None:
    path = packed(tmp_path / "bomb.tar.gz", [(claimed("data_batch_2", 40_000_000), bytes(40_000_000))])
    with pytest.raises(DataError, match="data_batch_2 is 40,000,000 bytes, and the original less than"):
        load(path)
    assert sum(inflated) < 100_000


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_no_more_is_decompressed_than_the_original_archive_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inflated: list[int], kind: bytes
) -> None:
    """Whatever it is that is large: another file, or a name."""
    monkeypatch.setattr(cifar10, "_LARGEST_ARCHIVE", 1_000_000)
    info = claimed("another", 3_000_000)
    info.type = kind
    path = packed(tmp_path / "bomb.tar.gz", [(info, bytes(3_000_000)), (claimed("data_batch_1", 1), b"x")])
    with pytest.raises(DataError, match="holds more than 1,000,000 bytes, and so is not the original"):
        load(path)
    assert sum(inflated) <= 1_000_000


def test_what_follows_the_last_batch_is_not_decompressed(folder: Path, inflated: list[int]) -> None:
    contents = [(claimed(name, (folder / name).stat().st_size), (folder / name).read_bytes()) for name in NAMES]
    path = packed(folder.parent / "long.tar.gz", [*contents, (claimed("another", 3_000_000), bytes(3_000_000))])
    assert len(load(path).train_images) == 10
    assert sum(inflated) < 1_000_000


def test_the_original_sizes_are_within_the_bounds() -> None:
    original = [31_035_704, 31_035_320, 31_035_999, 31_035_696, 31_035_623, 31_035_526, 158, 88]
    headers = 512 * (len(original) + 1) + 10_240
    assert max(original) <= cifar10._LARGEST_FILE
    assert sum(original) + 512 * len(original) + headers <= cifar10._LARGEST_ARCHIVE


def test_a_large_file_in_the_folder_is_refused_before_it_is_read(folder: Path) -> None:
    os.truncate(folder / "data_batch_3", 2**40)
    with pytest.raises(Corrupt, match="data_batch_3: is 1,099,511,627,776 bytes, and at most 32,000,000 are read"):
        load(folder)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_a_batch_that_is_no_file_in_the_archive_is_none(tmp_path: Path, kind: bytes) -> None:
    info = claimed("data_batch_1", 0)
    info.type, info.linkname = kind, "/dev/zero"
    with pytest.raises(DataError, match=r"holds no .*data_batch_1"):
        load(packed(tmp_path / "odd.tar.gz", [(info, b"")]))


def test_an_archive_of_another_kind_is_not_opened(folder: Path) -> None:
    """The content would choose among all that Python can decompress."""
    path = folder.parent / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:bz2") as archive:
        archive.add(folder, folder.name)
    with pytest.raises(DataError, match="Not a gzipped file"):
        load(path)


def test_a_thousand_headers_in_a_row_are_refused(tmp_path: Path) -> None:
    info = claimed("x", 10)
    info.type = tarfile.GNUTYPE_LONGNAME
    with pytest.raises(DataError, match="cannot be read from it"):
        load(packed(tmp_path / "deep.tar.gz", [(info, b"0123456789")] * 2000))


def test_pipes_and_devices_are_refused_and_never_waited_for(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Corrupt, match="pipe: is a named pipe"):
        load(tmp_path / "pipe")
    (folder / "data_batch_2").unlink()
    (folder / "data_batch_2").symlink_to("/dev/zero")
    with pytest.raises(Corrupt, match="data_batch_2: is a device"):
        load(folder)
