"""What real networks are made of, a small module each, through every format that is here: the answers are the module's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core.arrays import batched
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.records import Artifact, Trained
from cifar_deploy.core.registry import interpreter_for, lack_of, missing
from cifar_deploy.formats import FORMATS, Source
from tests.probes import a_checkpoint

CHANNELS = 8


class SqueezeAndExcitation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(CHANNELS, 4, 1), nn.Conv2d(4, CHANNELS, 1)

    def forward(self, images: Tensor) -> Tensor:
        scale = self.excite(torch.relu(self.squeeze(images.mean((2, 3), keepdim=True))))
        return images * nn.functional.hardsigmoid(scale)


class ChannelShuffle(nn.Module):
    """As in ShuffleNet: half of the channels, by views and a transposition."""

    def forward(self, images: Tensor) -> Tensor:
        left, right = images.chunk(2, dim=1)
        both = torch.cat((left, torch.relu(right)), dim=1)
        count, channels, height, width = both.shape
        both = both.view(count, 2, channels // 2, height, width).transpose(1, 2).contiguous()
        return both.view(count, channels, height, width)


class Attention(nn.Module):
    """As in a vision transformer: tokens with a class token and places, one layer with its MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, CHANNELS))
        self.places = nn.Parameter(torch.randn(1, 17, CHANNELS))
        self.norm = nn.LayerNorm(CHANNELS)
        self.attention = nn.MultiheadAttention(CHANNELS, 2, batch_first=True)
        self.mlp = nn.Sequential(
            nn.LayerNorm(CHANNELS), nn.Linear(CHANNELS, 16), nn.GELU(), nn.Linear(16, CHANNELS), nn.LayerNorm(CHANNELS)
        )

    def forward(self, images: Tensor) -> Tensor:
        tokens = nn.functional.adaptive_avg_pool2d(images, 4).flatten(2).permute(0, 2, 1)
        tokens = torch.cat([self.token.expand(images.shape[0], -1, -1), tokens], dim=1) + self.places
        normed = self.norm(tokens)
        tokens = tokens + self.attention(normed, normed, normed, need_weights=False)[0]
        return (tokens + self.mlp(tokens))[:, 0, :, None, None]


class LayerNorm2d(nn.LayerNorm):
    """As in ConvNeXt: over the channels, by a permutation there and back."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ClassToken(nn.Module):
    """As in ViT: a token of its own before those of each image, and a reshape by the size of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, CHANNELS))

    def forward(self, images: Tensor) -> Tensor:
        count, channels, height, width = images.shape
        tokens = images.reshape(count, channels, -1).permute(0, 2, 1)
        tokens = torch.cat([self.token.expand(count, -1, -1), tokens], dim=1)
        return (tokens[:, 1:] + tokens[:, :1]).permute(0, 2, 1).reshape(count, channels, height, width)


class LayerScale(nn.Module):
    """As in ConvNeXt: a factor for each channel, which training makes small, on a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(0.2 * torch.rand(CHANNELS, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return images + self.scale * torch.relu(images)


OPERATORS = {
    "dropout": lambda: nn.Sequential(nn.Dropout2d(0.5), nn.Dropout(0.2)),
    "squeeze and excitation": SqueezeAndExcitation,
    "hard-swish": nn.Hardswish,
    "GELU": nn.GELU,
    "SiLU": nn.SiLU,
    "GroupNorm": lambda: nn.GroupNorm(2, CHANNELS),
    "LayerNorm": lambda: LayerNorm2d(CHANNELS),
    "attention": Attention,
    "adaptive pooling": lambda: nn.AdaptiveAvgPool2d(4),
    "channel shuffle": ChannelShuffle,
    "layer scale": LayerScale,
    "class token": ClassToken,
    "depthwise": lambda: nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS),
}


def answers(operator: nn.Module, format: str, folder: Path) -> dict[str, float]:
    """By runtime that is here, the largest difference of a logit from the module's own, as a share of the largest."""
    torch.manual_seed(0)
    checkpoint = a_checkpoint()
    data, plugin = checkpoint.training.data, FORMATS[format]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, len(data.classes)))
    network = nn.Sequential(nn.Conv2d(3, CHANNELS, 3, padding=1, stride=2), operator, head).eval()
    images = torch.rand(20, 3, data.height, data.width)
    source = Source(
        network=network,
        origin=Trained(checkpoint=checkpoint),
        images=images,
        calibration_images=lambda count: torch.rand(200, 3, data.height, data.width)[:count].numpy(),
    )
    path = folder / plugin.filename
    choices = plugin.write(source, path)
    with torch.no_grad():
        expected = network(images).numpy()
    artifact: Any = Artifact(
        origin=source.origin,
        format=format,
        input="float32",
        files=(),
        parity=(),
        failure=None,
        versions={},
        choices=choices,
        seconds=0.0,
        commit=None,
        finished="",
    )
    found = {}
    for name, backend in BACKENDS.items():
        if (format in backend.reads or name in plugin.read_by) and not missing(backend.requires):
            predict = backend.load(path, artifact, backend.targets[backend.validated_on], 1)
            given = images.numpy()
            logits = np.concatenate([predict(given[:1]), *map(predict, batched(given[1:], 8))])
            found[name] = float(np.abs(logits - expected).max() / max(1, np.abs(expected).max()))
    return found


def shares(format: str, folder: Path) -> dict[str, float]:
    """Of every operator, the largest of its `answers`."""
    found = {}
    for number, (name, operator) in enumerate(OPERATORS.items()):
        (place := folder / str(number)).mkdir()
        found[name] = max(answers(operator(), format, place).values())
    return found


# Of the others each takes a compiler, or is made from one of these.
@pytest.mark.slow  # about two minutes
@pytest.mark.parametrize("format", ["torchscript", "torch_export", "onnx", "openvino_ir", "ncnn", "onnx_int8"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_an_operator_answers_in_a_format_as_in_the_network(operator: str, format: str, tmp_path: Path) -> None:
    if lack := lack_of(FORMATS[format]):
        pytest.skip(str(lack))
    found = answers(OPERATORS[operator](), format, tmp_path)
    assert found and all(share <= FORMATS[format].tolerance for share in found.values()), found


@pytest.mark.slow
@pytest.mark.parametrize("format", ["litert", "litert_int8", "executorch"])
def test_every_operator_answers_in_a_format_of_an_environment(format: str, tmp_path: Path) -> None:
    plugin = FORMATS[format]
    if lack := lack_of(plugin):
        pytest.skip(str(lack))
    found = Worker(interpreter=interpreter_for(plugin)).call(shares, format, tmp_path)
    assert found.keys() == OPERATORS.keys() and max(found.values()) <= plugin.tolerance, found
