"""ONNX Runtime with all graph optimisations."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from cifar_deploy.backends import Backend, Input, Opened, Opener
from cifar_deploy.core.arrays import Arrays, Images, Logits, Predict
from cifar_deploy.core.content import ONNX, ORT
from cifar_deploy.core.errors import LoadError, Unavailable
from cifar_deploy.core.records import Artifact


def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    session = _session(path, target, threads)

    def predict(images: Images) -> Logits:
        logits: Logits = session.run(["logits"], {"image": images})[0]
        return logits

    return predict


def open_(path: Path, target: str, threads: int) -> Opened:
    session = _session(path, target, threads)
    inputs = tuple(
        Input(
            name=node.name,
            dtype=_dtype(node.type),
            shape=tuple(node.shape),
        )
        for node in session.get_inputs()
    )

    def run(arrays: Arrays) -> object:
        return session.run(None, {input.name: array for input, array in zip(inputs, arrays, strict=True)})

    return Opened(inputs=inputs, run=run)


def _dtype(word: str) -> str:
    """Our name of "tensor(float)" and its like; of a sequence or a map its own word."""
    if not word.startswith("tensor("):
        return word
    return {"float": "float32", "double": "float64"}.get(inner := word[len("tensor(") : -1], inner)


def _corrected(path: Path, inputs: tuple[Input, ...]) -> tuple[Input, ...]:
    """The runtime gives the shape [] to a scalar and to an array of unknown rank."""
    if all(input.shape for input in inputs):
        return inputs
    ranked = (_ranked_in_ort if path.suffix.lower() == ".ort" else _ranked_in_onnx)(path)
    return tuple(input if input.name in ranked else replace(input, shape=None) for input in inputs)


def _ranked_in_onnx(path: Path) -> set[str]:
    """The inputs that have a shape in the file, be it an empty one."""
    import onnx

    model = onnx.load(path, format="protobuf", load_external_data=False)
    return {input.name for input in model.graph.input if input.type.tensor_type.HasField("shape")}


def _ranked_in_ort(path: Path) -> set[str]:
    from onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs import InferenceSession, TensorTypeAndShape

    graph = InferenceSession.InferenceSession.GetRootAs(path.read_bytes(), 0).Model().Graph()
    ranked = set()
    for value in map(graph.NodeArgs, range(graph.NodeArgsLength())):
        table, tensor = value.Type().Value(), TensorTypeAndShape.TensorTypeAndShape()
        tensor.Init(table.Bytes, table.Pos)
        if tensor.Shape():
            ranked.add(value.Name().decode())
    return ranked


def _session(path: Path, target: str, threads: int) -> Any:
    import onnxruntime

    if target not in onnxruntime.get_available_providers():
        raise Unavailable(f"backend onnxruntime: has no {target} here; pip install onnxruntime-gpu")
    options = onnxruntime.SessionOptions()
    # Unset, the pool would have the machine's size, whatever the affinity.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # The gain over PyTorch on convolutions comes with the last level (its blocked NCHWc layout).
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=[target])
    if session.get_providers()[0] != target:
        raise LoadError(
            f"onnxruntime: asked for {target}, got {session.get_providers()[0]}; pip install onnxruntime-gpu"
        )
    return session


BACKEND = Backend(
    title="ONNX Runtime",
    summary="ONNX Runtime, all graph optimisations",
    reads=("onnx", "onnx_int8", "onnx_fp16", "onnx_ort"),
    targets={"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"},
    requires=("onnxruntime",),
    load=load,
    opens=Opener(suffixes={".onnx": ONNX, ".ort": ORT}, open=open_, corrected=_corrected),
)
