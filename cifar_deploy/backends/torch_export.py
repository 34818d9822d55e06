"""torch.export's program, run by PyTorch operation by operation."""

from pathlib import Path

from cifar_deploy.backends import Backend
from cifar_deploy.backends.tensors import predicting
from cifar_deploy.core.arrays import Predict
from cifar_deploy.core.records import Artifact


def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    import torch

    torch.set_num_threads(threads)
    return predicting(torch.export.load(path).module(), target)


BACKEND = Backend(
    summary="torch.export's program in PyTorch",
    reads=("torch_export",),
    targets={"cpu": "cpu"},
    requires=("torch",),
    load=load,
)
