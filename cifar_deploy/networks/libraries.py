"""Networks of other libraries, by the libraries' own names: `torchvision:resnet18`, `timm:mobilenetv4_conv_small`.

A name is looked up in the library's list of classifiers, and nowhere else: no other function of the library is called,
and no name makes it download or read a file. So a record may name one without being trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from cifar_deploy.core.errors import UnknownName
from cifar_deploy.core.registry import Requirements, need
from cifar_deploy.networks.answers import refusing

if TYPE_CHECKING:
    from torch import nn


def build(network: str, classes: int, height: int, width: int) -> nn.Module:
    """The network "library:NAME" for images of this size, with fresh weights.

    Raises Unavailable if the library is missing, UnknownName with the nearest name if its list lacks this one, and
    UsageError if the library does not build it for such images.
    """
    find(network)
    library, _, name = network.partition(":")
    return _BUILDERS[library](network, name, classes, height, width)


def find(network: str) -> None:
    """Raises Unavailable if the library is missing, and UnknownName if its list lacks this network."""
    library, _, name = network.partition(":")
    need("network", network, Requirements(requires=(library,)))
    _check(network, name, _LISTS[library]())


def _of_torchvision() -> Collection[str]:
    import torchvision

    # Of this module alone: its whole list has detectors and segmentations too.
    listed: list[str] = torchvision.models.list_models(module=torchvision.models)
    return listed


def _of_timm() -> Collection[str]:
    """What timm itself may see: it would follow hf-hub:... to a host, and local-dir:... to a file."""
    import timm

    # A name with a tag (resnet18.a1_in1k) is that of weights, whose network it is.
    return {*timm.list_models(), *timm.list_pretrained()}


_LISTS: Mapping[str, Callable[[], Collection[str]]] = {"torchvision": _of_torchvision, "timm": _of_timm}


def _torchvision(network: str, name: str, classes: int, height: int, width: int) -> nn.Module:
    import torchvision

    size: dict[str, Any] = {}
    if name.startswith("vit_"):
        size = {"image_size": height}
    elif name.startswith("maxvit_"):
        size = {"input_size": (height, width)}
    with _refusing(network, height, width):
        body: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes, **size)
    return body


def _timm(network: str, name: str, classes: int, height: int, width: int) -> nn.Module:
    import timm

    configuration = timm.get_pretrained_cfg(name)
    size: dict[str, Any] = {}
    if configuration and configuration.fixed_input_size and configuration.input_size[1:] != (height, width):
        size = {"img_size": (height, width)}
    with _refusing(network, height, width):
        body: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes, **size)
    return body


_BUILDERS: Mapping[str, Callable[[str, str, int, int, int], nn.Module]] = {"torchvision": _torchvision, "timm": _timm}


def _check(network: str, name: str, known: Collection[str]) -> None:
    """Raises UnknownName unless `name` is known. A library has too many networks to name them all."""
    if name in known:
        return
    library = network.partition(":")[0]
    near = [f"{library}:{one}" for one in get_close_matches(name, known)]
    hint = (
        f"did you mean {' or '.join(near)}?"
        if near
        else f"{library} lists {len(known):,} classifiers, and not this one"
    )
    raise UnknownName(f"{network}: no network of {library} has this name; {hint}")


def _refusing(network: str, height: int, width: int) -> AbstractContextManager[None]:
    return refusing(network, f"cannot be built for images of {width}×{height}")
