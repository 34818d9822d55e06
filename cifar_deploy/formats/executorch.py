"""ExecuTorch: torch.export's program, its convolutions handed to XNNPACK; for phones and boards."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_deploy.core.errors import ExportError
from cifar_deploy.environments.executorch import ENVIRONMENT, MOST_IMAGES
from cifar_deploy.formats import Choices, Format, Source

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram
    from torch.fx import GraphModule


def write(source: Source, path: Path) -> Choices:
    lower(source.network, source, path)
    return {"delegate": "XNNPACK", "most_images_a_call": MOST_IMAGES}


def program(network: nn.Module, source: Source) -> ExportedProgram:
    """For batches of up to MOST_IMAGES."""
    import torch

    batch = torch.export.Dim("batch", min=1, max=MOST_IMAGES)
    with torch.no_grad():
        images = source.images[:2].clone()
        exported = torch.export.export(network, (images,), dynamic_shapes=({0: batch},), strict=False)
    _slice_for_split(exported.graph_module)
    return exported


def _slice_for_split(module: GraphModule) -> None:
    """Replace each torch.chunk and torch.split by slices. ExecuTorch takes the batch of their parts for a constant."""
    import torch

    aten = torch.ops.aten
    for node in list(module.graph.nodes):
        if node.target not in (aten.chunk.default, aten.split.Tensor, aten.split_with_sizes.default):
            continue
        whole = node.args[0]
        dimension = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
        ends = list(itertools.accumulate(part.shape[dimension] for part in node.meta["val"]))
        if not all(isinstance(end, int) for end in ends):  # a split of the batch itself
            continue
        for part in list(node.users):
            place = part.args[1]
            start = ends[place - 1] if place else 0
            with module.graph.inserting_before(part):
                sliced = module.graph.call_function(aten.slice.Tensor, (whole, dimension, start, ends[place]))
            sliced.meta = dict(part.meta)
            part.replace_all_uses_with(sliced)
            module.graph.erase_node(part)
        module.graph.erase_node(node)
    module.recompile()


def lower(network: nn.Module, source: Source, path: Path) -> None:
    """Write the program of `network`. Raises ExportError if XNNPACK takes no part in it."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    with torch.no_grad():
        lowered = to_edge_transform_and_lower(
            program(network, source), partitioner=[XnnpackPartitioner()]
        ).to_executorch()
    delegates = {delegate.id for plan in lowered.executorch_program.execution_plan for delegate in plan.delegates}
    if delegates != {"XnnpackBackend"}:
        raise ExportError(f"executorch: XNNPACK took no part of the network; delegates: {sorted(delegates) or 'none'}")
    path.write_bytes(lowered.buffer)


FORMAT = Format(
    summary="ExecuTorch, float32, through XNNPACK",
    filename="model.pte",
    requires=("torch", "executorch"),
    environment=ENVIRONMENT,
    write=write,
    tolerance=1e-4,
    agreement=0.99,
)
