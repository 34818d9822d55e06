"""Results of three devices: home, a board by the name of pi5, and an emulated processor."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cifar_deploy.core.errors import Corrupt
from cifar_deploy.core.journal import grouped
from cifar_deploy.core.records import Failure, Job, Machine, Measurement, Parity, Result, Run
from tests.probes import a_job, a_run, a_session, calm

HOME = replace(a_job().machine, host="home", instructions=("avx2", "avx512_vnni"))
PI5 = replace(
    HOME, host="raspberrypi", name="pi5", processor="Cortex-A76", architecture="aarch64", instructions=("asimd",)
)
ARM = replace(PI5, host="home", name=None, emulated=True, instructions=())
EAGER = a_job()
_PARITY = Parity(backend="onnxruntime", images=256, largest_difference=0, largest_logit=1, agreement=1)


def onnx(format: str = "onnx") -> Job:
    job = replace(a_job(format=format), backend="onnxruntime")
    return replace(job, artifact=replace(job.artifact, parity=(_PARITY,)))


ONNX, INT8 = onnx(), onnx("onnx_int8")
CLASSES = 3


class Fleet:
    """Runs of jobs on machines, and the predictions behind them."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self._predictions: dict[str, Mapping[str, Any]] = {}

    def time(self, machine: Machine, *jobs: tuple[Job, float], gauge: Any = None) -> "Fleet":
        """A session of seven rounds; seconds are the median latencies."""
        there = [(replace(job, machine=machine), seconds) for job, seconds in jobs]
        session = replace(a_session(*(job for job, _ in there)), seed=len(self.runs))
        self.runs += [
            a_run(
                job=job,
                session=session,
                round=index,
                value=seconds * (1 + 0.001 * (index - 3)),
                disturbance=gauge or calm(),
            )
            for job, seconds in there
            for index in range(7)
        ]
        return self

    def label(self, machine: Machine, job: Job, images: Sequence[int], wrong: Sequence[int] = ()) -> "Fleet":
        """Accuracy over these test images, all right but `wrong`."""
        chosen = np.array(images)
        labels = chosen % CLASSES
        predicted = np.where(np.isin(chosen, wrong), (labels + 1) % CLASSES, labels).astype(np.int32)
        raw = f"labels{len(self._predictions)}"
        self._predictions[raw] = {"predicted": predicted, "labels": labels, "chosen": chosen}
        right = int((predicted == labels).sum())
        values = {"accuracy": right / len(images), "correct": right, "images": len(images)}
        there = replace(job, machine=machine, metric="accuracy", batch_size=64)
        self.runs.append(replace(a_run(job=there), measurement=Measurement(values=values, raw=raw)))
        return self

    def weigh(self, machine: Machine, job: Job, mib: float) -> "Fleet":
        """Peak memory."""
        there = replace(job, machine=machine, metric="memory")
        self.runs.append(replace(a_run(job=there), measurement=Measurement(values={"peak": mib * 2**20})))
        return self

    def fail(self, machine: Machine, job: Job, failure: Failure) -> "Fleet":
        self.runs.append(a_run(job=replace(job, machine=machine), failure=failure))
        return self

    @property
    def results(self) -> list[Result]:
        return grouped(self.runs)

    def raw(self, measurement: Measurement) -> Mapping[str, Any]:
        if str(measurement.raw) not in self._predictions:
            raise Corrupt("no samples")
        return self._predictions[str(measurement.raw)]


def three() -> Fleet:
    """INT8 is the fastest on each. On pi5 two of its labels are others than at home."""
    fleet, everything, few = Fleet(), range(300), range(0, 300, 2)
    for machine, factor in ((HOME, 1.0), (PI5, 4.0), (ARM, 50.0)):
        fleet.time(machine, (EAGER, 0.004 * factor), (ONNX, 0.002 * factor), (INT8, 0.001 * factor))
        for job, mib in ((EAGER, 400), (ONNX, 50), (INT8, 48)):
            fleet.weigh(machine, job, mib + 10 * factor)
    for job in (EAGER, ONNX, INT8):
        fleet.label(HOME, job, everything, wrong=[7])
        fleet.label(PI5, job, few, wrong=[30, 60] if job is INT8 else [])
        fleet.label(ARM, job, few)
    return fleet
