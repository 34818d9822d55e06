"""Image classifiers. A new network is one file here and one line below; anyone's own is named "module:function".

Those of torchvision and timm are named "torchvision:NAME" and "timm:NAME" (see networks.libraries).

This file imports no torch: whoever only checks a name need not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cifar_deploy.core.registry import Registry

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Network:
    """`build(classes)` makes the module: float32 (N, 3, H, W), normalised -> float32 logits (N, classes).

    Each call makes a new one, whose `state_dict` holds all that its logits depend on (see training.trial).
    """

    summary: str
    build: Callable[[int], nn.Module]


NETWORKS: Registry[Network] = Registry(
    "network",
    __name__,
    {
        "resnet18": "resnet:RESNET18",
        "resnet20": "resnet:RESNET20",
        "resnet8": "resnet:RESNET8",
        "mobilenet": "mobilenet:MOBILENET",
        "mobilenet-0.5": "mobilenet:MOBILENET_050",
        "mobilenet-0.25": "mobilenet:MOBILENET_025",
        "mobilenet-s8": "mobilenet:MOBILENET_S8",
        "mobilenet-s8-0.5": "mobilenet:MOBILENET_S8_050",
    },
    libraries=("torchvision", "timm"),
)

# What the original report compared.
DEFAULT_NETWORKS = ("resnet18", "mobilenet")
