"""ExecuTorch's runtime, in Python. It takes few images a call: a larger batch is several calls."""

import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cifar_deploy.backends import Backend, Example, Input, Opened, Opener, traces
from cifar_deploy.backends.traces import Event
from cifar_deploy.core.arrays import Arrays, Images, Logits, Predict, batched, has_random
from cifar_deploy.core.content import EXECUTORCH
from cifar_deploy.core.errors import LoadError
from cifar_deploy.core.profile import WARM_UP, Calls, Operator, Profiled
from cifar_deploy.core.records import Artifact
from cifar_deploy.environments.executorch import ENVIRONMENT, MOST_IMAGES

# torch's numbers of its types (executorch/schema/scalar_type.fbs).
_TYPES = {
    **dict(enumerate(("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"))),
    **dict(enumerate(("bool", "qint8", "quint8", "qint32", "bfloat16", "quint4x2", "quint2x4"), start=11)),
    **dict(enumerate(("bits16", "float8_e5m2", "float8_e4m3fn", "float8_e5m2fnuz", "float8_e4m3fnuz"), start=22)),
    **dict(enumerate(("uint16", "uint32", "uint64"), start=27)),
}


# XNNPACK's words for the type that a kernel computes with; X32 and its like move 32 bits of any type.
_KERNEL_TYPES = {
    **{"F32": "float32", "F16": "float16", "BF16": "bfloat16"},
    **{"QC8": "int8", "QS8": "int8", "QD8": "int8", "QU8": "uint8"},
}


def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    return _predicting(_method(path, threads))


def _predicting(method: Any) -> Predict:
    import torch

    def few(images: Images) -> Logits:
        (logits,) = method.execute([torch.from_numpy(images)])
        return np.array(logits)  # the runtime uses its memory again

    def predict(images: Images) -> Logits:
        if len(images) <= MOST_IMAGES:
            return few(images)
        return np.concatenate([few(batch) for batch in batched(images, MOST_IMAGES)])

    return predict


def open_(path: Path, target: str, threads: int) -> Opened:
    import torch

    method = _method(path, threads)
    told = [_told(method, index) for index in range(method.metadata.num_inputs())]
    types = [
        _TYPES.get(each.dtype(), f"torch's number {each.dtype()}") if each else "number, text or None" for each in told
    ]
    sizes = [tuple(each.sizes()) if each else () for each in told]  # the largest, where one is free
    if _takes(method, [(1, *size[1:]) for size in sizes], types):
        shapes: list[tuple[int | None, ...]] = [(None, *size[1:]) for size in sizes]
    else:
        shapes = [*sizes]
    inputs = tuple(
        Input(name=f"input{index}", dtype=dtype, shape=shape)
        for index, (dtype, shape) in enumerate(zip(types, shapes, strict=True))
    )

    def run(arrays: Arrays) -> object:
        return [np.array(output) for output in method.execute([torch.from_numpy(array) for array in arrays])]

    return Opened(inputs=inputs, run=run)


def profile(path: Path, artifact: Artifact, target: str, threads: int, calls: Calls) -> Profiled:
    method = _method(path, threads, counts=True)
    predict = _predicting(method)
    calls.warm_up(predict)
    inference_s = calls.timed(predict)
    with tempfile.TemporaryDirectory() as folder:
        dump = Path(folder) / "etdump"
        method.program.write_etdump_result_to_file(str(dump), str(Path(folder) / "tensors"))
        events = _events(dump.read_bytes())
    inferences = [event for event in events if event.name == _INFERENCE]
    return replace(traces.profiled(events, inferences[WARM_UP:], inference_s, _operator), note=_NOTE)


_INFERENCE = "Method::execute"
_KERNEL = re.compile(r"(?P<type>[^(]+) \((?P<words>[^)]*)\)(?P<kernel>.*) #\d+")
_NOTE = (
    "XNNPACK counts whole microseconds. It runs a 1×1 convolution of stride 1 as a fully connected operator, "
    "which is not counted among the convolutions."
)


def _events(dump: bytes) -> list[Event]:
    """Those of the inferences, by their start; an event comes before those inside it."""
    from executorch.devtools.etdump.serialize import deserialize_from_etdump_flatcc

    runs = [run for run in deserialize_from_etdump_flatcc(dump).run_data if run.name == "Execute"]
    recorded = [event.profile_event for run in runs for event in run.events or () if event.profile_event]
    # Several of XNNPACK's may begin in one microsecond: they stay in the order in which they ran.
    recorded.sort(key=lambda one: (one.start_time, one.delegate_debug_id_str is not None))
    return [_event(one) for one in recorded]


def _event(recorded: Any) -> Event:
    """Times are nanoseconds. An operator of XNNPACK has a text, one of ExecuTorch its number in the program alone."""
    kernel = recorded.delegate_debug_id_str
    return Event(
        name=kernel or recorded.name,
        category="XNNPACK" if kernel else "ExecuTorch",
        start=recorded.start_time / 1e3,
        duration=(recorded.end_time - recorded.start_time) / 1e3,
        thread=0,
        details={"instruction": recorded.instruction_id},
    )


def _operator(event: Event, place: int) -> Operator | None:
    """XNNPACK tells of an operator as "Convolution (NHWC, QC8) IGEMM #1", ExecuTorch of its own as a call alone."""
    if event.category == "ExecuTorch" and event.name != "OPERATOR_CALL":
        return None
    told = _KERNEL.fullmatch(event.name)
    type = f"{told['type']}{told['kernel']}" if told else event.name
    words = told["words"].split(", ") if told else ()
    return Operator(
        name=f"{event.details['instruction']}: {event.name}",
        type=type,
        dtype=next((_KERNEL_TYPES[word] for word in words if word in _KERNEL_TYPES), None),
        is_convolution=type.startswith(("Convolution", "Deconvolution")),
        calls=1,
        seconds=event.duration / 1e6,
    )


def _told(method: Any, index: int) -> Any:
    """What the file tells of an argument; None if it is no array. Then neither its type nor its value is told."""
    try:
        return method.metadata.input_tensor_meta(index)
    except IndexError:
        return None


def _takes(method: Any, sizes: list[tuple[int, ...]], types: list[str]) -> bool:
    """Whether arrays of these sizes fit. A file does not say which of its dimensions are free."""
    import torch

    if not all(map(has_random, types)):
        return False
    try:
        method._method.set_inputs(
            [torch.zeros(size, dtype=getattr(torch, dtype)) for size, dtype in zip(sizes, types, strict=True)]
        )
    except RuntimeError:
        return False
    return True


def _method(path: Path, threads: int, *, counts: bool = False) -> Any:
    """With `counts`, it records the time of each operator."""
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    torch.set_num_threads(threads)
    # Before anything is loaded: the pool has the machine's size otherwise, and a program keeps the one that it found.
    portable_lib._unsafe_reset_threadpool(threads)
    if (got := portable_lib._threadpool_get_thread_count()) != threads:
        raise LoadError(f"executorch: asked for {threads} threads, got {got}")
    program = Runtime.get().load_program(path, enable_etdump=counts)
    if "forward" not in program.method_names:
        raise LoadError(f"{path}: this program has no method forward, but {', '.join(sorted(program.method_names))}")
    method = program.load_method("forward")
    method.program = program  # which would be gone otherwise, and the method with it
    return method


BACKEND = Backend(
    title="ExecuTorch",
    summary="ExecuTorch, through XNNPACK",
    reads=("executorch", "executorch_int8"),
    targets={"cpu": "cpu"},
    requires=("executorch", "torch"),
    modules=("executorch.runtime", "executorch.extension.pybindings.portable_lib"),
    environment=ENVIRONMENT,
    profile=profile,
    load=load,
    example=Example(
        packages=("torch", "executorch"),
        imports=("import torch", "from executorch.runtime import Runtime"),
        run=(
            'method = Runtime.get().load_program($model).load_method("forward")',
            "logits = method.execute([torch.from_numpy(images)])[0][0].numpy()",
        ),
    ),
    options={"most images a call": MOST_IMAGES},
    opens=Opener(suffixes={".pte": EXECUTORCH}, open=open_),
)
