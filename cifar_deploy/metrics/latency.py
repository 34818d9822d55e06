"""Latency: host array in to logits out, for one image, in a process that does nothing else.

After a warm-up, single calls are timed for a stated time, each with the next of 64 real test images; then as long again
*end to end*: from a uint8 (H, W, 3) image in memory, its conversion to the artifact's input included. A file that was made
elsewhere gets random arrays, up to 64 in turn, and has no end to end. Beside it: seconds
to import the runtime, to load the artifact, and the first inference. The artifact's file is in the system's cache when
it is loaded, since its hash has just been checked.
"""

import time
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from cifar_deploy.core.arrays import batched
from cifar_deploy.core.disturbance import Watch
from cifar_deploy.core.records import NOT_NEGATIVE, Job, Within
from cifar_deploy.core.table import Column
from cifar_deploy.metrics import Compared, RawMeasurement, RuntimeMetric, Workbench
from cifar_deploy.metrics.timing import DRIFT, drift, median_s, timed

_IMAGES = 64


def measure(bench: Workbench) -> RawMeasurement:
    size, seconds = bench.job.batch_size, bench.seconds
    inputs, images = bench.inputs(_IMAGES, size), bench.images
    raw = bench.keep(lambda: list(batched(images.repeated(_IMAGES * size), size))) if images else None
    begun = time.perf_counter()
    bench.import_runtime()
    imported = time.perf_counter()
    predict = bench.load()
    loaded = time.perf_counter()
    predict(inputs.batches[0])
    first = time.perf_counter()
    with Watch() as watch:
        samples = timed(inputs, predict, seconds)
        end_to_end = timed(raw, lambda batch: predict(images.prepare(batch)), seconds) if images and raw else None
    arrays = {"samples_ns": samples, **({} if end_to_end is None else {"end_to_end_ns": end_to_end})}
    return RawMeasurement(
        values={
            **derived(bench.job, arrays),
            "import": imported - begun,
            "load": loaded - imported,
            "first": first - loaded,
        },
        arrays=arrays,
        disturbance=watch.disturbance,
    )


def derived(job: Job, arrays: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    samples = arrays["samples_ns"]
    return {
        "p50": median_s(samples),
        "mean": float(samples.mean()) / 1e9,
        "least": float(samples.min()) / 1e9,
        "samples": len(samples),
        "drift": drift(samples),
        **({"end_to_end": median_s(arrays["end_to_end_ns"])} if "end_to_end_ns" in arrays else {}),
    }


def _milliseconds(
    title: str,
    *,
    headline: bool = True,
    digits: int = 3,
    judged: bool = False,
    interval: bool = False,
    percentile: int | None = None,
    within: Within = NOT_NEGATIVE,
) -> Column:
    return Column(
        title=title,
        unit="ms",
        stored_unit="s",
        scale=1000,
        digits=digits,
        headline=headline,
        judged=judged,
        interval=interval,
        percentile=percentile,
        within=within,
    )


METRIC = RuntimeMetric(
    summary="host array in to logits out, one image; with end-to-end, import, load and first-inference time",
    better="lower",
    columns={
        "p50": _milliseconds("latency", judged=True, interval=True, within=Within(least=0, open=True)),
        "p90": _milliseconds("p90", judged=True, interval=True, percentile=90),
        "p95": _milliseconds("p95", judged=True, headline=False, percentile=95),
        "p99": _milliseconds("p99", judged=True, headline=False, percentile=99),
        "end_to_end": _milliseconds("end to end", judged=True),
        "mean": _milliseconds("mean", judged=True, headline=False),
        "least": _milliseconds("least", judged=True, headline=False),
        "samples": Column(title="samples a round", unit="calls", stored_unit="calls", digits=0, headline=False),
        "drift": DRIFT,
        "import": _milliseconds("import", digits=0, headline=False),
        "load": _milliseconds("model load", digits=0),
        "first": _milliseconds("first inference", digits=1),
    },
    compared_by="p50",
    compared=(Compared(column="p50", place=1), Compared(column="load", place=5), Compared(column="first", place=6)),
    batch_size=1,
    options=("seconds",),
    measure=measure,
    derived=derived,
    timed=True,
    batched=True,
    blocks_s=lambda seconds: 2 * seconds,  # the second is end to end
    is_speed=True,
    sampled=True,
    in_bench=True,
)
