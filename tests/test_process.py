"""Signals at any moment and streams of any kind: the promised exit codes, one line at most, no traceback."""

import contextlib
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, heed_signals, wait_for

_COMMAND = [sys.executable, "-m", "cifar_deploy"]
_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 143}


def _started(*arguments: str) -> "subprocess.Popen[str]":
    """A command whose entry has taken the signals over: before that there is only Python itself."""
    process = subprocess.Popen(
        [*_COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=heed_signals,
    )
    status = Path(f"/proc/{process.pid}/status")
    deadline = time.monotonic() + 30
    while not any(
        line.startswith("SigCgt") and int(line.split()[1], 16) >> (signal.SIGHUP - 1) & 1
        for line in status.read_text().splitlines()
    ):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return process


def _assert_ended(process: "subprocess.Popen[str]", code: int) -> bool:
    """By the signal, or before it came: True for the former."""
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (0, code), errors
    assert errors.count("\n") == (1 if process.returncode else 0) and "Traceback" not in errors, errors
    return process.returncode == code


def _sweep(arguments: list[str], signals: list[signal.Signals], longest_s: float, tries: int, times: int) -> int:
    """Signals at moments that are spread over the start of a command: how often one ended it."""
    moments = random.Random(0)
    ended = 0
    for index in range(tries):
        number = signals[index % len(signals)]
        process = _started(*arguments)
        time.sleep(longest_s * index / tries)
        for _ in range(times):
            process.send_signal(number)
            time.sleep(moments.choice([0, 0.002, 0.01]))
        ended += _assert_ended(process, _CODES[number])
    return ended


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="only Linux says what is caught, and has /dev/full"
)


@needs_proc
def test_a_signal_while_python_imports_ends_it_with_a_line() -> None:
    assert _sweep(["list"], [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], 0.3, tries=3, times=1)


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["selftest"]], ids=" ".join)
@pytest.mark.parametrize("times", [1, 3])
def test_signals_at_any_moment_end_it_with_a_line(arguments: list[str], times: int) -> None:
    process, begun = _started(*arguments), time.monotonic()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=0.8)
    longest_s = time.monotonic() - begun  # on a fast machine --help ends long before
    process.kill()
    process.communicate()
    assert _sweep(arguments, [signal.SIGINT, signal.SIGTERM], longest_s, tries=24, times=times) > 3


_LOSES = """
import os, sys
from cifar_deploy import process
process.begin()

def signal():
    os.kill(os.getpid(), int(sys.argv[1]))

class Last:
    def __del__(self):
        signal()
        sum(range(10))

with process.signals_raised():
    try:
        exec("signal()") if sys.argv[2] == "exec" else Last()
    except BaseException:
        process.end(7)
process.end(0)
"""


@pytest.mark.parametrize("how", ["exec", "destructor"])
def test_a_signal_that_python_loses_ends_it_all_the_same(how: str, tmp_path: Path) -> None:
    """One in a destructor, which raises nothing; and one that leaves `exec`, after which Python would end by the signal."""
    (tmp_path / "loses.py").write_text(_LOSES)
    for number in (signal.SIGINT, signal.SIGTERM):
        done = subprocess.run(
            [sys.executable, "-m", "loses", str(int(number)), how],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            preexec_fn=heed_signals,
        )
        assert done.returncode == (7 if how == "exec" else _CODES[number]), done.stderr
        assert done.stderr.count("\n") == (how == "destructor"), done.stderr


_WAITS = """
import sys
from cifar_deploy import process
process.begin()
from tests.probes import parent_of_a_sleeper
with process.signals_raised():
    try:
        parent_of_a_sleeper(sys.argv[1])
    except BaseException:
        process.end(7)
"""


@needs_proc
def test_signals_that_come_together_end_the_worker_too(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", _WAITS, str(tmp_path / "pid")], preexec_fn=heed_signals)
    wait_for(tmp_path, "pid", process)
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
        process.send_signal(number)
        time.sleep(0.002)
    assert process.wait(timeout=60) == 7
    worker = Path("/proc", (tmp_path / "pid").read_text())
    assert not worker.exists(), "the parent has waited for it"


def _through_shell(line: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """`line` as sh runs it, with the program for `$p`."""
    command = ["sh", "-c", line.replace("$p", shlex.join(_COMMAND))]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **variables})


@needs_proc
@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("$p --help >&-", 0, ""),
        ("$p --help <&- >&- 2>&-", 0, ""),
        ("$p report --out '' 2>/dev/full", 2, ""),
        ("$p --help >/dev/full", 1, "stdout: No space left on device"),
        ("($p --help; echo $? >&2) | true", 0, "1"),
    ],
)
def test_streams_that_take_nothing_give_the_promised_codes(line: str, code: int, words: str) -> None:
    done = _through_shell(line)
    assert done.returncode == code, done.stderr
    assert words in done.stderr and done.stderr.count("\n") == bool(words), done.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ],
    ids=str,
)
def test_an_encoding_that_lacks_a_character_gets_its_escape(variables: dict[str, str]) -> None:
    done = _through_shell("$p evaluate --help", **variables)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert "\\xb1this" in done.stdout


def test_a_working_directory_that_is_gone_is_one_line(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = _through_shell(f"cd {gone} && rmdir {gone} && $p --version && $p train --help >/dev/null && $p list")
    assert done.returncode == 1 and done.stdout.startswith("cifar-deploy ")
    assert done.stderr.count("\n") == 1 and "working directory: is gone" in done.stderr
