"""Size: bytes of all files of the artifact."""

from cifar_deploy.core.table import Column
from cifar_deploy.metrics import Compared, RecordedMetric

METRIC = RecordedMetric(
    stage="export",
    summary="bytes of all files of the artifact",
    better="lower",
    columns={"bytes": Column(title="size", unit="MiB", stored_unit="bytes", scale=1 / 2**20)},
    read=lambda job: {"bytes": job.artifact.bytes},
    in_bench=True,
    compared=(Compared(column="bytes", place=4),),
)
