"""A data set that is ready: asked for by its name, or found again by its fingerprint."""

import contextlib
import functools
import re
from dataclasses import replace
from pathlib import Path

from cifar_deploy.core import cache, image_cache, packs, untrusted
from cifar_deploy.core.defaults import DATASET
from cifar_deploy.core.errors import DataError, Unavailable, UsageError
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.progress import OnProgress, counted
from cifar_deploy.core.records import Data, Interpolation, Preprocessing
from cifar_deploy.datasets import AS_IS, DATASETS, Preparation
from cifar_deploy.datasets.image_files import one_spelling
from cifar_deploy.workers import prepare as worker
from cifar_deploy.workers.prepare import Prepared

# Of a side of the images that a network takes: larger ones than this are none that are classified.
_LARGEST_SIDE = 4096

_LARGEST_NAMES = 2**20  # bytes


def prepare(
    dataset: str = DATASET,
    data_dir: Path | None = None,
    preparation: Preparation = AS_IS,
    *,
    on_progress: OnProgress | None = None,
) -> Prepared:
    """A data set, decoded into the user's cache or found there, and verified by its fingerprint."""
    DATASETS.given(dataset)
    data_dir = data_dir.absolute() if data_dir else None
    return Worker(what=f"images of {dataset}", on_progress=on_progress).call(
        worker.prepare, dataset, data_dir, preparation
    )


def preparation(
    size: str | None = None,
    resize: str | None = None,
    crop: str | None = None,
    interpolation: Interpolation | None = None,
    classes: Path | None = None,
    skip_broken: bool = False,
    *,
    usual: Preprocessing | None = None,
) -> Preparation:
    """What the options of these names ask for: sizes are N or HxW, `classes` is a file of names, one a line.

    `usual` stands where no size is given.

    Raises UsageError for options that contradict each other, DataError for a file that is no list of names.
    """
    if size is not None and (resize is not None or crop is not None):
        raise UsageError("--size: stands for --resize and --crop; leave these out, or leave out --size")
    is_usual = usual is not None and (size, resize, crop) == (None, None, None)
    if interpolation and size is None and resize is None and not is_usual:
        raise UsageError("--interpolation: nothing is resized; add --size or --resize")
    resized: tuple[int, ...]
    cropped: tuple[int, ...]
    if size is not None:
        resized = _size(size, "--size")
        cropped = resized if len(resized) == 1 else ()
    else:
        resized, cropped = _size(resize, "--resize"), _size(crop, "--crop")
    if len(cropped) == 1:
        cropped *= 2
    if resized and cropped and not _can_fit(cropped, resized):
        raise UsageError(f"--crop: {crop} is larger than --resize {resize}; give a smaller --crop")
    preprocessing = None
    if usual and is_usual:
        preprocessing = replace(usual, interpolation=interpolation or usual.interpolation)
    elif resized or cropped:
        preprocessing = Preprocessing(resize=resized, crop=cropped, interpolation=interpolation or "bilinear")
    names = _names(classes) if classes else None
    return Preparation(preprocessing=preprocessing, classes=names, skip_broken=skip_broken)


def _size(text: str | None, option: str) -> tuple[int, ...]:
    """(N,) or (height, width); () if none was given."""
    if text is None:
        return ()
    if not re.fullmatch(r"[0-9]{1,5}([x×][0-9]{1,5})?", text.lower()):
        raise UsageError(f"{option}: {text} is no size; give a number like 224, or height and width like 240x320")
    sizes = tuple(map(int, re.split("[x×]", text.lower())))
    if not all(1 <= side <= _LARGEST_SIDE for side in sizes):
        raise UsageError(f"{option}: {text} is not within 1 and {_LARGEST_SIDE:,} pixels; give another")
    return sizes


def _can_fit(crop: tuple[int, ...], resize: tuple[int, ...]) -> bool:
    """Whether the crop is within images that were resized, at least within those of some shape."""
    if len(resize) == 1:
        return min(crop) <= resize[0]  # the shorter side of an image may be its height or its width
    return crop[0] <= resize[0] and crop[1] <= resize[1]


def _names(path: Path) -> tuple[str, ...]:
    """Those in a file, one a line. A line end at the end is no name."""
    untrusted.check_named(path, "give a file of the names of the network's outputs, one a line", "--classes")
    try:
        text = untrusted.read_bytes(path, _LARGEST_NAMES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"--classes: {path} is not UTF-8; save it as UTF-8") from error
    names = tuple(line.strip() for line in text.removesuffix("\n").split("\n"))
    if len(names) < 2:
        raise DataError(f"--classes: {path} has {counted(len(names), 'name')}; give one a line, for each output")
    first: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if not name:
            raise DataError(f"--classes: {path}, line {number} is empty; give each output of the network a name")
        if first.setdefault(one_spelling(name), number) != number:
            raise DataError(
                f"--classes: {path} has {name!r} in line {first[one_spelling(name)]} and in line {number}; give each output "
                "a name of its own"
            )
    return names


def find(fingerprint: str) -> Path | None:
    """The folder of a data set that was prepared before, by its fingerprint; its arrays are verified, once a process.

    Waits for one that another process is making again. In a pack, the folder of the images that were packed.
    """
    if pack := packs.here():
        return pack.images(fingerprint)
    damaged = []
    for folder in image_cache.in_the_cache():
        data = _whole(folder)
        if data and data.fingerprint == fingerprint:
            return folder
        if not data:
            damaged.append(folder)
    for folder in damaged:
        # A cache of somebody else's has no locks of ours.
        with contextlib.suppress(OSError), image_cache.locked(folder):
            data = _whole(folder)
            if data and data.fingerprint == fingerprint:
                return folder
    return None


def _whole(folder: Path) -> Data | None:
    """The record of a cached data set, verified once per process; None if it is missing or damaged."""
    try:
        return _verified(folder, image_cache.record_path(folder).stat().st_mtime_ns)
    except FileNotFoundError:  # deleted meanwhile
        return None


def folder_of(data: Data) -> Path:
    """Where the arrays of a data set lie. Raises Unavailable if they are not in the cache."""
    folder = find(data.fingerprint)
    if not folder:
        raise Unavailable(
            f"data set {data.dataset}: its images ({data.source}) are not in the cache; "
            f"run `cifar-deploy data --dataset {data.dataset} [--data-dir PATH]`"
        )
    return folder


def images_for(data: Data) -> Path:
    """Where images lie to run a network on: its data set's, or the digits, of the same size, where that is not here.

    Raises Unavailable if those would not fit.
    """
    if folder := find(data.fingerprint):
        return folder
    stand_in = _stand_in(cache.folder())
    if (stand_in.data.height, stand_in.data.width) != (data.height, data.width):
        return folder_of(data)
    return stand_in.folder


def stand_in_of(folder: Path, data: Data) -> str | None:
    """The source of the images in `folder`, if they are not of this data set."""
    found = image_cache.read_record(folder)
    return None if found.fingerprint == data.fingerprint else found.source


@functools.cache
def _stand_in(cache_folder: Path) -> Prepared:
    return Worker(what="images of digits").call(worker.prepare, "digits", None)


@functools.cache
def _verified(folder: Path, written_ns: int) -> Data | None:
    return image_cache.cached(folder)
