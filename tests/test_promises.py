"""What an interruption, a fault of the disk or a neighbour leaves behind: good exports stay, and the same command goes on."""

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cifar_deploy.core import cache
from cifar_deploy.core.store import Store
from tests.conftest import heed_signals, wait_until_free
from tests.in_process import run_here

_EXPORT = ["export", "resnet8", "--format", "torchscript", "--format", "onnx", "--force"]
_EVALUATE = ["evaluate", "--format", "onnx", "--backend", "onnxruntime", "--metric", "latency", "--metric", "memory"]
_EVALUATE += ["--seconds", "0.05", "--rounds", "3", "--no-controls", "--force"]
_CODES = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}
_LONGEST_S = 12.0


@pytest.fixture
def out(road: Path, tmp_path: Path) -> Path:
    shutil.copytree(road, tmp_path / "out")
    return tmp_path / "out"


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cifar_deploy", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=heed_signals
    )


def assert_whole(out: Path) -> None:
    """Every export of the road is there, with the files that its record describes."""
    artifacts = {artifact.format: artifact for artifact in Store(out).artifacts("resnet8")}
    assert artifacts.keys() == {"checkpoint", "torchscript", "onnx"}
    for artifact in artifacts.values():
        assert not artifact.failure and Store(out).verified(artifact)


@pytest.mark.parametrize("command", [_EXPORT, _EVALUATE], ids=["export", "evaluate"])
@pytest.mark.parametrize(
    "seed", [pytest.param(0, marks=pytest.mark.slow), *(pytest.param(n, marks=pytest.mark.gate) for n in range(1, 10))]
)
def test_a_command_that_is_killed_leaves_what_was_good_and_goes_on(command: list[str], seed: int, out: Path) -> None:
    chance = random.Random(seed)
    number = chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    before = len(Store(out).runs())
    with start(*command, "--out", out) as process:
        time.sleep(chance.uniform(0.5, _LONGEST_S))
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode in (0, _CODES[number]) and "Traceback" not in errors, errors
    wait_until_free(Store(out))
    assert_whole(out)
    assert len(Store(out).lines().runs) >= before and len(Store(out).lines().left_out) <= 1
    assert run_here(*command, "--out", out).returncode == 0
    assert_whole(out)
    assert not list(out.rglob("*.tmp.*")) and not Store(out).lines().left_out


@pytest.mark.gate
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace (apt install strace)")
@pytest.mark.parametrize("call", ["fsync", "rename", "renameat2", "unlink", "mkdir", "link,linkat", "ftruncate"])
@pytest.mark.parametrize("when", range(1, 7))
def test_a_fault_of_the_disk_leaves_what_was_good(call: str, when: int, out: Path) -> None:
    """The n-th call of its kind fails in the command and in each of its workers, as a failing disk has it."""
    fault = [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        f"trace={call}",
        "-e",
        f"inject={call}:error=EIO:when={when}",
    ]
    command = [*fault, sys.executable, "-m", "cifar_deploy", *_EXPORT, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1) and "Traceback" not in done.stderr, done.stderr
    wait_until_free(Store(out))
    assert_whole(out)
    assert run_here(*_EXPORT, "--out", out).returncode == 0
    assert_whole(out)


@pytest.mark.parametrize("count", [2, pytest.param(6, marks=pytest.mark.gate)])
def test_of_commands_in_one_folder_at_once_one_goes_on_and_the_others_are_told_by_whom(count: int, out: Path) -> None:
    processes = [start(*_EVALUATE, "--out", out) for _ in range(count)]
    ended = [(process.communicate(timeout=120)[1], process.returncode) for process in processes]
    busy = [errors for errors, code in ended if code == 1]
    assert [code for _, code in ended].count(0) + len(busy) == count and len(busy) < count
    numbers = {str(process.pid) for process in processes}
    for errors in busy:
        assert "another cifar-deploy is at work here (process " in errors and errors.count("\n") == 1
        assert any(f"process {number} on" in errors for number in numbers)
    assert not Store(out).lines().left_out
    assert_whole(out)


@pytest.mark.gate
@pytest.mark.parametrize("seed", range(5))
def test_commands_that_share_a_damaged_cache_mend_it_together(
    seed: int, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR_DEPLOY_CACHE", str(tmp_path / "cache"))
    assert run_here("data", "--dataset", "digits").returncode == 0
    (damaged,) = (cache.folder() / "data").glob("*/test_images.npy")
    content = bytearray(damaged.read_bytes())
    content[random.Random(seed).randrange(200, len(content))] ^= 1
    damaged.write_bytes(content)
    outs = [shutil.copytree(out, tmp_path / f"out{index}") for index in range(2)]
    processes = [start("data", "--dataset", "digits") for _ in range(3)]
    processes += [start(*_EXPORT, "--out", each) for each in outs]
    for process in processes:
        errors = process.communicate(timeout=300)[1]
        assert process.returncode == 0, errors
    for each in outs:
        assert_whole(each)
