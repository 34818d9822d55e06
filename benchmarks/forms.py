"""Forms of MobileNet that docs/results.md compares by the report's recipe, a quarter as wide, each a network for `train`:

PYTHONPATH=benchmarks cifar-deploy train forms:third --recipe original --epochs 3 --dataset image_folder --data-dir PATH

`third`, `last` and so on are MobileNet V1 without those halvings. `second_version` is MobileNet V2 of total stride 8.
"""

from torch import nn
from torchvision.models.mobilenetv2 import MobileNetV2

from cifar_deploy.networks.mobilenet import mobilenet

WIDTH = 0.25

# (expansion, channels, blocks, stride) of each stage at width 1.0 (Sandler et al. 2018, table 2). There the second stage has
# stride 2, and so has the stem.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def none(classes: int) -> nn.Module:
    return mobilenet(classes, WIDTH)


def first(classes: int) -> nn.Module:
    return mobilenet(classes, WIDTH, left_out=(1,))


def third(classes: int) -> nn.Module:
    return mobilenet(classes, WIDTH, left_out=(3,))


def last(classes: int) -> nn.Module:
    return mobilenet(classes, WIDTH, left_out=(4,))


def third_and_last(classes: int) -> nn.Module:
    return mobilenet(classes, WIDTH, left_out=(3, 4))


def second_version(classes: int) -> nn.Module:
    network = MobileNetV2(
        num_classes=classes, width_mult=WIDTH, inverted_residual_setting=[list(stage) for stage in STAGES], dropout=0.0
    )
    stem = network.features[0][0]
    assert isinstance(stem, nn.Conv2d)
    stem.stride = (1, 1)
    return network
