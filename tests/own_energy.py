"""A metric of one's own, as a user gives it: "tests.own_energy:METRIC". No counter is read, each image takes 2 mJ."""

import os
import time

from cifar_deploy.core.disturbance import Watch
from cifar_deploy.core.records import Within
from cifar_deploy.core.table import Column
from cifar_deploy.metrics import RawMeasurement, RuntimeMetric, Workbench

# Joules that an image takes, instead.
VARIABLE = "TESTS_OWN_JOULES"


def measure(bench: Workbench) -> RawMeasurement:
    predict, (batch,) = bench.load(), bench.batches(1, bench.job.batch_size)
    with Watch() as watch:
        end = time.perf_counter() + bench.seconds
        while time.perf_counter() < end:
            predict(batch)
    joules = float(os.environ.get(VARIABLE, "0.002"))
    return RawMeasurement(values={"calm": 1.0, "joules": joules}, disturbance=watch.disturbance)


METRIC = RuntimeMetric(
    summary="joules of an image, made up",
    better="lower",
    columns={
        "calm": Column(title="calm", unit="", stored_unit="1", headline=False),
        "joules": Column(
            title="energy",
            unit="mJ",
            stored_unit="J",
            scale=1000,
            digits=3,
            judged=True,
            interval=True,
            within=Within(least=0, open=True),
        ),
    },
    compared_by="joules",
    batch_size=2,
    options=("seconds",),
    measure=measure,
    batched=True,
    timed=True,
    blocks_s=lambda seconds: seconds + 0.1,
)
