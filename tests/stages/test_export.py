"""INT8 formats are calibrated on the images that the user gives, and anew on others."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_deploy import pipeline
from cifar_deploy.core import files
from cifar_deploy.core.errors import DataError, Unavailable, UsageError
from cifar_deploy.core.records import Artifact, Preprocessing, Trained
from cifar_deploy.core.store import Store
from cifar_deploy.workers import export as worker
from cifar_deploy.workers.prepare import prepare_calibration
from tests.in_process import run_here
from tests.probes import a_checkpoint, a_job


def digits_as_files(folder: Path, numbers: range) -> Path:
    """Without classes, one of them in a folder below."""
    prepared = pipeline.prepare("digits")
    for number in numbers:
        path = folder / ("more" if number == numbers[0] else "") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(prepared.array("train_images")[number]).save(path)
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("workers_here")
def test_given_images_calibrate_and_others_calibrate_anew(road: Path, tmp_path: Path) -> None:
    out = shutil.copytree(road, tmp_path / "out")
    first, second = (digits_as_files(tmp_path / f"{start}", range(start, start + 24)) for start in (0, 100))

    def export(*given: object) -> tuple[str, Artifact]:
        done = run_here("export", "--format", "onnx_int8", *given, "--out", out)
        assert done.returncode == 0, done.stderr
        artifact = Store(out).artifact("resnet8", "onnx_int8")
        assert artifact
        return done.stdout, artifact

    _, on_first = export("--calibration-data", first)
    assert on_first.choices["calibration_data"] == "0" and len(str(on_first.choices["calibration_data_hash"])) == 16
    assert (on_first.choices["calibration_images"], on_first.choices["held_out_images"]) == (12, 12)
    said, again = export("--calibration-data", first)
    assert "(exported before)" in said and again == on_first
    said, on_second = export("--calibration-data", second)
    assert "(exported before)" not in said
    assert on_second.choices["calibration_data_hash"] != on_first.choices["calibration_data_hash"]
    said, on_training = export()
    assert "(exported before)" not in said and "calibration_data" not in on_training.choices


DATA = dataclasses.replace(a_checkpoint().training.data, height=8, width=8, preprocessing=None)


def images(folder: Path, *sizes: tuple[int, int]) -> Path:
    folder.mkdir()
    for number, (width, height) in enumerate(sizes):
        Image.fromarray(np.full((height, width, 3), number, np.uint8)).save(folder / f"{number}.png")
    return folder


def test_calibration_images_go_through_the_preprocessing_of_the_data_set(tmp_path: Path) -> None:
    folder = images(tmp_path / "images", (20, 10), (9, 30), (8, 8))
    (folder / "notes.txt").write_text("no image")
    data = dataclasses.replace(DATA, preprocessing=Preprocessing(resize=(8,), crop=(8, 8)))
    found = prepare_calibration(folder, data, tmp_path / "pixels.npy")
    pixels = np.load(found.pixels)
    assert pixels.shape == (3, 8, 8, 3) and found.source == "images"
    assert sorted(pixels[:, 0, 0, 0]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            ((8, 8),),
            r"--calibration-data: .*images holds 1 image \(not read: 1 with another suffix \(notes.txt\)\); give",
        ),
        (((8, 8), (9, 9)), "bring all images to one size"),
        (((9, 7), (9, 7)), r"the images of .* are 9×7, and the network takes 8×8; bring them to that size"),
    ],
)
def test_images_that_cannot_calibrate_are_refused(
    tmp_path: Path, sizes: tuple[tuple[int, int], ...], message: str
) -> None:
    folder = images(tmp_path / "images", *sizes)
    (folder / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match=message):
        prepare_calibration(folder, DATA, tmp_path / "pixels.npy")


def test_calibration_images_that_are_not_there_are_a_usage_error(road: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--calibration-data: .*absent does not exist"):
        next(pipeline.export(Store(road), calibration_data=tmp_path / "absent"))


def test_a_format_is_calibrated_on_given_images_else_on_training_images_if_there_are_some(tmp_path: Path) -> None:
    given, trained = (np.full((5, 8, 8, 3), level, np.uint8) for level in (255, 0))
    np.save(tmp_path / "given.npy", given)
    np.save(tmp_path / "train_images.npy", trained)
    job = a_job(format="onnx_int8")
    plain = worker.Reference(images=tmp_path, stand_in=None, logits=tmp_path / "logits.npy")
    calibrated = dataclasses.replace(plain, calibration=tmp_path / "given.npy")
    assert worker._calibration_images(job.artifact, plain, 3).max() == 0
    assert worker._calibration_images(job.artifact, calibrated, 3).min() == 1
    checkpoint = a_checkpoint()
    data = dataclasses.replace(DATA, train_images=0)
    origin = Trained(
        checkpoint=dataclasses.replace(checkpoint, training=dataclasses.replace(checkpoint.training, data=data))
    )
    alone = dataclasses.replace(job.artifact, origin=origin)
    assert worker._calibration_images(alone, calibrated, 3).min() == 1
    with pytest.raises(
        Unavailable,
        match=r"format onnx_int8: needs images for its calibration, .* run `cifar-deploy export --calibration-data PATH`",
    ):
        worker._calibration_images(alone, plain, 3)


@pytest.mark.slow
@pytest.mark.usefixtures("workers_here")
def test_without_training_images_int8_is_unavailable_with_the_way_out(
    tmp_path: Path, a_network_with_test_images_alone: Path
) -> None:
    out = a_network_with_test_images_alone
    done = run_here("export", "--format", "onnx", "--format", "onnx_int8", "--out", out)
    assert "needs images for its calibration, and images from digits has test images alone" in done.stdout, done.stderr
    assert "run `cifar-deploy export --calibration-data PATH`" in done.stdout and done.returncode == 1
    calibration = digits_as_files(tmp_path / "calibration", range(20))
    done = run_here("export", "--format", "onnx_int8", "--calibration-data", calibration, "--out", out)
    assert done.returncode == 0, done.stdout
    done = run_here("export", "--format", "onnx_int8", "--out", out)
    assert done.returncode == 0 and "(exported before)" in done.stdout, "there is nothing else to calibrate on"


@pytest.fixture
def a_network_with_test_images_alone(road: Path, tmp_path: Path) -> Path:
    """resnet8 of the digits, as one that was trained elsewhere and came with a test set."""
    prepared = pipeline.prepare("digits")
    for number in range(40):
        label = prepared.array("test_labels")[number]
        path = tmp_path / "digits" / "test" / str(label) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(prepared.array("test_images")[number]).save(path)
    data = pipeline.prepare("image_folder", tmp_path / "digits").data
    assert data.train_images == 0 and len(data.classes) == 10
    store = Store(road)
    trained = store.checkpoint("resnet8")
    assert trained
    training = dataclasses.replace(trained.training, data=data)
    with Store(tmp_path / "alone") as alone, files.staging(alone.checkpoint_folder("resnet8")) as staged:
        shutil.copytree(store.checkpoint_folder("resnet8"), staged, dirs_exist_ok=True)
        alone.save_checkpoint(dataclasses.replace(trained, training=training), staged)
    return tmp_path / "alone"
