"""torch.compile: the network's own code, compiled when it first runs (which is in the first call's time)."""

from pathlib import Path

from cifar_deploy.backends import Backend
from cifar_deploy.backends.pytorch import layout_of, network
from cifar_deploy.backends.tensors import predicting
from cifar_deploy.core.arrays import Predict
from cifar_deploy.core.records import Artifact


def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    import torch

    compiled = torch.compile(network(path, artifact, target, threads), options={"freezing": True})
    return predicting(compiled, target, layout=layout_of(artifact), compiles=True)


BACKEND = Backend(
    title="torch.compile",
    summary="PyTorch with torch.compile, in the layout of its training",
    reads=("checkpoint",),
    targets={"cpu": "cpu", "cuda": "cuda"},
    requires=("torch", "safetensors"),
    programs=("g++",),
    why_no_profile="its kernels are fused and have no operators",
    load=load,
    options={"freezing": "on"},
)
