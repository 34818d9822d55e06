"""A network as it is trained, saved, exported and measured: RGB in [0, 1] in, logits out.

It normalises its input itself, so that an artifact is complete and no backend can disagree about mean and deviation.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from cifar_deploy.core.errors import Corrupt, UsageError
from cifar_deploy.core.records import Data
from cifar_deploy.core.registry import load_object
from cifar_deploy.networks import NETWORKS


class Normalise(nn.Module):
    """(images - mean) / deviation, channel by channel; float32 (N, 3, H, W)."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        # A channel that is the same in every image stays zero instead of becoming NaN.
        self.register_buffer("deviation", torch.tensor(deviation).view(1, -1, 1, 1).clamp(min=1e-6))

    def forward(self, images: Tensor) -> Tensor:
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


def build(network: str, data: Data) -> nn.Module:
    """The network of this name for the images and classes of `data`, with fresh weights from torch's random state.

    Raises UsageError if a custom network is not a function of the number of classes, or returns another shape than
    (N, classes).
    """
    classes = len(data.classes)
    body = _custom(network, classes) if ":" in network else NETWORKS[network].build(classes)
    complete = nn.Sequential(Normalise(data.mean, data.deviation), body)
    check_shape(network, complete, classes, data.height, data.width)
    return complete


def load(network: str, data: Data, weights: Path) -> nn.Module:
    """The network with the weights of a safetensors file, ready for inference. Raises Corrupt if they do not fit it."""
    from safetensors.torch import load_file

    complete = build(network, data)
    try:
        complete.load_state_dict(load_file(weights))
    except RuntimeError as error:
        raise Corrupt(
            f"{weights}: its weights are not those of {network} with {len(data.classes)} classes ({error})"
        ) from error
    return complete.eval()


def on(device: str, network: nn.Module) -> nn.Module:
    """The network on a device, channels last in memory: the faster layout for convolutions."""
    return network.to(device).to(memory_format=torch.channels_last)


def _custom(network: str, classes: int) -> nn.Module:
    function = load_object("network", network)
    try:
        body = function(classes)
    except Exception as error:
        raise UsageError(
            f"{network}: calling it with {classes} classes raised {type(error).__name__}: {error}"
        ) from error
    if not isinstance(body, nn.Module):
        raise UsageError(f"{network}: returned {type(body).__name__}; it must return a torch.nn.Module")
    return body


def check_shape(network: str, complete: nn.Module, classes: int, height: int, width: int) -> None:
    """Ask for the logits of two black images. Batch statistics and random state stay as they were.

    Raises UsageError if there are none.
    """
    images = torch.zeros(2, 3, height, width)
    was_training = complete.training
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            logits = complete.eval()(images)
    except Exception as error:
        raise UsageError(
            f"{network}: cannot take images of {width}×{height} ({type(error).__name__}: {error})"
        ) from error
    finally:
        complete.train(was_training)
    expected = (2, classes)
    if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UsageError(f"{network}: returned {found} for images {tuple(images.shape)}; expected logits {expected}")
