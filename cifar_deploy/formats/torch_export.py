"""torch.export's program: what PyTorch recommends in place of TorchScript, and what its other compilers begin with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cifar_deploy.formats import Choices, Format, Source

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def program(source: Source) -> ExportedProgram:
    """For any batch size."""
    import torch

    # Batch 2 as the example: torch.export takes a batch of 1 for a constant. Cloned, since the file keeps the example,
    # and with it all of the memory that it is a part of.
    return torch.export.export(
        source.network, (source.images[:2].clone(),), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False
    )


def write(source: Source, path: Path) -> Choices:
    import torch

    with torch.no_grad():
        torch.export.save(program(source), path)
    return {}


FORMAT = Format(
    summary="torch.export's program",
    filename="model.pt2",
    requires=("torch",),
    write=write,
    tolerance=1e-4,
    agreement=0.99,
    is_program=True,
)
