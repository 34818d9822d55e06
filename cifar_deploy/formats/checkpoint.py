"""The weights alone, as safetensors; the network's own code runs them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cifar_deploy.core.store import WEIGHTS
from cifar_deploy.formats import Choices, Format, Source

if TYPE_CHECKING:
    from torch import Tensor, nn


def save(network: nn.Module, path: Path, *, half: bool = False) -> None:
    from safetensors.torch import save as as_bytes

    # Contiguous, since safetensors keeps no strides; on the CPU, since the file is for every device. Written by
    # Python, since safetensors' own error on a full disk is not the system's.
    state = halved(network) if half else network.state_dict()
    path.write_bytes(as_bytes({name: tensor.cpu().contiguous() for name, tensor in state.items()}))


def halved(network: nn.Module) -> dict[str, Tensor]:
    """Its state with what convolutions and linear layers multiply by as float16: nearly half as large."""
    heavy = {name for name, weight in network.named_parameters() if weight.ndim > 1}
    return {name: tensor.half() if name in heavy else tensor for name, tensor in network.state_dict().items()}


def write(source: Source, path: Path) -> Choices:
    save(source.network, path)
    return {}


FORMAT = Format(
    summary="the trained weights (safetensors), run by PyTorch eager",
    filename=WEIGHTS,
    requires=("torch", "safetensors"),
    write=write,
    tolerance=0.0,
    agreement=1.0,
)
