"""Networks as users write them ("tests.own_networks:name"): those that work, and those that cannot be trusted."""

import itertools
import os
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

_calls = itertools.count()


class Of(nn.Module):
    """`forward(self, images)` as a network, with what else it holds."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], **held: Any) -> None:
        super().__init__()
        self._forward_of = forward
        for name, value in held.items():
            setattr(self, name, value)

    def forward(self, images: Tensor) -> Any:
        return self._forward_of(self, images)


def _small(images: Tensor) -> Tensor:
    return functional.adaptive_avg_pool2d(images, 4).flatten(1)


def _head(classes: int, inputs: int = 48) -> nn.Linear:
    return nn.Linear(inputs, classes)


# What works


def colours() -> nn.Module:
    """A trained network: it has its weights, and knows its ten classes itself."""
    network = Of(lambda self, images: self.head(images.mean((2, 3))), head=nn.Linear(3, 10))
    with torch.no_grad():
        network.head.weight.copy_(torch.arange(30.0).view(10, 3) / 30)  # type: ignore[union-attr, operator]
    return network


def tied(classes: int) -> nn.Module:
    """Two layers share one weight, which is in the state under two names."""
    first, second = nn.Linear(48, 48, bias=False), nn.Linear(48, 48, bias=False)
    second.weight = first.weight
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), first, nn.ReLU(), second, _head(classes))


def partly_dead(classes: int) -> nn.Module:
    """Three channels of its first layer and two of its second are zero for every image, and get no gradient."""
    network = Of(
        lambda self, images: self.head(self.last(functional.relu(self.first(images)).mean((2, 3)))),
        first=nn.Conv2d(3, 8, 1),
        last=nn.Sequential(nn.Linear(8, 6), nn.ReLU()),
        head=_head(classes, 6),
    )
    layers: tuple[Any, ...] = (network.first, network.last[0])  # type: ignore[index]
    with torch.no_grad():
        for layer, dead in zip(layers, (3, 2), strict=True):
            layer.weight.fill_(0.1)
            layer.bias.fill_(1)
            layer.bias[:dead] = -100
    return network


def views(classes: int) -> nn.Module:
    """Two buffers lie in one storage."""
    both = torch.arange(96.0) / 96
    network = Of(lambda self, images: self.head(_small(images) * self.scale + self.shift), head=_head(classes))
    network.register_buffer("scale", both[:48])
    network.register_buffer("shift", both[48:])
    return network


def flattened_by_view(classes: int) -> nn.Module:
    """As PyTorch's own tutorial flattens; in channels last, it cannot."""
    return Of(
        lambda self, images: self.head(self.pool(self.conv(images)).view(images.size(0), -1)),
        conv=nn.Conv2d(3, 4, 3, padding=1),
        pool=nn.AdaptiveAvgPool2d(4),
        head=_head(classes, 64),
    )


def viewed_backward(classes: int) -> nn.Module:
    """Only its backward sees the layout."""

    class Double(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, value: Tensor) -> Tensor:
            return value * 2

        @staticmethod
        def backward(context: Any, *gradients: Tensor) -> Tensor:
            return gradients[0].view(len(gradients[0]), -1).mul(2).view(gradients[0].shape)

    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        Of(lambda self, images: Double.apply(images)),  # type: ignore[no-untyped-call]
        nn.Conv2d(4, 4, 3),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        _head(classes, 64),
    )


def by_strides(classes: int) -> nn.Module:
    """Reads memory in its own order: channels last it answers something else, without an error."""
    return Of(
        lambda self, images: self.head(
            functional.adaptive_avg_pool2d(self.conv(images), 4).as_strided((len(images), 64), (64, 1))
        ),
        conv=nn.Conv2d(3, 4, 3),
        head=_head(classes, 64),
    )


def in_three_dimensions(classes: int) -> nn.Module:
    return Of(
        lambda self, images: self.head(_small(self.conv(images[:, None]).flatten(1, 2))),
        conv=nn.Conv3d(1, 4, 3, padding=1),
        head=_head(classes, 192),
    )


def placed(classes: int) -> nn.Module:
    """Has a place embedding of four dimensions, which it flattens."""
    return Of(
        lambda self, images: self.head(_small(images) + self.places.view(1, -1)),
        places=nn.Parameter(torch.randn(1, 3, 4, 4)),
        head=_head(classes),
    )


def remembers_its_first_call(classes: int) -> nn.Module:
    """Makes a code of the places when it first needs one, and keeps it."""

    def forward(self: Any, images: Tensor) -> Tensor:
        if self.code is None or self.code.shape[2:] != images.shape[2:]:
            self.code = torch.linspace(0, 1, images.shape[3], device=images.device).expand(1, 1, *images.shape[2:])
        return self.head(_small(self.conv(torch.cat([images, self.code * self.gain + 0 * images[:, :1]], 1))))  # type: ignore[no-any-return]

    return Of(forward, code=None, gain=nn.Parameter(torch.ones(())), conv=nn.Conv2d(4, 3, 1), head=_head(classes))


def lazy(classes: int) -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(classes))


def fixed_constants(classes: int) -> nn.Module:
    """Holds what its state lacks, the same in each build."""
    network = Of(
        lambda self, images: self.head(_small(images) @ self.turn + self.shift),
        shift=torch.linspace(0, 1, 48),
        head=_head(classes),
    )
    network.register_buffer("turn", torch.eye(48).flip(0), persistent=False)
    return network


_CONSTANT = torch.linspace(0.5, 1, 48)


def of_a_constant(classes: int) -> nn.Module:
    """All builds have one buffer in common, which nobody changes."""
    network = Of(lambda self, images: self.head(_small(images) * self.constant), head=_head(classes))
    network.register_buffer("constant", _CONSTANT)
    return network


def recurrent(classes: int) -> nn.Module:
    """Reads an image row by row: an LSTM of 32 units over 32 steps of 96 numbers."""
    return Of(
        lambda self, images: self.head(self.rnn(images.permute(0, 2, 1, 3).flatten(2))[0][:, -1]),
        rnn=nn.LSTM(96, 32, batch_first=True),
        head=_head(classes, 32),
    )


def attentive(classes: int) -> nn.Module:
    """An encoder layer over 16 places of 3 numbers."""
    return Of(
        lambda self, images: self.head(self.layer(functional.adaptive_avg_pool2d(images, 4).flatten(2).mT).flatten(1)),
        layer=nn.TransformerEncoderLayer(3, 1, 8, batch_first=True),
        head=_head(classes),
    )


def bilinear(classes: int) -> nn.Module:
    """Multiplies in a way that nobody counts."""
    return Of(lambda self, images: self.layer(_small(images), _small(images)), layer=nn.Bilinear(48, 48, classes))


def unused(classes: int) -> nn.Module:
    """Has a layer that no image goes through."""
    return Of(lambda self, images: self.head(_small(images)), head=_head(classes), other=_head(classes))


def partly_frozen(classes: int) -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(4), nn.Flatten(), _head(classes, 64))
    network[0].requires_grad_(False)
    return network


# What the trained network is not, once it is built again


def random_buffer(classes: int) -> nn.Module:
    network = Of(lambda self, images: self.head(_small(images) @ self.projection), head=_head(classes))
    network.register_buffer("projection", torch.randn(48, 48), persistent=False)
    return network


def random_attribute(classes: int) -> nn.Module:
    return Of(
        lambda self, images: self.head(_small(images) @ self.projection),
        projection=torch.randn(48, 48),
        head=_head(classes),
    )


def random_list(classes: int) -> nn.Module:
    return Of(
        lambda self, images: self.head(_small(images) @ self.projections[1]),
        projections=[torch.eye(48), torch.randn(48, 48)],
        head=_head(classes),
    )


def random_array(classes: int) -> nn.Module:
    return Of(
        lambda self, images: self.head(_small(images)[:, self.order]),
        order=np.random.permutation(48),
        head=_head(classes),
    )


def random_number(classes: int) -> nn.Module:
    return Of(
        lambda self, images: self.head((_small(images) * self.frequency).sin()),
        frequency=random.uniform(1, 20),
        head=_head(classes),
    )


def random_closure(classes: int) -> nn.Module:
    projection = torch.randn(48, 48)
    return Of(lambda self, images: self.head(_small(images) @ projection), head=_head(classes))


def random_behind_zero(classes: int) -> nn.Module:
    """Its random part does nothing until it has been trained for a while."""
    return Of(
        lambda self, images: self.head(_small(images) + self.gate * (_small(images) @ self.projection)),
        gate=nn.Parameter(torch.zeros(48)),
        projection=torch.randn(48, 48),
        head=_head(classes),
    )


def random_in_its_first_call(classes: int) -> nn.Module:
    def forward(self: Any, images: Tensor) -> Tensor:
        if self.projection is None:
            self.projection = torch.randn(48, 48)
        return self.head(_small(images) @ self.projection)  # type: ignore[no-any-return]

    return Of(forward, projection=None, head=_head(classes))


def counted_calls(classes: int) -> nn.Module:
    return Of(
        lambda self, images: self.head((_small(images) * self.frequency).sin()),
        frequency=float(1 + next(_calls)),
        head=_head(classes),
    )


def learns_beside_its_state(classes: int) -> nn.Module:
    """Its running mean is an attribute."""

    def forward(self: Any, images: Tensor) -> Tensor:
        inputs = _small(images)
        if self.training:
            self.mean = self.mean + 5 * inputs.detach().mean(0)
        return self.head(inputs - self.mean)  # type: ignore[no-any-return]

    return Of(forward, mean=torch.zeros(48), head=_head(classes))


def of_the_environment(classes: int) -> nn.Module:
    factor = float(os.environ["OWN_NETWORK"])
    return Of(lambda self, images: self.head((_small(images) * factor).sin()), head=_head(classes))


# What cannot be saved or loaded


class _WithExtraState(nn.Linear):
    def get_extra_state(self) -> dict[str, int]:
        return {"calls": 3}

    def set_extra_state(self, state: Any) -> None:
        pass


def extra_state(classes: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), _WithExtraState(48, classes))


def of_complex_numbers(classes: int) -> nn.Module:
    """A buffer of a type that safetensors does not know."""
    network = Of(lambda self, images: self.head(_small(images) * self.scale.abs().float()), head=_head(classes))
    network.register_buffer("scale", torch.ones(48, dtype=torch.complex128))
    return network


def expanded(classes: int) -> nn.Module:
    """A buffer of one number in many places: nothing can be loaded into it."""
    network = Of(lambda self, images: self.head(_small(images) * self.scale), head=_head(classes))
    network.register_buffer("scale", torch.ones(1).expand(48))
    return network


def made_in_its_first_call(classes: int) -> nn.Module:
    def forward(self: Any, images: Tensor) -> Tensor:
        if self.head is None:
            self.head = _head(classes)
        return self.head(self.first(_small(images)))  # type: ignore[no-any-return]

    return Of(forward, head=None, first=nn.Linear(48, 48))


_only = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 10))


def the_same_again(classes: int) -> nn.Module:
    return _only


# What cannot be trained


def helped(classes: int) -> nn.Module:
    return Of(lambda self, images: (self.head(_small(images)),) * (2 if self.training else 1), head=_head(classes))


def two_heads(classes: int) -> nn.Module:
    return Of(
        lambda self, images: (
            (self.head(_small(images)), self.other(_small(images))) if self.training else self.head(_small(images))
        ),
        head=_head(classes),
        other=_head(classes),
    )


def named_heads(classes: int) -> nn.Module:
    return Of(
        lambda self, images: {"out": self.head(_small(images))} if self.training else self.head(_small(images)),
        head=_head(classes),
    )


def doubles_the_batch(classes: int) -> nn.Module:
    return Of(
        lambda self, images: self.head(_small(torch.cat([images, images.flip(3)]) if self.training else images)),
        head=_head(classes),
    )


def nothing_to_train(classes: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softmax(1), nn.ConstantPad1d((0, classes - 3), 0.0))


def frozen(classes: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), _head(classes)).requires_grad_(False)


def detached(classes: int) -> nn.Module:
    return Of(lambda self, images: self.head(_small(images)).detach(), head=_head(classes))


def not_a_number(classes: int) -> nn.Module:
    return Of(lambda self, images: self.head(_small(images) - 9).log(), head=_head(classes))


def float64(classes: int) -> nn.Module:
    return Of(lambda self, images: self.head(_small(images).double()), head=_head(classes).double())


def labels(classes: int) -> nn.Module:
    return Of(
        lambda self, images: functional.one_hot(self.head(_small(images)).argmax(1), classes), head=_head(classes)
    )


def one_image_less_dimension(classes: int) -> nn.Module:
    return Of(lambda self, images: self.head(_small(images)).squeeze(), head=_head(classes))


def keeps_its_graph(classes: int) -> nn.Module:
    """Adds to a state from call to call: the second step goes back through the first."""

    def forward(self: Any, images: Tensor) -> Tensor:
        out = self.head(_small(images))
        if self.training:
            self.state = self.state + out.mean()
        return out + self.state  # type: ignore[no-any-return]

    return Of(forward, state=0.0, head=_head(classes))


# What answers otherwise from call to call


def recomputes(classes: int) -> nn.Module:
    """Recomputes its depthwise convolution in the backward pass, where it runs in bfloat16 instead of float32."""
    return Of(
        lambda self, images: self.head(_small(checkpoint(self.depthwise, images, use_reentrant=False))),
        depthwise=nn.Conv2d(3, 3, 3, groups=3),
        head=_head(classes),
    )


def noisy(classes: int) -> nn.Module:
    return Of(lambda self, images: self.head(_small(images) + torch.randn(48)), head=_head(classes))


def slightly_noisy(classes: int) -> nn.Module:
    return Of(lambda self, images: self.head(_small(images)) + 1e-2 * torch.randn(1), head=_head(classes))


def barely_noisy(classes: int) -> nn.Module:
    """By less than two machines may differ, and by more than an export may."""
    return Of(lambda self, images: self.head(_small(images)) + 1e-3 * torch.randn(classes), head=_head(classes))


def always_drops(classes: int) -> nn.Module:
    return Of(lambda self, images: self.head(functional.dropout(_small(images))), head=_head(classes))


def noisy_by_numpy(classes: int) -> nn.Module:
    return Of(lambda self, images: self.head(_small(images) + float(np.random.rand())), head=_head(classes))


def of_its_batch(classes: int) -> nn.Module:
    return nn.Sequential(
        nn.BatchNorm2d(3, track_running_stats=False), nn.AdaptiveAvgPool2d(4), nn.Flatten(), _head(classes)
    )
