"""Trainings killed at random moments and on disks that fill up, over and over: all end in the same weights, each goes on
from what lay on the disk, and that is never more than an epoch back.
"""

import contextlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from cifar_deploy.core.generations import Generations
from cifar_deploy.core.records import Checkpoint
from cifar_deploy.core.store import Store
from tests.conftest import heed_signals, wait_until_free
from tests.in_process import run_here

_EPOCHS = 6
# The recipe with the most to keep: momentum, a schedule, images that are moved, mirrored and grow.
_TRAIN = ["train", "resnet8", "--dataset", "digits", "--recipe", "fast", "--epochs", str(_EPOCHS)]
_TRAIN += ["--limit-train", "512", "--checkpoint-every", "0.2s", "--out"]
_KILLS = 50
_FULL_DISKS = 50
_SIGNALS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}
# Two states and a third that is being written (of 0.66 MB each), the curve, the log, and a hole of at most as much again.
_DISK = "4m"

pytestmark = pytest.mark.slow


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the training makes uninterrupted, and in how many seconds."""

    checkpoint: Checkpoint
    seconds: float

    def moment(self, random: random.Random) -> float:
        """Seconds after its first line, after which to interrupt it: while its worker starts, or in an epoch."""
        return self.seconds * random.uniform(0.1, 0.9)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Expected:
    whole = tmp_path_factory.mktemp("whole")
    assert run_here("data", "--dataset", "digits").returncode == 0
    begun = time.monotonic()
    assert run_here(*_TRAIN, whole).returncode == 0
    checkpoint = Store(whole).checkpoint("resnet8")
    assert checkpoint
    return Expected(checkpoint=checkpoint, seconds=time.monotonic() - begun)


def test_fifty_kills_at_random_moments_lose_no_more_than_promised(tmp_path: Path, expected: Expected) -> None:
    moments = random.Random(0)
    kills, with_a_state, trainings = 0, 0, 0
    while kills < _KILLS:
        out = tmp_path / f"broken{trainings}"
        trainings += 1
        before = (0, 0)
        while True:
            number = moments.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
            with _training(out, tmp_path / "told", expected.moment(moments)) as process:
                process.send_signal(number)
            told = (tmp_path / "told").read_text()
            _assert_goes_on(told, before)
            wait_until_free(Store(out))
            if Store(out).checkpoint("resnet8") and not (out / "training" / "resnet8").exists():
                break
            assert process.returncode == _SIGNALS[number], told
            before = _kept(out, told, before)
            kills += 1
            with_a_state += before > (0, 0)
        _assert_ends_as(out, expected)
    assert with_a_state > _KILLS / 3
    print(f"{kills} kills in {trainings} trainings, {with_a_state} of them with a state to go on from")


def test_fifty_full_disks_lose_no_more_than_promised(tmp_path: Path, expected: Expected) -> None:
    """A file system of its own, filled at a random moment but for a hole of random size."""
    moments = random.Random(0)
    refused, with_a_state, trainings = 0, 0, 0
    while refused < _FULL_DISKS:
        trainings += 1
        assert trainings < 5 * _FULL_DISKS
        with _disk(tmp_path / "disk") as disk:
            out, before = disk / "out", (0, 0)
            while True:
                with _training(out, tmp_path / "told", expected.moment(moments)) as process:
                    _fill(disk / "filler", hole=round(10 ** moments.uniform(0, 6)))
                told = (tmp_path / "told").read_text()
                (disk / "filler").unlink()
                _assert_goes_on(told, before)
                if process.returncode == 0:
                    break
                errors = [line for line in told.splitlines() if "error: " in line]
                assert process.returncode == 1 and len(errors) == 1, told
                assert "No space left on device" in errors[0], told
                before = _kept(out, told, before)
                refused += 1
                with_a_state += before > (0, 0)
            _assert_ends_as(out, expected)
    assert with_a_state > _FULL_DISKS / 3
    print(f"{refused} full disks in {trainings} trainings, {with_a_state} of them with a state to go on from")


@contextlib.contextmanager
def _training(out: Path, told: Path, moment: float) -> Iterator[subprocess.Popen[bytes]]:
    """It is begun, or goes on, and has said so in `told`, `moment` seconds ago; at the end of the block its end is awaited."""
    command = [sys.executable, "-m", "cifar_deploy", *_TRAIN, str(out)]
    with (
        open(told, "wb") as file,
        subprocess.Popen(command, stdout=file, stderr=file, preexec_fn=heed_signals) as process,
    ):
        while not told.stat().st_size and process.poll() is None:
            time.sleep(0.01)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moment)
        yield process


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[Path]:
    """A small file system; skips where none can be mounted."""
    if not shutil.which("mount"):
        pytest.skip("no small disk can be made here: there is no mount")
    folder.mkdir(exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "none", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be made here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _fill(filler: Path, hole: int) -> None:
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    with open(filler, "r+b") as file:
        file.truncate(max(0, filler.stat().st_size - hole))


def _kept(out: Path, told: str, before: tuple[int, int]) -> tuple[int, int]:
    """Epochs and steps that the newest whole state holds: what is not lost, after a run that began at `before`.

    Once the weights are committed, nothing more can be lost, though the run may fail in what it writes after them.
    """
    if Store(out).checkpoint("resnet8") and not (out / "training" / "resnet8").exists():
        return _EPOCHS, 0

    def load(path: Path) -> tuple[int, int]:
        position = torch.load(path, weights_only=True)["position"]
        return len(position["curve"]), position["step"]

    damaged: list[str] = []
    kept = Generations(out / "training" / "resnet8", "state", ".pt").newest(load, damaged.append) or (0, 0)
    assert not damaged, damaged
    epochs = [int(number) for number in re.findall(rf"epoch (\d)/{_EPOCHS}  loss [0-9.]+  test", told)]
    assert kept >= max(before, (max(epochs, default=0) - 1, 0)), "more than an epoch is lost"
    return kept


def _assert_goes_on(told: str, before: tuple[int, int]) -> None:
    """From the state that was left, if it came so far as to tell."""
    assert "Traceback" not in told and "passed over" not in told, told
    if "by a few steps of each size" in told:
        found = re.search(r"going on after epoch (\d+), step (\d+)", told)
        assert (found and (int(found[1]), int(found[2]))) == (before if before > (0, 0) else None), told


def _assert_ends_as(out: Path, expected: Expected) -> None:
    found = Store(out).checkpoint("resnet8")
    assert found and found.weights == expected.checkpoint.weights and not found.changes
    assert [epoch.loss for epoch in found.curve] == [epoch.loss for epoch in expected.checkpoint.curve]
    curve = Store(out).checkpoint_folder("resnet8") / "metrics.jsonl"
    assert curve.read_text().count("\n") == _EPOCHS
    assert not list(out.rglob("*.tmp.*")) and not (out / "training" / "resnet8").exists()
