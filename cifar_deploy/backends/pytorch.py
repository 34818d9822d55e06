"""PyTorch eager: the network's own code, in the layout of its training (channels last where the network can)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cifar_deploy.backends import Backend
from cifar_deploy.backends.tensors import predicting
from cifar_deploy.backends.torch_profiler import profiling
from cifar_deploy.core.arrays import Predict
from cifar_deploy.core.records import Artifact, External, Layout

if TYPE_CHECKING:
    from torch import nn


def network(path: Path, artifact: Artifact, target: str, threads: int) -> nn.Module:
    """The network with its trained weights on the target."""
    import torch

    from cifar_deploy.networks import complete

    torch.set_num_threads(threads)
    origin = artifact.origin
    assert not isinstance(origin, External)
    return complete.load(origin.network, origin.data, path, target, origin.layout, origin.normalisation)


def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    return predicting(network(path, artifact, target, threads), target, layout=layout_of(artifact))


def layout_of(artifact: Artifact) -> Layout:
    """Of images and convolutions in memory."""
    assert not isinstance(artifact.origin, External)
    return artifact.origin.layout


BACKEND = Backend(
    title="PyTorch eager",
    summary="PyTorch eager, in the layout of its training",
    reads=("checkpoint",),
    targets={"cpu": "cpu", "cuda": "cuda", "mps": "mps"},
    requires=("torch", "safetensors"),
    profile=profiling(load),
    load=load,
)
