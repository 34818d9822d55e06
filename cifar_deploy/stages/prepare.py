"""A data set -> checked uint8 arrays on disk, decoded once and mapped into memory by whoever needs them.

The cache has a folder for each source. Its arrays are verified by their fingerprint each time a command begins, and their
record by its own hash; if either is damaged, the images are decoded again. A damaged file is replaced in its place, and
the record last: whoever reads the folder meanwhile finds each file, and it is whole.
"""

import contextlib
import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.core import cache, codec, files, isolate, sealing
from cifar_deploy.core.arrays import ImageSet, Pixels, mapped, portions
from cifar_deploy.core.codec import to_json
from cifar_deploy.core.errors import Corrupt, DataError, Unavailable
from cifar_deploy.core.locks import Lock
from cifar_deploy.core.progress import report
from cifar_deploy.core.records import Checkpoint, Data
from cifar_deploy.core.registry import need
from cifar_deploy.datasets import DATASETS

_COUNTED_PIXELS = 2**22

_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A data set that is ready: what it is, and the folder of its arrays."""

    data: Data
    folder: Path
    decoded: bool  # now, rather than found in the cache

    def array(self, name: str) -> NDArray[Any]:
        """`train_images`, `train_labels`, `test_images` or `test_labels`, mapped into memory."""
        return load_array(self.folder, name)


def prepare(dataset: str, data_dir: Path | None) -> Prepared:
    """The data set from the cache, or decoded into it. Raises DataError or UsageError if there is none to be had."""
    plugin = DATASETS[dataset]
    need("data set", dataset, plugin.requires)
    try:
        identity = plugin.identify(data_dir)
    except OSError as error:
        raise DataError(
            f"--data-dir: {error.filename} cannot be read ({error.strerror}); mend that, or give another"
        ) from error
    folder = cache.folder() / "data" / f"{dataset.replace(':', '.')}-{identity}"
    try:
        with _locked(folder):
            files.sweep(folder)  # this folder alone is ours: another process may be writing its neighbour
            if data := _cached(folder):
                return Prepared(data=data, folder=folder, decoded=False)
            if _record(folder).exists():
                report(0, 1, milestone="the copy in the cache is damaged, or of an earlier version: it is made again")
            images = plugin.load(data_dir)
            _check(images)
            data = _described(dataset, images)
            _write(folder, images, data)
            return Prepared(data=data, folder=folder, decoded=True)
    except OSError as error:
        raise DataError(
            f"{error.filename or folder}: {error.strerror}; the cache is set by CIFAR_DEPLOY_CACHE"
        ) from error


def _locked(folder: Path) -> Lock:
    return Lock(folder.with_name(f"{folder.name}.lock"), busy=None)


def find(fingerprint: str) -> Path | None:
    """The folder of a data set that was prepared before, by its fingerprint; its arrays are verified, once a process.

    Waits for one that another process is making again.
    """
    damaged = []
    for record in sorted((cache.folder() / "data").glob("*/data.json")):
        data = _whole(record.parent)
        if data and data.fingerprint == fingerprint:
            return record.parent
        if not data:
            damaged.append(record.parent)
    for folder in damaged:
        with contextlib.suppress(OSError), _locked(folder):  # a cache of somebody else's has no locks of ours
            data = _whole(folder)
            if data and data.fingerprint == fingerprint:
                return folder
    return None


def _whole(folder: Path) -> Data | None:
    """The record of what is cached, if all of it is whole."""
    try:
        return _verified(folder, _record(folder).stat().st_mtime_ns)
    except FileNotFoundError:  # deleted meanwhile
        return None


def folder_of(checkpoint: Checkpoint) -> Path:
    """Where the arrays lie that a checkpoint was trained on. Raises Unavailable if they are not in the cache."""
    data = checkpoint.training.data
    folder = find(data.fingerprint)
    if not folder:
        raise Unavailable(
            f"{checkpoint.training.name}: its data set ({data.source}) is not in the cache; "
            f"run `cifar-deploy data --dataset {data.dataset}`, with --data-dir where it needs one"
        )
    return folder


def images_for(checkpoint: Checkpoint) -> Path:
    """Where images lie to run a network on: its own data set's, or the digits, of the same size, where that is not here.

    Raises Unavailable if those would not fit.
    """
    data = checkpoint.training.data
    if folder := find(data.fingerprint):
        return folder
    stand_in = _stand_in(cache.folder())
    if (stand_in.data.height, stand_in.data.width) != (data.height, data.width):
        return folder_of(checkpoint)
    return stand_in.folder


def stand_in_of(folder: Path, checkpoint: Checkpoint) -> str | None:
    """The source of the images in `folder`, if they are not of the data set that the network was trained on."""
    data = _read_record(folder)
    return None if data.fingerprint == checkpoint.training.data.fingerprint else data.source


@functools.cache
def _stand_in(cache_folder: Path) -> Prepared:
    return isolate.call("cifar_deploy.stages.prepare:prepare", Prepared, dataset="digits", data_dir=None)


@functools.cache
def _verified(folder: Path, written_ns: int) -> Data | None:
    return _cached(folder)


def load_array(folder: Path, name: str) -> NDArray[Any]:
    return mapped(folder / f"{name}.npy")


def _cached(folder: Path) -> Data | None:
    """The record of what is cached, if it is there and whole."""
    try:
        data = _read_record(folder)
        arrays = [load_array(folder, name) for name in _ARRAYS]
    except (Corrupt, OSError):
        return None
    return data if _fingerprint(arrays, data.classes) == data.fingerprint else None


def _record(folder: Path) -> Path:
    return folder / "data.json"


def _read_record(folder: Path) -> Data:
    """Raises Corrupt if it is damaged: mean, std and source are in no fingerprint."""
    return codec.load(Data, _record(folder), "run `cifar-deploy data` again")


def _check(images: ImageSet) -> None:
    for name, pixels, labels in (
        ("training", images.train_images, images.train_labels),
        ("test", images.test_images, images.test_labels),
    ):
        if not len(pixels) or len(pixels) != len(labels):
            raise DataError(
                f"{images.source}: {len(pixels)} {name} images and {len(labels)} labels; there must be a label each"
            )
        if labels.min() < 0 or labels.max() >= len(images.classes):
            raise DataError(f"{images.source}: a {name} label is not one of the {len(images.classes)} classes")


def _described(dataset: str, images: ImageSet) -> Data:
    mean, deviation = statistics(images.train_images)
    arrays = [getattr(images, name) for name in _ARRAYS]
    return Data(
        dataset=dataset,
        source=images.source,
        fingerprint=_fingerprint(arrays, images.classes),
        classes=images.classes,
        train_images=len(images.train_images),
        test_images=len(images.test_images),
        height=images.train_images.shape[1],
        width=images.train_images.shape[2],
        mean=mean,
        deviation=deviation,
    )


def statistics(pixels: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of pixels in [0, 1]: exact, from counts of the 256 levels."""
    levels = np.arange(256) / 255
    # bincount takes eight bytes a pixel, so it gets some of the images at a time.
    size = max(1, _COUNTED_PIXELS // (pixels.shape[1] * pixels.shape[2]))
    means, deviations = [], []
    for channel in range(pixels.shape[3]):
        counts = sum(np.bincount(part[..., channel].ravel(), minlength=256) for part in portions(pixels, size))
        share = counts / pixels[..., channel].size
        mean = float(share @ levels)
        means.append(mean)
        deviations.append(float(np.sqrt(share @ (levels - mean) ** 2)))
    return tuple(means), tuple(deviations)


def _fingerprint(arrays: list[NDArray[Any]], classes: tuple[str, ...]) -> str:
    digest = hashlib.sha256(json.dumps(classes).encode())
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _write(folder: Path, images: ImageSet, data: Data) -> None:
    """Over a copy that is damaged, if there is one: nothing is deleted, since another process may be about to read it."""
    for done, name in enumerate(_ARRAYS):
        with files.whole(folder / f"{name}.npy") as part, open(part, "wb") as file:
            np.save(file, getattr(images, name))
        report(done, len(_ARRAYS), "writing the cache")
    sealing.write_record(_record(folder), to_json(data))
