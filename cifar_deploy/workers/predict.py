"""An artifact on a runtime -> the most likely classes of images. Nothing is timed.

The images are untrusted: each is decoded as a data set's images are, and one that cannot be read keeps no other from its
answer. It goes through the preprocessing of the artifact's data set.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cifar_deploy import devices
from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import files, trust, untrusted
from cifar_deploy.core.arrays import Logits, Pixels
from cifar_deploy.core.errors import Corrupt, DataError, LoadError, WrongOutput, loading, raised_as
from cifar_deploy.core.progress import report
from cifar_deploy.core.records import Artifact, Count, Data, Share
from cifar_deploy.core.store import set_apart
from cifar_deploy.datasets.image_decoder import bombs_refused, decoded
from cifar_deploy.datasets.image_files import LARGEST_FILE, Unreadable
from cifar_deploy.datasets.preprocessing import for_any_size, preprocessed
from cifar_deploy.formats import format_of, main_file

# Of images that are in memory together.
_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Likely:
    """A class that an image may be of."""

    label: str
    index: Count  # of the output
    probability: Share  # softmax of the logits


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The most likely classes of an image, the likeliest first; or why it cannot be read."""

    image: Path
    classes: tuple[Likely, ...] = ()
    resized: bool = False  # to the size of the data set's images, for which no preprocessing is recorded
    unreadable: str | None = None


def predict(
    artifact: Artifact,
    folder: Path,
    backend: str,
    threads: int,
    images: tuple[Path, ...],
    top: int,
    trusted: bool,
) -> tuple[Prediction, ...]:
    """The predictions in the order of the images, by the artifact whose files lie in `folder`.

    The files' hashes are checked before any parser sees them, and a program that this user did not export is not run
    unless `trusted`. Raises Corrupt, Untrusted, LoadError, or whatever the runtime raises while it runs.
    """
    plugin, format = BACKENDS[backend], format_of(artifact)
    found: list[Prediction] = []
    with files.temporary_folder() as alone:
        paths = set_apart(artifact, folder, alone)
        if format.is_program and not trusted:
            trust.check_files(paths, artifact.files)
        main = main_file(artifact, paths)
        plugin.import_runtime()
        devices.check(plugin.validated_on, plugin.requires)
        with loading(artifact.title, backend):
            run = plugin.load(main, artifact, plugin.targets[plugin.validated_on], threads)

        def logits_of(pixels: Pixels) -> Logits:
            with raised_as(
                lambda error: LoadError(f"{artifact.title}: {backend} fails ({type(error).__name__}: {error})")
            ):
                return np.asarray(run(format.prepare(pixels)))

        for start in range(0, len(images), _BATCH):
            report(start, len(images), "predicting")
            found += _predictions(images[start : start + _BATCH], artifact, logits_of, top)
    return tuple(found)


def _predictions(
    images: Sequence[Path], artifact: Artifact, logits_of: Callable[[Pixels], Logits], top: int
) -> Iterator[Prediction]:
    data = artifact.data
    assert data
    read = [_read(image, data) for image in images]
    pixels = [one.pixels for one in read if one.pixels is not None]
    logits = logits_of(np.stack(pixels)) if pixels else np.empty((0, len(data.classes)), np.float32)
    if logits.shape != (len(pixels), len(data.classes)) or not np.isfinite(logits).all():
        raise WrongOutput(
            f"{artifact.title}: answers with {logits.shape} for {len(pixels)} images of {len(data.classes)} classes, or "
            "with logits that are no numbers; run `cifar-deploy export --force`"
        )
    answers = iter(logits)
    for image, one in zip(images, read, strict=True):
        classes = _likeliest(next(answers), data.classes, top) if one.pixels is not None else ()
        yield Prediction(image=image, classes=classes, resized=one.resized, unreadable=one.fault)


@dataclass(frozen=True, kw_only=True)
class _Read:
    pixels: NDArray[np.uint8] | None = None  # (H, W, 3); None: it cannot be read
    resized: bool = False
    fault: str | None = None


def _read(path: Path, data: Data) -> _Read:
    """An image as the data set's images are."""
    steps = for_any_size(data)
    try:
        with bombs_refused():
            image = decoded(untrusted.read_bytes(path, LARGEST_FILE)).image
        resized = steps != data.preprocessing and image.size != (data.width, data.height)
        return _Read(pixels=np.asarray(preprocessed(image, steps)), resized=resized)
    except OSError as error:
        return _Read(fault=f"cannot be read ({error.strerror})")
    except (Unreadable, DataError) as error:
        return _Read(fault=str(error).partition(";")[0])
    except Corrupt as error:
        return _Read(fault=str(error).removeprefix(f"{path}: ").partition(";")[0])


def _likeliest(logits: NDArray[np.float32], labels: Sequence[str], top: int) -> tuple[Likely, ...]:
    """By softmax, in float64."""
    scores = np.exp(logits.astype(np.float64) - logits.max())
    return tuple(
        Likely(label=labels[index], index=int(index), probability=float(scores[index] / scores.sum()))
        for index in np.argsort(-logits, kind="stable")[:top]
    )
