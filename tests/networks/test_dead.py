import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cifar_deploy.core.records import DeadChannels
from cifar_deploy.networks.dead import dead_channels
from cifar_deploy.networks.mobilenet import mobilenet


class _Functional(nn.Module):
    """A ReLU that is no module, twice, and one behind features and tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.second = nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        found = functional.relu(self.first(images))
        tokens = functional.relu6(self.second(found.flatten(2).transpose(1, 2)))
        return tokens.mean(1)


def _batches() -> list[Tensor]:
    return list(torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(0)).split(10))


def test_channels_that_are_zero_for_each_image_are_counted_by_layer() -> None:
    network = mobilenet(10, 0.25)
    assert isinstance(network, nn.Sequential)
    norms = {index: layer for index, layer in enumerate(network) if isinstance(layer, nn.BatchNorm2d)}
    with torch.no_grad():
        for norm in norms.values():
            norm.weight.fill_(0.01)
            norm.bias.fill_(1)
        norms[1].bias[:2] = -100
        norms[10].bias[5] = -100
    assert dead_channels(network, _batches()) == (
        DeadChannels(layer="2", dead=2, channels=8),
        DeadChannels(layer="11", dead=1, channels=16),
    )


def test_a_channel_that_answers_to_one_image_lives() -> None:
    network, images = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(inplace=True)), torch.zeros(20, 3, 4, 4)
    with torch.no_grad():
        network[0].weight.fill_(1)
        network[0].bias.copy_(torch.tensor([-1.0, -4.0]))
    images[17, :, 2, 2] = 1
    assert [str(each) for each in dead_channels(network, images.split(8))] == ["1 (1 of 2)"]


def test_a_relu_that_is_no_module_is_seen_with_features_and_with_tokens() -> None:
    network = _Functional()
    with torch.no_grad():
        network.first.bias.fill_(5)
        network.second.bias.fill_(50)
        network.first.bias[0] = network.second.bias[2] = network.second.bias[4] = -100
    found = dead_channels(nn.Sequential(network), _batches())
    assert [(each.layer, each.dead, each.channels) for each in found] == [("0", 1, 4), ("0", 2, 5)]


def _negative(activation: nn.Module) -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), activation)
    with torch.no_grad():
        network[0].weight.fill_(0.01)
        network[0].bias.copy_(torch.tensor([-0.5, 0.5]))
    return network


class _Clamp(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.clamp(min=0)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(), nn.Threshold(0, 0), _Clamp()])
def test_activations_that_end_at_zero_have_dead_channels(activation: nn.Module) -> None:
    expected = [] if isinstance(activation, nn.Threshold) else [1]  # which is no ReLU by name
    assert [each.dead for each in dead_channels(_negative(activation), _batches())] == expected


@pytest.mark.parametrize("network", [_negative(nn.Hardtanh()), _negative(nn.Hardswish()), _negative(nn.GELU())])
def test_a_channel_that_is_negative_lives(network: nn.Module) -> None:
    assert dead_channels(network, _batches()) == ()


@pytest.mark.parametrize("network", [nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), nn.Conv2d(3, 4, 1)])
def test_a_network_without_a_relu_has_none(network: nn.Module) -> None:
    assert dead_channels(network, _batches()) == ()
