"""A network's logits of two fixed images: a network that was built again is the trained one if it has the same.

`state_dict` holds no non-persistent buffer, no plain attribute, no file that was read at build time. So training stores
the trained network's logits beside its weights, and `complete.load` compares.
"""

import contextlib
import hashlib
import itertools
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from cifar_deploy.core.arrays import Logits, Pixels, as_input, batched
from cifar_deploy.core.errors import UsageError, one_line, raised_as
from cifar_deploy.core.progress import report
from cifar_deploy.core.records import Layout

# Shares of the largest logit. On another processor, in another layout or with TF32 the same network differs by a tenth of
# the first at most; other constants in it make logits that have nothing to do with each other. The second is for the same
# call again in one process, and half of what a float32 format may differ by.
_ANYWHERE = 1e-2
_HERE = 5e-5

_BATCH = 64

NOISY = "answers otherwise when it is asked again; draw random numbers only while it is training (self.training)"
OF_THE_BATCH = (
    "answers an image otherwise beside other images; "
    "normalise by statistics that are kept in training (track_running_stats=True)"
)


def fixed_images(height: int, width: int) -> Tensor:
    """Float32 (2, 3, H, W) in [0, 1]: noise in grains of one pixel and of 4×4, the same on each machine and version."""
    count = 2 * 3 * height * width
    noise = np.frombuffer(hashlib.shake_256(b"cifar-deploy").digest(count), np.uint8).reshape(2, 3, height, width)
    rows, columns = np.arange(height) // 4, np.arange(width) // 4
    coarse = noise[1][:, rows[:, None], columns]
    return torch.from_numpy(np.stack([noise[0], coarse]).astype(np.float32) / 255)


def logits_of(name: str, network: nn.Module, images: Tensor, classes: int) -> Tensor:
    """The logits of images (N, 3, H, W): float32 (N, classes) on the CPU. The network is then in evaluation mode.

    Random state stays as it was. Raises UsageError if the network returns anything else.
    """
    network.eval()
    device = next(itertools.chain(network.parameters(), network.buffers())).device
    # Not inference_mode: what a network keeps of its first call is to be of use in a later training step.
    with (
        refusing(name, f"cannot take images of {images.shape[3]}×{images.shape[2]}"),
        torch.random.fork_rng(devices=[]),
        torch.no_grad(),
    ):
        torch.default_generator.seed()  # another one for each call, so that noise shows
        logits = network(images.to(device))
    found = as_logits(name, logits, images, classes)
    if found.dtype != torch.float32:
        raise UsageError(f"{name}: returned logits of {found.dtype}; return float32, as logits.float() is")
    return found.cpu()


def logits_of_pixels(
    network: nn.Module, pixels: Pixels, message: str | None = None, layout: Layout = "contiguous"
) -> Logits:
    """The logits of stored pixels, on the CPU, in batches: what layers hold of many large images would fill the memory.

    With a `message`, progress is reported.
    """
    found = []
    with torch.no_grad():
        for batch in batched(pixels, _BATCH):
            images = torch.from_numpy(as_input(batch))
            if layout == "channels_last":
                images = images.to(memory_format=torch.channels_last)
            found.append(network(images).numpy())
            if message:
                report(min(len(found) * _BATCH, len(pixels)), len(pixels), message)
    return np.concatenate(found)


def as_logits(name: str, found: object, images: Tensor, classes: int, when: str = "") -> Tensor:
    """What a network returned, if it is a tensor of floating point numbers (N, classes); else UsageError."""
    expected = (len(images), classes)
    if isinstance(found, Tensor) and tuple(found.shape) == expected and found.is_floating_point():
        return found
    what = type(found).__name__
    if isinstance(found, Tensor):
        what = str(tuple(found.shape) if found.is_floating_point() else found.dtype)
    raise UsageError(
        f"{name}: returned {what}{when} for images {tuple(images.shape)}; expected logits {expected} alone"
    )


def refusing(name: str, what: str) -> contextlib.AbstractContextManager[None]:
    """An exception of the network in the block is raised as UsageError."""
    return raised_as(lambda error: UsageError(f"{name}: {what} ({said(error)})"))


def unfit(name: str, network: nn.Module, images: Tensor, classes: int) -> str | None:
    """Why the network, on the CPU, has no logits that are its own for an image, with the way out; None if it has."""
    found = logits_of(name, network, images, classes)
    # More than once: by chance, a little noise is the same again.
    if not all(_are_within(_HERE, logits_of(name, network, images, classes), found) for _ in range(3)):
        return NOISY
    if not are_of_one_network(logits_of(name, network, images[:1], classes), found[:1]):
        return OF_THE_BATCH
    return None


def said(error: BaseException) -> str:
    """An exception, for a part of a line."""
    return one_line(f"{type(error).__name__}: {error}", 120)


def are_of_one_network(found: Tensor, expected: Tensor) -> bool:
    """Whether the same network gave both, wherever it ran."""
    return _are_within(_ANYWHERE, found, expected)


def _are_within(share: float, found: Tensor, expected: Tensor) -> bool:
    if found.shape != expected.shape:
        return False
    finite = expected[expected.isfinite()]
    largest = float(finite.abs().max()) if len(finite) else 0.0
    return torch.allclose(found, expected, rtol=0, atol=share * largest, equal_nan=True)


_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def unsaved(network: nn.Module) -> dict[str, object]:
    """By name, the buffers and attributes that the network's `state_dict` lacks."""
    saved = network.state_dict().keys()
    found: dict[str, object] = {
        name: buffer for name, buffer in network.named_buffers(remove_duplicate=False) if name not in saved
    }
    for prefix, module in network.named_modules():
        for name, value in vars(module).items():
            if name not in _OF_EVERY_MODULE:
                found[f"{prefix}.{name}".lstrip(".")] = value
    return found


def holds_numbers(value: object) -> bool:
    """Whether it is a tensor or an array, or has one in it."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return any(isinstance(item, Tensor | np.ndarray) for item in value)
    return isinstance(value, Tensor | np.ndarray)


def are_equal(one: object, other: object) -> bool:
    """Whether an attribute of two networks is the same. What cannot be compared counts as equal."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one.detach().cpu(), other.detach().cpu())
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(are_equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(are_equal(one[key], other[key]) for key in one)
    if isinstance(one, int | float | str) and isinstance(other, int | float | str):
        return one == other
    return holds_numbers(one) == holds_numbers(other)


def listed(names: Iterable[str]) -> str:
    """The first three names, in words."""
    names = list(names)
    others = len(names) - 3
    return ", ".join(names[:3]) + (f" and {others} more" if others > 0 else "")
