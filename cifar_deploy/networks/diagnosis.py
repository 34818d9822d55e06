"""Why a network that was trained elsewhere may answer wrongly: its images or its classes are read otherwise than it expects.

A few test images are asked again with the channels swapped, with the usual normalisations and with the classes in another
order. Only what does much better, and not by chance, is told.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cifar_deploy.core.arrays import Labels, Pixels, choose
from cifar_deploy.core.errors import few
from cifar_deploy.core.progress import report
from cifar_deploy.core.records import Channels, Data, Normalisation
from cifar_deploy.core.statistics import mcnemar
from cifar_deploy.networks.answers import logits_of_pixels
from cifar_deploy.networks.complete import Normalise

# That are looked at; each reading is tried on the first ones alone, and goes on only if it does better there.
IMAGES = 256
_FIRST = 64

# By how much another reading must do better, and how unlikely that must be by chance.
_MUCH = 0.1
_UNLIKELY = 1e-3
_NEARLY = 0.02

# Mean and std of pixels in [0, 1] that networks are commonly trained with.
_USUAL: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = (
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # ImageNet's
    ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),  # to [-1, 1]
    ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),  # pixels in [0, 1]
    ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),  # pixels in 0..255
)


def doubts(
    complete: nn.Sequential, data: Data, normalisation: Normalisation | None, pixels: Pixels, labels: Labels
) -> tuple[str, ...]:
    """Other readings with which the network answers much better, each in a sentence that names the options.

    Args:
        complete: As complete.build makes it, with its weights.
        data: Whose images these are.
        normalisation: That the network has now; None: that of `data`.
        pixels: Its test images, of which a few are looked at.
        labels: Theirs.
    """
    chosen = np.random.default_rng(0).permutation(choose(len(labels), IMAGES))
    images, truth = pixels[chosen], labels[chosen]
    predicted = _predicted(complete, images)
    right = predicted == truth
    if right.mean() > 1 - _MUCH:
        return ()
    told: list[tuple[float, str]] = []
    others = _others(normalisation, data)
    for done, (options, other) in enumerate(others):
        report(done, len(others), "trying other normalisations")
        network = nn.Sequential(Normalise(other.mean, other.std, other.channels), complete[1])
        early = _predicted(network, images[:_FIRST]) == truth[:_FIRST]
        if early.mean() < right[:_FIRST].mean() + _MUCH / 2:
            continue
        found = _predicted(network, images) == truth
        if _is_much_better(found, right):
            told.append((float(found.mean()), f"with {options} {_share(found)} are right, without {_share(right)}"))
    highest = max((share for share, _ in told), default=0.0)
    # Of those that do nearly as well, the one that changes the least.
    best = [text for share, text in told if share >= highest - _NEARLY][:1]
    if order := _other_order(predicted, truth, data.classes):
        best.append(order)
    return tuple(f"of {len(truth)} test images {text}" for text in best)


def _share(right: NDArray[np.bool_]) -> str:
    return f"{right.mean():.1%}"


def _others(normalisation: Normalisation | None, data: Data) -> list[tuple[str, Normalisation]]:
    """Every other reading of the pixels, by the options that ask for it."""
    own = data.normalisation
    now = normalisation or own
    swapped: Channels = "rgb" if now.channels == "bgr" else "bgr"
    # Without --mean and --std they are of the images, channel by channel.
    turn = 1 if normalisation else -1
    found = [(f"--channels {swapped}", Normalisation(mean=now.mean[::turn], std=now.std[::turn], channels=swapped))]
    for mean, std in dict.fromkeys([*_USUAL, (own.mean, own.std)]):
        if (mean, std) != (now.mean, now.std):
            options = f"--mean {_numbers(mean)} --std {_numbers(std)}"
            found.append((options, Normalisation(mean=mean, std=std, channels=now.channels)))
            found.append((f"{options} --channels {swapped}", Normalisation(mean=mean, std=std, channels=swapped)))
    return found


def _numbers(values: Sequence[float]) -> str:
    return ",".join(f"{value:.4g}" for value in values)


def _predicted(network: nn.Module, pixels: Pixels) -> NDArray[np.int64]:
    found: NDArray[np.int64] = logits_of_pixels(network, pixels).argmax(axis=1)
    return found


def _is_much_better(found: NDArray[np.bool_], right: NDArray[np.bool_]) -> bool:
    gained, lost = int((found & ~right).sum()), int((right & ~found).sum())
    return gained - lost >= _MUCH * len(right) and mcnemar(gained, lost) < _UNLIKELY


def _other_order(predicted: NDArray[np.int64], truth: Labels, classes: tuple[str, ...]) -> str | None:
    """In words, an order of the outputs with which the network does much better.

    First the order by number, as that of 1, 2, 10, where names hold some. Then whichever fits half of the images best,
    judged by the others: with few images for each class that finds nothing.
    """
    right = predicted == truth
    by_number = np.array(sorted(range(len(classes)), key=lambda index: _natural(classes[index])))
    if _is_much_better(found := by_number[predicted] == truth, right):
        names = ", ".join(classes[index] for index in by_number[:3])
        return (
            f"with the outputs in the order of numbers {_share(found)} are right, without {_share(right)}; give their names "
            f"in this order ({names}, …) by --classes"
        )
    from scipy.optimize import linear_sum_assignment

    half = len(truth) // 2
    counts = np.zeros((len(classes), len(classes)))
    np.add.at(counts, (predicted[:half], truth[:half]), 1)
    outputs, meant = linear_sum_assignment(-counts)
    order = np.empty(len(classes), np.int64)
    order[outputs] = meant
    if not _is_much_better(found := order[predicted[half:]] == truth[half:], right[half:]):
        return None
    moved = [f"{classes[index]} for {classes[order[index]]}" for index in range(len(classes)) if order[index] != index]
    return (
        f"with the outputs in another order {_share(found)} are right, without {_share(right[half:])}: it says "
        f"{few(moved)}; give the outputs' names in their order by --classes"
    )


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts 2 before 10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"([0-9]+)", name)]
