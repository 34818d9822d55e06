"""`device ssh`, against a real sshd: what travels, what comes home, and what each fault leaves."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cifar_deploy.core.store import Store
from tests import pythons
from tests.conftest import Pack, heed_signals, need_package
from tests.in_process import run_here
from tests.remote.shells import processes
from tests.schemas import document_of
from tests.sshd import Hosts, need_sshd

QUICK = ["--format", "onnx", "--images", "50", "--rounds", "1", "--seconds", "0.05", "--no-controls"]


@pytest.fixture(scope="module")
def pack(pack_it: Pack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two measurements on the runtime that is here."""
    need_sshd()
    need_package("onnxruntime")
    file = tmp_path_factory.mktemp("pack") / "bench.py"
    options = ["--backend", "onnxruntime", "--metric", "latency", "--metric", "accuracy"]
    done = pack_it(*QUICK, *options, "--to", file)
    assert done.returncode == 0, done.stderr
    return file


@pytest.fixture(scope="module")
def long_pack(pack_it: Pack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten rounds of one measurement."""
    need_sshd()
    file = tmp_path_factory.mktemp("pack") / "bench.py"
    options = ["--backend", "onnxruntime", "--metric", "latency", "--rounds", "10"]
    done = pack_it(*QUICK[:4], "--seconds", "0.1", "--no-controls", *options, "--to", file)
    assert done.returncode == 0, done.stderr
    return file


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    need_sshd()
    found = Hosts(tmp_path / "ssh")
    monkeypatch.setenv("PATH", f"{found.bin}:{os.environ['PATH']}")
    monkeypatch.setenv("CIFAR_DEPLOY_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return found


HERE = ["--python", sys.executable]  # a Python that has the runtime


def ssh(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return run_here("device", "ssh", *arguments, "--out", "out")


def runs() -> int:
    return len(Store("out").runs())


def test_results_come_home_through_greeting_and_banner_and_a_dead_host_stops_no_other(pack: Path, hosts: Hosts) -> None:
    (hosts.folder / "banner").write_text("Private property\n")
    hosts.add("dead", _closed_port())
    greeting = 'ForceCommand echo Welcome; printf "no line\'s end"; eval "$SSH_ORIGINAL_COMMAND"'
    with hosts.board("my-board", greeting, f"Banner {hosts.folder}/banner") as home:
        done = ssh("my-board", "dead", "my-board", "--pack", pack, *HERE, "--json")
        document = document_of(done, "device ssh")
        assert done.returncode == 1, done.stderr
        assert "cifar-deploy: error: dead: could not be measured to the end; " in done.stderr
        assert _files(home / ".cache" / "cifar-deploy") == ["device.lock"]  # it was tidied up
    board, dead = sorted(document["devices"], key=lambda device: device["failure"] is not None)
    assert board["name"] == "my-board" and board["runs"] == board["appended"] == 2 and not board["wheels"]
    assert pack.stat().st_size < board["sent_bytes"] < pack.stat().st_size + 2000
    assert 0 < board["measuring_s"] < board["last_s"] <= board["seconds"] and board["first_s"] <= board["last_s"]
    assert dead["failure"].startswith("ssh: connect to host 127.0.0.1 port ") and not dead["runs"]
    store = Store("out")
    for run in store.runs():
        assert run.job.machine.name == "my-board" and run.pack and not run.failure
        assert run.measurement and (run.measurement.raw is None or store.has_samples(run.measurement))
    assert list(Path("cache/devices").glob("*/*")) == []  # imported


def test_what_ssh_refuses_is_told_in_its_words(pack: Path, hosts: Hosts) -> None:
    with hosts.board("unknown", known=False, client=("StrictHostKeyChecking yes",)):
        done = ssh("unknown", "--pack", pack, *HERE)
        assert done.returncode == 1
        assert "unknown   failed: Host key verification failed." in done.stdout
        assert "host key is known for [127.0.0.1]" in done.stdout  # both lines of ssh
        (hosts.folder / "key").unlink()
        Path(hosts.folder / "known").write_text(
            f"[127.0.0.1]:{_port(hosts)} {(hosts.folder / 'unknown' / 'hostkey.pub').read_text()}"
        )
        done = ssh("unknown", "--pack", pack, *HERE)
        assert done.returncode == 1 and "Permission denied (publickey)" in done.stdout
    assert not Path("out", "reports").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--", "-oProxyCommand=touch ran"], "HOST: '-oProxyCommand=touch ran' is no host"),
        ([], "HOST: is missing"),
        (["a", "b", "--as", "c"], "--as: names one device, and there are 2"),
        (["a", "--pack", "gone.py"], "--pack: gone.py does not exist"),
        (["a", "--pack", "ours.py", "--format", "onnx"], "--pack: holds its own --format"),
        (["a", "--cool-to", "300"], "--cool-to: 300"),
    ],
)
def test_a_wrong_line_is_refused_before_any_work(arguments: list[str], told: str, hosts: Hosts) -> None:
    Path("ours.py").touch()
    done = run_here("device", "ssh", *arguments)
    assert done.returncode == 2 and done.stderr.startswith(f"cifar-deploy: error: {told}"), done.stderr
    assert not Path("ran").exists() and not Path("exported").exists()


def test_a_pack_that_was_altered_reaches_no_device(pack: Path, hosts: Hosts) -> None:
    content = pack.read_bytes()
    for text, told in (
        (content[:-200], "was cut or altered"),
        (content.replace(b"# content\n# UEs", b"# content\n# UEt"), "was cut or altered"),
        (b"print('hello')\n", "is no pack"),
    ):
        Path("altered.py").write_bytes(text)
        done = ssh("nowhere", "--pack", "altered.py")
        assert done.returncode == 1 and f"altered.py: {told}" in done.stderr and "nowhere" not in done.stdout


@pytest.mark.slow
def test_a_device_that_lacks_something_says_what(pack: Path, hosts: Hosts, tmp_path: Path) -> None:
    bare = next(iter(pythons.others().values()), None)
    with hosts.board("board") as home:
        done = ssh("board", "--pack", pack, "--python", "python3.6")
        assert "board     failed: python3.6 is not there; install Python 3.10 or newer" in done.stdout
        for old in pythons._of_pyenv(9):
            assert "is too old; install Python 3.10 or newer" in ssh("board", "--pack", pack, "--python", old).stdout
        if bare and subprocess.run([bare, "-c", "import numpy"], capture_output=True).returncode:
            done = ssh("board", "--pack", pack, "--python", bare, "--no-send")
            assert "lacks numpy, onnxruntime; install them there, or leave --no-send out" in done.stdout
        lock = subprocess.Popen(["flock", home / ".cache" / "cifar-deploy" / "device.lock", "sleep", "60"])
        time.sleep(0.5)
        done = ssh("board", "--pack", pack, *HERE)
        lock.kill()
        assert "failed: another run is at work there" in done.stdout
        assert done.returncode == 1 and done.stderr.startswith("cifar-deploy: error: board: could not be measured")
    with hosts.board("full", 'ForceCommand ulimit -f 100; eval "$SSH_ORIGINAL_COMMAND"') as home:
        done = ssh("full", "--pack", pack, *HERE)
        assert "File too large" in done.stdout and done.returncode == 1
    assert not Path("out", "reports", "results.jsonl").exists()


@pytest.mark.slow
def test_a_home_that_takes_nothing_is_replaced_by_a_temporary_folder(pack: Path, hosts: Hosts, tmp_path: Path) -> None:
    variables = f'export HOME=/proc TMPDIR="{tmp_path}"'
    with hosts.board("sealed", f'ForceCommand {variables}; eval "$SSH_ORIGINAL_COMMAND"'):
        done = ssh("sealed", "--pack", pack, *HERE)
        assert done.returncode == 0, done.stdout + done.stderr
    assert runs() == 2 and _files(tmp_path / f"cifar-deploy-{os.getuid()}") == ["device.lock"]


@pytest.mark.slow
def test_a_jump_host_of_the_users_configuration_is_used(pack: Path, hosts: Hosts) -> None:
    with hosts.board("jump"), hosts.board("board", client=("ProxyJump jump",)):
        done = ssh("board", "--pack", pack, *HERE)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Accepted publickey" in (hosts.folder / "jump" / "log").read_text()
    assert runs() == 2


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGSTOP, signal.SIGINT], ids=lambda ending: ending.name)
def test_a_run_that_is_cut_ends_there_and_goes_on(
    ending: signal.Signals, long_pack: Path, hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client is killed, stopped or interrupted in the middle."""
    monkeypatch.setenv("CIFAR_DEPLOY_HEARTBEAT", "0.5")
    line = [sys.executable, "-m", "cifar_deploy", "device", "ssh", "board", "--pack", long_pack, *HERE, "--out", "out"]
    with hosts.board("board") as home:
        client = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=heed_signals)
        try:
            _wait(lambda: _landed() >= 2, 60)
            client.send_signal(ending)
            begun = time.monotonic()
            _wait(lambda: not list(_measuring(home)), 20)
            assert time.monotonic() - begun < 10
            landed = _landed() or runs()
        finally:
            client.kill()
            client.wait()
        assert 2 <= landed < 10
        done = ssh("board", "--pack", long_pack, *HERE)
        assert done.returncode == 0, done.stdout + done.stderr
        measured = int(done.stdout.split(" runs in ")[0].split()[-1])
    assert runs() == 10 and 0 < measured <= 10 - landed + 1
    rounds = sorted(run.round for run in Store("out").runs())
    assert rounds == list(range(10)) and len({run.session for run in Store("out").runs()}) == 1


@pytest.mark.slow
def test_two_hosts_measure_at_the_same_time_and_one_that_dies_leaves_the_other(long_pack: Path, hosts: Hosts) -> None:
    with hosts.board("left") as left, hosts.board("right") as right:
        line = [sys.executable, "-m", "cifar_deploy", "device", "ssh", "left", "right", "--pack", long_pack, *HERE]
        client = subprocess.Popen([*line, "--out", "out"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        _wait(lambda: list(_measuring(left)) and list(_measuring(right)) and _landed("right") >= 1, 60)
        for process in _measuring(left):
            os.kill(process, signal.SIGKILL)
        output, _ = client.communicate(timeout=120)
    assert client.returncode == 1 and "left      failed: " in output, output
    assert {run.job.machine.name for run in Store("out").runs()} >= {"right"}
    assert len([run for run in Store("out").runs() if run.job.machine.name == "right"]) == 10


@pytest.mark.slow
def test_a_file_of_devices_says_how_each_is_measured(pack: Path, hosts: Hosts) -> None:
    with hosts.board("here", 'ForceCommand eval "$SSH_ORIGINAL_COMMAND"') as home:
        Path("devices.toml").write_text(
            f'[kitchen]\nhost = "here"\npython = "{sys.executable}"\nthreads = 1\ncool-to = 90\ncool-wait = "1s"\n'
            f'env = {{ CIFAR_DEPLOY_PYTHON = "{home}/python" }}\n'
        )
        (home / "python").write_text(f'#!/bin/sh\ntouch {home}/used\nexec {sys.executable} "$@"\n')
        (home / "python").chmod(0o755)
        done = ssh("--pack", pack)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.startswith("device    1 of devices.toml\n") and (home / "used").exists()
        assert "nothing new to measure" not in done.stdout
        again = ssh("kitchen", "--pack", pack, "--as", "pantry")
        assert again.returncode == 0
    assert [run.job.machine.name for run in Store("out").runs()] == ["kitchen"] * 2 + ["pantry"] * 2


@pytest.mark.slow
def test_packages_travel_once_to_a_device_that_has_none(pack: Path, hosts: Hosts) -> None:
    """Under another Python that has neither numpy nor pip's packages."""
    bare = next(iter(pythons.others().values()), None)
    if not bare or not subprocess.run([bare, "-c", "import numpy"], capture_output=True).returncode:
        pytest.skip("no other Python without numpy is here")
    with hosts.board("board") as home:
        bytes_sent = []
        for _ in range(2):
            done = ssh("board", "--pack", pack, "--python", bare, "--keep", "--json")
            if "pip cannot download" in done.stdout + done.stderr:
                pytest.skip("packages cannot be downloaded here")
            assert done.returncode == 0, done.stderr
            (device,) = json.loads(done.stdout)["devices"]
            assert any(name.startswith("onnxruntime-") for name in device["wheels"])
            bytes_sent.append(device["sent_bytes"])
        first, second = bytes_sent
        assert first > 20_000_000 and second < 5_000
        done = ssh("board", "--pack", pack, "--python", bare)
        assert done.returncode == 0 and _files(home / ".cache" / "cifar-deploy") == ["device.lock"]
    assert runs() == 2  # brought home three times, and there once


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _measuring(home: Path) -> Iterator[int]:
    """What runs on a device beside sshd's own."""
    for process in processes(home):
        try:
            line = Path(f"/proc/{process}/cmdline").read_bytes()
        except OSError:
            continue
        if b"sent/" in line or b"core.worker" in line:
            yield process


def _landed(name: str = "board") -> int:
    return sum(
        path.read_text().count('"kind": "run"') for path in Path("cache/devices").glob(f"{name}/*/results.jsonl")
    )


def _wait(until: Any, longest_s: float) -> None:
    deadline = time.monotonic() + longest_s
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _closed_port() -> int:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return int(closed.getsockname()[1])


def _port(hosts: Hosts) -> str:
    return (hosts.folder / "config").read_text().split("Port ")[1].split()[0]
