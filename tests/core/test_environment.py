"""An environment is whole or not there, comes before its parent's packages, and says why it cannot be used."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from cifar_deploy import pipeline
from cifar_deploy.core import launch, machine, registry, sealing
from cifar_deploy.core.environment import Environment
from cifar_deploy.core.errors import Unavailable
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.locks import Lock
from cifar_deploy.workers.install import install
from tests import probes
from tests.conftest import ROOT, heed_signals, wait_until_free
from tests.in_process import run_here
from tests.plugins import TINY_ENVIRONMENT
from tests.schemas import document_of

NAME = "tests.plugins:TINY_ENVIRONMENT"


def write_wheel(folder: Path, name: str, version: str) -> None:
    """A package of one module that knows its version: what pip installs without a network or a build."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that pip looks into, and nowhere else."""
    folder = tmp_path_factory.mktemp("wheels")
    write_wheel(folder, "tiny_package", "1.0")
    write_wheel(folder, "iniconfig", "99.0")  # which pytest needs, so that the parent has another version
    patch = pytest.MonkeyPatch()
    patch.setenv("PIP_NO_INDEX", "1")
    patch.setenv("PIP_FIND_LINKS", str(folder))
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def environment(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """Made, in a cache of its own: another of several workers may make it at the same time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR_DEPLOY_CACHE", str(tmp_path_factory.mktemp("cache")))
        made = pipeline.create_environment(NAME)
        assert not made.reused and set(made.value.versions) == {"tiny_package", "iniconfig"}
        yield TINY_ENVIRONMENT
        assert run_here("env", "remove", NAME).returncode == 0
        assert not TINY_ENVIRONMENT.folder.exists()


@pytest.fixture
def own_cache(wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CIFAR_DEPLOY_CACHE", str(tmp_path))
    return tmp_path / "environments"


def needing(package: str, environment: Environment) -> registry.Requirements:
    return registry.Requirements(requires=(package,), environment=environment)


def test_a_worker_in_it_finds_its_packages_first_and_then_the_parents(environment: Environment) -> None:
    there = registry.interpreter_for(needing("tiny_package", environment))
    told = Worker(interpreter=there).call(probes.versions_imported)
    assert told == {"tiny_package": "1.0", "iniconfig": "99.0", "numpy": metadata.version("numpy")}
    assert importlib.util.find_spec("tiny_package") is None and metadata.version("iniconfig") != "99.0"


def test_the_versions_recorded_are_those_that_are_imported(environment: Environment) -> None:
    there = registry.interpreter_for(needing("tiny_package", environment))
    told = machine.versions(["tiny_package", "iniconfig", "numpy"], there.path)
    assert told.items() >= {"tiny_package": "1.0", "iniconfig": "99.0", "numpy": metadata.version("numpy")}.items()


def test_its_packages_come_first_where_this_program_is_installed_beside_the_parents(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after `pip install cifar-deploy`: then its own folder is the parent's site-packages."""
    beside = Path(metadata.distribution("numpy").locate_file(""))  # type: ignore[arg-type]
    monkeypatch.setattr(launch, "__file__", str(beside / "cifar_deploy" / "core" / "launch.py"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    there = registry.interpreter_for(needing("tiny_package", environment))
    told = Worker(interpreter=there).call(probes.versions_imported)
    assert told["iniconfig"] == "99.0"


@pytest.mark.slow
def test_it_finds_what_its_parent_finds_through_another(
    environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One over another: torch and numpy are then two steps away, as what is installed as editable is."""
    python = environment.interpreter.python
    monkeypatch.setenv("CIFAR_DEPLOY_CACHE", str(tmp_path))
    subprocess.run([python, "-m", "cifar_deploy", "env", "create", NAME], check=True)
    made = TINY_ENVIRONMENT.made()
    assert made and not made.versions, "the parent has them all"
    assert registry.missing(["tiny_package", "numpy", "torch"], TINY_ENVIRONMENT.interpreter.path) == []


def test_what_the_running_interpreter_has_needs_no_environment() -> None:
    nowhere = replace(TINY_ENVIRONMENT, name="nowhere")
    assert registry.lack_of(needing("numpy", nowhere)) is None
    assert registry.interpreter_for(needing("numpy", nowhere)).python == sys.executable


def test_without_it_its_plugins_are_unavailable_and_say_how_to_make_it() -> None:
    nowhere = replace(TINY_ENVIRONMENT, name="nowhere")
    with pytest.raises(
        Unavailable, match=r"^format x: environment nowhere is not made; run `cifar-deploy env create nowhere`$"
    ):
        registry.need("format", "x", needing("tiny_package", nowhere))
    assert registry.interpreter_for(needing("tiny_package", nowhere)).python == sys.executable


def test_a_package_that_it_does_not_bring_is_named(environment: Environment) -> None:
    assert "environment tiny lacks other_package" in str(registry.lack_of(needing("other_package", environment)))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("parent", "/elsewhere", "lies over /elsewhere"),
        ("python", "3.9.1", "is for Python 3.9.1"),
        ("packages", ["tiny_package==0.9"], "holds tiny_package==0.9"),
    ],
)
def test_one_made_for_something_else_is_stale_and_made_anew(
    field: str, value: object, words: str, environment: Environment
) -> None:
    record = environment.folder / "environment.json"
    before = record.read_text()
    sealing.write_record(record, {**sealing.read_record(record, ""), field: value})
    reason = str(registry.lack_of(needing("tiny_package", environment)))
    record.write_text(before)
    assert "environment tiny is stale" in reason and words in reason
    assert reason.endswith("run `cifar-deploy env create tiny`")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(None, "its Python is gone", marks=pytest.mark.gate),
        pytest.param("{", "is not made", marks=pytest.mark.slow),
    ],
)
def test_one_that_is_damaged_is_made_anew(content: str | None, words: str, own_cache: Path) -> None:
    pipeline.create_environment(NAME)
    if content is None:
        (own_cache / "tiny" / "bin" / "python").unlink()
    else:
        (own_cache / "tiny" / "environment.json").write_text(content)
    assert words in str(TINY_ENVIRONMENT.lack())
    assert not pipeline.create_environment(NAME).reused
    assert TINY_ENVIRONMENT.lack() is None


def test_what_the_parent_would_lack_is_no_error(
    wheels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_wheel(wheels, "pluggy", "99.0")  # too new for the parent's pytest
    wanted = replace(TINY_ENVIRONMENT, packages=("pluggy==99.0",), brings=("pluggy",))
    made = install(wanted, tmp_path / "made")
    assert made.versions == {"pluggy": "99.0"}
    said = capsys.readouterr().out
    assert "Successfully installed pluggy-99.0" in said
    assert "ERROR" not in said and "incompatible" not in said


@pytest.mark.slow
def test_what_pip_cannot_install_is_one_line_and_leaves_what_was_there(own_cache: Path, wheels: Path) -> None:
    assert not pipeline.create_environment(NAME).reused and pipeline.create_environment(NAME).reused
    hidden = shutil.move(wheels / "tiny_package-1.0-py3-none-any.whl", own_cache)
    done = run_here("env", "create", NAME, "--force")
    shutil.move(hidden, wheels)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("cifar-deploy: error: environment tiny: pip cannot install tiny_package==1.0")
    assert "No matching distribution" in line or "Could not find a version" in line
    assert sorted(path.name for path in own_cache.iterdir()) == [".lock", "tiny"]
    assert TINY_ENVIRONMENT.lack() is None


@pytest.mark.parametrize("how", [pytest.param(how, marks=pytest.mark.gate) for how in (signal.SIGINT, signal.SIGKILL)])
def test_an_interruption_leaves_nothing_that_the_next_one_keeps(how: signal.Signals, own_cache: Path) -> None:
    command = [sys.executable, "-m", "cifar_deploy", "env", "create", NAME]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_signals,
    )
    while not any(own_cache.glob("tiny.tmp.*/new/pyvenv.cfg")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert errors == "cifar-deploy: error: interrupted; nothing was changed; the same command starts over\n"
        assert os.listdir(own_cache) == [".lock"]
    assert "is not made" in str(TINY_ENVIRONMENT.lack())
    wait_until_free(Lock(own_cache / ".lock", "at work; wait"))  # pip may outlive its parent
    assert run_here("env", "create", NAME).returncode == 0
    assert sorted(os.listdir(own_cache)) == [".lock", "tiny"]


def test_to_remove_what_is_not_there_is_a_usage_error(own_cache: Path) -> None:
    done = run_here("env", "remove", "litert")
    assert done.returncode == 2 and "litert: is not made" in done.stderr


def test_a_backend_that_lives_in_one_is_measured_there(environment: Environment, road: Path, tmp_path: Path) -> None:
    out = shutil.copytree(road, tmp_path / "out")
    pipeline.prepare("digits", None)
    backend = "tests.plugins:IN_AN_ENVIRONMENT"
    with pipeline.Store(out) as store:
        planned = pipeline.plan(store, formats=["onnx"], backends=[backend], metrics=["accuracy", "memory"])
        assert [item.job.versions["tiny_package"] for item in planned] == ["1.0", "1.0"]
        for outcome in pipeline.evaluate(store, planned):
            assert outcome.value.measurement, outcome.value.failure


def test_a_cell_whose_environment_is_not_made_is_a_row_with_the_remedy(road: Path, own_cache: Path) -> None:
    (planned,) = pipeline.plan(
        pipeline.Store(road), formats=["onnx"], backends=["tests.plugins:IN_AN_ENVIRONMENT"], metrics=["latency"]
    )
    assert planned.failure and planned.failure.kind == "unavailable"
    assert planned.failure.reason.endswith("run `cifar-deploy env create tiny`")


def test_create_and_remove_answer_in_json(
    environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = environment.folder
    monkeypatch.setenv("CIFAR_DEPLOY_CACHE", str(tmp_path))
    shutil.copytree(made, environment.folder, symlinks=True)
    created = document_of(run_here("env", "create", NAME, "--json"), "env create")
    assert (created["name"], created["reused"], created["folder"]) == (NAME, True, str(environment.folder))
    assert created["made"]["versions"] == {"tiny_package": "1.0", "iniconfig": "99.0"}
    assert document_of(run_here("env", "remove", NAME, "--json"), "env remove")["folder"] == created["folder"]
    assert not environment.folder.exists()
    refused = run_here("env", "remove", NAME, "--json")
    assert (refused.returncode, refused.stdout) == (2, "")
