"""A data set -> checked uint8 arrays on disk, decoded once and mapped into memory by whoever needs them.

The cache has a folder for each source. Its arrays are verified by their fingerprint each time a command begins, and their
record by its own hash; if either is damaged, the images are decoded again. A damaged file is replaced in its place, and
the record last: whoever reads the folder meanwhile finds each file, and it is whole.
"""

import dataclasses
import errno
import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.core import cache, codec, files, image_cache, machine
from cifar_deploy.core.arrays import ImageSet, Labels, Pixels, batched, choose
from cifar_deploy.core.errors import DataError, few
from cifar_deploy.core.progress import counted, report
from cifar_deploy.core.records import Data
from cifar_deploy.core.registry import need
from cifar_deploy.datasets import AS_IS, DATASETS, WITHOUT_IMAGES, Preparation, image_files
from cifar_deploy.datasets.image_decoder import Decoder
from cifar_deploy.datasets.image_files import one_spelling
from cifar_deploy.datasets.preprocessing import preprocessed_set

_COUNTED_PIXELS = 2**22

# More than any format's calibration and its comparison take.
_CALIBRATION_IMAGES = 4096


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A data set that is ready: what it is, and the folder of its arrays."""

    data: Data
    folder: Path
    decoded: bool  # now, rather than found in the cache

    def array(self, name: str) -> NDArray[Any]:
        """`train_images`, `train_labels`, `test_images` or `test_labels`, mapped into memory."""
        return image_cache.load_array(self.folder, name)


def prepare(dataset: str, data_dir: Path | None, preparation: Preparation = AS_IS) -> Prepared:
    """The data set from the cache, or decoded into it. Raises DataError or UsageError if there is none to be had."""
    plugin = DATASETS[dataset]
    need("data set", dataset, plugin)
    try:
        identity = plugin.identify(data_dir)
    except OSError as error:
        raise DataError(
            f"--data-dir: {error.filename} cannot be read ({error.strerror}); mend that, or give another"
        ) from error
    folder = cache.folder() / "data" / f"{dataset.replace(':', '.')}-{identity}{_suffix(preparation)}"
    try:
        with image_cache.locked(folder):
            files.sweep(folder)  # this folder alone is ours: another process may be writing its neighbour
            if there := _cached(folder):
                return there
            if image_cache.record_path(folder).exists():
                report(0, 1, milestone="the copy in the cache is damaged, or of an earlier version: it is made again")
            images = plugin.load(data_dir, preparation)
            if preparation.preprocessing and images.preprocessing != preparation.preprocessing:
                images = preprocessed_set(images, preparation.preprocessing)
            if preparation.classes:
                images = _in_the_order(images, preparation.classes)
            _check(images)
            with ThreadPoolExecutor(1) as aside:  # writing lets the hashing go on
                written = aside.submit(_write, folder, images)
                data = _described(dataset, images)
                written.result()
            codec.save(image_cache.record_path(folder), data)
            return Prepared(data=data, folder=folder, decoded=True)
    except OSError as error:
        # What lies in a cache that others share, and that takes no lock of ours, serves all the same.
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) and (there := _cached(folder)):
            return there
        raise DataError(
            f"{error.filename or folder}: {error.strerror}; the cache is set by CIFAR_DEPLOY_CACHE"
        ) from error


def _cached(folder: Path) -> Prepared | None:
    """What the cache has; None if that is damaged, or of an earlier version, which looked for no warnings."""
    data = image_cache.cached(folder)
    return Prepared(data=data, folder=folder, decoded=False) if data and data.warnings is not None else None


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Images for the calibration of INT8 formats, as their network takes them."""

    source: str  # where they came from, for people
    sha256: str
    pixels: Path  # an .npy


def prepare_calibration(path: Path, data: Data, pixels: Path) -> Calibration:
    """Write images of a directory or a .zip to `pixels`, prepared as those of `data`: all, or a seeded choice of 4,096.

    Raises DataError if they are fewer than two, cannot be read, or are of another size.
    """
    images = image_files.find_anywhere(path)
    chosen = choose(len(images.images), _CALIBRATION_IMAGES)
    images = dataclasses.replace(images, images=tuple(images.images[index] for index in chosen))
    if len(images.images) < 2:
        instead = images.not_read_line()
        raise DataError(
            f"--calibration-data: {path} holds {counted(len(images.images), 'image')}"
            f"{f' (not read: {instead})' if instead else ''}; give at least two"
        )
    decoder = Decoder(images, Preparation(preprocessing=data.preprocessing))
    made = decoder.decode(images.images).pixels
    decoder.check()
    if made.shape[1:3] != (data.height, data.width):
        raise DataError(
            f"--calibration-data: the images of {path} are {made.shape[2]}×{made.shape[1]}, and the network takes "
            f"{data.width}×{data.height}; bring them to that size"
        )
    with files.atomic_write(pixels) as part, open(part, "wb") as file:
        np.save(file, made)
    return Calibration(source=path.name, sha256=hashlib.sha256(made.data).hexdigest(), pixels=pixels)


def _suffix(preparation: Preparation) -> str:
    """Of a cache folder's name, by which data sets that are asked for in several ways lie apart."""
    if preparation == AS_IS:
        return ""
    return f"-{hashlib.sha256(json.dumps(codec.to_json(preparation), sort_keys=True).encode()).hexdigest()[:16]}"


def _in_the_order(images: ImageSet, outputs: tuple[str, ...]) -> ImageSet:
    """The images with the names of a network's outputs as their classes. Raises DataError for a class that has none."""
    places = {one_spelling(name): place for place, name in enumerate(outputs)}
    if unknown := [name for name in images.classes if one_spelling(name) not in places]:
        raise DataError(
            f"--classes: has no line for {len(unknown):,} of the {len(images.classes):,} classes of {images.source} "
            f"({few([repr(name) for name in unknown])}); add them in the order of the network's outputs"
        )
    of_class = np.array([places[one_spelling(name)] for name in images.classes], dtype=np.int64)
    without = [name for place, name in enumerate(outputs) if place not in set(of_class)]
    warning = f"{WITHOUT_IMAGES}: {len(without):,} of {len(outputs):,} ({few(without)})"
    return dataclasses.replace(
        images,
        train_labels=of_class[images.train_labels],
        test_labels=of_class[images.test_labels],
        classes=outputs,
        warnings=(*images.warnings, *([warning] if without else [])),
    )


def _check(images: ImageSet) -> None:
    for name, pixels, labels in (
        ("training", images.train_images, images.train_labels),
        ("test", images.test_images, images.test_labels),
    ):
        if len(pixels) != len(labels) or not (len(pixels) or name == "training"):
            raise DataError(
                f"{images.source}: {len(pixels)} {name} images and {len(labels)} labels; there must be a label each"
            )
        if len(labels) and (labels.min() < 0 or labels.max() >= len(images.classes)):
            raise DataError(f"{images.source}: a {name} label is not one of the {len(images.classes)} classes")


def _described(dataset: str, images: ImageSet) -> Data:
    arrays = [getattr(images, name) for name in image_cache.ARRAYS]
    with ThreadPoolExecutor(2) as aside:  # neither holds up the hashing
        repeated = aside.submit(_repeated, images)
        of_pixels = aside.submit(statistics, images.train_images if len(images.train_images) else images.test_images)
        fingerprint = image_cache.fingerprint(arrays, images.classes, images.preprocessing, report)
        mean, std = of_pixels.result()
    return Data(
        dataset=dataset,
        source=images.source,
        fingerprint=fingerprint,
        classes=images.classes,
        train_images=len(images.train_images),
        test_images=len(images.test_images),
        height=images.test_images.shape[1],
        width=images.test_images.shape[2],
        mean=mean,
        std=std,
        warnings=(*images.warnings, *repeated.result()),
        preprocessing=images.preprocessing,
    )


def _repeated(images: ImageSet) -> tuple[str, ...]:
    """Images that are there twice, pixel for pixel, where they should not be: in both splits, or in two classes of one."""
    found = []
    train, test = _Pixels(images, "train"), _Pixels(images, "test")
    if both := [(index, train.first[digest]) for index, digest in enumerate(test.digests) if digest in train.first]:
        named = few([f"{test.name(index)} is {train.name(other)}" for index, other in both])
        found.append(
            f"test images that are also training images: {len(both):,} of {len(test.digests):,} ({named}); "
            "the accuracy can be too high"
        )
    for split in (train, test):
        if torn := split.in_two_classes():
            named = few([f"{split.name(index)} is {split.name(other)}" for index, other in torn])
            found.append(f"{split.noun} images that are in two classes: {len(torn):,} ({named})")
    return tuple(found)


class _Pixels:
    """The images of a split, told apart by a hash of their pixels."""

    def __init__(self, images: ImageSet, split: Literal["train", "test"]) -> None:
        self.noun = {"train": "training", "test": "test"}[split]
        self._names: Sequence[str] = getattr(images, f"{split}_names")
        self._labels: Labels = getattr(images, f"{split}_labels")
        pixels: Pixels = getattr(images, f"{split}_images")
        self.digests: list[int] = []
        self.first: dict[int, int] = {}  # the first image of each digest
        for index, image in enumerate(pixels):
            # 64 bits, keyed anew in each process, in a sixth of SHA-256's time. That two of 60,000 images share one by
            # chance has a probability of 1e-10.
            digest = hash(image.tobytes())
            self.digests.append(digest)
            self.first.setdefault(digest, index)

    def name(self, index: int) -> str:
        return self._names[index] if self._names else f"{self.noun} image {index:,}"

    def in_two_classes(self) -> list[tuple[int, int]]:
        """Each image that is in another class than the first image equal to it, with that one."""
        pairs = ((index, self.first[digest]) for index, digest in enumerate(self.digests))
        return [(index, first) for index, first in pairs if self._labels[index] != self._labels[first]]


def statistics(pixels: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of pixels in [0, 1]: exact, from counts of the 256 levels."""
    from PIL import Image

    levels = np.arange(256) / 255
    height, width = pixels.shape[1:3]
    counts = np.zeros((3, 256), np.int64)

    def count(part: Pixels) -> NDArray[np.int64]:
        # Pillow counts images below each other as one, in a quarter of NumPy's time, and other threads go on meanwhile.
        return np.reshape(Image.fromarray(part.reshape(-1, width, 3)).histogram(), counts.shape)

    with ThreadPoolExecutor(machine.allowed_threads()) as pool:
        for found in pool.map(count, batched(pixels, max(1, _COUNTED_PIXELS // (height * width)))):
            counts += found
    means, deviations = [], []
    for share in counts / (len(pixels) * height * width):
        mean = float(share @ levels)
        means.append(mean)
        deviations.append(float(np.sqrt(share @ (levels - mean) ** 2)))
    return tuple(means), tuple(deviations)


def _write(folder: Path, images: ImageSet) -> None:
    """Over a copy that is damaged, if there is one: nothing is deleted, since another process may be about to read it."""
    for name in image_cache.ARRAYS:
        with files.atomic_write(folder / f"{name}.npy") as part, open(part, "wb") as file:
            np.save(file, getattr(images, name))
