"""Dead channels: those whose ReLU gives zero for every one of many images. They cost time and carry no information."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.module_tracker import ModuleTracker

from cifar_deploy.core.records import DeadChannels

_aten = torch.ops.aten
_RELUS = (_aten.relu, _aten.relu_)
# ReLU6 and a ReLU that is written as a clamp, if their lower bound is zero.
_CLAMPS = (_aten.hardtanh, _aten.hardtanh_, _aten.clamp, _aten.clamp_, _aten.clamp_min, _aten.clamp_min_)


def dead_channels(network: nn.Module, batches: Iterable[Tensor]) -> tuple[DeadChannels, ...]:
    """The layers with dead channels, in the order of computation. Leaves the network in evaluation mode.

    Args:
        network: Any; ReLU and ReLU6 are found as modules and as functions.
        batches: Images (N, 3, H, W), as the network takes them.
    """
    network.eval()
    largest: dict[tuple[int, str], Tensor] = {}
    for images in batches:
        tracker = ModuleTracker()
        with torch.no_grad(), tracker, _Largest(tracker) as seen:
            network(images)
        for place, values in seen.of_layers.items():
            largest[place] = torch.maximum(largest[place], values) if place in largest else values
    return tuple(
        DeadChannels(layer=layer, dead=dead, channels=len(values))
        for (_, layer), values in largest.items()
        if (dead := int((values <= 0).sum()))
    )


def _is_relu(function: Any, args: Any, kwargs: Any) -> bool:
    if function.overloadpacket in _CLAMPS:
        given = {argument.name: argument.default_value for argument in function._schema.arguments}
        given.update(zip(given, args, strict=False), **kwargs)
        lowest = given.get("min_val", given.get("min"))
        return isinstance(lowest, int | float) and lowest == 0
    return function.overloadpacket in _RELUS


class _Largest(TorchDispatchMode):
    """Records the largest value of each channel behind each ReLU."""

    def __init__(self, tracker: ModuleTracker) -> None:
        super().__init__()
        self._tracker = tracker
        self.of_layers: dict[tuple[int, str], Tensor] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        if _is_relu(function, args, kwargs or {}) and found.ndim > 1:
            channels = found.ndim - 1 if found.ndim == 3 else 1  # (N, tokens, C), (N, C, H, W) or (N, C)
            others = [dimension for dimension in range(found.ndim) if dimension != channels]
            self.of_layers[len(self.of_layers), self._layer()] = found.detach().amax(others)
        return found

    def _layer(self) -> str:
        """The innermost module; the tracker's names begin with the class of the whole network."""
        return max(self._tracker.parents, key=len).partition(".")[2]
