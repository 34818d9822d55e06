"""The TorchScript interpreter inside PyTorch."""

import warnings
from pathlib import Path
from typing import Any

from cifar_deploy.backends import Backend, Input, Opened, Opener
from cifar_deploy.backends.tensors import predicting, running
from cifar_deploy.backends.torch_profiler import profiling
from cifar_deploy.core.arrays import Predict
from cifar_deploy.core.content import TORCHSCRIPT
from cifar_deploy.core.records import Artifact


def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    return predicting(_program(path, target, threads), target)


def open_(path: Path, target: str, threads: int) -> Opened:
    """Of its inputs the file says which are tensors; those that have a default are left to it."""
    program = _program(path, target, threads)
    _, *arguments = program.forward.schema.arguments  # the first is the program itself
    inputs = tuple(
        Input(name=argument.name, dtype=_dtype(argument.type), shape=None)
        for argument in arguments
        if not argument.has_default_value()
    )
    return Opened(inputs=inputs, run=running(lambda tensors: program(*tensors), target))


def _dtype(type_: Any) -> str | None:
    """TorchScript's own word for what is no tensor; a tensor may be of any type."""
    return None if (word := type_.annotation_str) in ("Tensor", "Optional[Tensor]", "Any") else str(word)


def _program(path: Path, target: str, threads: int) -> Any:
    import torch

    torch.set_num_threads(threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.load(path, map_location=target)


BACKEND = Backend(
    title="TorchScript",
    summary="TorchScript interpreter",
    reads=("torchscript",),
    targets={"cpu": "cpu", "cuda": "cuda"},
    requires=("torch",),
    profile=profiling(load),
    load=load,
    opens=Opener(suffixes=dict.fromkeys((".ts", ".pt", ".torchscript"), TORCHSCRIPT), open=open_, is_program=True),
)
