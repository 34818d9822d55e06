"""Trainings killed at random moments and on disks that fill up, over and over: all end in the same weights."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cifar_deploy.core.records import Checkpoint
from cifar_deploy.core.store import Store
from tests.conftest import run_cli

# The recipe with the most to keep: momentum, a schedule, images that are moved, mirrored and grow.
_TRAIN = [
    "train",
    "resnet8",
    "--dataset",
    "digits",
    "--recipe",
    "fast",
    "--epochs",
    "6",
    "--limit-train",
    "512",
    "--out",
]
_KILLS = 50
_FULL_DISKS = 50


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """What the training makes uninterrupted."""
    whole = tmp_path_factory.mktemp("whole")
    assert run_cli(*_TRAIN, whole).returncode == 0
    checkpoint = Store(whole).checkpoint("resnet8")
    assert checkpoint
    return checkpoint


@pytest.mark.slow
def test_fifty_kills_at_random_moments_change_nothing(tmp_path: Path, expected: Checkpoint) -> None:
    moments = random.Random(0)
    kills, trainings = 0, 0
    while kills < _KILLS:
        out = tmp_path / f"broken{trainings}"
        trainings += 1
        while (killed := _killed(out, moments)) is not None:
            kills += killed
        found = Store(out).checkpoint("resnet8")
        assert found and found.weights == expected.weights
        assert [epoch.loss for epoch in found.curve] == [epoch.loss for epoch in expected.curve]
        assert not list(out.rglob("*.tmp.*"))
    print(f"{kills} kills in {trainings} trainings")


@pytest.mark.slow
def test_fifty_full_disks_change_nothing(tmp_path: Path, expected: Checkpoint) -> None:
    # From the record of the training, of 1 kB, to the state of network and optimizer, of 1 MB.
    sizes = random.Random(0)
    refused = 0
    for number in range(_FULL_DISKS):
        out = tmp_path / f"full{number}"
        done = run_cli(*_TRAIN, out, "--checkpoint-every", "0.2s", largest_file=round(10 ** sizes.uniform(2.5, 6.2)))
        if done.returncode:
            refused += 1
            assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
            assert "cannot be written (File too large)" in done.stderr
            assert run_cli(*_TRAIN, out).returncode == 0
        found = Store(out).checkpoint("resnet8")
        assert found and found.weights == expected.weights
        assert not list(out.rglob("*.tmp.*"))
    assert refused > _FULL_DISKS / 2
    print(f"{refused} of {_FULL_DISKS} disks were too full")


def _killed(out: Path, moments: random.Random) -> bool | None:
    """Start the training, or go on with it, and kill it some time; None if it ended before."""
    command = [sys.executable, "-m", "cifar_deploy", *_TRAIN, str(out), "--checkpoint-every", "0.2s"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            _, errors = process.communicate(timeout=moments.uniform(1.0, 6.0))
        except subprocess.TimeoutExpired:
            process.send_signal(moments.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
            process.communicate()
            time.sleep(0.3)  # until its worker has seen it
            return True
    if "at work here" in errors:
        return False
    assert process.returncode == 0, errors
    return None
