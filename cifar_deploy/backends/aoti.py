"""AOTInductor's machine code, loaded by PyTorch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_deploy.backends import Backend, Example, Input, Opened, Opener
from cifar_deploy.backends.tensors import is_compiled, predicting, running
from cifar_deploy.core.arrays import Predict
from cifar_deploy.core.content import PT2
from cifar_deploy.core.records import Artifact

if TYPE_CHECKING:
    from torch import Tensor


def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    import torch
    from torch._inductor import aoti_load_package

    torch.set_num_threads(threads)
    return predicting(aoti_load_package(str(path)), target)


def open_(path: Path, target: str, threads: int) -> Opened:
    """Of its inputs the file says no more than how many arguments there are, of which some may be no arrays."""
    import torch
    from torch._inductor import aoti_load_package
    from torch.utils import _pytree as pytree

    torch.set_num_threads(threads)
    compiled = aoti_load_package(str(path))
    structure = pytree.treespec_loads(compiled.loader.get_call_spec()[0])
    count = _arrays(compiled.loader, structure.num_leaves)
    inputs = tuple(Input(name=f"input{index}", dtype=None, shape=None) for index in range(count))

    def run(tensors: list[Tensor]) -> object:
        if count < structure.num_leaves:  # which of them are arrays is not told
            return compiled.loader.run(tensors)
        args, kwargs = pytree.tree_unflatten(tensors, structure)
        return compiled(*args, **kwargs)

    return Opened(inputs=inputs, run=running(run, target))


def _arrays(loader: Any, arguments: int) -> int:
    """How many arrays the machine code takes. Numbers, texts and None are compiled in; the count is in an error alone."""
    if not arguments:
        return 0
    try:
        loader.run([])
    except RuntimeError as error:
        if told := re.search(r"expected inputs vector size to be (\d+)", str(error)):
            return int(told[1])
    return arguments


BACKEND = Backend(
    title="AOTInductor",
    summary="AOTInductor's machine code",
    reads=("aoti",),
    targets={"cpu": "cpu"},
    requires=("torch",),
    why_no_profile="its kernels are fused and have no operators",
    load=load,
    example=Example(
        packages=("torch",),
        imports=("import torch", "from torch._inductor import aoti_load_package"),
        run=(
            "network = aoti_load_package(str($model))",
            "logits = network(torch.from_numpy(images))[0].detach().numpy()",
        ),
    ),
    opens=Opener(suffixes={".pt2": PT2}, open=open_, is_program=True, knows=is_compiled),
)
