"""Anyone's images, whole or damaged, in a directory or a zip."""

import contextlib
import errno
import importlib
import io
import os
import shutil
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cifar_deploy.core.errors import Corrupt, DataError, UsageError
from cifar_deploy.datasets import image_decoder
from cifar_deploy.datasets.image_folder import identify, load
from cifar_deploy.workers import prepare
from tests.datasets.folders import both, refused, refused_as, zipped


@contextlib.contextmanager
def python_peak() -> Iterator[list[int]]:
    """The most bytes that Python's own objects took in the block, at its end."""
    found: list[int] = []
    tracemalloc.start()
    try:
        yield found
    finally:
        found.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()


def test_pixels_and_labels_are_those_of_the_files(images: Path) -> None:
    loaded = load(images)
    assert loaded.classes == ("cat", "dog")
    assert loaded.train_labels.tolist() == [0, 0, 1, 1] and loaded.test_labels.tolist() == [0, 1]
    assert loaded.train_labels.dtype == np.int64 and loaded.train_images.dtype == np.uint8
    assert loaded.train_images.shape == (4, 4, 5, 3) and loaded.test_images.shape == (2, 4, 5, 3)
    assert np.array_equal(loaded.train_images[2], np.asarray(Image.open(images / "train/dog/0.png")))


@pytest.mark.parametrize("top", ["", "animals/", "./"])
def test_a_directory_and_a_zip_give_equal_arrays(images: Path, top: str) -> None:
    folder, archive = load(images), load(zipped(images, top))
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        assert np.array_equal(getattr(folder, name), getattr(archive, name))
    assert folder.classes == archive.classes


def test_grey_and_transparent_images_become_rgb(images: Path) -> None:
    Image.fromarray(np.full((4, 5), 7, np.uint8)).save(images / "train/cat/0.png")
    Image.fromarray(np.full((4, 5, 4), 9, np.uint8)).save(images / "train/cat/1.png")
    loaded = load(images)
    assert (loaded.train_images[0] == 7).all() and (loaded.train_images[1] == 9).all()


def test_the_identity_changes_with_the_images(images: Path) -> None:
    before, zip_before = identify(images), identify(zipped(images))
    assert identify(images) == before and identify(zipped(images)) == zip_before
    shutil.copy(images / "train/cat/0.png", images / "train/cat/2.png")
    assert identify(images) != before and identify(zipped(images)) != zip_before


@pytest.mark.parametrize("function", [identify, load])
def test_no_data_dir_or_one_that_is_not_there_is_a_usage_error(tmp_path: Path, function) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match="--data-dir: missing"):
        function(None)
    with pytest.raises(UsageError, match="absent does not exist"):
        function(tmp_path / "absent")


def test_a_directory_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train" / "cat").mkdir(parents=True)
    refused(tmp_path, "no images found; expected train/<class>")


def test_a_zip_without_images_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    refused(tmp_path / "a.zip", "no images found")


def test_a_missing_split_is_refused(images: Path) -> None:
    shutil.rmtree(images / "test")
    refused(images, "no images below test/")


@pytest.mark.parametrize("name", ["val", "valid"])
def test_the_test_images_may_lie_in_a_folder_of_another_name(images: Path, name: str) -> None:
    expected = load(images)
    (images / "test").rename(images / name)
    for loaded in both(images):
        assert np.array_equal(loaded.test_images, expected.test_images)
        assert loaded.test_names == (f"{name}/cat/0.png", f"{name}/dog/0.png")
        assert loaded.warnings == (f"the test images are those of {name}/",)


def test_of_several_test_sets_one_is_read_and_the_others_are_told(images: Path) -> None:
    for name in ("val", "valid"):
        shutil.copytree(images / "test", images / name)
    for loaded in both(images):
        assert loaded.test_names == ("test/cat/0.png", "test/dog/0.png")
        assert loaded.warnings == ("not read: 2 beside train/ and test/ (val/, valid/)",)
    shutil.rmtree(images / "test")
    assert load(images).warnings == ("not read: 1 beside train/ and val/ (valid/)", "the test images are those of val/")


@pytest.mark.parametrize("name", ["test", "val"])
def test_test_images_alone_are_enough(images: Path, name: str) -> None:
    expected = load(images)
    shutil.rmtree(images / "train")
    (images / "test").rename(images / name)
    for loaded in both(images):
        assert loaded.train_images.shape == (0, 4, 5, 3) and loaded.train_labels.shape == (0,)
        assert np.array_equal(loaded.test_images, expected.test_images)
        assert loaded.test_labels.tolist() == [0, 1] and loaded.classes == ("cat", "dog")
    archive = zipped(images, "animals/")
    assert np.array_equal(load(archive).test_images, expected.test_images)


def test_one_class_is_refused(images: Path) -> None:
    shutil.rmtree(images / "train/dog")
    shutil.rmtree(images / "test/dog")
    refused(images, "has one class, 'cat'")


@pytest.mark.parametrize(("split", "other"), [("test", "train"), ("train", "test")])
def test_a_class_that_one_split_lacks_is_named(images: Path, split: str, other: str) -> None:
    shutil.copytree(images / other / "dog", images / other / "owl")
    shutil.copytree(images / "train/cat", images / "train/ant")
    shutil.copytree(images / "test/cat", images / "test/ant")
    refused(images, f"{split}/ has no images of class 'owl', which {other}/ has")


@pytest.mark.parametrize("odd", ["train/dog/1.png", "test/dog/0.png"])
def test_two_sizes_are_refused_naming_both_files(images: Path, odd: str) -> None:
    Image.new("RGB", (8, 6)).save(images / odd)
    refused(images, f"{odd} is 8×6, but train/cat/0.png is 5×4")


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n"])
def test_an_unreadable_image_is_named(images: Path, content: bytes) -> None:
    (images / "train/dog/0.png").write_bytes(content)
    refused(images, "train/dog/0.png is not a readable image")
    refused(zipped(images), "train/dog/0.png is not a readable image")


def test_a_truncated_image_is_named(images: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (4, 5, 3), np.uint8)
    path = images / "train/dog/0.png"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:60])
    refused(images, "train/dog/0.png is not a readable image")


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.95])
def test_a_truncated_zip_is_refused(images: Path, kept: float) -> None:
    path = zipped(images)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    refused(path, "is not a whole zip file")


def test_a_damaged_zip_entry_is_named(images: Path) -> None:
    path = zipped(images)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("train/dog/0.png")
    content = bytearray(path.read_bytes())
    start = info.header_offset + 30 + len(info.filename)
    content[start + 10 : start + 30] = bytes(20)
    path.write_bytes(content)
    refused(path, "train/dog/0.png")


@pytest.mark.parametrize("name", ["../train/cat/9.png", "/train/cat/9.png", "train\\..\\..\\9.png", "C:/9.png"])
def test_an_entry_that_lies_outside_the_zip_is_refused(images: Path, name: str) -> None:
    path = zipped(images)
    with zipfile.ZipFile(path, "a") as archive:
        archive.write(images / "train/cat/0.png", "notes.txt")
        archive.writestr(zipfile.ZipInfo(name), b"x")
    refused(path, "lies outside the archive")


@pytest.mark.cifar10
def test_the_real_images_are_whole(tmp_path: Path) -> None:
    given = os.environ.get("CIFAR_DEPLOY_TEST_DATA")
    if not given or not Path(given).exists():
        pytest.skip("CIFAR_DEPLOY_TEST_DATA names no zip or folder of CIFAR-10 images")
    images = load(Path(given))
    assert images.train_images.shape == (50000, 32, 32, 3) and images.test_images.shape == (10000, 32, 32, 3)
    assert np.bincount(images.test_labels).tolist() == [1000] * 10
    mean, _ = prepare.statistics(images.train_images)
    # The original's means; JPEG moves them by less.
    np.testing.assert_allclose(mean, (0.4914, 0.4822, 0.4465), atol=0.005)


def test_a_zip_entry_without_a_name_is_passed_over(tmp_path: Path) -> None:
    image = io.BytesIO()
    Image.new("RGB", (4, 4)).save(image, "PNG")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("./", b"")
        for name in ("train/a", "train/b", "test/a", "test/b"):
            archive.writestr(f"{name}/0.png", image.getvalue())
    assert load(tmp_path / "a.zip").classes == ("a", "b")


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 4\n%%EndComments\nshowpage\n%%EOF\n"


def test_postscript_by_the_name_of_an_image_starts_no_program(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "programs" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # looked for once a process
    (images / "train/dog/0.png").write_bytes(POSTSCRIPT)
    refused(images, "train/dog/0.png is not a readable image")
    refused(zipped(images), "train/dog/0.png is not a readable image")
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("format", ["TGA", "ICO", "PDF", "JPEG2000", "AVIF", "DDS", "DIB", "PCX", "EPS"])
def test_only_the_documented_formats_are_decoded_whatever_the_suffix(images: Path, format: str) -> None:
    try:
        Image.new("RGB", (5, 4)).save(images / "train/dog/0.png", format)
    except OSError:
        pytest.skip(f"this Pillow writes no {format}")
    refused(images, "train/dog/0.png is not a readable image")


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "BMP", "MPO", "GIF", "TIFF", "PPM"])
def test_a_documented_format_may_have_the_suffix_of_another(images: Path, format: str) -> None:
    Image.new("RGB", (5, 4), (7, 7, 7)).save(images / "train/cat/0.png", format)
    assert (load(images).train_images[0] == 7).all()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The sizes of the images whose pixels were decoded."""
    sizes: list[tuple[int, int]] = []
    for plugin in ("PIL.ImageFile.ImageFile", "PIL.WebPImagePlugin.WebPImageFile"):
        module, _, name = plugin.rpartition(".")
        kind = getattr(importlib.import_module(module), name)
        load_ = kind.load

        def counting(self: Image.Image, load_: Callable[..., object] = load_) -> object:
            sizes.append(self.size)
            return load_(self)

        monkeypatch.setattr(kind, "load", counting)
    return sizes


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(
    images: Path, decoded: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    monkeypatch.setattr(image_decoder, "_MOST_PIXELS", 99 * 50)
    Image.new("RGB", (100, 50)).save(images / "train/cat/0.png", format)
    decoded.clear()
    for path in (images, zipped(images)):
        refused(path, "train/cat/0.png is 100×50, and at most 4,950 pixels an image are decoded")
    assert (100, 50) not in decoded


def test_images_that_do_not_fit_together_are_refused_before_any_is_decoded(
    images: Path, decoded: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in images.rglob("*.png"):
        Image.new("RGB", (300, 200)).save(file)
    decoded.clear()
    monkeypatch.setenv("CIFAR_DEPLOY_DATA_LIMIT", "1M")
    refused(
        images,
        r"6 images of 300×200, as train/cat/0.png is, take 1 MiB on the disk, and 1 MiB are allowed.*set CIFAR_DEPLOY_DATA_LIMIT",
    )
    assert not decoded
    monkeypatch.setenv("CIFAR_DEPLOY_DATA_LIMIT", "1080000")
    assert load(images).train_images.shape == (4, 200, 300, 3)


def test_44_black_pictures_of_81_million_pixels_are_refused_by_what_they_declare(images: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0))
    for split in ("train", "test"):
        for number in range(11):
            for name in ("cat", "dog"):
                path = images / split / name / f"{number}.png"
                path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"x"))
    refused(images, "44 of 44 images cannot be read: .* and 41 more .is 9,000×9,000, and at most 16,777,216 pixels")


def test_an_entry_that_inflates_to_more_than_it_claims_is_cut_off(images: Path) -> None:
    path = zipped(images)
    bomb = b"\x89PNG\r\n\x1a\n" + bytes(50_000_000)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/cat/2.png", bomb)
        info = archive.getinfo("train/cat/2.png")
    # The same size in the entry's own header and in the directory at the end.
    path.write_bytes(path.read_bytes().replace(struct.pack("<L", info.file_size), struct.pack("<L", 1000)))
    with python_peak() as peak:
        refused(path, "train/cat/2.png")
    assert peak[0] < 5_000_000


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_entry_of_another_compression_is_refused(images: Path, compression: int) -> None:
    path = zipped(images)
    with zipfile.ZipFile(path, "a", compression) as archive:
        archive.writestr("train/cat/2.png", bytes(1000))
    refused(path, "train/cat/2.png is neither stored nor deflated")


def test_a_large_file_is_refused_before_it_is_read(images: Path) -> None:
    os.truncate(images / "train/dog/0.png", 2**40)
    refused_as(Corrupt, images, "dog/0.png: is 1,099,511,627,776 bytes, and at most 67,108,864 are read")


def test_pipes_and_devices_are_refused_and_never_waited_for(images: Path) -> None:
    path = images / "train/dog/0.png"
    path.unlink()
    path.symlink_to("/dev/zero")
    refused_as(Corrupt, images, "dog/0.png: is a device")
    path.unlink()
    os.mkfifo(path)
    refused_as(Corrupt, images, "dog/0.png: is a named pipe")
    refused_as(Corrupt, path, "dog/0.png: is a named pipe")


@pytest.mark.parametrize("function", [identify, load])
def test_a_link_that_leads_nowhere_is_no_usage_error(images: Path, function) -> None:  # type: ignore[no-untyped-def]
    link = images.with_name("link")
    link.symlink_to("absent")
    with pytest.raises(Corrupt, match=r"--data-dir: .*link cannot be read"):
        function(link)
    (images / "test/dog/1.png").symlink_to("absent")
    # An image like any other that cannot be read, whatever looks at it first: --skip-broken leaves it out.
    with pytest.raises(DataError, match=r"dog/1\.png:? cannot be read \(No such file.*--skip-broken"):
        identify(images)
        load(images)


def test_a_class_name_that_no_folder_could_have_is_refused(images: Path) -> None:
    path = zipped(images)
    with zipfile.ZipFile(path, "a") as archive:
        for split in ("train", "test"):
            archive.write(images / "train/cat/0.png", f"{split}/{'x' * 60_000}/0.png")
    refused(path, "the class name 'xxxxxxxxxxxxxxxxxxxx'… is 60,000 bytes long")


def test_a_zip_with_names_that_are_no_text_is_refused(images: Path) -> None:
    path = images.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train/cät/0.png", b"")
    path.write_bytes(path.read_bytes().replace("ä".encode(), b"\xff\xff"))
    refused(path, "is not a whole zip file")


def test_a_class_that_may_not_be_read_is_not_passed_over(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may be root, who may read anything."""

    def refusing(entries: Callable[[Path], Any]) -> Callable[[Path], Any]:
        def refuse(path: Path) -> Any:
            if Path(path).name == "owl":
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return entries(path)

        return refuse

    for split in ("train", "test"):
        shutil.copytree(images / split / "dog", images / split / "owl")
    for name in ("listdir", "scandir"):  # Python's versions differ in which lists a folder
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    refused(images, r"owl: cannot be read \(Permission denied\)")


def test_a_bound_that_is_no_size_is_a_usage_error(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR_DEPLOY_DATA_LIMIT", "a lot")
    refused_as(UsageError, images, "CIFAR_DEPLOY_DATA_LIMIT: a lot is no size")
