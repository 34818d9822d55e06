"""Multiply-adds of one image, in convolutions, linear and recurrent layers and attention.

They are half of what torch's FlopCounterMode counts, which knows convolutions and products of matrices and counts
anything else as nothing. So fused layers are taken apart first, and where an operation is left that may multiply and
that nobody counts, there is no number.
"""

import contextlib
import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from cifar_deploy.networks.answers import listed, said

_aten = torch.ops.aten


def _of_a_vector(*shapes: Any, out_shape: Any = None, **_: Any) -> int:
    """Products of a matrix, or a vector, with a vector: the last two arguments."""
    matrix, _vector = [shape for shape in shapes if shape is not None and len(shape)][-2:]
    return 2 * int(torch.Size(matrix).numel())


# What FlopCounterMode has no formula for, in floating point operations.
_FORMULAS: dict[Any, Any] = dict.fromkeys((_aten.mv, _aten.addmv, _aten.dot, _aten.vdot), _of_a_vector)

# Operations on several arrays that multiply no matrices, beside those that torch calls pointwise: the starts of their names.
_HARMLESS = (
    *("native_batch_norm", "native_layer_norm", "native_group_norm", "batch_norm", "cudnn_batch_norm", "rms_norm"),
    *("fused_rms_norm", "weight_norm", "prelu", "cat", "stack", "copy", "fill", "where", "clone", "set", "resize"),
    *("index", "unsafe_index", "scatter", "gather", "take", "put", "select_scatter", "slice_scatter", "masked"),
    *("diagonal_scatter", "as_strided_scatter", "embedding", "grid_sampler", "max", "min", "sort", "topk", "bernoulli"),
    *("normal", "uniform", "new_", "empty", "zeros", "ones", "full", "rrelu", "bucketize", "searchsorted", "is_same"),
    *("complex", "polar", "dist", "allclose", "equal", "pad_", "pack_padded_sequence", "fake_quantize", "linspace"),
)


def macs(network: nn.Module, image: Tensor) -> tuple[int | None, str | None]:
    """Of `image` (1, 3, H, W) through the network on the CPU, in evaluation mode; or None, and why there is no number."""
    network.eval()
    try:
        with (
            _taken_apart(),
            torch.random.fork_rng(devices=[]),
            torch.no_grad(),
            _Uncounted() as uncounted,
            FlopCounterMode(display=False, custom_mapping=_FORMULAS) as counter,
        ):
            network(image)
    except Exception as error:  # of a statistic, which is to cost no training
        return None, said(error)
    if uncounted.names:
        return None, f"no formula for {listed(sorted(uncounted.names))}"
    return int(counter.get_total_flops()) // 2, None


class _Uncounted(TorchDispatchMode):
    """The names of operations that may multiply, of those that are left for it once FlopCounterMode has seen them."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _may_multiply(function, [*args, *(kwargs or {}).values()]):
            self.names.add(function.name().partition(".")[0].replace("::", "."))
        return function(*args, **(kwargs or {}))


def _may_multiply(function: Any, arguments: list[Any]) -> bool:
    if not isinstance(function, torch._ops.OpOverload):
        return True  # an operation of higher order
    packet = function.overloadpacket
    if packet in flop_registry or packet in _FORMULAS or function.namespace in ("prim", "prims"):
        return False
    if function.namespace != "aten":
        return True  # someone's own
    if torch.Tag.pointwise in function.tags or function.is_view:
        return False
    name = function._schema.name.removeprefix("aten::").lstrip("_")
    if name.startswith(_HARMLESS):
        return False
    return sum(isinstance(value, Tensor) and value.is_floating_point() for value in _flat(arguments)) > 1


def _flat(arguments: list[Any]) -> Iterator[Any]:
    return itertools.chain.from_iterable(value if isinstance(value, list | tuple) else [value] for value in arguments)


@contextlib.contextmanager
def _taken_apart() -> Iterator[None]:
    """Recurrent layers, attention and whole encoder layers as the products of matrices that they are."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings(), contextlib.ExitStack() as opened:
            warnings.simplefilter("ignore")  # oneDNN's setting says of a kind of GPU that it is not here
            opened.enter_context(torch.backends.mkldnn.flags(enabled=False))
            opened.enter_context(sdpa_kernel(SDPBackend.MATH))
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
