"""PyTorch eager: the network's own code, in the layout of its training (channels last where the network can)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cifar_deploy.backends import Backend
from cifar_deploy.backends.tensors import predicting
from cifar_deploy.core.arrays import Predict
from cifar_deploy.core.records import Artifact

if TYPE_CHECKING:
    from torch import nn


def network(path: Path, artifact: Artifact, target: str, threads: int) -> nn.Module:
    """The network with its trained weights on the target."""
    import torch

    from cifar_deploy.networks import complete

    torch.set_num_threads(threads)
    training = artifact.checkpoint.training
    return complete.load(training.network, training.data, path, target, artifact.checkpoint.layout)


def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    return predicting(network(path, artifact, target, threads), target, layout=artifact.checkpoint.layout)


BACKEND = Backend(
    summary="PyTorch eager, in the layout of its training",
    reads=("checkpoint",),
    targets={"cpu": "cpu", "cuda": "cuda", "mps": "mps"},
    requires=("torch", "safetensors"),
    load=load,
)
