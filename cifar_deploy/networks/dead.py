"""Dead channels: those whose ReLU gives zero for every one of many images. They cost time and carry no information."""

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from cifar_deploy.core.records import DeadChannels

_aten = torch.ops.aten
_RELUS = (_aten.relu, _aten.relu_)
# ReLU6 and a ReLU that is written as a clamp, if their lower bound is zero.
_CLAMPS = (_aten.hardtanh, _aten.hardtanh_, _aten.clamp, _aten.clamp_, _aten.clamp_min, _aten.clamp_min_)

# Modules whose outputs have the channels in the last dimension.
_CHANNELS_LAST = (nn.Linear, nn.LayerNorm)


def dead_channels(
    network: nn.Module, batches: Iterable[Tensor], body: nn.Module | None = None
) -> tuple[DeadChannels, ...]:
    """The layers with dead channels, in the order of computation. Leaves the network in evaluation mode.

    A layer has the name of its ReLU module. A functional or shared ReLU is named by the layer with weights before it:
    "relu after NAME".

    Args:
        network: Any; ReLU and ReLU6 are found as modules and as functions.
        batches: Images (N, 3, H, W), as the network takes them.
        body: The part of the network in which layers are named; all of it by default.
    """
    network.eval()
    largest: dict[tuple[int, _Place], Tensor] = {}
    for images in batches:
        with torch.no_grad(), _placed(network if body is None else body) as at, _Largest(at) as seen:
            network(images)
        for place, values in seen.of_places.items():
            largest[place] = torch.maximum(largest[place], values) if place in largest else values
    uses = Counter(place.module for _, place in largest)
    return tuple(
        DeadChannels(layer=place.layer(uses[place.module] == 1), dead=dead, channels=len(values))
        for (_, place), values in largest.items()
        if (dead := int((values <= 0).sum()))
    )


@dataclass(frozen=True)
class _Place:
    """A position in the computation of a network."""

    module: str = ""  # the innermost module
    is_leaf: bool = False  # whether the module has no modules within it
    before: str = ""  # the last module with weights that ran
    channels_last: bool = False  # whether the output of `before` has its channels last

    def layer(self, is_alone: bool) -> str:
        if (self.is_leaf and is_alone) or not self.before:
            return self.module or "the network"
        return f"relu after {self.before}"


class _At:
    """The current position: the modules that are running, and the last one with weights that ran."""

    def __init__(self) -> None:
        self.entered: list[tuple[str, bool]] = []
        self.before, self.channels_last = "", False

    @property
    def place(self) -> _Place:
        module, is_leaf = self.entered[-1] if self.entered else ("", False)
        return _Place(module, is_leaf, self.before, self.channels_last)


@contextlib.contextmanager
def _placed(network: nn.Module) -> Iterator[_At]:
    """Follows the calls of a network's modules in the block."""
    at, names = _At(), {id(module): name for name, module in network.named_modules()}

    def enter(module: nn.Module, _: Any) -> None:
        if (name := names.get(id(module))) is not None:
            at.entered.append((name, not any(module.children())))

    def leave(module: nn.Module, *_: Any) -> None:
        if (name := names.get(id(module))) is not None:
            at.entered.pop()
            if module._parameters:
                at.before, at.channels_last = name, isinstance(module, _CHANNELS_LAST)

    # Hooks of all modules: a torch.jit.ScriptModule takes none of its own.
    with register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True):
        yield at


def _is_relu(function: Any, args: Any, kwargs: Any) -> bool:
    if function.overloadpacket in _CLAMPS:
        given = {argument.name: argument.default_value for argument in function._schema.arguments}
        given.update(zip(given, args, strict=False), **kwargs)
        lowest = given.get("min_val", given.get("min"))
        return isinstance(lowest, int | float) and lowest == 0
    return function.overloadpacket in _RELUS


class _Largest(TorchDispatchMode):
    """Records the largest value of each channel behind each ReLU."""

    def __init__(self, at: _At) -> None:
        super().__init__()
        self._at = at
        self.of_places: dict[tuple[int, _Place], Tensor] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        if _is_relu(function, args, kwargs or {}) and found.ndim > 1:
            place = self._at.place
            # (N, H, W, C), (N, tokens, C), (N, C, H, W) or (N, C)
            is_last = place.channels_last or found.ndim == 3
            channels = found.ndim - 1 if is_last else 1
            others = [dimension for dimension in range(found.ndim) if dimension != channels]
            self.of_places[len(self.of_places), place] = found.detach().amax(others)
        return found
