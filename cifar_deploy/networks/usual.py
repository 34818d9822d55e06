"""How the maker of pretrained weights prepares images: torchvision's weights entries, and timm's configurations.

Nothing is downloaded: both libraries state it in their code.
"""

from dataclasses import dataclass
from typing import Any, get_args

from cifar_deploy.core.errors import Unavailable, UnknownName, UsageError
from cifar_deploy.core.records import Interpolation, Normalisation, Preprocessing
from cifar_deploy.core.registry import missing


@dataclass(frozen=True, kw_only=True)
class Usual:
    preprocessing: Preprocessing
    normalisation: Normalisation


def usual(given: str) -> Usual:
    """Of `torchvision:ResNet18_Weights.IMAGENET1K_V1` or `timm:mobilenetv4_conv_small.e2400_r224_in1k`.

    Raises UnknownName for another one, Unavailable if timm is not installed.
    """
    library, _, name = given.partition(":")
    if library == "torchvision" and name:
        return _of_torchvision(name)
    if library == "timm" and name:
        return _of_timm(name)
    raise UsageError(
        f"--preprocess: {given} is none; give torchvision:ResNet18_Weights.IMAGENET1K_V1 or timm:NAME, as their libraries "
        "name them"
    )


def _of_torchvision(name: str) -> Usual:
    from torchvision import models

    try:
        transform: Any = models.get_weight(name).transforms()
    except (ValueError, KeyError, AttributeError, RuntimeError):
        known = [str(entry) for model in models.list_models(module=models) for entry in models.get_model_weights(model)]
        raise UnknownName.among("entry of weights in torchvision", name, known) from None
    return Usual(
        preprocessing=Preprocessing(
            resize=_pair(transform.resize_size),
            crop=_square(transform.crop_size),
            interpolation=transform.interpolation.value,
        ),
        normalisation=Normalisation(mean=tuple(transform.mean), std=tuple(transform.std)),
    )


def _of_timm(name: str) -> Usual:
    if lacking := missing(["timm"]):
        raise Unavailable(f"--preprocess: {name} needs {lacking[0]}; run `pip install timm`")
    import timm

    config: Any = timm.get_pretrained_cfg(name)
    if config is None:
        raise UnknownName.among("network in timm", name, timm.list_pretrained())
    _, height, width = config.input_size
    crop = config.crop_pct or 1.0
    if config.crop_mode not in (None, "center", "squash") or config.interpolation not in get_args(Interpolation):
        raise UsageError(
            f"--preprocess: {name} is prepared by crop mode {config.crop_mode} and {config.interpolation}; give --resize, "
            "--crop, --interpolation, --mean and --std"
        )
    sizes = (int(height / crop), int(width / crop))
    resize = sizes[:1] if config.crop_mode != "squash" and sizes[0] == sizes[1] else sizes
    return Usual(
        preprocessing=Preprocessing(resize=resize, crop=(height, width), interpolation=config.interpolation),
        normalisation=Normalisation(mean=tuple(config.mean), std=tuple(config.std)),
    )


def _pair(size: Any) -> tuple[int, ...]:
    return tuple(size) if isinstance(size, (list, tuple)) else (size,)


def _square(size: Any) -> tuple[int, ...]:
    one = _pair(size)
    return one if len(one) == 2 else (one[0], one[0])
