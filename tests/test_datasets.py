"""Real small archives and folders, and every way in which they can be wrong."""

import hashlib
import os
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cifar_deploy.core.errors import DataError, UsageError
from cifar_deploy.datasets import cifar10, image_folder
from cifar_deploy.stages import prepare

NAMES = [f"{split}/{name}/{index}.png" for split in ("train", "test") for name in ("cat", "dog") for index in range(2)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for name in NAMES:
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 6, 3), np.uint8)).save(path)
    return tmp_path / "images"


def zipped(folder: Path, prefix: str = "", extra: dict[str, bytes] | None = None) -> Path:
    path = folder.parent / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in NAMES:
            archive.write(folder / name, prefix + name)
        for name, content in (extra or {}).items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("prefix", ["", "cifar/"])
def test_a_zip_gives_the_arrays_that_its_folder_gives(folder: Path, prefix: str) -> None:
    from_folder = image_folder.load(folder)
    from_zip = image_folder.load(zipped(folder, prefix, {"__MACOSX/train/cat/0.png": b"", "README.txt": b""}))
    assert from_folder.classes == from_zip.classes == ("cat", "dog")
    assert from_folder.train_images.shape == (4, 8, 6, 3)
    assert from_folder.train_labels.tolist() == [0, 0, 1, 1]
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(from_folder, name), getattr(from_zip, name))
    np.testing.assert_array_equal(from_folder.train_images[0], np.asarray(Image.open(folder / NAMES[0])))


def _remove(folder: Path, pattern: str) -> None:
    for path in list(folder.glob(pattern)):
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: _remove(f, "*/*/*"), "no images found"),
        (lambda f: _remove(f, "test/*/*"), "no images below test/"),
        (lambda f: _remove(f, "*/dog/*"), "one class, 'cat'"),
        (lambda f: _remove(f, "test/dog/*"), "test/ has no images of class 'dog'"),
        (lambda f: (f / "train/dog/1.png").write_bytes(b"no image"), "train/dog/1.png is not a readable image"),
        (lambda f: (f / "train/dog/1.png").write_bytes((f / NAMES[0]).read_bytes()[:60]), "train/dog/1.png is not"),
        (
            lambda f: Image.new("RGB", (7, 7)).save(f / "test/cat/0.png"),
            "test/cat/0.png is 7×7, but train/cat/0.png is 6×8",
        ),
        (lambda f: Image.new("I;16", (6, 8)).save(f / "test/cat/0.png"), "more than 8 bits"),
    ],
)
def test_a_folder_that_will_not_do_is_refused_by_name(folder: Path, damage: Any, words: str) -> None:
    damage(folder)
    with pytest.raises(DataError, match=words):
        image_folder.load(folder)


def test_a_zip_that_will_not_do_is_refused(folder: Path) -> None:
    path = zipped(folder, extra={"../train/cat/evil.png": b""})
    with pytest.raises(DataError, match="outside the archive"):
        image_folder.load(path)
    whole = zipped(folder).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="not a whole zip"):
        image_folder.load(path)


def test_a_data_dir_is_needed_and_must_exist(tmp_path: Path) -> None:
    for given in (None, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match="--data-dir"):
            image_folder.identify(given)


@pytest.fixture
def batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CIFAR-10 in small: the official files' layout, with checksums of their own."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    random = np.random.default_rng(0)

    def write(name: str, content: dict[str, Any]) -> str:
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    def batch() -> dict[str, Any]:
        return {"data": random.integers(0, 256, (4, 3072), np.uint8), "labels": [0, 9, 3, 1]}

    train = [[f"data_batch_{i}", write(f"data_batch_{i}", batch())] for i in range(1, 6)]
    monkeypatch.setattr(CIFAR10, "train_list", train)
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", write("test_batch", batch())]])
    meta = write("batches.meta", {"label_names": [str(i) for i in range(10)]})
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": meta})
    return tmp_path


def test_cifar10_is_read_from_its_folder_and_from_its_archive(batches: Path) -> None:
    images = cifar10.load(batches)
    assert images.train_images.shape == (20, 32, 32, 3) and images.test_labels.tolist() == [0, 9, 3, 1]
    first = pickle.loads((batches / "cifar-10-batches-py" / "data_batch_1").read_bytes())["data"][0]
    np.testing.assert_array_equal(images.train_images[0].transpose(2, 0, 1).ravel(), first)
    archive = batches / "other" / "cifar-10-python.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(batches / "cifar-10-batches-py", "cifar-10-batches-py")
    for given in (archive, archive.parent):
        np.testing.assert_array_equal(cifar10.load(given).train_images, images.train_images)


def test_a_damaged_batch_is_not_unpickled(batches: Path) -> None:
    (batches / "cifar-10-batches-py" / "data_batch_3").write_bytes(pickle.dumps({}))
    with pytest.raises(DataError, match="data_batch_3: md5"):
        cifar10.load(batches)


def test_a_pickle_that_calls_something_is_refused_even_with_its_md5() -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, ("exit 1",)

    content = pickle.dumps(Evil())
    with pytest.raises(DataError, match="system"):
        cifar10._unpickled("data_batch_1", content, hashlib.md5(content).hexdigest())


def test_the_cache_is_used_again_and_a_flipped_byte_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR_DEPLOY_CACHE", str(tmp_path))
    first, second = prepare.prepare("digits", None), prepare.prepare("digits", None)
    assert (first.decoded, second.decoded) == (True, False) and first.data == second.data
    assert (first.data.train_images, first.data.test_images) == (1437, 360)
    path = first.folder / "test_images.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    third = prepare.prepare("digits", None)
    assert third.decoded and third.data == first.data


def test_statistics_are_numpys_own() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), np.uint8)
    mean, deviation = prepare.statistics(pixels)
    np.testing.assert_allclose(mean, (pixels / 255).mean((0, 1, 2)))
    np.testing.assert_allclose(deviation, (pixels / 255).std((0, 1, 2)))


@pytest.mark.cifar10
def test_the_real_images_are_whole(tmp_path: Path) -> None:
    given = os.environ.get("CIFAR_DEPLOY_TEST_DATA")
    if not given or not Path(given).exists():
        pytest.skip("CIFAR_DEPLOY_TEST_DATA names no zip or folder of CIFAR-10 images")
    images = image_folder.load(Path(given))
    assert images.train_images.shape == (50000, 32, 32, 3) and images.test_images.shape == (10000, 32, 32, 3)
    assert np.bincount(images.test_labels).tolist() == [1000] * 10
    mean, _ = prepare.statistics(images.train_images)
    # The original's means; JPEG moves them by less.
    np.testing.assert_allclose(mean, (0.4914, 0.4822, 0.4465), atol=0.005)
