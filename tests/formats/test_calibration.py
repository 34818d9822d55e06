"""Which calibration is kept, with quantisers whose outcome is known."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cifar_deploy.core import progress
from cifar_deploy.core.arrays import Images, Logits
from cifar_deploy.core.records import Trained
from cifar_deploy.formats import Choices, Source, calibration
from cifar_deploy.formats.calibration import Calibration, Reported, best
from tests.probes import a_checkpoint

CLASSES = 10


def images(count: int) -> Images:
    """Each of another brightness, by which it is told apart."""
    return np.linspace(0, 1, count, dtype=np.float32)[:, None, None, None] * np.ones((1, 3, 2, 2), np.float32)


def logits(path: Path, images: Images) -> Logits:
    """Of as many images another label than `float` as the file says, and all logits off by what it says behind that."""
    wrong, offset = (float(word) for word in path.read_text().split())
    labels = np.arange(len(images)) % CLASSES
    labels[: int(wrong)] += 1
    answers: Logits = np.eye(CLASSES, dtype=np.float32)[labels % CLASSES] + np.float32(offset)
    return answers


class Tried:
    """A quantiser that writes what it is told, and remembers the images that it was given."""

    def __init__(self, tmp_path: Path, available: int) -> None:
        self.seen: list[tuple[str, Images]] = []
        self._path, self._all = tmp_path, images(available)

    def calibration(self, method: str, count: int, outcome: str) -> Calibration:
        return Calibration(method=method, images=count, quantise=functools.partial(self._quantise, method, outcome))

    def _quantise(self, method: str, outcome: str, images: Images, path: Path) -> None:
        self.seen.append((method, images))
        path.write_text(outcome)
        path.with_suffix(".bin").write_text(f"weights of {method}")

    def _training_images(self, count: int) -> Images:
        self.asked = count
        return self._all[:count]

    def best(self, *calibrations: Calibration) -> Choices:
        nothing: Any = None
        source = Source(
            network=nothing,
            origin=Trained(checkpoint=a_checkpoint()),
            images=torch.from_numpy(self._all[:1]),
            calibration_images=self._training_images,
        )
        (self._path / "float").write_text("0 0")
        return best(source, self._path / "float", self._path / "model.xml", calibrations, logits)


def test_the_one_with_the_most_labels_of_the_float_network_is_kept_with_all_its_files(tmp_path: Path) -> None:
    tried = Tried(tmp_path, available=1000)
    choices = tried.best(
        tried.calibration("a", 16, "10 0.0"), tried.calibration("b", 64, "1 0.5"), tried.calibration("c", 64, "2 0.0")
    )
    assert (choices["calibration"], choices["calibration_images"]) == ("b", 64)
    assert choices["held_out_images"] == 1000 - 64
    assert choices["held_out_agreement"] == 1 - 1 / (1000 - 64)
    assert (tmp_path / "model.xml").read_text() == "1 0.5"
    assert (tmp_path / "model.bin").read_text() == "weights of b"


def test_of_those_that_agree_alike_the_nearest_is_kept(tmp_path: Path) -> None:
    tried = Tried(tmp_path, available=1000)
    choices = tried.best(tried.calibration("far", 16, "0 0.5"), tried.calibration("near", 16, "0 0.25"))
    assert choices["calibration"] == "near"


def test_no_image_that_calibrates_is_held_out_and_no_more_than_half_do(tmp_path: Path) -> None:
    tried = Tried(tmp_path, available=100)
    choices = tried.best(*(tried.calibration("a", count, "0 0") for count in (16, 64, 256)))
    # 64 and 256 are both the 50 that there are.
    assert [len(images) for _, images in tried.seen] == [16, 50]
    assert choices["held_out_images"] == 50


def test_of_large_images_no_more_are_taken_than_fit_into_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image here is 48 bytes."""
    monkeypatch.setattr(calibration, "_BYTES", 48 * 100)
    tried = Tried(tmp_path, available=1000)
    choices = tried.best(tried.calibration("a", 256, "0 0"))
    assert tried.asked == 100
    assert [len(images) for _, images in tried.seen] == [50] and choices["held_out_images"] == 50


def test_each_batch_is_reported_when_it_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.report, "folder", tmp_path)
    monkeypatch.setattr(progress, "_INTERVAL_S", 0)
    progress.report(1, 6, "calibrating on 64 images")
    told = []
    for _ in Reported(["first", "second"], "calibrating, batch"):
        latest = progress.read(tmp_path)
        assert latest
        told.append((latest.done, latest.total, latest.message))
    assert told == [(1, 6, "calibrating, batch 1 of 2"), (1, 6, "calibrating, batch 2 of 2")]
