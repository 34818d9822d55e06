"""TorchScript: traced, then frozen, so that the weights are constants of the program.

PyTorch has deprecated it in favour of torch.export; it still is what many C++ deployments load.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from cifar_deploy.formats import Choices, Format, Source


def write(source: Source, path: Path) -> Choices:
    import torch

    with warnings.catch_warnings():
        # trace, freeze and save each say that they are deprecated.
        warnings.simplefilter("ignore")
        with torch.inference_mode():
            traced = torch.jit.trace(source.network, source.images[:2])
        torch.jit.save(torch.jit.freeze(traced), path)
    return {}


FORMAT = Format(
    summary="TorchScript, traced and frozen",
    filename="model.ts",
    requires=("torch",),
    write=write,
    tolerance=1e-4,
    agreement=0.99,
    is_program=True,
)
