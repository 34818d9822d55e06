"""What is read from a trace is the outermost operators of the inferences that count."""

import json
from pathlib import Path
from typing import Any

import pytest

from cifar_deploy.backends import traces
from cifar_deploy.backends.traces import Event
from cifar_deploy.core.profile import Operator


def an_event(name: str, start: float, duration: float, thread: int = 1) -> dict[str, Any]:
    return {"ph": "X", "cat": "op", "name": name, "pid": 7, "tid": thread, "ts": start, "dur": duration, "args": {}}


def operator(event: Event, place: int) -> Operator | None:
    if event.name == "run":
        return None
    return Operator(
        name=f"{place} {event.name}",
        type=event.name,
        dtype="float32",
        is_convolution=event.name == "conv",
        calls=1,
        seconds=event.duration / 1e6,
    )


def read(path: Path, *events: dict[str, Any]) -> list[Event]:
    path.write_text(json.dumps({"traceEvents": [*events, {"ph": "M", "name": "thread_name", "pid": 7, "tid": 1}]}))
    return traces.read(path)


def test_an_operator_inside_another_is_part_of_it(tmp_path: Path) -> None:
    events = read(
        tmp_path / "trace.json",
        an_event("run", 0, 100),
        an_event("conv", 10, 40),
        an_event("kernel", 12, 30),
        an_event("relu", 50, 5),  # begins as the convolution ends
        an_event("conv", 20, 10, thread=2),  # a thread that helps the first
        an_event("copy", 101, 5),  # after the inference
    )
    found = traces.profiled(events, [event for event in events if event.name == "run"], [0.0001], operator)
    assert [(one.name, one.calls, one.seconds) for one in found.operators] == [
        ("0 conv", 1, pytest.approx(40e-6)),
        ("1 relu", 1, pytest.approx(5e-6)),
    ]
    assert [span.name for span in found.spans] == ["run", "conv", "kernel", "conv", "relu"]


def test_what_begins_as_another_ends_follows_it_though_a_float_loses_a_digit(tmp_path: Path) -> None:
    first, second = 28.652, 28.752
    assert first + 0.1 > second
    events = read(
        tmp_path / "trace.json",
        an_event("run", first, 100),
        an_event("copy", first, 0),
        an_event("conv", first, 0.1),
        an_event("relu", second, 1),
    )
    found = traces.profiled(events, events[:1], [0.0001], operator)
    assert [one.type for one in found.operators] == ["conv", "relu"]


def test_calls_of_a_node_are_added_up_over_the_inferences_that_count(tmp_path: Path) -> None:
    parts = [(an_event("run", start, 50), an_event("conv", start + 5, 10)) for start in (0, 100, 200)]
    events = read(tmp_path / "trace.json", *(event for part in parts for event in part))
    runs = [event for event in events if event.name == "run"]
    found = traces.profiled(events, runs[1:], [0.0001, 0.0001], operator)  # the first warmed up
    assert [(one.name, one.calls) for one in found.operators] == [("0 conv", 2)]
    assert found.spans[0].start_us == 0


def test_a_trace_that_ended_early_counts_the_inferences_that_it_holds(tmp_path: Path) -> None:
    events = read(tmp_path / "trace.json", an_event("run", 0, 50), an_event("conv", 5, 10), an_event("conv", 105, 10))
    found = traces.profiled(events, events[:1], [0.0001, 0.0002], operator)
    assert found.inference_s == (0.0001,)
    assert [one.calls for one in found.operators] == [1]


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("float", "float32"),
        ("float16", "float16"),
        ("uint8", "uint8"),
        ("c10::Half", "float16"),
        ("c10::quint8", "uint8"),
        ("", None),
    ],
)
def test_a_type_has_numpys_name(word: str, name: str | None) -> None:
    assert traces.dtype(word) == name
