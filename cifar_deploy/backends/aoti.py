"""AOTInductor's machine code, loaded by PyTorch."""

from pathlib import Path

from cifar_deploy.backends import Backend
from cifar_deploy.backends.tensors import predicting
from cifar_deploy.core.arrays import Predict
from cifar_deploy.core.records import Artifact


def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    import torch
    from torch._inductor import aoti_load_package

    torch.set_num_threads(threads)
    return predicting(aoti_load_package(str(path)), target)


BACKEND = Backend(
    summary="AOTInductor's machine code",
    reads=("aoti",),
    targets={"cpu": "cpu"},
    requires=("torch",),
    load=load,
)
