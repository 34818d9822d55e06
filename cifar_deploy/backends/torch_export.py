"""torch.export's program, run by PyTorch operation by operation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_deploy.backends import Backend, Input, Opened, Opener
from cifar_deploy.backends.tensors import is_compiled, predicting, running
from cifar_deploy.backends.torch_profiler import profiling
from cifar_deploy.core.arrays import Predict
from cifar_deploy.core.records import Artifact

if TYPE_CHECKING:
    from torch import Tensor


def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    import torch

    torch.set_num_threads(threads)
    return predicting(torch.export.load(path).module(), target)


def open_(path: Path, target: str, threads: int) -> Opened:
    import torch
    from torch.utils import _pytree as pytree

    torch.set_num_threads(threads)
    program = torch.export.load(path)
    module, structure = program.module(), program.call_spec.in_spec
    taken = set(program.graph_signature.user_inputs)
    inputs = tuple(
        _input(node.name, node.meta["val"])
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in taken
    )

    def run(tensors: list[Tensor]) -> object:
        args, kwargs = pytree.tree_unflatten(tensors, structure)
        return module(*args, **kwargs)

    return Opened(inputs=inputs, run=running(run, target))


def _input(name: str, example: Any) -> Input:
    import torch

    if not isinstance(example, torch.Tensor):
        return Input(name=name, dtype=type(example).__name__, shape=())
    return Input(
        name=name,
        dtype=str(example.dtype).removeprefix("torch."),
        shape=tuple(size if isinstance(size, int) else str(size) for size in example.shape),
    )


BACKEND = Backend(
    title="torch.export",
    summary="torch.export's program in PyTorch",
    reads=("torch_export",),
    targets={"cpu": "cpu"},
    requires=("torch",),
    profile=profiling(load),
    load=load,
    opens=Opener(suffixes=(".pt2",), open=open_, is_program=True, knows=lambda path: not is_compiled(path)),
)
