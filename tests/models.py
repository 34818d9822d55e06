"""Model files as somebody else would make them, a few hundred bytes each: for `bench`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cifar_deploy.backends import BACKENDS, Input
from cifar_deploy.core import content


def save(
    path: Path, nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, tuple[int, list[int | str]]], **how: object
) -> Path:
    """A graph from its inputs (name -> type, shape) to `y`, with the weights `w`, 8 filters of 3×3×3."""
    weights = numpy_helper.from_array(np.ones((8, 3, 3, 3), np.float32), "w")
    values = [helper.make_tensor_value_info(name, dtype, shape) for name, (dtype, shape) in inputs.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "graph", values, [output], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path, **how)
    return path


def images(path: Path, **how: object) -> Path:
    """x [N, 3, 224, 224] through one convolution."""
    return save(
        path,
        [helper.make_node("Conv", ["x", "w"], ["y"], strides=[8, 8])],
        {"x": (TensorProto.FLOAT, ["N", 3, 224, 224])},
        **how,
    )


def free(path: Path) -> Path:
    """x [N, 3, height, width]."""
    return save(
        path,
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        {"x": (TensorProto.FLOAT, ["N", 3, "height", "width"])},
    )


def two_inputs(path: Path) -> Path:
    """x float32 [batch, 3] times ids int64 [batch, 3]."""
    return save(
        path,
        [helper.make_node("Cast", ["ids"], ["c"], to=TensorProto.FLOAT), helper.make_node("Mul", ["x", "c"], ["y"])],
        {"x": (TensorProto.FLOAT, ["batch", 3]), "ids": (TensorProto.INT64, ["batch", 3])},
    )


def needs_rate(path: Path) -> Path:
    """x float32 [batch, 3] and rate int64 []: it fails at any rate but 16000, less which is the index of a table of one row."""
    nodes = [
        helper.make_node("Sub", ["rate", "least"], ["index"]),
        helper.make_node("Gather", ["table", "index"], ["row"]),
        helper.make_node("Mul", ["x", "row"], ["y"]),
    ]
    arrays = {"least": np.array(16000), "table": np.ones((1, 3), np.float32)}
    constants = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(a)) for name, a in arrays.items()
    ]
    return save(path, [*constants, *nodes], {"x": (TensorProto.FLOAT, ["batch", 3]), "rate": (TensorProto.INT64, [])})


def identity(path: Path, shape: list[int | str | None] | None, dtype: int = TensorProto.FLOAT) -> Path:
    """x of this shape, None for an unknown rank, to y."""
    values = [helper.make_tensor_value_info(name, dtype, of) for name, of in (("x", shape), ("y", None))]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "graph", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def to_ort(path: Path) -> Path:
    """An ONNX file in ORT format, beside it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path.with_suffix(".ort"))
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return path.with_suffix(".ort")


def _ort(path: Path) -> Path:
    return to_ort(two_inputs(path.with_suffix(".onnx")))


def _ir(path: Path) -> Path:
    import openvino

    openvino.save_model(openvino.convert_model(two_inputs(path.with_suffix(".onnx"))), path, compress_to_fp16=False)
    return path


def torchscript(path: Path) -> Path:
    import torch

    module, examples = _module()
    torch.jit.trace(module, examples).save(path)
    return path


def in_place(path: Path, is_compiled: bool = False) -> Path:
    """A program for PyTorch that adds 1 to its input x [2, 3] itself, and returns twice that."""
    import torch

    class Counts(torch.nn.Module):
        def forward(self, x):  # type: ignore[no-untyped-def]
            return x.add_(1) * 2

    example = (torch.zeros(2, 3),)
    if is_compiled:
        from torch._inductor import aoti_compile_and_package

        with torch.no_grad():
            aoti_compile_and_package(torch.export.export(Counts(), example), package_path=str(path))
    elif path.suffix == ".pt2":
        torch.export.save(torch.export.export(Counts(), example), path)
    else:
        torch.jit.trace(Counts(), example, check_trace=False).save(path)
    return path


def in_training_mode(path: Path) -> Path:
    """A script of one layer of dropout, saved without .eval()."""
    import torch

    torch.jit.script(torch.nn.Sequential(torch.nn.Dropout())).save(path)
    return path


def takes_numbers(path: Path) -> Path:
    """A script of x, k: int, scale: float and on: bool, which multiplies them if it is on."""
    import torch

    class Numbers(torch.nn.Module):
        def forward(self, x, k: int, scale: float, on: bool):  # type: ignore[no-untyped-def]
            return x * k * scale if on else x

    torch.jit.script(Numbers()).save(path)
    return path


def _torch_export(path: Path) -> Path:
    import torch

    module, examples = _module()
    batch = {0: torch.export.Dim("batch")}
    torch.export.save(torch.export.export(module, examples, dynamic_shapes=(batch, batch)), path)
    return path


def _aoti(path: Path) -> Path:
    import torch
    from torch._inductor import aoti_compile_and_package

    module, examples = _module()
    with torch.no_grad():
        aoti_compile_and_package(torch.export.export(module, examples), package_path=str(path))
    return path


def _module():  # type: ignore[no-untyped-def]
    import torch

    class Product(torch.nn.Module):
        def forward(self, x, ids):  # type: ignore[no-untyped-def]
            return x * ids

    return Product(), (torch.rand(2, 3), torch.ones(2, 3, dtype=torch.int64))


def times_a_number(path: Path) -> None:
    """An ExecuTorch program that multiplies an array by a number, an array of no dimension. For a worker that can write one."""
    import torch
    from executorch.exir import to_edge

    module, (x, _) = _module()
    path.write_bytes(to_edge(torch.export.export(module, (x, torch.tensor(2.0)))).to_executorch().buffer)


def tflite_inputs(folder: Path) -> tuple[Input, ...]:
    """What the opener says of `x` in TFLite files that give back what they take. For a worker that has LiteRT and its schema."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def write(path: Path, type_: int, shape: list[int], signature: list[int] | None, has_rank: bool) -> None:
        tensor, graph, model = schema.TensorT(), schema.SubGraphT(), schema.ModelT()
        tensor.name, tensor.type, tensor.shape, tensor.shapeSignature = "x", type_, shape, signature
        tensor.hasRank = has_rank
        graph.tensors, graph.inputs, graph.outputs, graph.operators = [tensor], [0], [0], []
        model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [], [graph], [schema.BufferT()]
        builder = flatbuffers.Builder()
        builder.Finish(model.Pack(builder), b"TFL3")
        path.write_bytes(bytes(builder.Output()))

    opens, found, types = BACKENDS["litert"].opens, [], schema.TensorType
    assert opens
    for number, (type_, shape, signature, has_rank) in enumerate(
        [
            (types.FLOAT32, [], None, False),
            (types.FLOAT32, [], None, True),
            (types.FLOAT32, [1, 3], [-1, 3], True),
            (types.FLOAT32, [2, 3], None, False),
            (types.INT4, [2], None, True),
            (types.STRING, [2], None, True),
        ]
    ):
        path = folder / f"{number}.tflite"
        write(path, type_, shape, signature, has_rank)
        assert content.of(path) == content.TFLITE
        found += opens.corrected(path, opens.open(path, "cpu", 1).inputs)
    return tuple(found)


# By backend and suffix, a file that multiplies its two inputs.
MAKERS: Mapping[tuple[str, str], Callable[[Path], Path]] = {
    ("onnxruntime", ".onnx"): two_inputs,
    ("onnxruntime", ".ort"): _ort,
    ("openvino", ".onnx"): two_inputs,
    ("openvino", ".xml"): _ir,
    ("torchscript", ".ts"): torchscript,
    ("torchscript", ".pt"): torchscript,
    ("torchscript", ".torchscript"): torchscript,
    ("torch_export", ".pt2"): _torch_export,
    ("aoti", ".pt2"): _aoti,
}
