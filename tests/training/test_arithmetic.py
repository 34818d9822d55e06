from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from cifar_deploy.networks.mobilenet import mobilenet
from cifar_deploy.networks.resnet import RESNET8
from cifar_deploy.training.arithmetic import computing_in


class _Seen(TorchFunctionMode):
    """Records whether each convolution is depthwise, and the type of its output."""

    def __init__(self) -> None:
        super().__init__()
        self.types: set[tuple[bool, torch.dtype]] = set()

    def __torch_function__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        if function is torch.conv2d:
            self.types.add((args[1].shape[1] == 1, found.dtype))
        return found


class _Functional(nn.Module):
    """A depthwise convolution that is no module, with its arguments by name."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(6, 1, 3, 3))
        self.first = nn.Conv2d(3, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        return functional.conv2d(self.first(images), weight=self.weight, groups=3).flatten(1)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (lambda: mobilenet(10, 0.25), {(True, torch.float32), (False, torch.bfloat16)}),
        (lambda: nn.Conv2d(4, 8, 3, groups=2), {(False, torch.bfloat16)}),
        (lambda: nn.Conv2d(1, 8, 3), {(True, torch.bfloat16)}),  # of one channel, which is no group
    ],
)
def test_depthwise_convolutions_alone_stay_float32(
    network: Callable[[], nn.Module], expected: set[tuple[bool, torch.dtype]]
) -> None:
    built = network()
    channels = next(module.in_channels for module in built.modules() if isinstance(module, nn.Conv2d))
    with _Seen() as seen, computing_in("bfloat16", "cpu"):
        built(torch.rand(2, channels, 16, 16))
    assert seen.types == expected


def test_they_do_in_a_convolution_that_is_no_module() -> None:
    with computing_in("bfloat16", "cpu"):
        assert _Functional()(torch.rand(2, 3, 8, 8)).dtype == torch.float32


def _of_two_blocks() -> nn.Module:
    """The beginning of a MobileNet; the whole one blows up what rounding does to so few images."""
    whole = mobilenet(10, 0.25)
    assert isinstance(whole, nn.Sequential)
    return nn.Sequential(*whole[:15], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


@pytest.mark.parametrize("build", [_of_two_blocks, lambda: RESNET8.build(10)])
def test_gradients_are_near_those_of_float32(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    network, images = build(), torch.rand(8, 3, 32, 32)
    gradients = {}
    for arithmetic in ("float32", "bfloat16"):
        network.zero_grad()
        with computing_in(arithmetic, "cpu"):  # type: ignore[arg-type]
            logits = network(images)
        functional.cross_entropy(logits.float(), torch.arange(8)).backward()
        found = [weight.grad for weight in network.parameters()]
        gradients[arithmetic] = torch.cat([each.flatten() for each in found if each is not None])
        assert len(found) == len([each for each in found if each is not None])
        assert gradients[arithmetic].dtype == torch.float32
    likeness = functional.cosine_similarity(gradients["float32"], gradients["bfloat16"], dim=0)
    assert 0.98 < likeness < 1 - 1e-9
