"""The TorchScript interpreter inside PyTorch. A program that was saved in training mode runs in evaluation mode."""

import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cifar_deploy.backends import Backend, Example, Input, Opened, Opener
from cifar_deploy.backends.tensors import UNKNOWN, is_in_training_mode, predicting, running
from cifar_deploy.backends.torch_profiler import profiling
from cifar_deploy.core.arrays import Predict
from cifar_deploy.core.content import TORCHSCRIPT
from cifar_deploy.core.records import Artifact, TrainingMode


def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    return predicting(_program(path, target, threads).eval(), target)


# Arguments of these types take arrays of no dimension: numpy's names.
_NUMBERS = {"int": "int64", "float": "float64", "bool": "bool"}


def open_(path: Path, target: str, threads: int) -> Opened:
    """Of its inputs the file says which are tensors; those that have a default are left to it."""
    program = _program(path, target, threads)
    trained = sum(getattr(module, "training", False) for module in program.modules())  # a frozen one has no mode
    program.eval()
    # The first of each is the program itself. In the graph an argument x is called x.1, which viewers show.
    (_, *arguments), (_, *values) = program.forward.schema.arguments, program.forward.graph.inputs()
    inputs = tuple(
        Input(
            name=argument.name,
            aliases=tuple({value.debugName()} - {argument.name}),
            dtype=_dtype(argument.type),
            shape=() if str(argument.type) in _NUMBERS else None,
        )
        for argument, value in zip(arguments, values, strict=True)
        if not argument.has_default_value()
    )
    return Opened(
        inputs=inputs,
        run=running(lambda tensors: program(*tensors), target),
        training_mode=lambda: _training_mode(program, trained),
    )


def _training_mode(program: Any, trained: int) -> TrainingMode:
    """Of a program in evaluation mode, of which so many modules were in training mode.

    A traced one, or one that calls dropout as a function, holds operators that ask for no module's mode.
    """
    import torch

    found: Counter[str] = Counter()
    asks = False
    for node in _nodes(program.inlined_graph):
        asks = asks or _is_mode(node)
        schema = node.schema()
        if "train" in schema or "dropout_p" in schema:
            name = node.kind().rpartition("::")[2]
            names = [argument.name for argument in torch._C.parse_schema(schema).arguments]
            known = {each: _known(value) for each, value in zip(names, node.inputs(), strict=True)}
            found[name.rstrip("_")] += is_in_training_mode(name, known)
    return TrainingMode(switched=trained if asks else 0, operators=+found)


def _nodes(block: Any) -> Iterator[Any]:
    """Those that can run in evaluation mode, of inner blocks too."""
    for node in block.nodes():
        yield node
        blocks = list(node.blocks())
        if node.kind() == "prim::If" and isinstance(condition := _known(next(node.inputs())), bool):
            blocks = blocks[:1] if condition else blocks[1:]
        for inner in blocks:
            yield from _nodes(inner)


def _known(value: Any) -> object:
    node = value.node()
    if node.kind() == "prim::Constant":
        return value.toIValue()
    if node.kind() == "aten::__not__" and isinstance(negated := _known(next(node.inputs())), bool):
        return not negated
    return False if _is_mode(node) else UNKNOWN


def _is_mode(node: Any) -> bool:
    return bool(node.kind() == "prim::GetAttr" and node.s("name") == "training")


def _dtype(type_: Any) -> str | None:
    """That of a plain number; TorchScript's own word for what is neither that nor a tensor. A tensor may be of any type."""
    word = str(type_.annotation_str)
    return None if word in ("Tensor", "Optional[Tensor]", "Any") else _NUMBERS.get(word, word)


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
    example=Example(
        packages=("torch",),
        imports=("import torch",),
        run=(
            "network = torch.jit.load($model)",
            "logits = network(torch.from_numpy(images))[0].detach().numpy()",
        ),
    ),
    opens=Opener(suffixes=dict.fromkeys((".ts", ".pt", ".torchscript"), TORCHSCRIPT), open=open_, is_program=True),
)
