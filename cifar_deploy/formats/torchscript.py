"""TorchScript: traced, then frozen, so that the weights are constants of the program.

PyTorch has deprecated it in favour of torch.export; it still is what many C++ deployments load.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_deploy.core.records import Checkpoint
from cifar_deploy.formats import Format

if TYPE_CHECKING:
    from torch import Tensor, nn


def write(network: nn.Module, images: Tensor, path: Path, checkpoint: Checkpoint) -> None:
    import torch

    with warnings.catch_warnings():
        # trace, freeze and save each say that they are deprecated.
        warnings.simplefilter("ignore")
        with torch.inference_mode():
            traced = torch.jit.trace(network, images[:2])
        torch.jit.save(torch.jit.freeze(traced), path)


FORMAT = Format(
    summary="TorchScript, traced and frozen",
    filename="model.ts",
    requires=("torch",),
    write=write,
    tolerance=1e-4,
    agreement=0.99,
    is_program=True,
)
