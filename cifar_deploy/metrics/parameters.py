"""Parameters: those that training changes; batch norm's running statistics and the input's mean are not among them."""

from cifar_deploy.core.table import Column
from cifar_deploy.metrics import RecordedMetric

METRIC = RecordedMetric(
    stage="train",
    summary="trainable parameters",
    better="lower",
    columns={"parameters": Column(title="parameters", unit="M", stored_unit="1", scale=1e-6)},
    read=lambda job: {"parameters": job.artifact.checkpoint.parameters} if job.artifact.checkpoint else {},
)
