"""A network that does next to nothing: the mean of the image, less one for each class before. It has no parameters.

What it takes on a runtime is what every network takes there before its first convolution: the call itself.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class NoOp(nn.Module):
    """(N, 3, H, W) -> (N, classes): the first class always, by a logit of 1, so that rounding changes no label.

    A layer for the classes, since runtimes that are made for networks do not all repeat a number for any size of batch.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.full((classes, 3), 1 / 3), persistent=False)
        self.register_buffer("bias", -torch.arange(float(classes)), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return functional.linear(functional.adaptive_avg_pool2d(images, 1).flatten(1), self.weight, self.bias)


def no_op(classes: int) -> nn.Module:
    return NoOp(classes)
