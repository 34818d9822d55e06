"""Memory: the peak resident memory of a process that loads the artifact and classifies one image at a time.

It is read by that process itself (see core.memory) and comes in parts, in the order in which they arise: `python` (the
interpreter and the worker's modules), `harness` (numpy, this program, the images), `runtime` (its import), `model`
(its load), `first` (the first inference). `peak` is the most that was ever resident, a moment's need while loading
included, as far as the system keeps it (Linux does); `resident` what is there at the end; `steady` the most while it goes on classifying, `batch` the most while it classifies 64 images at a time
(not of an external model: it may take no other size).
"""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cifar_deploy.core import memory
from cifar_deploy.core.errors import Unavailable
from cifar_deploy.core.records import Within
from cifar_deploy.core.table import Column
from cifar_deploy.metrics import Compared, RawMeasurement, RuntimeMetric, Workbench

_BATCHES = 16
_STEADY_CALLS = 50
_LARGER_BATCH = 64
_LARGER_CALLS = 5
# Two measurements of the same configuration differed by at most 0.9 % (5 each of resnet20 and mobilenet, by ONNX Runtime,
# OpenVINO and TorchScript).
NOISE = 0.02


def measure(bench: Workbench) -> RawMeasurement:
    inputs = bench.inputs(_BATCHES, bench.job.batch_size)
    python, harness = memory.interpreter_bytes(), memory.resident_bytes()
    if python is None or harness is None:
        raise Unavailable("memory: needs /proc (Linux) or psutil; pip install psutil")
    marks = [python, harness]
    bench.import_runtime()
    marks.append(memory.resident_bytes() or 0)
    predict = bench.load()
    marks.append(memory.resident_bytes() or 0)
    predict(inputs.batches[0])
    marks.append(memory.resident_bytes() or 0)
    loading_peak = memory.peak_bytes()
    restarted = memory.restart_peak()
    inputs.have_changed()
    for call in range(_STEADY_CALLS):
        inputs.ready(call)
        predict(inputs.batches[call % len(inputs.batches)])
    steady, resident = memory.peak_bytes(), memory.resident_bytes() or 0
    parts = dict(zip(("harness", "runtime", "model", "first"), _steps(marks), strict=True))
    peaks: dict[str, float] = {}
    if loading_peak is not None and steady is not None:
        peaks = {"peak": max(loading_peak, steady)}
        if restarted:  # else the later peak would be the earlier one's
            peaks["steady"] = steady
    if bench.images and (larger := _larger_peak(bench, predict)) is not None:
        peaks["batch"] = larger
    return RawMeasurement(values={"python": python, **parts, "resident": resident, **peaks})


def _larger_peak(bench: Workbench, predict: Callable[[Any], Any]) -> int | None:
    memory.restart_peak()
    inputs = bench.inputs(1, _LARGER_BATCH)
    for _ in range(_LARGER_CALLS):
        inputs.ready(0)
        predict(inputs.batches[0])
        inputs.have_changed()
    return memory.peak_bytes()


def _steps(marks: list[int]) -> list[int]:
    return [later - earlier for earlier, later in itertools.pairwise(marks)]


def _mebibytes(title: str, *, headline: bool = False) -> Column:
    return Column(
        title=title,
        unit="MiB",
        stored_unit="bytes",
        scale=1 / 2**20,
        digits=0 if headline else 1,
        headline=headline,
        within=Within(),  # a part is a difference, and less than nothing where memory was given back
    )


METRIC = RuntimeMetric(
    summary="peak resident memory of a process that does nothing else, and its parts",
    better="lower",
    columns={
        "peak": replace(
            _mebibytes("memory", headline=True), absent="n/a (needs /proc)", within=Within(least=0, open=True)
        ),
        "python": _mebibytes("memory: python"),
        "harness": _mebibytes("memory: measurement overhead"),
        "runtime": _mebibytes("memory: runtime"),
        "model": _mebibytes("memory: model"),
        "first": _mebibytes("memory: first inference"),
        "resident": _mebibytes("memory: resident at the end"),
        "steady": _mebibytes("memory: peak after warm-up"),
        "batch": _mebibytes(f"memory: peak at batch {_LARGER_BATCH}"),
    },
    compared_by="peak",
    compared=(Compared(column="peak", place=3, tie=NOISE),),
    batch_size=1,
    options=(),
    measure=measure,
    peaks=("peak", "batch"),
    in_bench=True,
)
