"""AOTInductor: torch.export's program, compiled to machine code for this processor, the weights folded into it."""

from __future__ import annotations

from pathlib import Path

from cifar_deploy.formats import Choices, Format, Source
from cifar_deploy.formats.torch_export import program


def write(source: Source, path: Path) -> Choices:
    import torch
    from torch._inductor import aoti_compile_and_package

    # Frozen: constants folded and laid out beforehand, without which the ResNet is slower than in PyTorch eager.
    with torch.no_grad():
        aoti_compile_and_package(program(source), package_path=str(path), inductor_configs={"freezing": True})
    return {"freezing": "on"}


FORMAT = Format(
    summary="AOTInductor, compiled for this machine",
    filename="model.pt2",
    requires=("torch",),
    programs=("g++",),
    write=write,
    tolerance=1e-4,
    agreement=0.99,
    is_program=True,
    is_portable=False,
)
