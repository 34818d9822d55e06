"""Which files of an image folder are read, in which order and under which class: the same for a directory and its zip."""

import io
import os
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_deploy.core.errors import DataError
from cifar_deploy.datasets import image_files
from cifar_deploy.datasets.image_folder import identify, load
from tests.datasets.folders import both, random_pixels, refused, save, zip_of, zipped

COMPOSED = "größer"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)


def a_png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(random_pixels(0)).save(file, "PNG")
    return file.getvalue()


def test_the_images_and_their_order_are_those_of_torchvision(images: Path, tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    nested = (
        "cat/b/1.PNG",
        "cat/b/a/0.bmp",
        "cat/b-c/0.TIFF",
        "cat/0a.Ppm",
        "dog/deep/er/0.pgm",
        "Owl/0.webp",
        "dog/Z.bmp",
    )
    for seed, name in enumerate(nested, 10):
        save(images / "train" / name, seed)
    (images / "train/cat/notes.txt").write_text("no image")
    shutil.copytree(images / "train/Owl", images / "test/Owl")
    elsewhere = tmp_path / "elsewhere"
    save(elsewhere / "0.png", 20)
    own = [load(images), load(zipped(images))]
    (images / "train/cat/linked").symlink_to(elsewhere)
    (images / "train/dog/l.png").symlink_to(elsewhere / "0.png")
    own.append(load(images))
    for ours, count in zip(own, (11, 11, 13), strict=True):
        assert len(ours.train_images) == count
    theirs = ImageFolder(str(images / "train"))
    assert tuple(theirs.classes) == own[-1].classes
    assert [str(Path(path).relative_to(images)) for path, _ in theirs.samples] == list(own[-1].train_names)
    for index, (image, label) in enumerate(theirs):
        assert label == own[-1].train_labels[index]
        assert np.array_equal(np.asarray(image), own[-1].train_images[index])
    without = [name for name in own[-1].train_names if "/l" not in name]
    assert list(own[0].train_names) == list(own[1].train_names) == without


def test_every_file_is_read_or_counted_with_its_reason(images: Path) -> None:
    unread = {
        **{f"train/cat/photo{number}.heic": "with another suffix" for number in range(7)},
        "train/dog/Thumbs.db": "with another suffix",
        "test/dog/no_suffix": "with another suffix",
        "train/dog/._0.png": "hidden",
        "train/cat/deep/.DS_Store": "hidden",
        "train/.ipynb_checkpoints/": "hidden",
        "train/dog/@eaDir/": "hidden",
        "train/top.png": "in no class folder",
        "test/cat/emptied/": "empty",
        "val/": "beside train/ and test/",
        "__MACOSX/": "beside train/ and test/",
        "readme.md": "beside train/ and test/",
    }
    for name in unread:
        path = images / name
        if name.endswith("/"):
            path.mkdir(parents=True)
            if not name.endswith("emptied/"):
                save(path / "inside/0.png", 1)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
    save(images / "train/cat/deep/0.JPG", 7)
    for path in (images, zipped(images), zipped(images, "animals/")):
        found = image_files.find(path)
        assert found.not_read == unread
        assert len(found.images) == 7
    for loaded in both(images):
        (line,) = loaded.warnings
        assert line.startswith("not read: ")
        assert (
            "9 with another suffix (test/dog/no_suffix, train/cat/photo0.heic, train/cat/photo1.heic and 6 more)"
            in line
        )
        assert "1 in no class folder (train/top.png)" in line and "1 empty (test/cat/emptied/)" in line


def test_a_folder_that_is_read_whole_has_no_warning(images: Path) -> None:
    for loaded in both(images):
        assert loaded.warnings == ()


def test_a_folder_by_the_name_of_an_image_is_a_folder(images: Path) -> None:
    save(images / "train/cat/album.png/0.png", 9)
    for loaded in both(images):
        assert np.array_equal(loaded.train_images[2], random_pixels(9))


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("content", [None, "0.heic", ".DS_Store", "deep/"])
def test_a_class_folder_without_images_is_refused(images: Path, split: str, content: str | None) -> None:
    for folder in (images / "train/owl", images / "test/owl"):
        save(folder / "0.png", 8)
    (images / split / "owl/0.png").unlink()
    if content:
        path = images / split / "owl" / content
        path.mkdir() if content.endswith("/") else path.write_bytes(b"x")
    for given in (images, zipped(images)):
        message = refused(given, f"no images in {split}/owl/")
        assert content is None or content in message


def test_a_class_without_images_in_both_splits_is_refused(images: Path) -> None:
    for split in ("train", "test"):
        (images / split / "owl").mkdir()
        (images / split / "owl/0.heic").write_bytes(b"x")
    for given in (images, zipped(images)):
        refused(given, r"no images in test/owl/ \(not read: 1 with another suffix \(test/owl/0\.heic\)\)")


def test_what_lies_there_instead_of_images_is_said(images: Path) -> None:
    (images / "test").rename(images / "validation")
    for given in (images, zipped(images)):
        refused(given, r"no images below test/ \(not read: 1 beside train/ and test/ \(validation/\)\)")


def test_a_link_that_leads_back_up_ends_there(images: Path) -> None:
    (images / "train/cat/loop").symlink_to("..")
    loaded = load(images)
    assert len(loaded.train_images) == 4
    assert loaded.warnings == ("not read: 1 linked (train/cat/loop)",)


def test_few_folders_that_are_many_by_their_links_are_refused(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "_MOST_FILES", 1000)
    for level in range(12):
        folder = images.parent / f"level{level}"
        folder.mkdir()
        for name in "ab":
            (folder / name).symlink_to(f"../level{level + 1}")
    (images.parent / "level12").mkdir()
    (images / "train/cat/level").symlink_to(images.parent / "level0")
    refused(images, "holds more than 1,000 files")


def test_a_very_deep_folder_is_not_entered(images: Path) -> None:
    path = zipped(images)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"train/cat/{'a/' * 3000}0.png", b"x")
    (warning,) = load(path).warnings
    assert "more than 50 folders deep" in warning


def test_a_link_in_a_zip_is_not_read_as_an_image(images: Path) -> None:
    path = zipped(images)
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("train/cat/2.png")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "0.png")
    loaded = load(path)
    assert len(loaded.train_images) == 4 and loaded.warnings == ("not read: 1 linked (train/cat/2.png)",)


def test_the_identity_of_a_folder_changes_with_what_is_not_read(images: Path) -> None:
    before = identify(images)
    (images / "train/cat/0.heic").write_bytes(b"x")
    assert identify(images) != before


@pytest.mark.parametrize(
    ("raw", "flag", "name", "guessed"),
    [
        (COMPOSED.encode(), False, COMPOSED, False),
        (DECOMPOSED.encode(), False, DECOMPOSED, False),
        (COMPOSED.encode(), True, COMPOSED, False),
        ("日本語".encode(), False, "日本語", False),
        (COMPOSED.encode("cp437"), False, COMPOSED, True),
        ("Éclair".encode("cp437"), False, "Éclair", True),
        (b"cat & dog", False, "cat & dog", False),
    ],
)
def test_the_names_in_a_zip_are_read_by_what_it_says_and_else_as_utf_8(
    tmp_path: Path, raw: bytes, flag: bool, name: str, guessed: bool
) -> None:
    stand_in = "@" * len(raw)
    names = {f"{split}/{stand_in}/0.png": f"{split}/".encode() + raw + b"/0.png" for split in ("train", "test")}
    names |= {f"{split}/Zebra/0.png": f"{split}/Zebra/0.png".encode() for split in ("train", "test")}
    loaded = load(zip_of(tmp_path / "a.zip", names, a_png(), flag=flag))
    assert set(loaded.classes) == {"Zebra", name}
    assert any("code page 437" in warning and name in warning for warning in loaded.warnings) == guessed


@pytest.mark.parametrize("stale", [False, True])
def test_info_zips_field_of_a_name_in_utf_8_is_read_if_it_is_of_that_name(tmp_path: Path, stale: bool) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for split in ("train", "test"):
            archive.writestr(f"{split}/cat/0.png", a_png())
            info = zipfile.ZipInfo(f"{split}/gr__er/0.png")
            raw = b"another" if stale else info.filename.encode()
            field = struct.pack("<BL", 1, zlib.crc32(raw)) + f"{split}/{COMPOSED}/0.png".encode()
            info.extra = struct.pack("<HH", 0x7075, len(field)) + field
            archive.writestr(info, a_png())
    assert load(path).classes == ("cat", "gr__er" if stale else COMPOSED)


def test_a_class_spelled_in_two_ways_of_unicode_is_one(images: Path) -> None:
    for split, name in (("train", COMPOSED), ("test", DECOMPOSED)):
        save(images / split / name / "0.png", len(name))
    for loaded in both(images):
        assert loaded.classes == ("cat", "dog", COMPOSED)
        assert loaded.test_labels.tolist() == [0, 1, 2]


def test_a_class_that_is_spelled_one_way_keeps_its_spelling(images: Path) -> None:
    """The class names are in the fingerprint."""
    for split in ("train", "test"):
        save(images / split / DECOMPOSED / "0.png", 3)
    for loaded in both(images):
        assert loaded.classes == ("cat", "dog", DECOMPOSED)


@pytest.mark.parametrize(
    ("first", "second", "named"),
    [(COMPOSED, DECOMPOSED, r"'gr\\xf6\\xdfer' and 'gro\\u0308\\xdfer'"), ("owl", "owl ", "'owl' and 'owl '")],
)
def test_two_classes_whose_names_look_alike_are_refused(images: Path, first: str, second: str, named: str) -> None:
    for split in ("train", "test"):
        for name in (first, second):
            save(images / split / name / "0.png", 3)
    for path in (images, zipped(images)):
        message = refused(path, "has two folders whose names look alike")
        assert all(name in message for name in named.replace(r"\\", "\\").split(" and "))


@pytest.mark.parametrize(
    ("train", "test"), [("Owl", "owl"), ("owl", "owl "), ("owl\n", "owl"), (DECOMPOSED.upper(), COMPOSED)]
)
def test_a_class_written_otherwise_in_the_other_split_is_named_with_it(images: Path, train: str, test: str) -> None:
    save(images / "train" / train / "0.png", 3)
    save(images / "test" / test / "0.png", 4)
    for path in (images, zipped(images)):
        message = refused(path, "give both folders one name")
        assert repr(train) in message and repr(test) in message


def test_classes_that_differ_by_case_are_two_where_both_splits_have_both(images: Path) -> None:
    for split in ("train", "test"):
        for seed, name in enumerate("aA"):
            save(images / split / name / "0.png", seed)
    for loaded in both(images):
        assert loaded.classes == ("A", "a", "cat", "dog")


def test_all_classes_that_a_split_lacks_are_counted(images: Path) -> None:
    for seed, name in enumerate("vwxyz"):
        save(images / "train" / name / "0.png", seed)
    refused(images, r"test/ has no images of 5 classes that train/ has \('v', 'w', 'x' and 2 more\)")


@pytest.mark.parametrize("name", ["owl ", "owl\n", "\x1b[31m", "日本語"])
def test_an_odd_class_name_that_both_splits_have_is_kept(images: Path, name: str) -> None:
    for split in ("train", "test"):
        save(images / split / name / "0.png", 3)
    for loaded in both(images):
        assert name in loaded.classes


@pytest.mark.parametrize(
    "names", [("train/cat/a.png", "train/cat/a.png"), (f"train/cat/{COMPOSED}.png", f"train/cat/{DECOMPOSED}.png")]
)
def test_two_entries_of_one_name_are_refused(images: Path, names: tuple[str, str]) -> None:
    path = zipped(images)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning) if names[0] == names[1] else _nothing():
        for name in names:
            archive.writestr(name, a_png())
    refused(path, "one name of two files; rename one")


def _nothing():  # type: ignore[no-untyped-def]
    import contextlib

    return contextlib.nullcontext()


def test_file_names_that_are_no_text_are_read_and_shown_as_escapes(images: Path) -> None:
    shutil.copy(images / "train/cat/0.png", os.fsdecode(os.fsencode(images / "train/dog") + b"/\xff.png"))
    Path(os.fsdecode(os.fsencode(images / "train/dog") + b"/\xfe.heic")).write_bytes(b"x")
    loaded = load(images)
    assert len(loaded.train_images) == 5 and identify(images)
    assert loaded.warnings == (r"not read: 1 with another suffix (train/dog/\udcfe.heic)",)


def test_a_class_name_that_is_no_text_is_refused(images: Path) -> None:
    shutil.copytree(images / "train/cat", os.fsdecode(os.fsencode(images / "train") + b"/\xff"))
    with pytest.raises(DataError, match=r"the class name '\\udcff' is not UTF-8"):
        load(images)
