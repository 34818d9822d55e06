"""What the tests share: a road that was gone once, on few images, and a cache and state folder of its own."""

import contextlib
import functools
import gc
import importlib.util
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from cifar_deploy.backends import Backend
from cifar_deploy.core import cache, trust
from cifar_deploy.core.errors import Busy
from cifar_deploy.core.locks import Lock
from cifar_deploy.core.records import Artifact
from cifar_deploy.core.registry import lack_of
from cifar_deploy.core.store import Store
from cifar_deploy.formats import FORMATS, Format, given
from tests import in_process
from tests.in_process import run_here

Exported: TypeAlias = Callable[[str], tuple[Artifact, Path]]
Pack: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).parents[1]

# One epoch on few images: what is tested is the road, not the accuracy.
FEW_IMAGES = ["--dataset", "digits", "--limit-train", "128", "--limit-test", "64"]
TINY = [*FEW_IMAGES, "--epochs", "1"]

# What the road through all commands is tested with; each format and backend is tested by itself.
FEW_FORMATS = ["--format", "checkpoint", "--format", "torchscript", "--format", "onnx"]
FEW_BACKENDS = ["--backend", "pytorch", "--backend", "torchscript", "--backend", "onnxruntime"]

# Timed, but not to be believed.
QUICK = ["--seconds", "0.05", "--rounds", "1", "--no-controls"]


def pytest_configure() -> None:
    """Each of several workers (pytest -n) keeps to its share of the cores: threads beyond them wait for each other."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1 and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        share = max(1, len(cores) // workers)  # the same for all: they must collect the same tests
        first = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw")) * share % len(cores)
        os.sched_setaffinity(0, cores[first : first + share])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the road comes last, but for one: of several workers one makes the road, and the others do not wait."""
    items.sort(key=lambda item: "road" in getattr(item, "fixturenames", ()))
    maker = next((item for item in items if "road" in getattr(item, "fixturenames", ())), None)
    if maker:
        items.remove(maker)
        items.insert(0, maker)


def pytest_collection_finish() -> None:
    """Keep the tests and their imports out of garbage collections, which would look through them each time."""
    gc.freeze()


def run_cli(
    *arguments: object, cwd: Path | None = None, timeout_s: float = 240, largest_file: int | None = None
) -> subprocess.CompletedProcess[str]:
    """A command as a user gives it, in a process of its own.

    With `largest_file`, it and its workers can write no file of more bytes: a full disk that needs no disk to fill.
    """

    def limit() -> None:
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    return subprocess.run(
        [sys.executable, "-m", "cifar_deploy", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=timeout_s,
        preexec_fn=limit,
    )


def heed_signals() -> None:
    """For `preexec_fn`: what a shell's `&` (Ctrl-C) and nohup (SIGHUP) ignore, all that they start ignores too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def wait_for(folder: Path, pattern: str, process: subprocess.Popen[Any]) -> None:
    """Until there is such a file: a state, say, of which the older ones are deleted while others come."""
    deadline = time.monotonic() + 60
    while not any(folder.glob(pattern)):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)


def wait_until_free(held: AbstractContextManager[object]) -> None:
    """Wait until no process holds a lock: a killed parent's worker holds it until it notices, and so does a forked process."""
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(Busy), held:
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def need_package(name: str, *, required: bool = True) -> None:
    """Skip where a package is missing; in CI, fail if it is one that we require."""
    if importlib.util.find_spec(name) is None:
        if required and os.environ.get("CI"):
            pytest.fail(f"{name} is required and not installed")
        pytest.skip(f"{name} is not installed")


def need_plugin(plugin: Backend | Format) -> None:
    """Skip where something that it needs is missing."""
    if not plugin.environment:
        for package in plugin.requires:
            need_package(package)
    if lack := lack_of(plugin):
        pytest.skip(str(lack))


@pytest.fixture
def workers_here() -> Iterator[None]:
    with in_process.workers_here():
        yield


@pytest.fixture(scope="session")
def of_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run of the tests have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session", autouse=True)
def own_folders(of_all: Path) -> Iterator[None]:
    """A cache and a record of exports that are nobody else's, but the user's environments: they take minutes to make."""
    patch = pytest.MonkeyPatch()
    made = [folder for folder in cache.folder().glob("environments/*") if not folder.name.startswith(".")]
    own_cache = of_all / "cache"
    with Lock(of_all / "folders.lock", None):
        if not own_cache.exists():
            (own_cache / "environments").mkdir(parents=True)
            for folder in made:
                (own_cache / "environments" / folder.name).symlink_to(folder)
    patch.setenv("CIFAR_DEPLOY_CACHE", str(own_cache))
    patch.setenv("CIFAR_DEPLOY_STATE", str(of_all / "state"))
    patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    patch.setenv("COLUMNS", "160")  # as wide as a log, which is what a process of the tests prints
    # The tests' own networks are no records' invention, though tests hand them to functions that only records reach.
    names = re.findall(r"^def (\w+)", (Path(__file__).parent / "own_networks.py").read_text(), re.M)
    trust.give(f"tests.own_networks:{name}" for name in names)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def road(of_all: Path) -> Path:
    """An output folder in which the whole road was gone, with resnet8 on 128 digits. Tests must leave it as it is."""
    out = of_all / "road"
    with Lock(of_all / "road.lock", None):
        if not (out / "reports" / "report.csv").exists():
            done = run_cli("run", *TINY, "--network", "resnet8", *FEW_FORMATS, *FEW_BACKENDS, *QUICK, "--out", out)
            assert done.returncode == 0, done.stderr + done.stdout
    return out


@pytest.fixture(scope="session")
def exported(road: Path, of_all: Path) -> Exported:
    """That network in a format, which is made when it is first asked for: the record, and the main file."""
    out = of_all / "exported"
    with Lock(of_all / "exported.lock", None):
        if not out.exists():
            shutil.copytree(road, out)

    @functools.cache
    def export(format: str) -> tuple[Artifact, Path]:
        name, input = given(format)
        need_plugin(FORMATS[name])
        with Lock(of_all / "exported.lock", None):
            if not Store(out).artifact("resnet8", format) and format != "checkpoint":
                with in_process.workers_here():
                    done = run_here("export", "--format", name, "--input", input, "--out", out)
                assert done.returncode == 0, done.stderr + done.stdout
        artifact, folder = Store(out).artifact("resnet8", format), Store(out).artifact_folder("resnet8", format)
        assert artifact and not artifact.failure, artifact
        return artifact, folder / FORMATS[name].filename

    return export


@pytest.fixture(scope="session")
def pack_it(road: Path, of_all: Path) -> Pack:
    """`cifar-deploy pack` of that network. One at a time: it locks the output folder, which the tests share."""

    def pack_it(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        out = of_all / "packed"
        with Lock(of_all / "packed.lock", None):
            if not out.exists():
                shutil.copytree(road, out)  # a baseline is made, and the road stays as it is
            with in_process.workers_here():
                return run_here("pack", *arguments, "--out", out, cwd=cwd)

    return pack_it


@pytest.fixture(scope="session")
def packed(pack_it: Pack, of_all: Path) -> Path:
    """A pack of that network as ONNX, with the 64 images that it was evaluated on."""
    bench = of_all / "bench.py"
    with Lock(of_all / "bench.lock", None):
        if not bench.exists():
            done = pack_it("--format", "onnx", "--images", "64", "--to", bench)
            assert done.returncode == 0, done.stderr + done.stdout
    return bench
