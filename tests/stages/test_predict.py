"""`predict` gives the classes that `evaluate` found, for any image that can be read, by an artifact that lies anywhere."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cifar_deploy import pipeline
from cifar_deploy.core import codec, trust
from cifar_deploy.core.records import Result
from cifar_deploy.core.store import Store
from cifar_deploy.stages import prepare
from tests.in_process import run_here
from tests.schemas import document_of
from tests.test_cli import assert_refused

pytestmark = pytest.mark.usefixtures("workers_here")

COUNT = 40  # more than a batch


def accuracy_of(road: Path, format: str) -> Result:
    (found,) = [
        result
        for result in Store(road).results()
        if result.job.metric == "accuracy" and result.job.artifact.variant == format
    ]
    return found


@pytest.fixture
def images(road: Path, tmp_path: Path) -> Path:
    """The first of the images that the accuracy was measured on, as files whose names sort as the images do."""
    data = accuracy_of(road, "onnx").job.artifact.data
    assert data
    pixels = np.load(prepare.folder_of(data) / "test_images.npy", mmap_mode="r")
    folder = tmp_path / "images"
    (folder / "below").mkdir(parents=True)
    for place in evaluated(road, "onnx")["chosen"][:COUNT]:
        Image.fromarray(pixels[place]).save(folder / "below" / f"{place:05}.png")
    return folder


def evaluated(road: Path, format: str) -> dict[str, Any]:
    measurement = accuracy_of(road, format).measurement
    assert measurement and measurement.raw
    with np.load(Store(road).raw_path(measurement.raw)) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("format", ["onnx", "torchscript", "checkpoint"])
def test_the_classes_are_those_of_the_evaluation(format: str, road: Path, images: Path) -> None:
    done = run_here("predict", "resnet8", "--format", format, images, "--json", "--out", road)
    assert done.returncode == 0, done.stderr
    found = document_of(done, "predict")
    assert (found["name"], found["format"]) == ("resnet8", format)
    paths = [each["image"] for each in found["images"]]
    assert len(paths) == COUNT and paths == sorted(paths)
    tops = [each["classes"][0] for each in found["images"]]
    assert [top["index"] for top in tops] == evaluated(road, format)["predicted"][:COUNT].tolist()
    margins = evaluated(road, format)["margins"][:COUNT]
    assert np.ptp(margins) > 1e-3  # the network is hardly trained: its labels alone would prove little
    for each, margin in zip(found["images"], margins, strict=True):
        shares = [one["probability"] for one in each["classes"]]
        assert np.log(shares[0] / shares[1]) == pytest.approx(margin, abs=1e-5)
        assert len(shares) == 3 and shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1


def test_an_artifact_is_a_folder_wherever_it_lies_or_its_main_file(road: Path, images: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(road / "exported" / "resnet8" / "onnx", tmp_path / "an app" / "model")
    image = next(images.rglob("*.png"))
    answers = [
        run_here("predict", *words, image, "--out", road).stdout
        for words in (["resnet8"], [moved], [moved / "model.onnx"], [road / "exported" / "resnet8" / "onnx"])
    ]
    assert "probability" in answers[0] and len(set(answers)) == 1


def test_all_probabilities_together_are_one(road: Path, images: Path) -> None:
    image = next(images.rglob("*.png"))
    done = run_here("predict", "resnet8", image, "--top", "99", "--json", "--out", road)
    (only,) = json.loads(done.stdout)["images"]
    assert sorted(one["index"] for one in only["classes"]) == list(range(10))
    assert sum(one["probability"] for one in only["classes"]) == pytest.approx(1)


def test_an_image_that_cannot_be_read_is_named_and_the_others_answer(road: Path, images: Path) -> None:
    for path in sorted(images.rglob("*.png"))[3:]:
        path.unlink()
    (images / "a.png").write_bytes(b"")
    (images / "b\x1b[31m.jpg").write_bytes(b"no image")
    (images / "deep.png").write_bytes(b"")
    Image.new("I;16", (4, 4)).save(images / "deep.png")
    (images / "notes.txt").write_text("not an image, and not asked for")
    (images / ".hidden.png").write_bytes(b"")
    done = run_here("predict", "resnet8", images, "--out", road)
    assert done.returncode == 1 and "\x1b" not in done.stdout + done.stderr
    assert "2 of 6 images cannot be read" in done.stderr and "a.png" in done.stderr
    assert done.stdout.count("cannot be read") == 2 and done.stdout.count("%") == 12
    single = run_here("predict", "resnet8", images / "a.png", "--out", road)
    assert_refused(single, 1, "a.png: is not a readable image: it is empty; mend, convert or leave it out")
    document = document_of(run_here("predict", "resnet8", images, "--json", "--out", road), "predict")
    assert sum(each["unreadable"] is not None for each in document["images"]) == 2


def test_an_image_of_another_size_is_resized_and_that_is_said(road: Path, tmp_path: Path) -> None:
    Image.new("L", (50, 40), 128).save(tmp_path / "wide.png")
    done = run_here("predict", "resnet8", tmp_path / "wide.png", "--out", road)
    assert done.returncode == 0 and "Resized to 32×32: 1 image." in done.stdout


def test_a_damaged_file_answers_nothing(road: Path, images: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(road / "exported" / "resnet8" / "onnx", tmp_path / "model")
    content = (moved / "model.onnx").read_bytes()
    (moved / "model.onnx").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    done = run_here("predict", moved, images, "--out", tmp_path)
    assert_refused(done, 1, "model.onnx: is not the file its record describes")


def test_a_program_that_this_user_did_not_export_does_not_run(
    road: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR_DEPLOY_STATE", str(tmp_path / "another user"))
    place = road / "exported" / "resnet8" / "torchscript"
    assert_refused(run_here("predict", place, images, "--out", tmp_path), 1, "is a program")
    assert run_here("predict", place, images, "--out", tmp_path, "--trust").returncode == 0
    assert not trust.record_path().exists()


def test_code_that_a_record_alone_names_is_not_imported(road: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("from pathlib import Path\nPath('ran').touch()\nFORMAT = None\n")
    artifact = Store(road).artifact("resnet8", "onnx")
    assert artifact
    moved = shutil.copytree(road / "exported" / "resnet8" / "onnx", tmp_path / "model")
    codec.save(moved / "artifact.json", replace(artifact, format="evil:FORMAT"))
    for place in (moved, moved / "model.onnx"):
        assert_refused(run_here("predict", place, images, cwd=tmp_path), 1, "evil:FORMAT: a record names this format")
    assert not (tmp_path / "ran").exists()


def test_nothing_is_written(road: Path, images: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in road.rglob("*")}
    here = tmp_path / "here"
    here.mkdir()
    assert run_here("predict", road / "exported" / "resnet8" / "onnx", images, cwd=here).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in road.rglob("*")} == before and not list(here.iterdir())


def test_the_python_api_gives_the_same(road: Path, images: Path) -> None:
    found = pipeline.predict(Store(road), "resnet8", [images], top=1)
    assert found.backend == "onnxruntime" and len(found.predictions) == COUNT
    assert [one.classes[0].index for one in found.predictions] == evaluated(road, "onnx")["predicted"][:COUNT].tolist()
