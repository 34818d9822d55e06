"""Multiply-adds of one image: half of what torch's FlopCounterMode counts, which is convolutions and linear layers."""

from cifar_deploy.core.table import Column
from cifar_deploy.metrics import Copied

METRIC = Copied(
    stage="train",
    summary="multiply-adds of one image, in convolutions and linear layers",
    better="lower",
    columns={"multiply_adds": Column(title="multiply-adds", unit="M", stored_unit="1", scale=1e-6, digits=1)},
    read=lambda job: {"multiply_adds": job.artifact.checkpoint.multiply_adds},
)
