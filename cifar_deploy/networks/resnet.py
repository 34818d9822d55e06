"""Residual networks for small images, of basic blocks (He et al. 2015).

`resnet18` is the ImageNet network with a 3x3 stride-1 stem and no max-pool, as is usual for CIFAR. `resnet20` is that of
section 4.2, `resnet8` its smallest kin and MLPerf Tiny's size. Where a block changes shape its shortcut is a 1x1
convolution (the paper's option B), so that every runtime sees plain convolutions and nothing else; this adds 2,752
parameters to the paper's ResNet-20.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from cifar_deploy.networks import Network


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the shortcut around them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                nn.BatchNorm2d(outputs),
            )
        self.relu = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.relu(self.body(images) + self.shortcut(images))
        return out


def resnet(classes: int, widths: Sequence[int], blocks: int) -> nn.Module:
    """A stage of `blocks` blocks for each width; every stage but the first halves the image."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, widths[0], 3, padding=1, bias=False),
        nn.BatchNorm2d(widths[0]),
        nn.ReLU(),
    ]
    inputs = widths[0]
    for stage, outputs in enumerate(widths):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(BasicBlock(inputs, outputs, stride))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


RESNET18 = Network(
    summary="ResNet-18 with a 3x3 stem and no max-pool: 11.17 M parameters",
    build=lambda classes: resnet(classes, widths=(64, 128, 256, 512), blocks=2),
)
RESNET20 = Network(
    summary="ResNet-20 (He et al. 2015, section 4.2): 0.27 M parameters",
    build=lambda classes: resnet(classes, widths=(16, 32, 64), blocks=3),
)
RESNET8 = Network(
    summary="ResNet-8, the size of MLPerf Tiny's: 0.08 M parameters",
    build=lambda classes: resnet(classes, widths=(16, 32, 64), blocks=1),
)
