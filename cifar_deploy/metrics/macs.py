"""Multiply-adds of one image in convolutions, linear and recurrent layers and attention: see networks.counting."""

from cifar_deploy.core.errors import Unavailable
from cifar_deploy.core.records import Job
from cifar_deploy.core.table import Column
from cifar_deploy.metrics import RecordedMetric


def read(job: Job) -> dict[str, float]:
    checkpoint = job.artifact.checkpoint
    if not checkpoint:
        return {}
    if checkpoint.macs is None:
        raise Unavailable(f"macs: the network could not be counted ({checkpoint.uncounted})")
    return {"macs": checkpoint.macs}


METRIC = RecordedMetric(
    stage="train",
    summary="MACs of one image, in convolutions and linear layers",
    better="lower",
    columns={"macs": Column(title="MACs", unit="M", stored_unit="1", scale=1e-6, digits=1)},
    read=read,
)
