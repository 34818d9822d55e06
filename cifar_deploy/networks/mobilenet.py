"""MobileNet V1 (Howard et al. 2017, table 1) for small images: depthwise, then pointwise convolutions.

The stem's stride is 1 instead of 2, so that a 32x32 image still is 2x2 at the end. In the networks of total stride 8 the
first block that halves the image keeps its size, too: the image is 4x4 at the end. Width multiplies every number of channels
(section 3.3).
"""

from collections.abc import Container

from torch import nn

from cifar_deploy.networks import Network

# (channels, stride) of each block at width 1.0.
_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


def mobilenet(classes: int, width: float, left_out: Container[int] = ()) -> nn.Module:
    """`left_out` are halvings, counted from 1: these blocks keep the image's size."""
    inputs, halvings = int(32 * width), 0
    layers = _convolution(3, inputs, 3)
    for channels, stride in _BLOCKS:
        outputs = int(channels * width)
        if stride == 2:
            halvings += 1
            stride = 1 if halvings in left_out else 2
        layers += _convolution(inputs, inputs, 3, stride, groups=inputs)
        layers += _convolution(inputs, outputs, 1)
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


MOBILENET = Network(
    summary="MobileNet V1, stride-1 stem: 3.22 M parameters",
    build=lambda classes: mobilenet(classes, width=1.0),
)
MOBILENET_050 = Network(
    summary="MobileNet V1 of half the width: 0.82 M parameters",
    build=lambda classes: mobilenet(classes, width=0.5),
)
MOBILENET_025 = Network(
    summary="MobileNet V1 of a quarter of the width: 0.22 M parameters",
    build=lambda classes: mobilenet(classes, width=0.25),
)
MOBILENET_S8 = Network(
    summary="MobileNet V1 of total stride 8: 3.22 M parameters, 3.8 times the MACs of mobilenet",
    build=lambda classes: mobilenet(classes, width=1.0, left_out=(1,)),
)
MOBILENET_S8_050 = Network(
    summary="MobileNet V1 of total stride 8 and half the width: 0.82 M parameters",
    build=lambda classes: mobilenet(classes, width=0.5, left_out=(1,)),
)
