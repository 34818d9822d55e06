"""Anyone's images: train/<class>/*.png and test/<class>/*.png, or the test images alone, in a directory or a .zip.

PNG, JPEG, WebP, BMP, GIF, TIFF or PPM; two classes or more; one image size, or any size with a preprocessing that brings
all images to one. Everything here is untrusted input. Pillow's decoders of these formats read a file, whatever its suffix. It
is never run or written.
"""

import contextlib
import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.core import untrusted
from cifar_deploy.core.arrays import ImageSet, Pixels
from cifar_deploy.core.errors import DataError, UsageError, few
from cifar_deploy.datasets import AS_IS, Dataset, Preparation, image_files
from cifar_deploy.datasets.image_decoder import Decoder
from cifar_deploy.datasets.image_files import LAYOUT, TESTS, TRAIN, ImageFiles, one_spelling, two_names

# The way in which files become pixels. Another number leaves behind what lies in the cache: 1 turned images by EXIF.
_READING = 2

# In bytes: what a folder's name may have.
_LONGEST_CLASS = 255


def identify(data_dir: Path | None) -> str:
    """A zip by its hash; a directory by the name, size and time of every image in it, and the names of what is not read."""
    path = _given(data_dir)
    if not path.is_dir():
        return f"zip{_READING}-{untrusted.sha256(path)[:16]}"
    files = image_files.find(path)
    listing = hashlib.sha256()
    for entry in files.images:
        size, written_ns = 0, 0  # of one that is not there, as a link may lead to none: reading it will say so
        with contextlib.suppress(OSError):
            status = (path / entry).stat()
            size, written_ns = status.st_size, status.st_mtime_ns
        _add(listing, entry, size, written_ns)
    for name in (*files.classes, *files.not_read):
        _add(listing, name)
    return f"folder{_READING}-{listing.hexdigest()[:16]}"


def load(data_dir: Path | None, preparation: Preparation = AS_IS) -> ImageSet:
    """Every image, decoded to RGB and preprocessed, sorted by class and name. There may be no training images.

    Raises DataError naming the first files that will not do.
    """
    files = image_files.find(_given(data_dir))
    by_split = _by_class(files, least=1 if preparation.classes else 2)
    classes = tuple(sorted(by_split[files.test]))
    decoder = Decoder(files, preparation)
    found = {split: _Split(split, classes, by_class, decoder) for split, by_class in by_split.items()}
    decoder.check()
    test = found[files.test]
    train = found.get(TRAIN)
    return ImageSet(
        train_images=train.images(files) if train else np.empty((0, *test.made.pixels.shape[1:]), np.uint8),
        train_labels=train.labels if train else np.empty(0, np.int64),
        test_images=test.images(files),
        test_labels=test.labels,
        classes=classes,
        source=f"images from {files.path.name}",
        train_names=train.names if train else (),
        test_names=test.names,
        warnings=tuple(
            filter(None, (_not_read(files), _test_split(files), *decoder.warnings(), _guessed(files, classes)))
        ),
        preprocessing=preparation.preprocessing,
    )


class _Split:
    """The images of a split, decoded; those that could not be are left out."""

    def __init__(
        self, split: str, classes: Sequence[str], by_class: Mapping[str, Sequence[PurePosixPath]], decoder: Decoder
    ) -> None:
        self._split, self._classes = split, classes
        entries = [entry for name in classes for entry in by_class[name]]
        self.made = decoder.decode(entries)
        self.labels = _labels(len(by_class[name]) for name in classes)[self.made.kept]
        self.names = tuple(str(entry) for entry, kept in zip(entries, self.made.kept, strict=True) if kept)

    def images(self, files: ImageFiles) -> Pixels:
        """Raises DataError if a class has none."""
        if lacking := sorted({*range(len(self._classes))} - {*self.labels.tolist()}):
            raise DataError(
                f"{files.path}: no image of {self._split}/{self._classes[lacking[0]]}/ can be read; add some, or remove the "
                "folder"
            )
        return self.made.compact()


def _given(data_dir: Path | None) -> Path:
    if data_dir is None:
        raise UsageError("--data-dir: missing; --dataset image_folder needs a directory or a .zip of images")
    untrusted.check_named(data_dir, LAYOUT, "--data-dir")
    return data_dir


def _add(listing: "hashlib._Hash", *facts: object) -> None:
    listing.update("".join(f"{fact}\0" for fact in facts).encode("utf-8", "surrogateescape"))


def _labels(counts: Iterable[int]) -> NDArray[np.int64]:
    counts = list(counts)
    return np.repeat(np.arange(len(counts), dtype=np.int64), counts)


def _not_read(files: ImageFiles) -> str | None:
    line = files.not_read_line()
    return f"not read: {line}" if line else None


def _test_split(files: ImageFiles) -> str | None:
    return None if files.test == TESTS[0] else f"the test images are those of {files.test}/"


def _guessed(files: ImageFiles, classes: tuple[str, ...]) -> str | None:
    names = [name for name in classes if name in files.guessed]
    return (
        f"the zip does not say how its names are encoded; class names read as code page 437: {few(names)}"
        if names
        else None
    )


def _by_class(files: ImageFiles, least: int) -> dict[str, dict[str, list[PurePosixPath]]]:
    """Of each split, the images of each class; if there are two, both have the same classes.

    Raises DataError if they do not, if a class has no images, or if there are fewer than `least` classes.
    """
    path = files.path
    if not files.images:
        raise DataError(f"{path}: no images found{_instead(files)}; {LAYOUT}")
    names = _class_names(files)
    found: dict[str, dict[str, list[PurePosixPath]]] = {
        split: {names[folder]: [] for folder in files.classes if folder.parts[0] == split} for split in files.splits
    }
    for entry in files.images:
        found[entry.parts[0]][names[PurePosixPath(*entry.parts[:2])]].append(entry)
    for split in files.splits:
        if not any(found[split].values()):
            raise DataError(f"{path}: no images below {split}/{_instead(files)}; {LAYOUT}")
    for folder in files.classes:
        if not found[folder.parts[0]][names[folder]]:
            raise DataError(
                f"{path}: no images in {folder}/{_instead(files, f'{folder}/')}; add some, or remove the folder"
            )
    if len(test := found[files.test]) < least and len(found[files.splits[0]]) < least:
        raise DataError(
            f"{path}: has one class, {next(iter(test))!r}; a classifier needs at least two folders below "
            f"{files.splits[0]}/"
        )
    for split, other in itertools.permutations(files.splits, 2):
        if lacking := sorted(found[other].keys() - found[split]):
            raise DataError(f"{path}: {_lacking(split, found[split].keys() - found[other], other, lacking)}")
    return found


def _instead(files: ImageFiles, below: str = "") -> str:
    line = files.not_read_line(below)
    return f" (not read: {line})" if line else ""


def _class_names(files: ImageFiles) -> dict[PurePosixPath, str]:
    """Of each class folder. A class whose folders are spelled in two ways has the name in Unicode's composed form."""
    spellings: dict[str, set[str]] = {}
    alike: dict[tuple[str, str], PurePosixPath] = {}
    for folder in files.classes:
        split, name = folder.parts
        _check_name(files.path, name)
        spellings.setdefault(one_spelling(name), set()).add(name)
        other = alike.setdefault((split, one_spelling(name).strip()), folder)
        if other != folder:
            raise DataError(
                f"{files.path}: {split}/ has two folders whose names look alike, {two_names(other.name, name)}; rename one"
            )
    chosen = {one: name if len(those) == 1 else one for one, those in spellings.items() for name in those}
    return {folder: chosen[one_spelling(folder.name)] for folder in files.classes}


def _check_name(path: Path, name: str) -> None:
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        raise DataError(f"{path}: the class name {name!r} is not UTF-8; rename the folder") from None
    if length > _LONGEST_CLASS:
        raise DataError(
            f"{path}: the class name {name[:20]!r}… is {length:,} bytes long; rename the folder, to at most "
            f"{_LONGEST_CLASS}"
        )


def _lacking(split: str, alone: Iterable[str], other: str, lacking: list[str]) -> str:
    """Classes that a split lacks, in words. `alone` are those that it alone has: one may be the same, written otherwise."""
    name = lacking[0]
    near = {one_spelling(one).strip().casefold(): one for one in alone}.get(one_spelling(name).strip().casefold())
    if near is not None:
        return f"{split}/ has the class {near!r} and {other}/ has {name!r}; give both folders one name"
    if len(lacking) > 1:
        named = few([repr(one) for one in lacking])
        return f"{split}/ has no images of {len(lacking):,} classes that {other}/ has ({named}); add some"
    return f"{split}/ has no images of class {name!r}, which {other}/ has; add some"


DATASET = Dataset(
    summary="train/<class>/ and test/<class>/ of PNG, JPEG, WebP, BMP, GIF, TIFF or PPM, in a directory or a .zip (--data-dir)",
    requires=("PIL",),
    identify=identify,
    load=load,
)
