"""The weights alone, as safetensors; the network's own code runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_deploy.core.records import Data
from cifar_deploy.core.store import WEIGHTS
from cifar_deploy.formats import Choices, Format, Source

if TYPE_CHECKING:
    from torch import Tensor, nn


def save(network: nn.Module, path: Path, *, half: bool = False, logits: Tensor | None = None) -> None:
    """Write the network's state, and the logits by which it is known when it is built again (see networks.answers)."""
    import torch
    from safetensors.torch import save as as_bytes

    from cifar_deploy.networks.complete import LOGITS

    # On the CPU, since the file is for every device. Each a contiguous copy, since safetensors keeps no strides and takes
    # no two tensors of one memory: weights that layers share are in the file under each of their names. Written by
    # Python, since safetensors' own error on a full disk is not the system's.
    state = halved(network) if half else network.state_dict()
    tensors = {name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
    metadata = None if logits is None else {LOGITS: json.dumps(logits.tolist())}
    path.write_bytes(as_bytes(tensors, metadata))


def save_trained(name: str, network: nn.Module, data: Data, path: Path, *, half: bool) -> None:
    """Write the network's state, and its logits as they are with what is written."""
    from cifar_deploy.networks.answers import fixed_images, logits_of

    if half:
        network.load_state_dict(halved(network))
    logits = logits_of(name, network, fixed_images(data.height, data.width), len(data.classes))
    save(network, path, half=half, logits=logits)


def halved(network: nn.Module) -> dict[str, Tensor]:
    """Its state with what convolutions and linear layers multiply by as float16: nearly half as large."""
    heavy = {name for name, weight in network.named_parameters(remove_duplicate=False) if weight.ndim > 1}
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
