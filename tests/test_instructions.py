"""8-bit artifacts under older instructions: the runtime really obeys, or a row says that it cannot be made to."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cifar_deploy import pipeline
from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import machine
from cifar_deploy.core.errors import LoadError, Unsupported, UsageError
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.locks import Lock
from cifar_deploy.core.store import Store
from tests.conftest import Exported, need_plugin
from tests.in_process import run_here


@pytest.fixture
def int8(exported: Exported, of_all: Path, tmp_path: Path) -> tuple[Store, Path]:
    """An output folder of one's own with an 8-bit artifact, and its file."""
    need_plugin(BACKENDS["openvino"])
    if "avx512f" not in machine.machine().instructions:
        pytest.skip("needs a processor with AVX-512, to be held below it")
    _, path = exported("onnx_int8")
    whole = path.parents[3]
    with Lock(of_all / "exported.lock", None):
        others = [folder.name for folder in path.parents[1].iterdir() if folder.name not in ("checkpoint", "onnx_int8")]
        shutil.copytree(whole, tmp_path / "out", ignore=shutil.ignore_patterns(*others))
    return Store(tmp_path / "out"), tmp_path / "out" / path.relative_to(whole)


def test_the_labels_under_older_instructions_stand_beside_this_processors(int8: tuple[Store, Path]) -> None:
    store, _ = int8
    planned = pipeline.plan(
        store, formats=["onnx_int8"], metrics=["accuracy"], conditions=pipeline.Conditions(limit_test=64)
    )
    with store:
        found = {
            (outcome.value.job.backend, getattr(outcome.value.job.trial, "isa", None)): outcome.value
            for outcome in pipeline.evaluate(store, planned, pipeline.EvaluationSettings(isa=("avx2",)))
        }
        table, _ = pipeline.report(store)
    assert set(found) == {(name, isa) for name in ("onnxruntime", "openvino") for isa in (None, "avx2")}
    held = found["openvino", "avx2"]
    assert held.measurement and held.measurement.values["images"] == 64, held.failure
    cannot = found["onnxruntime", "avx2"].failure
    assert cannot and cannot.kind == "unsupported" and "cannot be held to avx2" in cannot.reason
    (section,) = (section for section in table.sections if section.title == "INT8 under older instructions")
    shown = {row.labels[2:]: row for row in section.rows}
    assert shown["openvino", "avx2"].values["same"].number > 0.9
    assert shown["onnxruntime", "avx2"].failures["ended"] == cannot
    # What was measured under a cap is in no other table.
    (ship,) = (section for section in table.sections if section.title == "What to ship")
    assert not any("accuracy.accuracy" in row.failures for row in ship.rows)


def test_a_runtime_that_cannot_be_held_is_no_failure_of_what_was_asked(
    int8: tuple[Store, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no compiler, and no minute of compiling the network
    done = run_here(
        "evaluate", "--metric", "accuracy", "--max-isa", "avx2", "--limit-test", "64", "--out", int8[0].root
    )
    assert done.returncode == 0 and "unsupported: backend onnxruntime: cannot be held to avx2" in done.stdout, (
        done.stderr
    )


def kernels(path: Path) -> str:
    """For a process of its own: what OpenVINO's convolutions run."""
    from openvino import Core

    model = Core().compile_model(Core().read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    facts = [operation.get_rt_info() for operation in model.get_runtime_model().get_ops()]
    return " ".join(
        fact["primitiveType"].astype(str) for fact in facts if fact["layerType"].astype(str) == "Convolution"
    )


def test_the_variable_really_caps_the_convolutions(int8: tuple[Store, Path]) -> None:
    _, path = int8
    isa = BACKENDS["openvino"].isa
    assert "avx512" in Worker().call(kernels, path=path)
    under = Worker(variables=isa["avx2"]).call(kernels, path=path)
    assert "avx2" in under and "avx512" not in under


def test_a_runtime_that_does_not_obey_is_not_believed(
    int8: tuple[Store, Path], exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact, path = exported("onnx_int8")
    backend = BACKENDS["openvino"]
    backend.load(path, artifact, "CPU", 1)(np.zeros((1, 3, 32, 32), np.float32))
    # Too late for this process: oneDNN has looked already.
    monkeypatch.setitem(os.environ, "ONEDNN_MAX_CPU_ISA", "AVX2")
    with pytest.raises(LoadError, match=r"no more than AVX2, and runs .*avx512"):
        backend.load(path, artifact, "CPU", 1)


def test_without_an_8_bit_accuracy_there_is_nothing_to_ask(road: Path) -> None:
    planned = pipeline.plan(Store(road), formats=["onnx"], metrics=["accuracy"])
    with pytest.raises(UsageError, match="--format onnx_int8"):
        list(pipeline.evaluate(Store(road), planned, pipeline.EvaluationSettings(isa=("avx2",))))


@pytest.mark.parametrize(
    ("architecture", "instructions", "words"),
    [("aarch64", ("asimd",), "is aarch64"), ("x86_64", ("avx2",), "no avx512 itself")],
)
def test_a_level_that_this_processor_lacks_itself_is_unsupported(
    architecture: str, instructions: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = replace(machine.machine(), architecture=architecture, instructions=instructions)
    monkeypatch.setattr(machine, "machine", lambda: here)
    with pytest.raises(Unsupported, match=words):
        machine.check_isa("avx512")
