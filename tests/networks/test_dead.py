import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.module import (
    _global_forward_hooks,
    _global_forward_hooks_always_called,
    _global_forward_pre_hooks,
)

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
    assert [str(each) for each in found] == ["relu after 0.first (1 of 4)", "relu after 0.second (2 of 5)"]
    found = dead_channels(nn.Sequential(nn.Identity(), network), _batches(), network)
    assert [each.layer for each in found] == ["relu after first", "relu after second"]


class _Shared(nn.Module):
    """A ReLU for two layers, and a layer with the channels in the last of four dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.second = nn.Linear(4, 6)
        self.act = nn.ReLU()
        self.own = nn.Sequential(nn.Linear(6, 5), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        found = self.act(self.norm(self.first(images))).permute(0, 2, 3, 1)
        logits: Tensor = self.own(self.act(self.second(found)))
        return logits.mean((1, 2))


def test_each_use_of_a_shared_relu_is_named_by_what_comes_before_it() -> None:
    network = _Shared()
    with torch.no_grad():
        for layer, dead in ((network.norm, [3]), (network.second, [1, 4, 5]), (network.own[0], [0])):
            assert isinstance(layer, nn.BatchNorm2d | nn.Linear)
            layer.weight.fill_(0.01)
            layer.bias.fill_(50)
            layer.bias[dead] = -1000
    found = [str(each) for each in dead_channels(network, _batches())]
    assert found == ["relu after norm (1 of 4)", "relu after second (3 of 6)", "own.1 (1 of 5)"]


def test_nothing_of_it_stays_whatever_the_network_raises() -> None:
    with pytest.raises(RuntimeError):
        dead_channels(_Shared(), [torch.rand(2, 5, 8, 8)])
    assert not (_global_forward_hooks or _global_forward_pre_hooks or _global_forward_hooks_always_called)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_a_part_that_is_compiled_is_a_layer_as_any() -> None:
    network = nn.Sequential(torch.jit.script(_negative(nn.ReLU())), nn.Conv2d(2, 2, 1), nn.ReLU())
    with torch.no_grad():
        network[1].bias.copy_(torch.tensor([9.0, -9.0]))
    assert [each.dead for each in dead_channels(network, _batches())] == [1, 1]


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
