"""The networks that travel with the package, and a first look at them without training or images."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cifar_deploy.core import files
from cifar_deploy.core.errors import Corrupt, UsageError
from cifar_deploy.core.store import Store, as_artifact
from cifar_deploy.stages import quickstart
from tests.conftest import ROOT
from tests.in_process import run_here
from tests.schemas import document_of

NAMES = ["mobilenet-0.25", "resnet20"]


def test_the_shipped_networks_are_those_of_the_repository(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        found = quickstart.shipped(store)
        assert [one.value.training.name for one in found] == NAMES
        assert not any(one.reused for one in found)
        for one in found:
            weights = store.verified(as_artifact(one.value))["weights.safetensors"]
            ours = ROOT / "exported" / one.value.training.name / "checkpoint" / "weights.safetensors"
            assert weights.read_bytes() == ours.read_bytes()
        assert [one.reused for one in quickstart.shipped(store)] == [True, True]
        assert store.names() == NAMES


def test_another_network_of_the_same_name_is_left_alone(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        small, _ = quickstart.shipped(store)
        other = store.checkpoint_folder("resnet20")
        (other / "weights.safetensors").write_bytes(
            (store.checkpoint_folder(NAMES[0]) / "weights.safetensors").read_bytes()
        )
        training = replace(small.value.training, name="resnet20")
        with files.staging(other) as staged:
            shutil.copy(other / "weights.safetensors", staged)
            store.save_checkpoint(replace(small.value, training=training), staged)
        with pytest.raises(
            UsageError, match=r"resnet20/checkpoint holds another network of this name; give another folder"
        ):
            quickstart.shipped(store)
        found = store.checkpoint("resnet20")
        assert found and found.weights == small.value.weights


def test_a_damaged_copy_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        quickstart.shipped(store)
        (store.checkpoint_folder("resnet20") / "weights.safetensors").write_bytes(b"half")
        with pytest.raises(Corrupt, match=r"weights\.safetensors: is not the file its record describes"):
            quickstart.shipped(store)


def test_what_is_measured_needs_no_whole_batches() -> None:
    assert {"accuracy", "latency", "memory", "file_size", "parity"} < set(quickstart.metrics())
    assert "throughput" not in quickstart.metrics()


def test_int8_is_made_where_the_images_are() -> None:
    assert quickstart.formats(with_images=False) == ["checkpoint", "torchscript", "onnx"]
    assert quickstart.formats(with_images=True)[-1] == "onnx_int8"


@pytest.mark.slow
@pytest.mark.usefixtures("workers_here")
def test_the_command_measures_what_it_can_and_says_what_it_cannot(tmp_path: Path) -> None:
    quick = ["quickstart", "--rounds", "1", "--seconds", "0.02"]
    done = run_here(*quick, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (
        "no INT8" in done.stdout
        and done.stdout.splitlines()[-1] == "report    cifar-deploy-quickstart/reports/report.html"
    )
    assert done.stdout.count("unavailable: data set image_folder") == 2  # where it is met, and in the summary
    again = run_here(*quick, "--json", cwd=tmp_path)
    document = document_of(again, "quickstart")
    assert [one["name"] for one in document["networks"]] == NAMES
    assert all(one["reused"] for part in ("networks", "artifacts") for one in document[part])
    assert all(one["reused"] for one in document["results"] if one["values"])
    measured = {(one["configuration"]["format"], one["metric"]) for one in document["results"] if one["values"]}
    assert {(format, "latency") for format in ("checkpoint", "torchscript", "onnx")} < measured
    assert document["report"]["answer"]["headline"]


@pytest.mark.slow
def test_a_wheel_holds_the_shipped_networks_in_less_than_2_mb(tmp_path: Path) -> None:
    source, installed = tmp_path / "source", tmp_path / "installed"
    left_out = shutil.ignore_patterns("__pycache__", "mobilenet", "resnet18", "*.egg-info")
    for name in ("cifar_deploy", "exported"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=left_out)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 2_000_000
    shutil.unpack_archive(wheel, installed, "zip")
    show = """if True:
        from cifar_deploy.core.store import Store
        from cifar_deploy.stages import quickstart
        with Store("out") as store:
            print(quickstart.__file__, *(one.value.training.name for one in quickstart.shipped(store)))
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", show],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [str(installed / "cifar_deploy" / "stages" / "quickstart.py"), *NAMES], done.stderr
