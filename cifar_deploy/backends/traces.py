"""Chrome traces, as ONNX Runtime's and PyTorch's profilers write them: the events of each inference, and its operators."""

import bisect
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_deploy.core.profile import Operator, Profiled, Span

# Profilers write no more than nanoseconds: what begins so little before another's end follows it.
_TICK_US = 1e-3

# Of so many inferences a trace shows every event.
_SHOWN = 10

_DTYPES = {
    "float": "float32",
    "double": "float64",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "signed char": "int8",
    "unsigned char": "uint8",
    "QInt8": "int8",
    "QUInt8": "uint8",
    "quint8": "uint8",
    "qint8": "int8",
}


@dataclass(frozen=True, kw_only=True)
class Event:
    """A complete event ("ph": "X") of a trace; times in microseconds."""

    name: str
    category: str
    start: float
    duration: float
    thread: int
    details: dict[str, Any]

    @property
    def end(self) -> float:
        return self.start + self.duration


def read(path: Path) -> list[Event]:
    """The complete events of a trace, by their start; of those that start together the longest first."""
    trace = json.loads(path.read_text())
    events = trace["traceEvents"] if isinstance(trace, dict) else trace
    found = [
        Event(
            name=event["name"],
            category=event.get("cat", ""),
            start=event["ts"],
            duration=event["dur"],
            thread=event["tid"],
            details=event.get("args", {}),
        )
        for event in events
        if event["ph"] == "X"
    ]
    return sorted(found, key=lambda event: (event.start, -event.duration))


def dtype(word: str) -> str | None:
    """A trace's word for a type, as numpy names it; None if it has none."""
    word = word.removeprefix("c10::")
    return _DTYPES.get(word, word) or None


def profiled(
    events: Sequence[Event],
    inferences: Sequence[Event],
    inference_s: Sequence[float],
    operator: Callable[[Event, int], Operator | None],
) -> Profiled:
    """Of a sorted trace, whose `inferences` took `inference_s`.

    `operator(event, place)` is the operator that an event is a call of, or None if it is of none. `place` counts the
    operators of an inference. Only outermost ones are asked: an operator that runs inside another is part of it.
    """
    inferences = inferences[: len(inference_s)]  # as many as both know: a full trace ends early
    inference_s = inference_s[: len(inferences)]
    starts = [event.start for event in inferences]
    inside: list[list[Event]] = [[] for _ in inferences]
    for event in events:
        index = bisect.bisect_right(starts, event.start) - 1
        if index >= 0 and event.start < inferences[index].end:
            inside[index].append(event)
    found: dict[tuple[str, str], list[Operator]] = {}
    for inference, within in zip(inferences, inside, strict=True):
        for one in _outermost(within, inference.thread, operator):
            found.setdefault((one.name, one.type), []).append(one)
    shown = [event for within in inside[:_SHOWN] for event in within]
    return Profiled(
        operators=tuple(_together(calls) for calls in found.values()),
        inference_s=tuple(inference_s),
        spans=tuple(_span(event, starts[0]) for event in shown),
    )


def _outermost(
    events: Iterable[Event], thread: int, operator: Callable[[Event, int], Operator | None]
) -> Iterator[Operator]:
    end, place = -1.0, 0
    for event in events:
        if event.thread == thread and event.start > end - _TICK_US and (found := operator(event, place)):
            yield found
            end, place = event.end, place + 1


def _together(calls: Sequence[Operator]) -> Operator:
    first = calls[0]
    return Operator(
        name=first.name,
        type=first.type,
        dtype=first.dtype,
        is_convolution=first.is_convolution,
        calls=len(calls),
        seconds=sum(one.seconds for one in calls),
    )


def _span(event: Event, origin: float) -> Span:
    return Span(
        name=event.name,
        type=event.category,
        start_us=event.start - origin,
        duration_us=event.duration,
        thread=event.thread,
        details=event.details,
    )
