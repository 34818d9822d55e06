"""benchmarks/reproduce.sh and trainings.py: what was shipped is trained again, as its record says."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_deploy.core.records import Addition, Training
from cifar_deploy.core.store import Store

ROOT = Path(__file__).parents[1]
SHIPPED = Store(ROOT)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True)


def _command(network: str, *options: str) -> subprocess.CompletedProcess[str]:
    return _run("python", "benchmarks/trainings.py", "--command", network, "--", *options)


def test_options_replace_those_of_the_record() -> None:
    shipped = _command("resnet18", "--data-dir", "a&b c", "--threads=1", "--seed", "3")
    assert shipped.stdout.split("--recipe fast ")[1] == (
        "--bias-rate 16 --arithmetic bfloat16 --save-fp16 --device cpu --data-dir 'a&b c' --threads=1 --seed 3\n"
    )
    assert "its setting changed on the way" in shipped.stderr


def test_a_network_that_was_added_is_no_training(tmp_path: Path) -> None:
    store, trained = Store(tmp_path), SHIPPED.checkpoint("resnet20")
    assert trained
    elsewhere = Addition(name="a", network="resnet20", data=trained.training.data, normalisation=None, weights=None)
    for record in (trained, replace(trained, training=elsewhere, curve=())):
        folder = store.checkpoint_folder(record.training.name)
        folder.mkdir(parents=True)
        store.save_checkpoint(record, folder)
    shown = _run("python", "benchmarks/trainings.py", str(tmp_path))
    assert shown.returncode == 0, shown.stderr
    assert [line.split(" | ")[0] for line in shown.stdout.splitlines()[2:]] == ["| resnet20"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Noise, under the names of the shipped networks' classes."""
    checkpoint = SHIPPED.checkpoint("mobilenet-0.25")
    assert checkpoint
    random, folder = np.random.default_rng(0), tmp_path / "images & more"
    for split in ("train", "test"):
        for name in checkpoint.training.data.classes:
            (folder / split / name).mkdir(parents=True)
            for index in range(2):
                pixels = random.integers(256, size=(32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
    return folder


@pytest.mark.slow
def test_a_shipped_network_is_trained_again_by_its_shipped_teacher(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--epochs", "1", "--batch-size", "4"]
    for words in ("trained again", "trained before"):
        done = _run("benchmarks/reproduce.sh", "mobilenet-0.25", str(images), str(out), *options)
        assert done.returncode == 0, done.stderr + done.stdout
        assert ("trained before" in done.stdout) == (words == "trained before")
    shipped, again = done.stdout.split("Made again:")
    assert "| mobilenet-0.25 | mobilenet-0.25 | fast" in shipped and "| mobilenet-0.25 | mobilenet-0.25 | fast" in again
    found, wanted = Store(out).checkpoint("mobilenet-0.25"), SHIPPED.checkpoint("mobilenet-0.25")
    assert found and wanted and found.recipe and wanted.recipe and isinstance(found.training, Training)
    assert found.recipe.teacher == wanted.recipe.teacher and found.recipe.epochs == 1
    assert [path.name for path in out.iterdir() if "part" in path.name] == []
