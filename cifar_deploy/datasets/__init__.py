"""Where images come from. A new data set is one file here and one line below.

The cache of decoded arrays, the checks and the fingerprint are `workers.prepare`'s: a data set only says what it is
made from and decodes it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cifar_deploy.core.arrays import ImageSet
from cifar_deploy.core.records import Preprocessing
from cifar_deploy.core.registry import Registry, Requirements

# What the warnings begin with that name images left out, and outputs of a network that no image belongs to.
LEFT_OUT = "left out, as they cannot be read"
WITHOUT_IMAGES = "outputs without images"


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How the images of a data set are asked for."""

    preprocessing: Preprocessing | None = None  # None: as they are
    classes: tuple[str, ...] | None = None  # the names of a network's outputs, in their order; None: the data set's own
    skip_broken: bool = False  # images that cannot be read are left out


AS_IS = Preparation()


@dataclass(frozen=True, kw_only=True)
class Dataset(Requirements):
    """`identify` and `load` get the --data-dir, or None; both raise DataError or UsageError if it will not do.

    `load` may leave the preprocessing and the order of the classes to `workers.prepare`.
    """

    summary: str
    identify: Callable[[Path | None], str]  # cheap; the same as long as `load` would return the same
    load: Callable[[Path | None, Preparation], ImageSet]  # reports its progress; may download


DATASETS: Registry[Dataset] = Registry(
    "data set",
    __name__,
    {
        "cifar10": "cifar10:DATASET",
        "image_folder": "image_folder:DATASET",
        "digits": "digits:DATASET",
    },
)
