"""Images made by all cores into one array on the disk: the whole of a data set is never in memory.

The array's file has no name. So the system deletes it with the process, however that ends.
"""

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.core import cache, limits, machine
from cifar_deploy.core.arrays import Pixels
from cifar_deploy.core.errors import DataError

# Of all images as they are kept, which the room on the disk should bound: ImageNet's 50,000 for validation take 7 GiB at
# 224×224.
_MOST_BYTES = 16 * 2**30
_MOST_BYTES_VARIABLE = "CIFAR_DEPLOY_DATA_LIMIT"

# Images that a thread takes at a time: many enough to cost nothing beside them, few enough to end together.
_TAKEN = 8

# Rows that are moved at a time.
_MOVED_BYTES = 2**24


@dataclass(frozen=True, kw_only=True)
class Made:
    """`pixels` holds an image for each place, whatever it holds where `kept` is False."""

    pixels: Pixels
    kept: NDArray[np.bool_]

    def compact(self) -> Pixels:
        """Those that were kept alone, in their order and in the same file."""
        if self.kept.all():
            return self.pixels
        places = np.flatnonzero(self.kept)
        size = max(1, _MOVED_BYTES // max(1, math.prod(self.pixels.shape[1:])))
        for start in range(0, len(places), size):
            some = places[start : start + size]
            self.pixels[start : start + len(some)] = self.pixels[some]
        return self.pixels[: len(places)]


def make(count: int, image: Callable[[int], Pixels | None], done: Callable[[], None]) -> Made:
    """The images (H, W, 3) that `image` gives for 0 to `count` - 1, called by as many threads as there are cores.

    None, and an image of another size than the first, is not kept. `done` is called for each, in this thread.
    """
    kept = np.zeros(count, dtype=bool)
    for first in range(count):  # one by one, since the first image says how much room is needed
        found = image(first)
        done()
        if found is not None:
            break
    else:
        return Made(pixels=np.empty((0, 0, 0, 3), np.uint8), kept=kept)
    shape = found.shape
    cache.folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=cache.folder()) as file:
        _reserve(file, count * found.nbytes)
        write = _Writer(file.fileno(), found.nbytes)
        write(first, found)
        kept[first] = True

        def taken(start: int) -> list[bool]:
            were_kept = []
            for place in range(start, min(start + _TAKEN, count)):
                one = image(place)
                were_kept.append(one is not None and one.shape == shape)
                if one is not None and were_kept[-1]:
                    write(place, one)
            return were_kept

        starts = range(first + 1, count, _TAKEN)
        for start, were_kept in zip(starts, _by_all_cores(taken, starts), strict=True):
            kept[start : start + len(were_kept)] = were_kept
            for _ in were_kept:
                done()
        return Made(pixels=np.memmap(file, np.uint8, "r+", shape=(count, *shape)), kept=kept)


def _by_all_cores(taken: Callable[[int], list[bool]], starts: range) -> Iterator[list[bool]]:
    """In order. Pillow lets other threads go on while it decodes and resizes."""
    pool = ThreadPoolExecutor(machine.allowed_threads())
    try:
        yield from pool.map(taken, starts)
    finally:
        pool.shutdown(cancel_futures=True)


def _reserve(file: IO[bytes], size: int) -> None:
    """Raises the system's OSError now if the disk has no room: later it would end the process by a signal."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        os.ftruncate(file.fileno(), size)


class _Writer:
    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor, self._size = descriptor, size

    def __call__(self, place: int, image: Pixels) -> None:
        left = np.ascontiguousarray(image).data.cast("B")
        offset = place * self._size
        while left:
            written = os.pwrite(self._descriptor, left, offset)
            left, offset = left[written:], offset + written


def check_room(source: object, count: int, width: int, height: int, example: str = "") -> None:
    """Raises DataError if so many images of this size may not be kept."""
    wanted, most = count * width * height * 3, limits.from_environment(_MOST_BYTES_VARIABLE, _MOST_BYTES)
    if wanted > most:
        raise DataError(
            f"{source}: {count:,} images of {width:,}×{height:,}{example} take {limits.shown(wanted)} on the disk, and "
            f"{limits.shown(most)} are allowed; make them smaller (--size), or set {_MOST_BYTES_VARIABLE}"
        )
