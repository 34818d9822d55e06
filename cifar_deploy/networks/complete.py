"""A network as it is trained, saved, exported and measured: RGB in [0, 1] in, logits out.

It normalises its input itself, so that an artifact is complete and no backend can disagree about mean and std.
"""

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from cifar_deploy.core.errors import Corrupt, UsageError
from cifar_deploy.core.records import Baseline, Channels, Data, Layout, Normalisation, Trained
from cifar_deploy.core.registry import load_object
from cifar_deploy.core.store import WEIGHTS, Store, as_artifact
from cifar_deploy.networks import NETWORKS, answers, libraries

# In the metadata of a safetensors file: the trained network's logits of the fixed images, as JSON.
LOGITS = "logits"

# Why a network that was built again may answer otherwise, and the way out.
_OUTSIDE = "its code, a file, the environment or a random number has changed; bring it back, or train again"
REGISTER = "register it with register_buffer, or make it of fixed numbers"


class Normalise(nn.Module):
    """(images - mean) / std, channel by channel; RGB float32 (N, 3, H, W) in, in the order of `channels` out."""

    mean: Tensor
    deviation: Tensor  # so called in every file of weights

    def __init__(self, mean: Sequence[float], std: Sequence[float], channels: Channels = "rgb") -> None:
        super().__init__()
        self._channels = channels
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("deviation", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        if self._channels == "bgr":
            # By slices, which every converter knows: flip and indexing become a gather, or nothing at all.
            images = torch.cat([images[:, 2:3], images[:, 1:2], images[:, 0:1]], dim=1)
        return (images - self.mean) / self.deviation


class OfPixels(nn.Module):
    """A complete network for images as files and cameras give them: uint8 (N, H, W, 3) in 0..255, red first."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        # Contiguous, since what torch.export finds to be channels last it writes with a gather after the last mean.
        logits: Tensor = self.network(pixels.permute(0, 3, 1, 2).contiguous().float() / 255)
        return logits


def build(network: str, data: Data, normalisation: Normalisation | None = None) -> nn.Sequential:
    """The network of this name for the images and classes of `data`, with fresh weights from torch's random state.

    It normalises by the mean and std of `data`, unless it was trained with another `normalisation`.

    Raises UsageError if a custom network is not a function of the number of classes, or if a library has no such network
    or does not build it for such images. Raises Unavailable if the library is missing.
    """
    expected = normalisation or data.normalisation
    complete = nn.Sequential(Normalise(expected.mean, expected.std, expected.channels), _body(network, data))
    if any(
        isinstance(value, UninitializedParameter | UninitializedBuffer)
        for value in (*complete.parameters(), *complete.buffers())
    ):
        # The first call sizes lazy layers, and draws their weights.
        with answers.refusing(network, f"cannot take images of {data.width}×{data.height}"), torch.no_grad():
            complete.eval()(answers.fixed_images(data.height, data.width))
        complete.train()
    return complete


def find(network: str) -> None:
    """What `build` begins with, without building anything. Raises as it does."""
    if NETWORKS.is_of_library(network):
        libraries.find(network)
    elif ":" in network:
        load_object("network", network)
    else:
        NETWORKS.check(network)


def load(
    network: str,
    data: Data,
    weights: Path,
    device: str = "cpu",
    layout: Layout = "contiguous",
    normalisation: Normalisation | None = None,
) -> nn.Module:
    """The trained network with the weights of a safetensors file, ready for inference.

    Raises Corrupt if the weights do not fit the network, or if it does not answer as the trained one did.
    """
    complete, expected = read(network, data, weights, normalisation)
    complete = on(device, complete, layout)
    images, classes = answers.fixed_images(data.height, data.width), len(data.classes)
    found = answers.logits_of(network, complete, images, classes)
    if expected is None and ":" in network:  # trained by an earlier version; two builds must be the same at least
        expected = answers.logits_of(network, read(network, data, weights, normalisation)[0], images, classes)
    if expected is None or answers.are_of_one_network(found, expected):
        return complete
    if not answers.are_of_one_network(found, answers.logits_of(network, complete, images, classes)):
        raise Corrupt(f"{network}: {answers.NOISY}")
    lacking = answers.listed(name for name, value in answers.unsaved(complete).items() if answers.holds_numbers(value))
    why = f"its state_dict lacks {lacking}; {REGISTER}, and train again" if lacking else _OUTSIDE
    raise Corrupt(f"{network}: built again with its trained weights, it answers otherwise; {why}")


def trained(store: Store, origin: Trained | Baseline) -> nn.Module:
    """A network of the store with its verified weights, ready for inference on the CPU. Raises Corrupt."""
    weights = store.verified(as_artifact(origin))[WEIGHTS]
    return load(origin.network, origin.data, weights, normalisation=origin.normalisation)


def read(
    network: str, data: Data, weights: Path, normalisation: Normalisation | None = None
) -> tuple[nn.Module, Tensor | None]:
    """The network with these weights, and the logits that the trained one had, if they were stored. Raises Corrupt."""
    from safetensors import SafetensorError, safe_open

    complete = build(network, data, normalisation)
    try:
        with safe_open(weights, "pt") as file:
            logits = json.loads((file.metadata() or {}).get(LOGITS, "null"))
            complete.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (it is no mapping)
        return complete.eval(), None if logits is None else torch.tensor(logits, dtype=torch.float32)
    except (RuntimeError, SafetensorError, ValueError, TypeError) as error:
        raise Corrupt(
            f"{weights}: its weights are not those of {network} with {len(data.classes)} classes ({error})"
        ) from error


def on(device: str, network: nn.Module, layout: Layout = "channels_last") -> nn.Module:
    """The network on a device. Channels last in memory is the faster layout for convolutions."""
    network = network.to(device)
    return network.to(memory_format=torch.channels_last) if layout == "channels_last" else network


def body(complete: nn.Module) -> nn.Module:
    """The network of `build` without what normalises its input."""
    return complete.get_submodule("1")


def _body(network: str, data: Data) -> nn.Module:
    classes = len(data.classes)
    if NETWORKS.is_of_library(network):
        return libraries.build(network, classes, data.height, data.width)
    return _custom(network, classes) if ":" in network else NETWORKS[network].build(classes)


def _custom(network: str, classes: int) -> nn.Module:
    function = load_object("network", network)
    try:
        body = function(classes) if _takes_classes(function) else function()
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{network}: calling it with {classes} classes raised {type(error).__name__}: {error}"
        ) from error
    if not isinstance(body, nn.Module):
        raise UsageError(f"{network}: returned {type(body).__name__}; it must return a torch.nn.Module")
    return body


def _takes_classes(function: Any) -> bool:
    """Whether it can be called with the number of classes. A function that returns a trained module may know it itself."""
    try:
        inspect.signature(function).bind(2)
    except TypeError:
        return False
    except ValueError:  # it has no signature
        return True
    return True
