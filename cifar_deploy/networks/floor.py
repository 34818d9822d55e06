"""A network that does next to nothing: the mean of the image, once for each class. It has no parameters.

What it takes on a runtime is what every network takes there before its first multiply: the call itself.
"""

import torch
from torch import Tensor, nn


class Floor(nn.Module):
    """(N, 3, H, W) -> (N, classes), all of a row the same."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, images: Tensor) -> Tensor:
        return torch.mean(images, dim=(1, 2, 3)).unsqueeze(1).expand(-1, self.classes).contiguous()


def floor(classes: int) -> nn.Module:
    return Floor(classes)
