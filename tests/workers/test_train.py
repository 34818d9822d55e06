"""Networks as users write them, trained in this process on a few images: what is stored is what was trained."""

import contextlib
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cifar_deploy.backends.pytorch import load
from cifar_deploy.core import launch, memory
from cifar_deploy.core.arrays import as_input
from cifar_deploy.core.errors import DeployError, UsageError
from cifar_deploy.core.records import Checkpoint, Recipe, Training
from cifar_deploy.core.store import Store, as_artifact
from cifar_deploy.stages.train import waiting
from cifar_deploy.training import forecast, ranks, setup
from cifar_deploy.workers import train as stage
from tests.conftest import TINY
from tests.in_process import run_here
from tests.probes import a_checkpoint

DATA = dataclasses.replace(a_checkpoint().training.data, classes=tuple("abcdefghij"), height=32, width=32)
RECIPE = Recipe(name="plain", optimizer="sgd", learning_rate=0.01, momentum=0.9, epochs=3, batch_size=8, seed=3)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        labels = np.arange(30, dtype=np.int64) % 10
        pixels = random.integers(128, size=(30, 32, 32, 3))
        for image, label in zip(pixels, labels, strict=True):
            image[label // 4 * 8 :][:8, label % 4 * 8 :][:, :8] += 127  # each class is bright at a place of its own
        np.save(tmp_path / f"{split}_images.npy", pixels.astype(np.uint8))
        np.save(tmp_path / f"{split}_labels.npy", labels)
    return tmp_path


def train(network: str, images: Path, recipe: Recipe = RECIPE) -> Checkpoint:
    training = Training(name="own", network=f"tests.own_networks:{network}", recipe=recipe, data=DATA)
    return stage.train(training, images / "out", images, "cpu", torch.get_num_threads(), None, 600.0)


@pytest.mark.parametrize(
    ("network", "changes"),
    [
        ("tied", {}),
        ("tied", {"weights": "float16"}),
        ("lazy", {}),
        ("flattened_by_view", {}),
        # What it keeps of a test it uses in the next epoch, whose images have the same size.
        ("remembers_its_first_call", {"scales": (0.5, 1.0, 1.0)}),
    ],
)
def test_a_network_is_stored_as_it_was_trained(network: str, changes: dict[str, object], images: Path) -> None:
    recipe = dataclasses.replace(RECIPE, **changes)  # type: ignore[arg-type]
    checkpoint = train(network, images, recipe)
    artifact = as_artifact(checkpoint)
    (path,) = Store(images / "out").verified(artifact).values()
    predict = load(path, artifact, "cpu", torch.get_num_threads())
    pixels, labels = np.load(images / "test_images.npy"), np.load(images / "test_labels.npy")
    accuracy = float((predict(as_input(pixels)).argmax(1) == labels).mean())
    assert accuracy == pytest.approx(checkpoint.curve[-1].accuracy)
    assert accuracy > 0.3, "it learnt something, so that another network would not do as well"


def test_a_weight_of_two_layers_is_counted_once(images: Path) -> None:
    assert train("tied", images).parameters == 48 * 48 + 48 * 10 + 10


def test_what_cannot_be_counted_is_recorded_with_the_reason(images: Path) -> None:
    checkpoint = train("bilinear", images)
    assert checkpoint.macs is None and checkpoint.uncounted == "no formula for aten._trilinear"
    assert Store(images / "out").checkpoint("own") == checkpoint


def test_the_record_names_the_layers_with_dead_channels(images: Path) -> None:
    checkpoint = train("partly_dead", images)
    assert checkpoint.dead_channels
    assert [str(each) for each in checkpoint.dead_channels] == ["relu after first (3 of 8)", "last.1 (2 of 6)"]
    assert Store(images / "out").checkpoint("own") == checkpoint


@pytest.mark.skipif(not memory.restart_peak(), reason="the kernel lets no process restart its peak memory")
def test_what_is_only_tried_is_no_part_of_the_peak_memory(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried_bytes = 300 << 20

    def try_both(_: object) -> tuple[str, dict[str, float]]:
        np.ones(tried_bytes, np.uint8)
        return "bfloat16", {"float32": 1.0, "bfloat16": 0.5}

    train("tied", images)
    before = memory.resident_bytes()
    monkeypatch.setattr(forecast, "faster_arithmetic", try_both)
    training = Training(name="both", network="tests.own_networks:tied", recipe=RECIPE, data=DATA)
    found = stage.train(training, images / "out", images, "cpu", 1, None, 600.0, choose_arithmetic=True)
    assert found.peak_bytes and before and found.peak_bytes < before + tried_bytes / 2
    assert found.step_seconds == {"float32": 1.0, "bfloat16": 0.5}


def test_a_network_that_is_refused_leaves_nothing_behind(images: Path) -> None:
    with pytest.raises(UsageError, match="register_buffer"):
        train("random_buffer", images)
    assert not (images / "out").exists()


def test_a_rounded_accuracy_that_fails_costs_no_training(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(network: torch.nn.Module) -> None:
        raise ValueError("cannot be rounded")

    monkeypatch.setattr(stage, "halved", fail)
    checkpoint = train("tied", images, dataclasses.replace(RECIPE, weights="float16"))
    assert checkpoint.rounded_accuracy is None and len(checkpoint.curve) == RECIPE.epochs
    Store(images / "out").verified(as_artifact(checkpoint))


@pytest.mark.parametrize(("images_off", "rounded"), [(0, True), (1, False)])
def test_weights_are_rounded_only_if_the_accuracy_stays(
    images: Path, monkeypatch: pytest.MonkeyPatch, images_off: int, rounded: bool
) -> None:
    accuracy = train("tied", images).curve[-1].accuracy
    monkeypatch.setattr(stage, "_rounded_accuracy", lambda _: accuracy - images_off / 30)
    recipe = dataclasses.replace(RECIPE, weights="float16")
    checkpoint = stage.train(
        Training(name="rounded", network="tests.own_networks:tied", recipe=recipe, data=DATA),
        *(images / "out", images, "cpu", torch.get_num_threads(), None, 600.0),
    )
    assert checkpoint.rounded_accuracy == accuracy - images_off / 30
    (path,) = Store(images / "out").verified(as_artifact(checkpoint)).values()
    assert (torch.float16 in {value.dtype for value in load_file(path).values()}) == rounded


@pytest.mark.parametrize(("off", "same"), [(0, True), (5, True), (-5, True), (6, False), (-6, False)])
def test_five_images_of_ten_thousand_make_no_other_accuracy(off: int, same: bool) -> None:
    assert stage._is_the_same((9_000 + off) / 10_000, 0.9, 10_000) == same


def test_each_seed_chooses_training_images_of_its_own(images: Path) -> None:
    def chosen(seed: int) -> list[list[int]]:
        recipe = dataclasses.replace(RECIPE, seed=seed, limit_train=12)
        training = Training(name="own", network="tests.own_networks:tied", recipe=recipe, data=DATA)
        group = ranks.Group("cpu")
        arrays = setup.setup_of(training, images, "cpu", torch.get_num_threads(), None, group).arrays
        assert len(arrays.test_labels) == 30
        return sorted(arrays.train_images.flatten(1).tolist())

    first, other = chosen(0), chosen(1)
    assert len(first) == len(other) == 12 and first != other
    assert chosen(0) == first


@pytest.mark.parametrize("network", ["tied", "remembers_its_first_call"])
def test_an_interrupted_training_gives_the_same_weights(
    network: str, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(network, images).weights.sha256
    (images / "out" / "exported" / "own" / "checkpoint" / "checkpoint.json").unlink()
    seen = []

    def evaluate_once(*arguments: object) -> float:
        seen.append(1)
        if len(seen) == 3:  # after the estimate and the first epoch
            raise DeployError("interrupted")
        return setup.evaluate(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("cifar_deploy.training.loop.evaluate", evaluate_once)
    with pytest.raises(DeployError, match="interrupted"):
        train(network, images)
    assert train(network, images).weights.sha256 == whole


@pytest.mark.usefixtures("workers_here")
def test_the_threads_of_a_training_sleep_while_they_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where others use the processor too, threads that spin make each other wait: five times as long was seen."""
    settings: list[launch.Setting] = []
    start = launch.Local.start

    def seen(
        local: launch.Local, folder: Path, setting: launch.Setting
    ) -> contextlib.AbstractContextManager[launch.Running]:
        settings.append(setting)
        return start(local, folder, setting)

    monkeypatch.setattr(launch.Local, "start", seen)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert run_here("train", "resnet8", *TINY, "--threads", "1", "--out", tmp_path).returncode == 0
    assert settings[-1].variables == {"OMP_WAIT_POLICY": "PASSIVE"}


def test_how_threads_wait_is_the_users_own_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert waiting() == {}
