"""OpenVINO on the processor. It reads ONNX too, INT8 as well."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cifar_deploy.backends import Backend, Example, Input, Opened, Opener
from cifar_deploy.core.arrays import Arrays, Images, Logits, Predict
from cifar_deploy.core.content import IR, ONNX
from cifar_deploy.core.errors import LoadError, Unsupported
from cifar_deploy.core.profile import WARM_UP, Calls, Operator, Profiled, Span
from cifar_deploy.core.records import Artifact

# It would choose bfloat16 by itself where the processor has it, and as many streams as there are cores.
_OPTIONS: Mapping[str, str | int] = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}

# Its convolutions are oneDNN's, which this variable caps. Its own kernels, for what is done element by element, it does not.
_CAP = "ONEDNN_MAX_CPU_ISA"
# By the cap, words that the name of no convolution kernel may then hold.
_ABOVE = {"SSE41": ("avx",), "AVX2": ("avx512",), "AVX512_CORE": ()}

# OpenVINO's words for the types of numbers.
_TYPES = {
    "boolean": "bool",
    **{
        f"{letter}{bits}": f"{kind}{bits}" for letter, kind in (("i", "int"), ("u", "uint")) for bits in (8, 16, 32, 64)
    },
    **{f"f{bits}": f"float{bits}" for bits in (16, 32, 64)},
}


def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    return predicting(path, target, threads)


def predicting(path: Path, target: str, threads: int, shape: Sequence[int] | None = None) -> Predict:
    """With `shape`, for batches of that shape alone."""
    return _running(_compiled(path, target, threads, shape))


def _running(compiled: Any) -> Predict:
    import openvino

    request = compiled.create_infer_request()

    def predict(images: Images) -> Logits:
        # Handing the arrays over takes 14 µs so, and 27 µs by request.infer({0: images}).
        request.set_input_tensor(openvino.Tensor(images, shared_memory=True))
        request.infer()
        logits: Logits = request.get_output_tensor().data.copy()
        return logits

    return predict


def open_(path: Path, target: str, threads: int) -> Opened:
    import openvino

    compiled = _compiled(path, target, threads)
    request = compiled.create_infer_request()
    outputs = range(len(compiled.outputs))
    inputs = tuple(
        Input(
            name=port.node.friendly_name,
            aliases=tuple(sorted({*port.names, f"input{index}"} - {port.node.friendly_name})),
            dtype=_dtype(port.element_type),
            shape=_shape(port.partial_shape),
        )
        for index, port in enumerate(compiled.inputs)
    )

    def run(arrays: Arrays) -> object:
        for index, array in enumerate(arrays):
            request.set_input_tensor(index, openvino.Tensor(array, shared_memory=True))
        request.infer()
        return [request.get_output_tensor(index).data.copy() for index in outputs]

    names = tuple(min(port.names, default=port.node.friendly_name) for port in compiled.outputs)
    return Opened(inputs=inputs, outputs=names, run=run)


def profile(path: Path, artifact: Artifact, target: str, threads: int, calls: Calls) -> Profiled:
    compiled = _compiled(path, target, threads, counts=True)
    predict = _running(compiled)
    calls.warm_up(predict)
    before = {node.name: node for node in _executed(compiled)}
    inference_s = calls.timed(predict)
    operators = []
    for node in _executed(compiled):
        # Its counter holds the mean of all calls so far, in whole microseconds.
        warm_us = before[node.name].mean_us * WARM_UP if node.name in before else 0
        spent_us = node.mean_us * (WARM_UP + len(inference_s)) - warm_us
        operators.append(
            Operator(
                name=node.name,
                type=node.type,
                dtype=node.dtype,
                is_convolution=node.type in ("Convolution", "Deconvolution"),
                calls=len(inference_s),
                seconds=max(0, spent_us) / 1e6,
            )
        )
    spans, start_us = [], 0.0
    for operator in operators:
        mean_us = operator.seconds / operator.calls * 1e6
        details = {"precision": operator.dtype}
        spans.append(
            Span(name=operator.name, type=operator.type, start_us=start_us, duration_us=mean_us, details=details)
        )
        start_us += mean_us
    note = "OpenVINO counts whole microseconds of each operator. The trace shows the mean inference, without gaps."
    return Profiled(operators=tuple(operators), inference_s=inference_s, spans=tuple(spans), note=note)


class _Node(NamedTuple):
    name: str
    type: str
    dtype: str
    mean_us: int


def _executed(compiled: Any) -> Iterator[_Node]:
    """What ran of the graph that OpenVINO made of the file, in its order."""
    operations = [(operation, operation.get_rt_info()) for operation in compiled.get_runtime_model().get_ops()]
    for operation, facts in sorted(operations, key=lambda pair: int(pair[1]["execOrder"].astype(str))):
        mean_us = facts["execTimeMcs"].astype(str)
        if mean_us.isdecimal():
            word = facts["runtimePrecision"].astype(str)
            yield _Node(
                name=operation.friendly_name,
                type=facts["layerType"].astype(str),
                dtype=_TYPES.get(word, word),
                mean_us=int(mean_us),
            )


def _dtype(type_: Any) -> str:
    """Our name, or OpenVINO's own. Its to_dtype would make a float16 of bf16, and an int8 of i4."""
    word = str(type_.get_type_name())
    return _TYPES.get(word, word)


def _shape(partial: Any) -> tuple[int | None, ...] | None:
    if partial.rank.is_dynamic:
        return None
    return tuple(None if dimension.is_dynamic else dimension.get_length() for dimension in partial)


def _compiled(
    path: Path, target: str, threads: int, shape: Sequence[int] | None = None, *, counts: bool = False
) -> Any:
    """With `counts`, it counts the time of each operator."""
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    if unranked := [min(port.names, default="") for port in model.inputs if port.partial_shape.rank.is_dynamic]:
        raise Unsupported(
            f"{path}: input {unranked[0]} has an unknown rank, with which OpenVINO compiles for no processor; "
            "fix its shape in the file"
        )
    if shape:
        model.reshape(shape)
    options = {**_OPTIONS, "INFERENCE_NUM_THREADS": threads, **({"PERF_COUNT": True} if counts else {})}
    compiled = core.compile_model(model, target, options)
    precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if precision != "f32":
        raise LoadError(f"openvino: asked for f32, got {precision}")
    if cap := os.environ.get(_CAP):
        _check_cap(compiled, cap)
    return compiled


def _check_cap(compiled: Any, cap: str) -> None:
    for operation in compiled.get_runtime_model().get_ops():
        facts = operation.get_rt_info()
        if "layerType" in facts and facts["layerType"].astype(str) == "Convolution":
            kernel = facts["primitiveType"].astype(str)
            if any(word in kernel for word in _ABOVE.get(cap, ())):
                raise LoadError(f"openvino: was told by {_CAP} to use no more than {cap}, and runs {kernel}")


BACKEND = Backend(
    title="OpenVINO",
    summary="OpenVINO",
    reads=("openvino_ir", "openvino_int8", "onnx", "onnx_int8"),
    targets={"cpu": "CPU"},
    requires=("openvino",),
    profile=profile,
    load=load,
    example=Example(
        packages=("openvino",),
        imports=("import openvino",),
        run=(
            'compiled = openvino.compile_model($model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})',
            'logits = compiled({"$input": images})["$output"][0]',
        ),
    ),
    options=_OPTIONS,
    isa={"sse41": {_CAP: "SSE41"}, "avx2": {_CAP: "AVX2"}, "avx512": {_CAP: "AVX512_CORE"}},
    opens=Opener(suffixes={".xml": IR, ".onnx": ONNX}, open=open_),
)
