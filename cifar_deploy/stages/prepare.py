"""A data set that is ready: asked for by its name, or found again by its fingerprint."""

import contextlib
import functools
from pathlib import Path

from cifar_deploy.core import cache, image_cache, packs
from cifar_deploy.core.defaults import DATASET
from cifar_deploy.core.errors import Unavailable
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.progress import OnProgress
from cifar_deploy.core.records import Data
from cifar_deploy.datasets import AS_IS, DATASETS, Preparation
from cifar_deploy.workers import prepare as worker
from cifar_deploy.workers.prepare import Prepared


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
    return Worker(on_progress=on_progress).call(worker.prepare, dataset, data_dir, preparation)


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
    return Worker().call(worker.prepare, "digits", None)


@functools.cache
def _verified(folder: Path, written_ns: int) -> Data | None:
    return image_cache.cached(folder)
