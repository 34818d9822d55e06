"""scikit-learn's 1,797 handwritten digits (UCI ML, test set of the Optical Recognition collection).

Real images that need no download: 8x8 grey levels, brought to 32x32 RGB. They are not CIFAR-10, and every report made
from them says so.
"""

from pathlib import Path

import numpy as np

from cifar_deploy.core.arrays import ImageSet
from cifar_deploy.core.errors import UsageError
from cifar_deploy.core.progress import report
from cifar_deploy.datasets import AS_IS, Dataset, Preparation

_TEST_FRACTION = 0.2
_SCALE = 4  # 8x8 -> 32x32


def identify(data_dir: Path | None) -> str:
    if data_dir is not None:
        raise UsageError("--data-dir: the digits come with scikit-learn; leave it out, or give --dataset image_folder")
    return "digits"


def load(data_dir: Path | None, preparation: Preparation = AS_IS) -> ImageSet:
    """The digits, split 80/20 with every class in proportion, always the same way."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)  # stored as 0..16
    grey = grey.repeat(_SCALE, axis=1).repeat(_SCALE, axis=2)
    images = np.repeat(grey[..., None], 3, axis=3)
    labels = digits.target.astype(np.int64)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=_TEST_FRACTION, stratify=labels, random_state=0
    )
    report(len(images), len(images))
    return ImageSet(
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        classes=tuple(str(digit) for digit in range(10)),
        source="scikit-learn's handwritten digits (not CIFAR-10)",
    )


DATASET = Dataset(
    summary="scikit-learn's 1,797 handwritten digits as 32x32 RGB; no download",
    requires=("sklearn",),
    identify=identify,
    load=load,
)
