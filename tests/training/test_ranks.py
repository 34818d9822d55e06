"""Two processes on this machine train as one would."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file
from torch import nn

from cifar_deploy.core.store import Store
from cifar_deploy.training import ranks
from tests.conftest import ROOT, run_cli, wait_for
from tests.in_process import run_here, workers_here
from tests.training import together

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
TRAIN = ["train", "resnet8", "--dataset", "digits", "--limit-train", "256", "--limit-test", "101", "--recipe", "fast"]
# So small a rate that rounding is not blown up: what is compared is the whole road, the arithmetic is compared above.
CALM = ["--learning-rate", "0.001", "--epochs", "3"]


def torchrun(*arguments: object, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TORCHRUN, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, timeout=timeout_s
    )


@pytest.mark.slow
def test_two_ranks_make_the_weights_of_one(tmp_path: Path) -> None:
    together.main(tmp_path / "one")
    done = torchrun("-m", "tests.training.together", tmp_path / "two")
    assert done.returncode == 0, done.stderr

    def largest_difference(batch_norm: str) -> float:
        one, two = (load_file(tmp_path / ranks / batch_norm) for ranks in ("one", "two"))
        return max(float((one[name] - two[name]).abs().max()) for name in one)

    print(f"largest difference of any weight, statistic or loss: {largest_difference('synchronised'):.1e}")
    assert largest_difference("synchronised") < 1e-12
    assert largest_difference("per-rank") > 1e-3, "each rank's own statistics are not those of all"


@pytest.mark.slow
def test_torchrun_trains_as_one_process_does_and_only_once(tmp_path: Path) -> None:
    alone, both = tmp_path / "alone", tmp_path / "both"
    with workers_here():
        assert run_here(*TRAIN, *CALM, "--out", alone).returncode == 0
    done = torchrun("-m", "cifar_deploy", *TRAIN, *CALM, "--out", both)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1/3") == 1, "only the first rank speaks"
    one, two = Store(alone).checkpoint("resnet8"), Store(both).checkpoint("resnet8")
    assert one and two
    assert (one.ranks, two.ranks) == (1, 2)
    assert [epoch.loss for epoch in two.curve] == pytest.approx([epoch.loss for epoch in one.curve], rel=1e-4)
    # 101 test images, an odd number, are shared out and each is counted once.
    assert [epoch.accuracy for epoch in two.curve] == [epoch.accuracy for epoch in one.curve]
    assert [epoch.accuracy * 101 % 1 for epoch in two.curve] == pytest.approx([0, 0, 0])

    again = torchrun("-m", "cifar_deploy", *TRAIN, *CALM, "--out", both)
    assert again.returncode == 0, again.stderr
    assert "trained before" in again.stdout


def test_a_batch_norm_that_layers_share_is_shared_among_ranks_too() -> None:
    norm = nn.BatchNorm2d(4)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.Sequential(nn.Conv2d(4, 4, 3), norm), norm)
    converted = ranks._converted(network, object())  # type: ignore[arg-type]
    norms = [converted[1], converted[2][1], converted[3]]  # type: ignore[index]
    assert all(type(one) is ranks._BatchNorm2d for one in norms)
    assert all(one.weight is norm.weight and one.running_mean is norm.running_mean for one in norms)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "resnet8", "--dataset", "digits"], ["128", "3 ranks", "--batch-size"]),
        (["train", "resnet8", "--dataset", "digits", "--batch-size", "3"], ["2 images", "6", "--batch-size"]),
        (["train-all", "--dataset", "digits"], ["train-all", "torchrun", "only train"]),
        (["evaluate"], ["evaluate", "torchrun", "only train"]),
    ],
)
def test_what_ranks_cannot_share_is_refused(
    arguments: list[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    done = run_cli(*arguments, "--out", tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr


@pytest.mark.slow
def test_ranks_that_train_different_things_are_told_so(tmp_path: Path) -> None:
    """As on two machines, where each is started by hand."""
    environment = {
        **os.environ,
        "TORCHELASTIC_RUN_ID": "x",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29533",
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "cifar_deploy", *TRAIN, "--seed", str(rank), "--out", str(tmp_path / str(rank))],
            env={**environment, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for rank in (0, 1)
    ]
    _, errors = started[1].communicate(timeout=60)
    assert started[1].returncode == 2 and "rank 1: the first rank trains seed 0, not 1" in errors, errors
    # The other one is left alone, and says so.
    _, errors = started[0].communicate(timeout=60)
    assert started[0].returncode == 1 and "another rank is gone" in errors, errors


@pytest.mark.slow
def test_ranks_on_different_kinds_of_device_are_told_so() -> None:
    """As --device auto finds them on two machines. That there is no GPU here does not matter so early."""
    environment = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29534"}
    started = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"from cifar_deploy.training import ranks; ranks.Group({device!r}, {rank}, 2).join()",
            ],
            env={**environment, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, device in enumerate(("cuda", "cpu"))
    ]
    errors = [process.communicate(timeout=60)[1] for process in started]
    assert "rank 0 trains on cuda, rank 1 on cpu; give all the same --device" in errors[1], errors
    assert all(process.returncode for process in started), errors


@pytest.fixture
def job(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A long training of two ranks that has saved its first state."""
    command = [*TORCHRUN, "-m", "cifar_deploy", *TRAIN, "--epochs", "500", "--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            wait_for(tmp_path / "training" / "resnet8", "state.*.json", process)
            yield process
        finally:
            for pid in _of_the_job(tmp_path):
                os.kill(pid, signal.SIGKILL)
            process.kill()


def _of_the_job(out: Path) -> list[int]:
    """The ranks' processes, with this output folder on their command line, torchrun itself left out."""
    return sorted(pid for pid, command in _commands().items() if str(out) in command and TORCHRUN[2] not in command)


def _commands() -> dict[int, list[str]]:
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found[int(folder.name)] = (folder / "cmdline").read_text().split("\0")
    return found


def _workers(job: "subprocess.Popen[str]") -> list[psutil.Process]:
    """That the ranks' processes have started."""
    started = psutil.Process(job.pid).children(recursive=True)
    return [process for process in started if "cifar_deploy.core.worker" in process.cmdline()]


@pytest.mark.slow
def test_a_dead_rank_ends_the_job_in_seconds_and_it_goes_on_later(job: "subprocess.Popen[str]", tmp_path: Path) -> None:
    last = _of_the_job(tmp_path)[-1]
    os.kill(last, signal.SIGKILL)
    killed = time.monotonic()
    job.communicate(timeout=60)
    assert job.returncode != 0 and time.monotonic() - killed < 30
    assert not _of_the_job(tmp_path)
    assert not list(tmp_path.rglob("weights.*"))
    done = subprocess.Popen(
        [sys.executable, "-m", "cifar_deploy", *TRAIN, "--epochs", "500", "--out", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert done.stdout
        lines = iter(done.stdout.readline, "")
        assert any(re.search(r"going on after epoch \d+", line) for line in lines)
    finally:
        done.terminate()
        done.communicate()


@pytest.mark.slow
def test_a_silent_rank_ends_the_job_after_two_minutes(job: "subprocess.Popen[str]") -> None:
    (silent,) = (worker for worker in _workers(job) if worker.environ().get("RANK") == "1")
    silent.suspend()
    begun = time.monotonic()
    try:
        _, errors = job.communicate(timeout=240)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            silent.kill()
    assert job.returncode != 0 and 100 < time.monotonic() - begun < 180
    assert "rank 0: another rank is gone, or was silent for 120 s" in errors


@pytest.mark.slow
def test_ranks_end_with_their_torchrun(job: "subprocess.Popen[str]", tmp_path: Path) -> None:
    started = psutil.Process(job.pid).children(recursive=True)
    assert len(_of_the_job(tmp_path)) == 2 and len(_workers(job)) >= 2
    job.kill()
    _, left = psutil.wait_procs(started, timeout=15)
    assert not left and not _of_the_job(tmp_path)
