"""Images as they are asked for: by options that fit together, each preparation in a place of its own."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_deploy.core.errors import DataError, UsageError
from cifar_deploy.core.records import Preprocessing
from cifar_deploy.datasets import AS_IS, Preparation
from cifar_deploy.stages import prepare as stage
from cifar_deploy.stages.prepare import preparation
from cifar_deploy.workers.prepare import prepare
from tests import pictures
from tests.datasets.folders import save
from tests.in_process import run_here


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CIFAR_DEPLOY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_no_option_asks_for_images_as_they_are() -> None:
    assert preparation() == AS_IS


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"size": "224"}, Preprocessing(resize=(224,), crop=(224, 224))),
        ({"size": "48x64"}, Preprocessing(resize=(48, 64))),
        ({"size": "48X64"}, Preprocessing(resize=(48, 64))),
        ({"resize": "256", "crop": "224"}, Preprocessing(resize=(256,), crop=(224, 224))),
        ({"resize": "256", "crop": "224x320"}, Preprocessing(resize=(256,), crop=(224, 320))),
        ({"crop": "24x32"}, Preprocessing(crop=(24, 32))),
        ({"resize": "30x40", "interpolation": "bicubic"}, Preprocessing(resize=(30, 40), interpolation="bicubic")),
    ],
)
def test_options_become_a_preprocessing(options: dict[str, str], expected: Preprocessing) -> None:
    assert preparation(**options) == Preparation(preprocessing=expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "224", "crop": "224"}, "--size: stands for --resize and --crop"),
        ({"size": "224", "resize": "256"}, "--size: stands for --resize and --crop"),
        ({"size": "large"}, "--size: large is no size; give a number like 224, or height and width like 240x320"),
        ({"resize": "3x3x3"}, "--resize: 3x3x3 is no size"),
        ({"resize": "-3"}, "--resize: -3 is no size"),
        ({"crop": "0"}, "--crop: 0 is not within 1 and 4,096 pixels"),
        ({"size": "5000"}, "--size: 5000 is not within 1 and 4,096 pixels"),
        ({"size": ""}, "--size:  is no size"),
        ({"interpolation": "box"}, "--interpolation: nothing is resized; add --size or --resize"),
        ({"interpolation": "box", "crop": "8"}, "--interpolation: nothing is resized; add --size or --resize"),
        ({"resize": "224", "crop": "256"}, "--crop: 256 is larger than --resize 224"),
        ({"resize": "224", "crop": "225x300"}, "--crop: 225x300 is larger than --resize 224"),
        ({"resize": "30x40", "crop": "40x30"}, "--crop: 40x30 is larger than --resize 30x40"),
    ],
)
def test_options_that_contradict_each_other_are_usage_errors(options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        preparation(**options)  # type: ignore[arg-type]


def labels(folder: Path, content: str | bytes) -> Path:
    path = folder / "labels.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("content", ["dog\ncat\n", "dog\r\ncat\r\n", "dog\ncat", b"\xef\xbb\xbfdog\ncat\n"])
def test_classes_are_the_lines_of_a_file(tmp_path: Path, content: str | bytes) -> None:
    assert preparation(classes=labels(tmp_path, content)).classes == ("dog", "cat")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("dog\n\ncat\n", "labels.txt, line 2 is empty"),
        ("dog\ncat\n\n", "labels.txt, line 3 is empty"),
        ("dog\ncat\ndog\n", "labels.txt has 'dog' in line 1 and in line 3"),
        ("a\u0308\nb\n\u00e4\n", "in line 1 and in line 3"),
        ("", "has 1 name; give one a line"),
        (b"\xff\xfe", "is not UTF-8"),
    ],
)
def test_a_file_that_is_no_list_of_names_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        preparation(classes=labels(tmp_path, content))


def test_a_file_of_classes_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--classes: .*absent does not exist"):
        preparation(classes=tmp_path / "absent")


SMALL = Preparation(preprocessing=Preprocessing(resize=(16,), crop=(14, 12)))


def test_any_data_set_can_be_preprocessed_and_the_record_says_how() -> None:
    plain, small = prepare("digits", None), prepare("digits", None, SMALL)
    assert (small.data.height, small.data.width) == (14, 12) and small.data.preprocessing == SMALL.preprocessing
    assert small.folder != plain.folder and plain.data.preprocessing is None
    image = Image.fromarray(plain.array("test_images")[7]).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(small.array("test_images")[7], np.asarray(image.crop((2, 1, 14, 15))))
    assert np.array_equal(small.array("test_labels"), plain.array("test_labels"))
    again = prepare("digits", None, SMALL)
    assert not again.decoded and again.data == small.data


def test_the_fingerprint_holds_the_preprocessing() -> None:
    plain = prepare("digits", None)
    same_size = prepare("digits", None, Preparation(preprocessing=Preprocessing(resize=(32, 32))))
    assert np.array_equal(plain.array("test_images"), same_size.array("test_images"))
    assert plain.data.fingerprint == "be71bb1f2980b094" + plain.data.fingerprint[16:], "as in records of before"
    assert same_size.data.fingerprint != plain.data.fingerprint
    assert stage.find(same_size.data.fingerprint) == same_size.folder


def test_a_crop_that_is_larger_than_the_images_of_a_data_set_is_refused() -> None:
    with pytest.raises(DataError, match=r"digits .*: each image is 32×32, and the crop is 40×40"):
        prepare("digits", None, Preparation(preprocessing=Preprocessing(crop=(40, 40))))


def test_preprocessed_images_may_not_take_more_room_than_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR_DEPLOY_DATA_LIMIT", "100M")
    with pytest.raises(DataError, match=r"1,797 images of 224×224 take 258 MiB on the disk, and 100 MiB are allowed"):
        prepare("digits", None, Preparation(preprocessing=Preprocessing(resize=(224,), crop=(224, 224))))


def an_image_folder(root: Path) -> Path:
    for seed, name in enumerate(("train/cat/0", "train/dog/0", "test/cat/0", "test/dog/0", "test/dog/1")):
        save(root / f"{name}.png", seed)
    return root


def test_classes_are_in_the_order_of_the_networks_outputs(tmp_path: Path) -> None:
    folder = an_image_folder(tmp_path / "images")
    plain = prepare("image_folder", folder)
    named = prepare("image_folder", folder, Preparation(classes=("dog", "emu", "cat")))
    assert named.data.classes == ("dog", "emu", "cat")
    assert plain.array("test_labels").tolist() == [0, 1, 1] and named.array("test_labels").tolist() == [2, 0, 0]
    assert named.array("train_labels").tolist() == [2, 0]
    assert np.array_equal(plain.array("test_images"), named.array("test_images"))
    assert named.data.warnings == ("outputs without images: 1 of 3 (emu)",)
    assert named.data.fingerprint != plain.data.fingerprint and named.folder != plain.folder


def test_a_folder_without_an_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"--classes: has no line for 1 of the 2 classes of images from images \('cat'\)"
    ):
        prepare("image_folder", an_image_folder(tmp_path / "images"), Preparation(classes=("dog", "emu")))


def test_one_folder_is_enough_for_a_network_whose_outputs_are_named(tmp_path: Path) -> None:
    save(tmp_path / "images/val/cat/0.png", 0)
    prepared = prepare("image_folder", tmp_path / "images", Preparation(classes=("dog", "cat")))
    assert prepared.array("test_labels").tolist() == [1] and prepared.data.train_images == 0


@pytest.mark.usefixtures("workers_here")
@pytest.mark.parametrize(("recipe", "refused"), [("fast", True), ("original", False)])
def test_images_that_are_no_larger_than_a_random_crop_moves_them_are_refused(
    tmp_path: Path, recipe: str, refused: bool
) -> None:
    images = pictures.folder(tmp_path / "images", side=2)
    given = ("--dataset", "image_folder", "--data-dir", images, "--recipe", recipe, "--epochs", "1")
    done = run_here(
        "train", "tests.own_networks:tied", *given, "--out", tmp_path / "out", "--trust-code", "tests.own_networks:tied"
    )
    assert (
        "images of 2×2 are too small for the recipe's random crop of ±2 pixels; give --recipe original" in done.stderr
    ) == refused
    assert done.returncode == (2 if refused else 0), done.stderr


@pytest.mark.usefixtures("workers_here")
def test_test_images_alone_are_prepared_and_cannot_be_trained_on(tmp_path: Path) -> None:
    folder = an_image_folder(tmp_path / "images")
    shutil.rmtree(folder / "train")
    given = ("--dataset", "image_folder", "--data-dir", folder, "--size", "32")
    for _ in range(2):  # the second time from the cache
        done = run_here("data", *given)
        assert done.returncode == 0 and "0 training and 3 test images, 32×32" in done.stdout, done.stderr
        assert "preprocessing: resize the shorter side to 32 (bilinear), crop the centre to 32×32" in done.stdout
    prepared = prepare("image_folder", folder, preparation(size="32"))
    assert prepared.data.mean == pytest.approx(prepared.array("test_images").mean(axis=(0, 1, 2)) / 255)
    done = run_here("train", "resnet8", *given, "--out", tmp_path / "out")
    assert (done.returncode, done.stdout.count("train ")) == (1, 0)
    assert done.stderr == (
        "cifar-deploy: error: images from images: has test images alone; add train/ beside them, with the same classes\n"
    )
