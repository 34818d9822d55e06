"""CIFAR-10's format on small batches of our own: a folder, an archive, damage, and a pickle with intent."""

import hashlib
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from cifar_deploy.core.errors import DataError
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
        with pytest.raises(DataError, match="does not exist"):
            function(tmp_path / "absent")
