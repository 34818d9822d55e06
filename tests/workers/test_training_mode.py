"""What of an external model was left in training mode, and that a program that can leave it does."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core.records import TrainingMode
from cifar_deploy.workers.inspect import look
from tests import models

X = np.random.default_rng(0).random((2, 3, 4, 4), np.float32)
PyTorch = Callable[[nn.Module, Path], Path]


class Both(nn.Module):
    """Dropout after a batch norm: each answers otherwise in training mode."""

    def __init__(self, keeps_statistics: bool = True) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, track_running_stats=keeps_statistics)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.drop(self.norm(x))


class Function(nn.Module):
    """Calls dropout without saying in which mode, which is training."""

    def forward(self, x):  # type: ignore[no-untyped-def]
        return functional.dropout(x, 0.25)


class Branch(nn.Module):
    """Asks for its mode itself, in both ways."""

    def forward(self, x):  # type: ignore[no-untyped-def]
        if self.training:
            x = functional.dropout(x)
        if not self.training:
            x = x + 1
        return x


class Attention(nn.Module):
    def forward(self, x):  # type: ignore[no-untyped-def]
        return functional.scaled_dot_product_attention(x, x, x, dropout_p=0.5)


class Plain(nn.Module):
    def forward(self, x):  # type: ignore[no-untyped-def]
        return x + 1


class Recurrent(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 4, num_layers=2, dropout=dropout)

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.lstm(x.flatten(1, 2))[0]


def scripted(module: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save(path.with_suffix(".ts"))  # type: ignore[no-untyped-call]
    return path.with_suffix(".ts")


def traced(module: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(module, torch.from_numpy(X), check_trace=False).save(path.with_suffix(".ts"))  # type: ignore[no-untyped-call]
    return path.with_suffix(".ts")


def frozen(module: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.freeze(torch.jit.script(module.eval())).save(path.with_suffix(".ts"))  # type: ignore[no-untyped-call]
    return path.with_suffix(".ts")


def exported(module: nn.Module, path: Path) -> Path:
    torch.export.save(torch.export.export(module, (torch.from_numpy(X),)), path.with_suffix(".pt2"))
    return path.with_suffix(".pt2")


def decomposed(module: nn.Module, path: Path) -> Path:
    program = torch.export.export(module, (torch.from_numpy(X),)).run_decompositions()
    torch.export.save(program, path.with_suffix(".pt2"))
    return path.with_suffix(".pt2")


def half(module: nn.Module) -> nn.Module:
    """In evaluation mode, but for its dropout."""
    module.eval().drop.train()  # type: ignore[union-attr]
    return module


NOTHING = TrainingMode()


@pytest.mark.parametrize(
    ("module", "write", "expected"),
    [
        (Both(), scripted, TrainingMode(switched=3)),
        (half(Both()), scripted, TrainingMode(switched=1)),
        (Both().eval(), scripted, NOTHING),
        (Both(), frozen, NOTHING),
        (Both(), traced, TrainingMode(operators={"batch_norm": 1, "dropout": 1})),
        (Both().eval(), traced, NOTHING),
        (half(Both()), traced, TrainingMode(operators={"dropout": 1})),
        (Both(keeps_statistics=False).eval(), scripted, NOTHING),
        (Both(keeps_statistics=False).eval(), traced, NOTHING),
        (Function().eval(), scripted, TrainingMode(operators={"dropout": 1})),
        (Function().eval(), frozen, TrainingMode(operators={"dropout": 1})),
        (Branch(), scripted, TrainingMode(switched=1)),
        (Plain(), scripted, NOTHING),
        (Attention(), scripted, TrainingMode(operators={"scaled_dot_product_attention": 1})),
        (Recurrent(0.5), traced, TrainingMode(operators={"lstm": 1})),
        (Recurrent(0.0), traced, NOTHING),
        (Both(), exported, TrainingMode(operators={"batch_norm": 1, "dropout": 1})),
        (Both(), decomposed, TrainingMode(operators={"_native_batch_norm_legit_functional": 1, "native_dropout": 1})),
        (Both().eval(), exported, NOTHING),
        (Both(keeps_statistics=False).eval(), exported, NOTHING),
    ],
    ids=lambda value: (
        f"{type(value).__name__} {'training' if value.training else 'evaluation'}"
        if isinstance(value, nn.Module)
        else getattr(value, "__name__", "")
    ),
)
def test_a_program_of_pytorch_says_what_was_left_in_training_mode(
    module: nn.Module, write: PyTorch, expected: TrainingMode, tmp_path: Path
) -> None:
    path = write(module, tmp_path / "m")
    backend = "torchscript" if path.suffix == ".ts" else "torch_export"
    found = look(path, backend, True)
    assert found.training_mode == expected
    said = " ".join(found.training_mode.told)
    assert ("evaluation mode" in said) == (expected.switched > 0)
    assert ("export it again" in said) == bool(expected.operators)


@pytest.mark.parametrize("module", [Both(), half(Both()), Branch()], ids=["all", "dropout alone", "a branch"])
def test_torchscript_that_was_saved_in_training_mode_answers_as_after_eval(module: nn.Module, tmp_path: Path) -> None:
    path = scripted(module, tmp_path / "m")
    backend = BACKENDS["torchscript"]
    assert backend.opens
    run = backend.opens.open(path, "cpu", 1).run
    with torch.no_grad():
        expected = module.eval()(torch.from_numpy(X)).numpy()
    for _ in range(2):
        np.testing.assert_allclose(np.asarray(run([X])), expected, rtol=1e-5)


def _onnx(path: Path, nodes: list[onnx.NodeProto], inputs: dict[str, Any] | None = None, opset: int = 17) -> Path:
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 4, 4])]
    values += [helper.make_tensor_value_info(name, dtype, []) for name, dtype in (inputs or {}).items()]
    weights = [numpy_helper.from_array(np.ones(3, np.float32), name) for name in "sbmv"]
    weights += [numpy_helper.from_array(np.float32(0.5), "ratio"), numpy_helper.from_array(np.array(True), "yes")]
    weights += [numpy_helper.from_array(np.array(False), "no")]
    graph = helper.make_graph(
        nodes, "g", values, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], weights
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


NODE = helper.make_node
NORM = ["x", "s", "b", "m", "v"]
THEN = helper.make_graph(
    [NODE("Dropout", ["x", "ratio", "yes"], ["then"])], "t", [], [helper.make_tensor_value_info("then", 1, None)]
)
ELSE = helper.make_graph([NODE("Relu", ["x"], ["else"])], "e", [], [helper.make_tensor_value_info("else", 1, None)])


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([NODE("Dropout", ["x", "ratio", "yes"], ["y"])], {"Dropout": 1}),
        ([NODE("Dropout", ["x", "ratio", "no"], ["y"])], {}),
        ([NODE("Dropout", ["x", "ratio"], ["y"])], {}),
        (
            [
                NODE("Constant", [], ["t"], value=numpy_helper.from_array(np.array(True))),
                NODE("Dropout", ["x", "", "t"], ["d"]),
                NODE("Dropout", ["d", "", "t"], ["y"]),
            ],
            {"Dropout": 2},
        ),
        ([NODE("BatchNormalization", NORM, ["y", "m2", "v2"], training_mode=1)], {"BatchNormalization": 1}),
        ([NODE("BatchNormalization", NORM, ["y"], training_mode=0)], {}),
        (
            [
                NODE("Identity", ["m"], ["same"]),
                NODE("BatchNormalization", ["x", "s", "b", "same", "v"], ["y", "m2", "v2"], training_mode=1),
            ],
            {"BatchNormalization": 1},
        ),
        (
            [
                NODE("ReduceMean", ["x"], ["mean"], axes=[0, 2, 3], keepdims=0),
                NODE("BatchNormalization", ["x", "s", "b", "mean", "v"], ["y", "m2", "v2"], training_mode=1),
            ],
            {},
        ),
        ([NODE("If", ["no"], ["y"], then_branch=THEN, else_branch=ELSE)], {"Dropout": 1}),
    ],
    ids=[
        *("dropout", "dropout off", "dropout by default", "by a constant, twice", "batch norm", "batch norm off"),
        *("a shared statistic", "the batch's own statistics", "in a branch"),
    ],
)
def test_an_onnx_file_says_which_operators_were_left_in_training_mode(
    nodes: list[onnx.NodeProto], expected: dict[str, int], tmp_path: Path
) -> None:
    path = _onnx(tmp_path / "m.onnx", nodes)
    assert look(path, "onnxruntime", False).training_mode == TrainingMode(operators=expected)


def test_an_export_of_pytorch_for_training_is_told(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            nn.Sequential(nn.Conv2d(3, 3, 1), Both()),
            (torch.from_numpy(X),),
            tmp_path / "m.onnx",
            dynamo=False,
            training=torch.onnx.TrainingMode.TRAINING,
            do_constant_folding=False,
            opset_version=17,
        )
    found = look(tmp_path / "m.onnx", "onnxruntime", False).training_mode
    assert found.operators == {"BatchNormalization": 1, "Dropout": 1}
    assert "1 × BatchNormalization, 1 × Dropout" in found.told[0]


def test_a_file_of_another_kind_has_no_training_mode(tmp_path: Path) -> None:
    assert look(models.MAKERS["openvino", ".xml"](tmp_path / "m.xml"), "openvino", False).training_mode == NOTHING
