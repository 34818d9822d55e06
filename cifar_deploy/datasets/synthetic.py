"""Images whose class can be read off: each is of the grey level that is its label. For `selftest`.

In the other set exactly FLIPPED of the test images are labelled wrongly.
"""

from pathlib import Path

import numpy as np

from cifar_deploy.core.arrays import ImageSet
from cifar_deploy.datasets import Dataset, Preparation

IMAGES = 1000
FLIPPED = 7
_CLASSES = 10
_SIZE = 8


def _load(flipped: int) -> ImageSet:
    labels = np.arange(IMAGES, dtype=np.int64) % _CLASSES
    images = np.broadcast_to(labels.astype(np.uint8)[:, None, None, None], (IMAGES, _SIZE, _SIZE, 3)).copy()
    test_labels = labels.copy()
    # Spread over the whole set, the last image among them, so that none of its parts can be left out unseen.
    places = np.linspace(0, IMAGES - 1, flipped).round().astype(int)
    test_labels[places] = (test_labels[places] + 1) % _CLASSES
    return ImageSet(
        train_images=images,
        train_labels=labels,
        test_images=images,
        test_labels=test_labels,
        classes=tuple(map(str, range(_CLASSES))),
        source=f"known images, {flipped} of them labelled wrongly",
    )


def _dataset(flipped: int) -> Dataset:
    def identify(data_dir: Path | None) -> str:
        return f"known-{flipped}"

    def load(data_dir: Path | None, preparation: Preparation) -> ImageSet:
        return _load(flipped)

    return Dataset(summary="images whose class can be read off", requires=(), identify=identify, load=load)


RIGHT = _dataset(0)
WRONG = _dataset(FLIPPED)
