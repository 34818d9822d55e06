"""Throughput: images per second at a batch size: the batch size over the median time of a batch."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from cifar_deploy.core.disturbance import Watch
from cifar_deploy.core.records import Job, Within
from cifar_deploy.core.table import Column
from cifar_deploy.metrics import Compared, RawMeasurement, RuntimeMetric, Workbench
from cifar_deploy.metrics.timing import DRIFT, drift, median_s, timed

_BATCHES = 4


def measure(bench: Workbench) -> RawMeasurement:
    size = bench.job.batch_size
    inputs = bench.inputs(_BATCHES, size)
    predict = bench.load()
    with Watch() as watch:
        samples = timed(inputs, predict, bench.seconds)
    arrays = {"samples_ns": samples}
    return RawMeasurement(values=derived(bench.job, arrays), arrays=arrays, disturbance=watch.disturbance)


def derived(job: Job, arrays: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    samples = arrays["samples_ns"]
    return {"images_per_second": job.batch_size / median_s(samples), "samples": len(samples), "drift": drift(samples)}


METRIC = RuntimeMetric(
    summary="images per second at a batch size (64 by default)",
    better="higher",
    columns={
        "images_per_second": Column(
            title="throughput",
            unit="images/s",
            stored_unit="images/s",
            digits=0,
            judged=True,
            within=Within(least=0, open=True),
        ),
        "samples": Column(title="batches a round", unit="calls", stored_unit="calls", digits=0, headline=False),
        "drift": DRIFT,
    },
    compared_by="images_per_second",
    compared=(Compared(column="images_per_second", place=7),),
    batch_size=64,
    options=("seconds",),
    measure=measure,
    derived=derived,
    batched=True,
    timed=True,
    is_speed=True,
    sampled=True,
)
