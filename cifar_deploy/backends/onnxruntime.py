"""ONNX Runtime with all graph optimisations."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from cifar_deploy.backends import Backend, Example, Input, Opened, Opener, traces
from cifar_deploy.backends.traces import Event
from cifar_deploy.core.arrays import Arrays, Images, Logits, Predict
from cifar_deploy.core.content import ONNX, ORT
from cifar_deploy.core.errors import LoadError, Unavailable
from cifar_deploy.core.profile import WARM_UP, Calls, Operator, Profiled
from cifar_deploy.core.records import Artifact


def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    return _predicting(_session(path, target, threads))


def _predicting(session: Any) -> Predict:
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

    return Opened(inputs=inputs, outputs=tuple(node.name for node in session.get_outputs()), run=run)


def _dtype(word: str) -> str:
    """Our name of "tensor(float)" and its like; of a sequence or a map its own word."""
    if not word.startswith("tensor("):
        return word
    return {"float": "float32", "double": "float64"}.get(inner := word[len("tensor(") : -1], inner)


def profile(path: Path, artifact: Artifact, target: str, threads: int, calls: Calls) -> Profiled:
    with tempfile.TemporaryDirectory() as folder:
        session = _session(path, target, threads, traces_to=Path(folder) / "trace")
        predict = _predicting(session)
        calls.warm_up(predict)
        inference_s = calls.timed(predict)
        events = traces.read(Path(session.end_profiling()))
    inferences = [event for event in events if event.name == "model_run"]
    return traces.profiled(events, inferences[WARM_UP:], inference_s, _operator)


_CALL = "_kernel_time"


def _operator(event: Event, place: int) -> Operator | None:
    """The node of the optimised graph. Its precision is that of its first input."""
    if event.category != "Node" or not event.name.endswith(_CALL):
        return None
    type, inputs = event.details["op_name"], event.details["input_type_shape"]
    word = next(iter(inputs[0]), "") if inputs else ""
    return Operator(
        name=event.name.removesuffix(_CALL) or f"{place}: {type}",
        type=type,
        dtype=traces.dtype(word),
        is_convolution="Conv" in type,  # Conv, FusedConv, QLinearConv, ConvInteger, NhwcFusedConv, ConvTranspose
        calls=1,
        seconds=event.duration / 1e6,
    )


def _corrected(path: Path, inputs: tuple[Input, ...]) -> tuple[Input, ...]:
    """The runtime gives the shape [] to a scalar and to an array of unknown rank. Of an ONNX file, workers.inspect knows."""
    if path.suffix.lower() != ".ort" or all(input.shape for input in inputs):
        return inputs
    ranked = _ranked(path)
    return tuple(input if input.name in ranked else replace(input, shape=None) for input in inputs)


def _ranked(path: Path) -> set[str]:
    """The inputs that have a shape in the file, be it an empty one."""
    from onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs import InferenceSession, TensorTypeAndShape

    graph = InferenceSession.InferenceSession.GetRootAs(path.read_bytes(), 0).Model().Graph()
    ranked = set()
    for value in map(graph.NodeArgs, range(graph.NodeArgsLength())):
        table, tensor = value.Type().Value(), TensorTypeAndShape.TensorTypeAndShape()
        tensor.Init(table.Bytes, table.Pos)
        if tensor.Shape():
            ranked.add(value.Name().decode())
    return ranked


def _session(path: Path, target: str, threads: int, traces_to: Path | None = None) -> Any:
    import onnxruntime

    if target not in onnxruntime.get_available_providers():
        raise Unavailable(f"backend onnxruntime: has no {target} here; pip install onnxruntime-gpu")
    options = onnxruntime.SessionOptions()
    # Unset, the pool would have the machine's size, whatever the affinity.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # The gain over PyTorch on convolutions comes with the last level (its blocked NCHWc layout).
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    if traces_to:
        options.enable_profiling = True
        options.profile_file_prefix = str(traces_to)
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
    profile=profile,
    load=load,
    example=Example(
        packages=("onnxruntime",),
        imports=("import onnxruntime",),
        run=(
            'session = onnxruntime.InferenceSession($model, providers=["CPUExecutionProvider"])',
            'logits = session.run(["$output"], {"$input": images})[0][0]',
        ),
    ),
    opens=Opener(suffixes={".onnx": ONNX, ".ort": ORT}, open=open_, corrected=_corrected),
)
