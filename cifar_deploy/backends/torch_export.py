"""torch.export's program, run by PyTorch operation by operation."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_deploy.backends import Backend, Example, Input, Opened, Opener
from cifar_deploy.backends.tensors import UNKNOWN, is_compiled, is_in_training_mode, predicting, running
from cifar_deploy.backends.torch_profiler import profiling
from cifar_deploy.core.arrays import Predict
from cifar_deploy.core.content import PT2
from cifar_deploy.core.records import Artifact, TrainingMode

if TYPE_CHECKING:
    from torch import Tensor


def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    import torch

    torch.set_num_threads(threads)
    return predicting(torch.export.load(path).module(), target)


def open_(path: Path, target: str, threads: int) -> Opened:
    import torch
    from torch.export.graph_signature import ConstantArgument, InputKind
    from torch.utils import _pytree as pytree

    torch.set_num_threads(threads)
    program = torch.export.load(path)
    module, structure = program.module(), program.call_spec.in_spec
    examples = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    arguments = [spec.arg for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT]
    # A number, a text or None is fixed in the program, which then takes this value alone.
    fixed = {place: each.value for place, each in enumerate(arguments) if isinstance(each, ConstantArgument)}
    inputs = tuple(
        _input(each.name, examples[each.name]) for each in arguments if not isinstance(each, ConstantArgument)
    )

    def run(tensors: list[Tensor]) -> object:
        given = iter(tensors)
        leaves = [fixed[place] if place in fixed else next(given) for place in range(len(arguments))]
        args, kwargs = pytree.tree_unflatten(leaves, structure)
        return module(*args, **kwargs)

    return Opened(inputs=inputs, run=running(run, target), training_mode=lambda: _training_mode(program))


def _training_mode(program: Any) -> TrainingMode:
    """Each operator is of one mode, that of the export."""
    import torch

    found: Counter[str] = Counter()
    for module in program.graph_module.modules():  # those of its branches, too
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            if not isinstance(node.target, torch._ops.OpOverload):
                continue
            names = [argument.name for argument in node.target._schema.arguments]
            given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
            known = {name: UNKNOWN if isinstance(value, torch.fx.Node) else value for name, value in given.items()}
            name = node.target._schema.name.rpartition("::")[2]
            found[name] += is_in_training_mode(name, known)
    return TrainingMode(operators=+found)


def _input(name: str, example: Any) -> Input:
    import torch

    if not isinstance(example, torch.Tensor):  # a number that may vary
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
    example=Example(
        packages=("torch",),
        imports=("import torch",),
        run=(
            "network = torch.export.load($model).module()",
            "logits = network(torch.from_numpy(images))[0].detach().numpy()",
        ),
    ),
    opens=Opener(suffixes={".pt2": PT2}, open=open_, is_program=True, knows=lambda path: not is_compiled(path)),
)
