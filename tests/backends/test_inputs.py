"""What an opener says of a file's inputs: unknown rank or scalar, a type of numbers or another, what is no array."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from cifar_deploy.backends import BACKENDS, Input, Opened
from cifar_deploy.core.errors import Unsupported
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.registry import interpreter_for
from cifar_deploy.stages.bench import taken
from cifar_deploy.workers.inspect import look
from tests import models
from tests.conftest import need_package, need_plugin


def opened(path: Path, backend: str) -> tuple[tuple[Input, ...], Opened]:
    """As workers.inspect finds them."""
    plugin = BACKENDS[backend]
    assert plugin.opens
    found = plugin.opens.open(path, plugin.targets["cpu"], 1)
    return look(path, backend, True).inputs or (), found


@pytest.mark.parametrize("in_ort_format", [False, True], ids=["onnx", "ort"])
@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (None, None),
        ([], ()),
        ([1], (1,)),
        (["N", 3], ("N", 3)),
        ([None, 3], (None, 3)),
        ([-1, 3], (None, 3)),
        ([0, 3], (0, 3)),
    ],
    ids=str,
)
def test_onnxruntime_tells_an_unknown_rank_from_a_scalar(
    shape: Any, said: Any, in_ort_format: bool, tmp_path: Path
) -> None:
    path = models.identity(tmp_path / "m.onnx", shape)
    (input,), found = opened(models.to_ort(path) if in_ort_format else path, "onnxruntime")
    assert input == Input(name="x", dtype="float32", shape=said)
    array = np.ones((2, 3) if shape is None else [0 if size == 0 else 1 if size in (None, "N", -1) else size for size in shape], np.float32)  # fmt: skip
    np.testing.assert_array_equal(found.run([array]), [array])


def test_openvino_refuses_an_unknown_rank_by_the_inputs_name_and_takes_a_scalar(tmp_path: Path) -> None:
    need_package("openvino")
    with pytest.raises(Unsupported, match="input x has an unknown rank"):
        opened(models.identity(tmp_path / "m.onnx", None), "openvino")
    (input,), _ = opened(models.identity(tmp_path / "m.onnx", []), "openvino")
    assert input.shape == () and taken(tmp_path, (input,), {})[0].shape == ()


def test_litert_tells_an_unknown_rank_from_a_scalar_and_int4_from_int8(tmp_path: Path) -> None:
    plugin = BACKENDS["litert"]
    need_plugin(plugin)
    worker = Worker(interpreter=interpreter_for(plugin))
    found = [(input.dtype, input.shape) for input in worker.call(models.tflite_inputs, folder=tmp_path)]
    ranks, types = found[:4], found[4:]
    assert ranks == [("float32", None), ("float32", ()), ("float32", (None, 3)), ("float32", (2, 3))]
    assert types == [("int4", (2,)), ("string", (2,))]


NUMBERS = {
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
    TensorProto.FLOAT16: "float16",
    TensorProto.BOOL: "bool",
    TensorProto.INT8: "int8",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
    TensorProto.UINT8: "uint8",
    TensorProto.UINT64: "uint64",
}


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_runtimes_words_for_numbers_are_ours(backend: str, tmp_path: Path) -> None:
    need_package(backend)
    for number, name in NUMBERS.items():
        (input,), _ = opened(models.identity(tmp_path / "m.onnx", [2], number), backend)
        assert taken(tmp_path, (input,), {})[0].dtype == name


@pytest.mark.parametrize(
    ("backend", "number", "word"),
    [
        ("openvino", TensorProto.INT4, "i4"),
        ("openvino", TensorProto.UINT4, "u4"),
        ("openvino", TensorProto.BFLOAT16, "bf16"),
        ("openvino", TensorProto.FLOAT8E4M3FN, "f8e4m3"),
        ("openvino", TensorProto.STRING, "string"),
        ("onnxruntime", TensorProto.BFLOAT16, "bfloat16"),
        ("onnxruntime", TensorProto.FLOAT8E5M2, "float8e5m2"),
        ("onnxruntime", TensorProto.STRING, "string"),
    ],
)
def test_another_type_is_refused_in_the_runtimes_words(backend: str, number: int, word: str, tmp_path: Path) -> None:
    need_package(backend)
    (input,), _ = opened(models.identity(tmp_path / "m.onnx", [2], number), backend)
    with pytest.raises(Unsupported, match=f"input x is of type {word}, which cannot be made up"):
        taken(tmp_path, (input,), {})


def exported(path: Path, function: Callable[..., Any], *args: Any, dynamic: Any = None, **kwargs: Any) -> Path:
    import torch

    class Module(torch.nn.Module):
        def forward(self, x, more=None, last=None, *, scale=None):  # type: ignore[no-untyped-def]
            return function(x, more, last, scale)

    torch.export.save(torch.export.export(Module(), args, kwargs, dynamic_shapes=dynamic), path)
    return path


def test_torch_exports_plain_arguments_are_those_of_the_export(tmp_path: Path) -> None:
    import torch

    x = torch.rand(2, 3)
    path = exported(tmp_path / "m.pt2", lambda x, n, f, flag: x * n * f if flag else x, x, 3, 0.5, scale=True)
    inputs, found = opened(path, "torch_export")
    assert [input.name for input in inputs] == ["x"]
    np.testing.assert_allclose(found.run([x.numpy()]), x * 1.5)  # type: ignore[call-overload]


def test_torch_exports_none_text_and_nested_arguments_keep_their_places(tmp_path: Path) -> None:
    import torch

    x, y, z = torch.rand(3, 2, 3)
    path = exported(
        tmp_path / "m.pt2",
        lambda x, more, last, scale: x["a"] * more[0] - more[1][0] * (scale["n"] if last == "sub" else 0),
        {"a": x, "none": None},
        [y, (z,)],
        "sub",
        scale={"n": 2, "unused": None},
    )
    inputs, found = opened(path, "torch_export")
    assert [input.name for input in inputs] == ["x_a", "more_0", "more_1_0"]
    np.testing.assert_allclose(found.run([x.numpy(), y.numpy(), z.numpy()]), x * y - 2 * z)  # type: ignore[call-overload]


def test_a_number_that_torch_export_leaves_free_is_refused_by_name(tmp_path: Path) -> None:
    import torch

    dynamic = {"x": None, "more": torch.export.Dim.DYNAMIC, "last": None, "scale": None}
    path = exported(tmp_path / "m.pt2", lambda x, n, *_: x * n, torch.rand(2), 3, None, dynamic=dynamic, scale=None)
    inputs, _ = opened(path, "torch_export")
    assert [input.name for input in inputs] == ["x", "more"]
    with pytest.raises(Unsupported, match="input more is of type SymInt"):
        taken(path, inputs, {})


def test_torchscripts_arguments_that_are_neither_tensors_nor_numbers_are_refused_by_name(tmp_path: Path) -> None:
    import torch

    class Module(torch.nn.Module):
        def forward(
            self, x: torch.Tensor, mask: torch.Tensor | None, n: int, parts: list[torch.Tensor]
        ) -> torch.Tensor:
            return x * n + parts[0]

    torch.jit.script(Module()).save(tmp_path / "m.ts")
    inputs, _ = opened(tmp_path / "m.ts", "torchscript")
    assert [(input.name, input.dtype) for input in inputs] == [
        *(("x", None), ("mask", None), ("n", "int64"), ("parts", "List[Tensor]"))
    ]
    with pytest.raises(Unsupported, match=r"input parts is of type List\[Tensor\]"):
        taken(tmp_path, inputs[2:], {})
