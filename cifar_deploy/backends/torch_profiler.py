"""PyTorch's profiler, for the backends that run operator by operator inside PyTorch."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from cifar_deploy.backends import traces
from cifar_deploy.backends.traces import Event
from cifar_deploy.core.arrays import Images, Logits, Predict
from cifar_deploy.core.profile import WARM_UP, Calls, Operator, Profiled
from cifar_deploy.core.records import Artifact

_INFERENCE = "inference"


def profiling(
    load: Callable[[Path, Artifact, str, int], Predict],
) -> Callable[[Path, Artifact, str, int, Calls], Profiled]:
    """`Backend.profile` of a backend with this `load`."""

    def profile(path: Path, artifact: Artifact, target: str, threads: int, calls: Calls) -> Profiled:
        import torch
        from torch.profiler import ProfilerActivity, record_function

        predict = load(path, artifact, target, threads)

        def inference(images: Images) -> Logits:
            with record_function(_INFERENCE):
                return predict(images)

        with torch.profiler.profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
            calls.warm_up(inference)
            inference_s = calls.timed(inference)
        with tempfile.TemporaryDirectory() as folder:
            trace = Path(folder) / "trace.json"
            profiler.export_chrome_trace(str(trace))
            events = traces.read(trace)
        inferences = [event for event in events if event.name == _INFERENCE and event.category == "user_annotation"]
        return traces.profiled(events, inferences[WARM_UP:], inference_s, _operator)

    return profile


def _operator(event: Event, place: int) -> Operator | None:
    """Operators have a namespace (aten::conv2d). The name of a node is its place in the inference."""
    if "::" not in event.name:
        return None
    words = [word for word in event.details.get("Input type", ()) if word]
    type = event.name.removeprefix("aten::")
    return Operator(
        name=f"{place}: {type}",
        type=type,
        dtype=traces.dtype(words[0]) if words else None,
        is_convolution="conv" in type and "convert" not in type,
        calls=1,
        seconds=event.duration / 1e6,
    )
