"""A data set is decoded once, and its cache is not believed but verified."""

import dataclasses
import errno
import json
import math
import os
import re
import shutil
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from cifar_deploy.core import codec, files, image_cache, sealing
from cifar_deploy.core.arrays import ImageSet
from cifar_deploy.core.errors import DataError, Unavailable, UnknownName, UsageError
from cifar_deploy.datasets import digits
from cifar_deploy.stages import prepare as stage
from cifar_deploy.workers import prepare
from tests.datasets.folders import save
from tests.in_process import run_here
from tests.probes import a_checkpoint


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CIFAR_DEPLOY_CACHE", str(tmp_path))
    return tmp_path


def test_a_cache_that_takes_no_lock_is_read_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(folder: Path) -> AbstractContextManager[None]:
        raise OSError(errno.EROFS, "Read-only file system", f"{folder}.lock")

    made = prepare.prepare("digits", None)
    monkeypatch.setattr(image_cache, "locked", refused)
    found = prepare.prepare("digits", None)
    assert (found.data, found.folder, found.decoded) == (made.data, made.folder, False)
    (made.folder / "test_labels.npy").write_bytes(b"damaged")
    with pytest.raises(DataError, match="Read-only file system; the cache is set by CIFAR_DEPLOY_CACHE"):
        prepare.prepare("digits", None)


def test_the_digits_are_all_there_with_every_class_in_proportion() -> None:
    prepared = prepare.prepare("digits", None)
    assert prepared.decoded
    data = prepared.data
    assert (data.train_images, data.test_images, data.height, data.width) == (1437, 360, 32, 32)
    assert prepared.array("train_images").shape == (1437, 32, 32, 3)
    assert prepared.array("test_labels").shape == (360,)
    counts = np.bincount(prepared.array("test_labels"), minlength=10)
    assert counts.min() >= 34 and counts.max() <= 38
    assert "not CIFAR-10" in str(data)


def test_the_second_time_it_comes_from_the_cache() -> None:
    first, second = prepare.prepare("digits", None), prepare.prepare("digits", None)
    assert first.decoded and not second.decoded
    assert second.data == first.data and second.folder == first.folder


@pytest.mark.parametrize("name", ["train_images", "train_labels", "test_images", "test_labels"])
def test_a_flipped_byte_in_the_cache_is_found_and_it_is_decoded_again(name: str) -> None:
    first = prepare.prepare("digits", None)
    path = first.folder / f"{name}.npy"
    whole = path.read_bytes()
    content = bytearray(whole)
    content[-1000] ^= 1
    path.write_bytes(content)
    second = prepare.prepare("digits", None)
    assert second.decoded and second.data == first.data
    assert path.read_bytes() == whole


@pytest.mark.parametrize("content", [b"{", b"{}", b"[]"])
def test_a_damaged_record_is_written_again(content: bytes) -> None:
    first = prepare.prepare("digits", None)
    (first.folder / "data.json").write_bytes(content)
    assert prepare.prepare("digits", None).decoded
    assert not prepare.prepare("digits", None).decoded


@pytest.mark.parametrize("kept", [10, 100, 5000])
def test_a_truncated_array_is_decoded_again(kept: int) -> None:
    first = prepare.prepare("digits", None)
    path = first.folder / "train_images.npy"
    path.write_bytes(path.read_bytes()[:kept])
    assert prepare.prepare("digits", None).decoded


def test_what_a_killed_process_left_is_deleted(cache: Path) -> None:
    leftover = cache / "data" / "digits-digits" / "train_images.npy.tmp.12.0123abcd"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    prepared = prepare.prepare("digits", None)
    assert not leftover.exists()
    assert len(list(prepared.folder.iterdir())) == 5


def test_a_prepared_data_set_is_found_by_its_fingerprint() -> None:
    prepared = prepare.prepare("digits", None)
    assert stage.find(prepared.data.fingerprint) == prepared.folder
    assert stage.find("0" * 64) is None


def test_the_digits_stand_in_for_images_of_their_own_size_alone() -> None:
    data = a_checkpoint().training.data  # of 9×8 images that nobody has
    with pytest.raises(Unavailable, match="not in the cache"):
        stage.images_for(data)
    data = dataclasses.replace(data, height=32, width=32)
    folder = stage.images_for(data)
    assert "handwritten digits" in str(stage.stand_in_of(folder, data))


def test_the_statistics_are_exact() -> None:
    pixels = prepare.prepare("digits", None).array("train_images")
    noise = np.random.default_rng(0).integers(0, 256, (50, 7, 9, 3), np.uint8)
    for images in (pixels, noise):
        mean, std = prepare.statistics(images)
        scaled = images.astype(np.float64) / 255
        np.testing.assert_allclose(mean, scaled.mean(axis=(0, 1, 2)), rtol=1e-9)
        np.testing.assert_allclose(std, scaled.std(axis=(0, 1, 2)), rtol=1e-9)
        # numpy rounds at every addition; whole numbers do not.
        for channel in range(3):
            levels = images[..., channel].astype(np.int64)
            count, total, squares = levels.size, int(levels.sum()), int((levels**2).sum())
            assert mean[channel] == pytest.approx(total / (255 * count), rel=1e-14)
            exact = math.sqrt(count * squares - total**2) / (255 * count)
            assert std[channel] == pytest.approx(exact, rel=1e-13)


def test_the_statistics_take_little_memory_beside_the_images() -> None:
    images = np.zeros((20, 1000, 1000, 3), np.uint8)
    tracemalloc.start()
    prepare.statistics(images)
    assert tracemalloc.get_traced_memory()[1] < images.nbytes
    tracemalloc.stop()


def test_a_data_dir_that_the_digits_cannot_use_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--data-dir"):
        prepare.prepare("digits", tmp_path)


def test_an_unknown_data_set_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'digits'"):
        prepare.prepare("digit", None)


def test_a_cache_that_cannot_be_a_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CIFAR_DEPLOY_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match="CIFAR_DEPLOY_CACHE"):
        prepare.prepare("digits", None)


def test_one_data_set_leaves_what_another_process_is_writing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR_DEPLOY_CACHE", str(tmp_path))
    half = tmp_path / "data" / "cifar10-cifar10" / "train_images.npy.tmp.1.01234567"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    prepare.prepare("digits", None)
    assert half.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00v\x00{'descr': '("])
def test_a_cached_array_of_garbage_is_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setenv("CIFAR_DEPLOY_CACHE", str(tmp_path))
    first = prepare.prepare("digits", None)
    (first.folder / "test_images.npy").write_bytes(content)
    again = prepare.prepare("digits", None)
    assert again.decoded and again.data == first.data


def test_a_changed_digit_anywhere_in_the_record_is_found() -> None:
    """Of the mean, the counts, the source: the fingerprint is of the arrays and the class names alone."""
    first = prepare.prepare("digits", None)
    path = first.folder / "data.json"
    whole = path.read_bytes()
    for place in [match.start() for match in re.finditer(rb"[0-9]", whole)]:
        content = bytearray(whole)
        content[place] = ord("1") if content[place] == ord("2") else ord("2")
        path.write_bytes(content)
        assert image_cache.cached(first.folder) is None, whole[place - 20 : place + 20]
    assert prepare.prepare("digits", None).decoded
    assert path.read_bytes() == whole


def test_a_flipped_bit_in_the_record_is_found_or_harmless() -> None:
    """Harmless is white space that is still some."""
    first = prepare.prepare("digits", None)
    path = first.folder / "data.json"
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        content = bytearray(whole)
        content[place] ^= 1 << (place % 8)
        path.write_bytes(content)
        assert image_cache.cached(first.folder) in (None, first.data)


def test_a_record_that_lost_its_checksum_is_not_believed() -> None:
    first = prepare.prepare("digits", None)
    record = sealing.read_json(first.folder / "data.json")
    del record["checksum"]
    sealing.write_json(first.folder / "data.json", record)
    assert stage.find(first.data.fingerprint) is None
    assert prepare.prepare("digits", None).decoded
    assert stage.find(first.data.fingerprint) == first.folder


def test_a_damaged_copy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(prepare, "report", lambda *_, milestone="": told.append(milestone))
    first = prepare.prepare("digits", None)
    assert not any(told)
    (first.folder / "data.json").write_text("{}")
    prepare.prepare("digits", None)
    assert "the copy in the cache is damaged" in "".join(told)


def test_who_reads_a_copy_while_another_mends_it_finds_it_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare.prepare("digits", None)
    images = first.array("test_images")
    before = images[-1].copy()
    path = first.folder / "train_labels.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    mending, found = threading.Event(), threading.Event()
    all_there: list[bool] = []
    check, whole = prepare._check, files.atomic_write

    def waits(images: ImageSet) -> None:
        check(images)
        mending.set()
        assert not found.wait(0.3)

    def looks(path: Path) -> AbstractContextManager[Path]:
        all_there.append(len([file for file in first.folder.iterdir() if file.suffix in (".npy", ".json")]) == 5)
        return whole(path)

    monkeypatch.setattr(prepare, "_check", waits)
    monkeypatch.setattr(files, "atomic_write", looks)
    with ThreadPoolExecutor(1) as pool:
        mended = pool.submit(prepare.prepare, "digits", None)
        assert mending.wait(10)
        assert stage.find(first.data.fingerprint) == first.folder
        found.set()
        assert mended.result().decoded
    assert all_there == [True] * 5
    assert (images[-1] == before).all() and (first.array("test_images")[-1] == before).all()


def test_a_copy_that_is_an_archive_by_the_name_of_an_array_is_made_again(cache: Path) -> None:
    first = prepare.prepare("digits", None)
    np.savez(cache / "a.npz", a=np.zeros(3))
    (cache / "a.npz").replace(first.folder / "train_labels.npy")
    assert prepare.prepare("digits", None).decoded


def test_a_data_dir_that_may_not_be_read_is_no_usage_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever runs the tests may be root, who may read anything."""

    def refuse(data_dir: Path | None) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path))

    monkeypatch.setitem(vars(digits), "DATASET", dataclasses.replace(digits.DATASET, identify=refuse))
    with pytest.raises(DataError, match=r"--data-dir: .* cannot be read \(Permission denied\)"):
        prepare.prepare("digits", tmp_path)


def an_image_set(train: list[int], test: list[int], train_labels: list[int], test_labels: list[int]) -> ImageSet:
    """Images that are equal if their numbers are."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 3, 4, 3), np.uint8)
    return ImageSet(
        train_images=noise[train],
        train_labels=np.array(train_labels, np.int64),
        test_images=noise[test],
        test_labels=np.array(test_labels, np.int64),
        classes=("a", "b"),
        source="numbers",
        train_names=tuple(f"train/{place}" for place in range(len(train))),
        test_names=tuple(f"test/{place}" for place in range(len(test))),
    )


@pytest.mark.parametrize(
    ("train", "test", "train_labels", "test_labels", "expected"),
    [
        ([0, 1, 2, 3], [4, 5], [0, 0, 1, 1], [0, 1], []),
        # Twice in one class: some oversample so.
        ([0, 0, 2, 3], [4, 4], [0, 0, 1, 1], [1, 1], []),
        (
            [0, 1, 2, 3],
            [9, 3, 8, 0, 0, 1],
            [0, 0, 1, 1],
            [0, 1, 1, 0, 0, 0],
            [
                "test images that are also training images: 4 of 6 "
                "(test/1 is train/3, test/3 is train/0, test/4 is train/0 and 1 more); the accuracy can be too high"
            ],
        ),
        (
            [0, 1, 0, 2, 0],
            [5, 6],
            [0, 0, 1, 1, 0],
            [0, 1],
            ["training images that are in two classes: 1 (train/2 is train/0)"],
        ),
        ([0, 1], [5, 5], [0, 1], [0, 1], ["test images that are in two classes: 1 (test/1 is test/0)"]),
    ],
)
def test_equal_images_in_both_splits_or_in_two_classes_are_counted_and_some_named(
    train: list[int], test: list[int], train_labels: list[int], test_labels: list[int], expected: list[str]
) -> None:
    images = an_image_set(train, test, train_labels, test_labels)
    assert prepare._repeated(images) == tuple(expected)


def test_one_pixel_tells_two_images_apart() -> None:
    images = an_image_set([0, 1], [0, 1], [0, 1], [0, 1])
    images.test_images[:, 2, 3, 2] ^= 1
    assert prepare._repeated(images) == ()


def test_images_without_names_are_named_by_their_place() -> None:
    images = dataclasses.replace(an_image_set([0, 1, 2], [5, 2], [0, 0, 1], [0, 1]), train_names=(), test_names=())
    assert prepare._repeated(images)[0].count("(test image 1 is training image 2)") == 1


def an_image_folder(root: Path) -> Path:
    """With a test image that is a training image too, and a file that is not read."""
    for seed, name in enumerate(("train/cat/0", "train/dog/0", "test/cat/0", "test/dog/0")):
        save(root / f"{name}.png", seed)
    shutil.copy(root / "train/dog/0.png", root / "test/dog/1.png")
    (root / "train/cat/0.heic").write_bytes(b"x")
    return root


WARNINGS = (
    "not read: 1 with another suffix (train/cat/0.heic)",
    "test images that are also training images: 1 of 3 (test/dog/1.png is train/dog/0.png); the accuracy can be too high",
)


def test_warnings_are_recorded_and_come_from_the_cache_too(tmp_path: Path) -> None:
    folder = an_image_folder(tmp_path / "images")
    first, second = (prepare.prepare("image_folder", folder) for _ in range(2))
    assert first.data.warnings == WARNINGS
    assert not second.decoded and second.data == first.data
    assert prepare.prepare("digits", None).data.warnings == ()


def test_a_copy_of_before_warnings_were_looked_for_is_made_again(tmp_path: Path) -> None:
    folder = an_image_folder(tmp_path / "images")
    first = prepare.prepare("image_folder", folder)
    codec.save(first.folder / "data.json", dataclasses.replace(first.data, warnings=None))
    assert stage.find(first.data.fingerprint) == first.folder
    second = prepare.prepare("image_folder", folder)
    assert second.decoded and second.data == first.data


@pytest.mark.usefixtures("workers_here")
def test_warnings_are_shown_by_a_command_and_are_in_its_json(tmp_path: Path, cache: Path) -> None:
    arguments = ["data", "--dataset", "image_folder", "--data-dir", an_image_folder(tmp_path / "images")]
    for _ in range(2):
        shown = run_here(*arguments).stdout
        assert all(f"warning: {warning}\n" in shown for warning in WARNINGS)
    assert json.loads(run_here(*arguments, "--json").stdout)["data"]["warnings"] == list(WARNINGS)
