"""A validation split: a tenth of each class's training images takes the place of the test images, which are not used.

Use it wherever a choice is made by accuracy: `--dataset held_out:DATASET --data-dir cifar10-jpeg75.zip`, started in this
folder (or with it on PYTHONPATH).
"""

from pathlib import Path

import numpy as np

from cifar_deploy.core.arrays import ImageSet
from cifar_deploy.datasets import DATASETS, Dataset, Preparation

SHARE = 10
SEED = 2026


def split(images: ImageSet) -> ImageSet:
    """Every class gives one image in SHARE, by a seeded choice."""
    random = np.random.default_rng(SEED)
    held = np.zeros(len(images.train_labels), dtype=bool)
    for label in range(len(images.classes)):
        places = random.permutation(np.flatnonzero(images.train_labels == label))
        held[places[: len(places) // SHARE]] = True
    return ImageSet(
        train_images=images.train_images[~held],
        train_labels=images.train_labels[~held],
        test_images=images.train_images[held],
        test_labels=images.train_labels[held],
        classes=images.classes,
        source=f"{images.source}; training images alone, one in {SHARE} held out for validation",
        warnings=images.warnings,
        preprocessing=images.preprocessing,
    )


def identify(data_dir: Path | None) -> str:
    return f"held-out-{SHARE}-{SEED}-{DATASETS['image_folder'].identify(data_dir)}"


def load(data_dir: Path | None, preparation: Preparation) -> ImageSet:
    return split(DATASETS["image_folder"].load(data_dir, preparation))


DATASET = Dataset(
    summary="image_folder's training images, a tenth held out as the test set",
    requires=("PIL",),
    identify=identify,
    load=load,
)
