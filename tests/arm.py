"""A pack on an emulated 64-bit Arm processor: `make arm`. It answers as home does, image by image. Nothing is timed.

Debian's Python for arm64 and the arm64 wheels of numpy and ONNX Runtime run under qemu's user mode. All of it is fetched into
build/arm, and stays there for the next time. Debian's apt and dpkg are needed, and no root.

An emulator proves imports, answers and the description of the machine. Its times and its memory are its own.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from cifar_deploy.core.samples import Samples
from cifar_deploy.core.store import Store
from cifar_deploy.stages.results import fault

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "arm"

# The first release with a qemu that runs ONNX Runtime (10.0; 7.2 crashes when it imports it), and its Python.
RELEASE = "trixie"
PYTHON = "3.13"

# Labels are compared, and margins are said: ONNX Runtime rounds some INT8 operators otherwise on Arm, by a step of the quantisation.
# Of the shipped networks, on 200 images: mobilenet-0.25 is the same to the last bit, resnet20 has other logits for 9 images.
NETWORK = "mobilenet-0.25"
IMAGES = 200

# As of `make run`: 97 % and more. Labels of a network at chance would be alike everywhere.
_RECIPE = ("--recipe", "fast", "--epochs", "10", "--batch-size", "32", "--learning-rate", "0.1")
_LEAST_ACCURACY = 0.9
METRICS = ("accuracy", "parity")
PACKAGES = ("numpy", "onnxruntime")


def main() -> None:
    for tool in ("apt-get", "dpkg"):
        if not shutil.which(tool):
            _end(f"{tool} is not here; run it on Debian or Ubuntu")
    python = _python()
    home, bench = _home()
    device = FOLDER / "device"
    shutil.rmtree(device, ignore_errors=True)
    metrics = [word for metric in METRICS for word in ("--metric", metric)]
    words = [*metrics, "--no-controls", "--as", "emulated-arm", "--out", device, "--results", FOLDER / "results.zip"]
    _say("the pack runs under the emulator, which takes a minute or two")
    # Workers are started by the script too: see core.interpreter.
    variables = {**os.environ, "CIFAR_DEPLOY_PYTHON": str(python), "PYTHONPATH": ""}
    done = subprocess.run([python, bench, *words], env=variables, text=True, stdout=subprocess.PIPE)
    print(done.stdout)
    if done.returncode:
        _end("the pack failed under the emulator; the reasons are above")
    _compare(home, device)


def _python() -> Path:
    """A script that starts Debian's Python for arm64 under the emulator, with numpy and ONNX Runtime."""
    python, site = FOLDER / "python", FOLDER / "site"
    root, emulator = FOLDER / "root", FOLDER / "emulator"
    if not python.exists():
        _fetch(root, emulator, site)
    # Anew each time: the checkout may have moved.
    python.write_text(
        "#!/bin/sh\n"
        f"export PYTHONPATH={site}${{PYTHONPATH:+:$PYTHONPATH}}\n"
        f'exec {emulator}/usr/bin/qemu-aarch64 -L {root} {root}/usr/bin/python{PYTHON} "$@"\n'
    )
    python.chmod(0o755)
    return python


def _fetch(root: Path, emulator: Path, site: Path) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    _say(f"fetching qemu, Python {PYTHON} and the wheels for arm64 into {os.path.relpath(FOLDER)} (about 90 MB)")
    packages, wheels = _debian(), _wheels()
    for folder in (root, emulator, site):
        shutil.rmtree(folder, ignore_errors=True)  # half of it, of a run that was interrupted
    for package in packages:
        _run("dpkg", "-x", package, emulator if package.name.startswith("qemu") else root)
    (root / "lib").symlink_to("usr/lib")  # which another package would bring
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(site)


def _debian() -> Iterator[Path]:
    """The packages, by an apt that knows nothing of this machine but where Debian is, and its keys."""
    here = _output("dpkg", "--print-architecture").strip()
    state = FOLDER / "apt"
    for name in ("lists/partial", "archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    (state / "sources.list").write_text(f"deb {_debian_address()} {RELEASE} main\n")
    settings = {
        "Dir::State": state,
        "Dir::State::status": state / "status",
        "Dir::Cache": state,
        "Dir::Etc::sourcelist": state / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferencesparts": "-",
        "APT::Architecture": "arm64",
        "APT::Architectures": f"arm64,{here}",
        "APT::Install-Recommends": "false",
        "APT::Update::Error-Mode": "any",
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "true",
    }
    apt = ["apt-get", "-qq", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]
    remedy = "connect to the network, or give another mirror: make arm DEBIAN=ADDRESS"
    _run(*apt, "update", remedy=remedy)
    wanted = (f"python{PYTHON}-minimal", f"libpython{PYTHON}-stdlib", "libstdc++6")
    _run(*apt, "install", "--yes", "--download-only", *wanted, remedy=remedy)
    _run(*apt, "download", f"qemu-user:{here}", cwd=state / "archives", remedy=remedy)
    return (state / "archives").glob("*.deb")


def _debian_address() -> str:
    """Where this machine gets Debian from, unless $DEBIAN says so."""
    if told := os.environ.get("DEBIAN"):
        return told
    known = _output("apt-get", "indextargets", "--format", "$(ORIGIN) $(CODENAME) $(SITE)").splitlines()
    for origin, codename, site in (line.split() for line in known if line.count(" ") == 2):
        if origin == "Debian" and "-" not in codename:
            return site.rstrip("/")
    _end("this machine's apt knows no Debian; give its address: make arm DEBIAN=ADDRESS")


def _wheels() -> Iterator[Path]:
    """In home's versions: the same program shall answer the same."""
    folder = FOLDER / "wheels"
    platforms = [word for glibc in ("2_28", "2_27", "2_17") for word in ("--platform", f"manylinux_{glibc}_aarch64")]
    wanted = [f"{name}=={metadata.version(name)}" for name in PACKAGES]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-deps", "--only-binary=:all:", *platforms, "--python-version", PYTHON, "--dest", str(folder), *wanted]
    _run(*pip, remedy="connect to the network, and run it again")
    return folder.glob("*.whl")


def _home() -> tuple[Path, Path]:
    """A small network, what its INT8 export answers here, and its pack. The digits need no download."""
    home, bench = FOLDER / "home", FOLDER / "bench.py"
    steps = (
        ("train", NETWORK, "--dataset", "digits", *_RECIPE),
        ("export", NETWORK, "--format", "onnx_int8"),
        ("evaluate", NETWORK, "--format", "onnx_int8", "--metric", METRICS[0], "--limit-test", IMAGES),
        ("pack", NETWORK, "--format", "onnx_int8", "--images", IMAGES, "--to", bench),
    )
    for step in steps:
        _run(sys.executable, "-m", "cifar_deploy", *step, "--out", home, cwd=ROOT)
    return home, bench


def _compare(home: Path, device: Path) -> None:
    """Ends the program if the device has answered otherwise, or is not described as what it is."""
    ours, theirs = _answers(home), _answers(device)
    machine = theirs["machine"]
    if machine.architecture != "aarch64" or not machine.emulated:
        _end(f"the machine is described as {machine}; it is an emulated aarch64")
    if (accuracy := (ours["predicted"] == ours["labels"]).mean()) < _LEAST_ACCURACY:
        _end(f"the network is right about {accuracy:.0%} of the images at home, too few to compare labels by")
    if not np.array_equal(ours["chosen"], theirs["chosen"]):
        _end("the device has other images than home")
    if differ := int((ours["predicted"] != theirs["predicted"]).sum()):
        _end(f"{differ} of {IMAGES} labels differ from home's")
    apart = np.abs(ours["margins"] - theirs["margins"]).max()
    _say(f"{machine}")
    _say(
        f"all {IMAGES} labels are those of home, {accuracy:.0%} of them correct; the margins differ by at most {apart:g}"
    )


def _answers(place: Path) -> dict[str, Any]:
    """The labels of the newest measurement, and the machine."""
    store = Store(place)
    *_, newest = (each for each in store.results(fault) if each.job.metric == METRICS[0] and each.measurement)
    assert newest.measurement
    return {**Samples(store.reports)(newest.measurement), "machine": newest.job.machine}


def _run(*command: Any, cwd: Path | None = None, remedy: str = "") -> None:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        told = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        reason = told[-1] if told else f"exit code {done.returncode}"
        program = "pip" if "pip" in command else Path(command[0]).name
        _end(f"{program} failed: {reason}" + (f"; {remedy}" if remedy else ""))


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout


def _say(text: str) -> None:
    print(f"arm: {text}", flush=True)


def _end(reason: str) -> NoReturn:
    sys.exit(f"arm: error: {reason}")


if __name__ == "__main__":
    main()
