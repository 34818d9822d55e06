"""The arithmetic of a training step: float32, or bfloat16.

On a processor depthwise convolutions stay in float32. oneDNN has no bfloat16 kernel for their gradient where they are strided.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cifar_deploy.core.records import Arithmetic

_CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)
_GROUPS = 6  # where the convolutions have this argument


@contextlib.contextmanager
def computing_in(arithmetic: Arithmetic, device: str) -> Iterator[None]:
    """Sets the arithmetic of the forward passes in here, and of their backward passes. `device` is a device type of torch."""
    if arithmetic == "float32":
        yield
        return
    depthwise = _DepthwiseInFloat32() if device == "cpu" else contextlib.nullcontext()
    with torch.autocast(device, torch.bfloat16), depthwise:
        yield


class _DepthwiseInFloat32(TorchFunctionMode):
    """Finds them by their arguments, so that it holds for convolutions that are no modules, too.

    It does not see convolutions within a torch.jit.ScriptModule: those run in bfloat16. torch.utils.checkpoint restores
    autocast alone, so a recomputed depthwise convolution runs in bfloat16, too. Non-reentrant checkpoints then fail.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function not in _CONVOLUTIONS or not _is_depthwise(args, kwargs):
            return function(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            return function(*map(_as_float32, args), **{name: _as_float32(value) for name, value in kwargs.items()})


def _is_depthwise(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    groups = kwargs.get("groups", args[_GROUPS] if len(args) > _GROUPS else 1)
    weight = kwargs.get("weight", args[1] if len(args) > 1 else None)
    return groups > 1 and isinstance(weight, Tensor) and weight.shape[1] == 1


def _as_float32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) else value
