"""The TorchScript interpreter inside PyTorch."""

import warnings
from pathlib import Path

from cifar_deploy.backends import Backend
from cifar_deploy.backends.tensors import predicting
from cifar_deploy.core.arrays import Predict
from cifar_deploy.core.records import Artifact


def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    import torch

    torch.set_num_threads(threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.jit.load(path, map_location=target)
    return predicting(program, target)


BACKEND = Backend(
    summary="TorchScript interpreter",
    reads=("torchscript",),
    targets={"cpu": "cpu", "cuda": "cuda"},
    requires=("torch",),
    load=load,
)
