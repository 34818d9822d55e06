"""Data sets decoded into the user's cache: a folder each, with arrays that are verified by their fingerprint."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.core import cache, codec
from cifar_deploy.core.arrays import batched, mapped
from cifar_deploy.core.errors import Corrupt
from cifar_deploy.core.locks import Lock
from cifar_deploy.core.progress import report
from cifar_deploy.core.records import Data, Preprocessing

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")

_HASHED_BYTES = 2**26  # at a time


def locked(folder: Path) -> Lock:
    return Lock(folder.with_name(f"{folder.name}.lock"), busy=None)


def load_array(folder: Path, name: str) -> NDArray[Any]:
    return mapped(folder / f"{name}.npy")


def cached(folder: Path) -> Data | None:
    """The record of a cached data set; None if its record or an array is missing or damaged."""
    try:
        data = read_record(folder)
        arrays = [load_array(folder, name) for name in ARRAYS]
    except (Corrupt, OSError):
        return None
    found = fingerprint(arrays, data.classes, data.preprocessing, report)
    return data if found == data.fingerprint else None


def in_the_cache() -> list[Path]:
    """The folder of every data set that has a record there."""
    return sorted(record.parent for record in (cache.folder() / "data").glob("*/data.json"))


def record_path(folder: Path) -> Path:
    return folder / "data.json"


def read_record(folder: Path) -> Data:
    """Raises Corrupt if it is damaged: mean, std and source are in no fingerprint."""
    return codec.load(Data, record_path(folder), "run `cifar-deploy data` again")


def fingerprint(
    arrays: Sequence[NDArray[Any]],
    classes: tuple[str, ...],
    preprocessing: Preprocessing | None = None,
    tell: Callable[[int, int, str], None] = lambda done, total, message: None,
) -> str:
    """sha256 of the decoded arrays, the labels, the class names and, if there was one, the preprocessing."""
    digest = hashlib.sha256(json.dumps(classes).encode())
    if preprocessing:
        digest.update(json.dumps(codec.to_json(preprocessing), sort_keys=True).encode())
    done, total = 0, sum(array.nbytes for array in arrays)
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        for part in batched(content, _HASHED_BYTES):
            digest.update(part.data)
            done += len(part)
            tell(done, total, "hashing the images")
    return digest.hexdigest()
