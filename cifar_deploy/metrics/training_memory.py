"""Training memory: peak resident memory of the training process, the data set included; on a GPU also peak allocated.

Of several ranks it is the first one's.
"""

from cifar_deploy.core.errors import Unavailable
from cifar_deploy.core.records import Job
from cifar_deploy.core.table import Column
from cifar_deploy.metrics import RecordedMetric


def read(job: Job) -> dict[str, float]:
    checkpoint = job.artifact.checkpoint
    if not checkpoint:
        return {}
    if not checkpoint.recipe:
        raise Unavailable("training_memory: the network was trained elsewhere")
    if checkpoint.peak_bytes is None:
        raise Unavailable("training_memory: could not be read where the network was trained (no /proc)")
    values: dict[str, float] = {"peak": checkpoint.peak_bytes}
    if checkpoint.device_peak_bytes is not None:
        values["device_peak"] = checkpoint.device_peak_bytes
    return values


METRIC = RecordedMetric(
    stage="train",
    summary="peak resident memory of the training process; on a GPU also peak allocated",
    better="lower",
    columns={
        "peak": Column(title="training memory", unit="MiB", stored_unit="bytes", scale=1 / 2**20, digits=0),
        "device_peak": Column(
            title="training memory on the device",
            unit="MiB",
            stored_unit="bytes",
            scale=1 / 2**20,
            digits=0,
            headline=False,
        ),
    },
    read=read,
)
