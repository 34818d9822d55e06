"""Weights to begin with."""

from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def he_normal(network: M) -> M:
    """He et al. 2015b, equation 10, over what each convolution receives; batch norm starts as the identity.

    Not PyTorch's `fan_out`, which counts a depthwise convolution's other channels too: its activations become so small
    that batch norm's running variance, which begins at 1, is still wrong after 60 steps (mobilenet on the digits, five
    epochs: training loss 0.11, test accuracy 10 %).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="linear")
            nn.init.zeros_(module.bias)
    return network
