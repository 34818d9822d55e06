"""The arrays, by numpy alone: a worker that measures a small runtime must not pay for a large library."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]  # (N, H, W, 3), 0..255, red first: as files give them and as they are stored
Labels: TypeAlias = NDArray[np.int64]  # (N,)
Images: TypeAlias = NDArray[np.float32]  # (N, 3, H, W) in [0, 1]: as every network takes them
Logits: TypeAlias = NDArray[np.float32]  # (N, classes)

# Host arrays in, host arrays out: Images, or Pixels where the artifact takes those.
Predict: TypeAlias = Callable[[NDArray[Any]], Logits]


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """A data set in memory (or mapped from disk)."""

    train_images: Pixels
    train_labels: Labels
    test_images: Pixels
    test_labels: Labels
    classes: tuple[str, ...]
    source: str  # where the images came from, for people


def as_input(pixels: Pixels) -> Images:
    """Stored pixels as every network takes them.

    uint8 (N, H, W, 3) in 0..255 -> float32 (N, 3, H, W) in [0, 1]
    """
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255)


def choose(count: int, limit: int | None, seed: int = 0) -> NDArray[np.int64]:
    """Indices of `limit` of `count` images, in stored order: a seeded choice, since files lie sorted by class."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))
