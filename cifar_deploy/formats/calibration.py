"""Which calibration an INT8 format takes: several are tried, and one is kept by what it does to the labels.

Neither more images nor a finer method always finds better ranges for the activations. So each is judged by how often its
labels agree with the float network's on other training images, and the best is kept and recorded.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.core.arrays import Logits
from cifar_deploy.core.progress import report
from cifar_deploy.formats import Choices, Source

T = TypeVar("T")

# Images on which the calibrations are compared; none of them is used to calibrate.
_HELD_OUT = 2000
# Of all these images together, as the network takes them. It bounds the time too: the larger, the fewer are compared.
_BYTES = 2**29


@dataclass(frozen=True, kw_only=True)
class Calibration:
    method: str  # in words, for the record
    images: int  # that it looks at, at most
    quantise: Callable[[NDArray[Any], Path], None]  # writes the quantised file, and what belongs beside it


def best(
    source: Source,
    float_path: Path,
    path: Path,
    calibrations: Sequence[Calibration],
    logits: Callable[[Path, NDArray[Any]], Logits],
) -> Choices:
    """Write `path` by the calibration whose `logits` give the labels of `float_path` most often; if several do, the nearest."""
    most = max(calibration.images for calibration in calibrations)
    fitting = _BYTES // (source.images.element_size() * source.images[0].numel())
    images = source.calibration_images(min(most + _HELD_OUT, max(2, fitting)))
    # A small data set is shared out.
    most = min(most, len(images) // 2)
    to_calibrate, held_out = images[:most], images[most:]
    begun = time.perf_counter()
    report(0, 1, "logits of the float network")
    expected = logits(float_path, held_out)
    best_score = (-1.0, 0.0)
    choices: Choices = {}
    # Those that differ in nothing but images that are not there are one.
    distinct = {(each.method, min(each.images, most)): each for each in calibrations}
    for done, ((method, count), calibration) in enumerate(distinct.items()):
        report(done, len(distinct), f"calibrating on {count} images")
        with tempfile.TemporaryDirectory(prefix="cifar-deploy-") as box:
            found = Path(box) / path.name
            calibration.quantise(to_calibrate[:count], found)
            answers = logits(found, held_out)
            agreement = float((answers.argmax(1) == expected.argmax(1)).mean())
            score = (agreement, -float(np.abs(answers - expected).mean()))
            if score > best_score:
                best_score = score
                for file in found.parent.iterdir():
                    shutil.copyfile(file, path.with_name(file.name))
                choices = {
                    "calibration": method,
                    "calibration_images": count,
                    "held_out_images": len(held_out),
                    "held_out_agreement": agreement,
                }
    return {**choices, "calibration_seconds": time.perf_counter() - begun}


class Reported(Generic[T]):
    """Images or batches, of which each is reported when it is taken: no calibration is silent for long."""

    def __init__(self, items: Collection[T], what: str) -> None:
        self._items, self._what = items, what

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        for number, item in enumerate(self._items, start=1):
            report.alive(f"{self._what} {number} of {len(self)}")
            yield item
