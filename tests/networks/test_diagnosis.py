"""What would explain wrong answers is found where it does, and nothing is told where it does not."""

import numpy as np
import pytest
import torch
from torch import nn

from cifar_deploy.core.records import Data, Normalisation
from cifar_deploy.networks.complete import Normalise
from cifar_deploy.networks.diagnosis import doubts

HALF = Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3)


class _ByColour(nn.Module):
    """Three classes: red, green or blue is the strongest."""

    def forward(self, images):
        return images.mean((2, 3))


class _ByBrightness(nn.Module):
    """Six classes, by the brightness that is left of images that were normalised to [-1, 1]."""

    def forward(self, images):
        levels = torch.linspace(-0.8, 0.8, 6)
        return -((images.mean((1, 2, 3))[:, None] - levels) ** 2)


class _InOrder(nn.Module):
    """Another network whose outputs stand in another order."""

    def __init__(self, network, order):
        super().__init__()
        self.network, self.order = network, list(order)

    def forward(self, images):
        return self.network(images)[:, self.order]


def _complete(body, normalisation=HALF):
    return nn.Sequential(Normalise(normalisation.mean, normalisation.std, normalisation.channels), body)


def _data(pixels, classes):
    mean, std = pixels.mean((0, 1, 2)) / 255, pixels.std((0, 1, 2)) / 255
    return Data(
        dataset="x", source="x", fingerprint="0" * 64, classes=tuple(classes), train_images=len(pixels), test_images=len(pixels),
        height=4, width=4, mean=tuple(map(float, mean)), std=tuple(map(float, std)),
    )  # fmt: skip


@pytest.fixture
def colours():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 300)
    pixels = random.integers(0, 100, (300, 4, 4, 3))
    pixels[np.arange(300), :, :, labels] += 80
    return pixels.astype(np.uint8), labels


@pytest.fixture
def greys():
    random = np.random.default_rng(0)
    labels = random.integers(0, 6, 300)
    level = (np.linspace(-0.8, 0.8, 6)[labels] + 1) / 2 * 255
    return np.broadcast_to(level[:, None, None, None], (300, 4, 4, 3)).astype(np.uint8), labels


def _told(body, images, classes, normalisation=HALF):
    pixels, labels = images
    return doubts(_complete(body, normalisation or HALF), _data(pixels, classes), normalisation, pixels, labels)


def test_a_network_that_answers_well_has_none(colours, greys):
    assert _told(_ByColour(), colours, "rgb") == ()
    assert _told(_ByBrightness(), greys, "abcdef") == ()


def test_swapped_channels_are_found(colours):
    (told,) = _told(_InOrder(_ByColour(), (2, 1, 0)), colours, "rgb")[:1]
    assert told.startswith("of 256 test images with --channels bgr 100.0% are right, without ")


def test_another_normalisation_is_found_with_its_options(greys):
    unit = Normalisation(mean=(0.0,) * 3, std=(1.0,) * 3)
    told = _told(_ByBrightness(), greys, "abcdef", unit)
    assert told[0].startswith("of 256 test images with --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 100.0% are right")


def test_another_order_of_classes_is_found(greys):
    (told,) = _told(_InOrder(_ByBrightness(), (0, 1, 2, 4, 5, 3)), greys, "abcdef")
    assert "with the outputs in another order 100.0% are right" in told
    assert "it says d for e, e for f, f for d; give the outputs' names in their order by --classes" in told


def test_the_order_of_numbers_is_named_as_such(greys):
    classes = ["1", "10", "2", "20", "3", "4"]  # as folders are sorted
    by_number = sorted(range(6), key=lambda index: int(classes[index]))
    (told,) = _told(_InOrder(_ByBrightness(), by_number), greys, classes)
    assert "with the outputs in the order of numbers 100.0% are right" in told and "(1, 2, 3, …)" in told


def test_noise_explains_nothing(colours):
    pixels, _ = colours
    assert _told(_ByColour(), (pixels, np.random.default_rng(1).integers(0, 3, 300)), "rgb") == ()
    few = pixels[:6], np.array([0, 1, 2, 0, 1, 2])
    assert _told(_InOrder(_ByColour(), (1, 2, 0)), few, "rgb") == ()


def test_statistics_of_the_images_are_swapped_with_the_channels(colours):
    pixels, labels = colours
    pixels = (pixels * np.array([0.3, 1, 1])).astype(np.uint8)
    data = _data(pixels, "rgb")
    first = Normalise(data.mean, data.std)
    body = _InOrder(_ByColour(), (2, 1, 0))
    told = doubts(nn.Sequential(first, body), data, None, pixels, labels)
    assert told[0].startswith("of 256 test images with --channels bgr ")
