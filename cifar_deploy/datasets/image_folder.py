"""Anyone's images: train/<class>/*.png and test/<class>/*.png, in a directory or a .zip.

PNG, JPEG, WebP or BMP; any number of classes from two on; one image size. A zip is read in place: nothing is extracted.
Everything here is untrusted input. A file is decoded by Pillow's decoders of these four formats, whatever its suffix, and
never run or written. Sizes are looked at before anything is read or decoded.
"""

import hashlib
import io
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.core import limits, untrusted
from cifar_deploy.core.arrays import ImageSet
from cifar_deploy.core.errors import DataError, DeployError, UsageError
from cifar_deploy.core.progress import report
from cifar_deploy.datasets import Dataset

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
_SPLITS = ("train", "test")

# Left to choose by the content, Pillow starts Ghostscript for PostScript.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")

# No photograph is larger; a zip entry that claims to be is a bomb.
_LARGEST_FILE = 64 * 2**20

# 4,096×4,096: no network here trains on larger ones.
_MOST_PIXELS = 2**24

# Of all images, decoded: 23 times CIFAR-10. They lie in memory together.
_MOST_BYTES = 4 * 2**30
_MOST_BYTES_VARIABLE = "CIFAR_DEPLOY_DATA_LIMIT"

# zipfile lets the others inflate a few bytes to gigabytes at once.
_COMPRESSIONS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}

# In bytes: what a folder's name may have.
_LONGEST_CLASS = 255

_LAYOUT = "expected train/<class>/*.png (or jpg, webp, bmp) and test/<class>/..."


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A directory or a zip: its images, as paths from its root, and how to read one."""

    path: Path
    entries: tuple[PurePosixPath, ...]
    read: Callable[[PurePosixPath], bytes]


def identify(data_dir: Path | None) -> str:
    """A zip by its hash; a directory by the name, size and time of every image in it."""
    path = _given(data_dir)
    if not path.is_dir():
        return f"zip-{untrusted.sha256(path)[:16]}"
    listing = hashlib.sha256()
    for entry in _directory(path).entries:
        try:
            status = (path / entry).stat()
        except OSError as error:
            raise DataError(f"{path / entry}: cannot be read ({error.strerror}); mend or remove it") from error
        listing.update(f"{entry}\0{status.st_size}\0{status.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    return f"folder-{listing.hexdigest()[:16]}"


def load(data_dir: Path | None) -> ImageSet:
    """Every image, decoded to RGB, sorted by class and name. Raises DataError naming the first file that will not do."""
    path = _given(data_dir)
    source = _directory(path) if path.is_dir() else _zip(path)
    by_split = {split: _by_class(source, split) for split in _SPLITS}
    classes = tuple(sorted(by_split["train"]))
    _check_classes(path, classes, tuple(sorted(by_split["test"])))
    total = sum(len(entries) for split in by_split.values() for entries in split.values())
    decoder = _Decoder(source, total)
    train_images, train_labels = decoder.decode(by_split["train"], classes)
    test_images, test_labels = decoder.decode(by_split["test"], classes)
    return ImageSet(
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        classes=classes,
        source=f"images from {path.name}",
    )


def _given(data_dir: Path | None) -> Path:
    if data_dir is None:
        raise UsageError("--data-dir: missing; --dataset image_folder needs a directory or a .zip of images")
    untrusted.check_named(data_dir, _LAYOUT, "--data-dir")
    return data_dir


def _directory(path: Path) -> _Source:
    try:
        # Not by glob: it passes over a folder that it may not read, and a class would be missing.
        splits = [path / split for split in _SPLITS if (path / split).is_dir()]
        classes = [folder for split in splits for folder in split.iterdir() if folder.is_dir()]
        found = sorted(file.relative_to(path) for folder in classes for file in folder.iterdir() if _is_image(file))
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read ({error.strerror}); mend that") from error
    if not found:
        raise DataError(f"{path}: no images found; {_LAYOUT}")
    return _Source(
        path=path,
        entries=tuple(PurePosixPath(*entry.parts) for entry in found),
        read=lambda entry: _from_directory(path / entry),
    )


def _from_directory(path: Path) -> bytes:
    try:
        return untrusted.read_bytes(path, _LARGEST_FILE)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); mend or remove it") from error


def _zip(path: Path) -> _Source:
    try:
        archive = zipfile.ZipFile(untrusted.open_regular(path))
    except DeployError:
        raise
    except Exception as error:  # BadZipFile, and whatever a damaged name or number makes it raise
        raise DataError(f"{path}: is not a whole zip file ({error}); fetch it again") from error
    infos: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        entry = PurePosixPath(info.filename.replace("\\", "/"))
        if entry.is_absolute() or ".." in entry.parts or ":" in "".join(entry.parts[:1]):
            raise DataError(f"{path}: entry {info.filename!r} lies outside the archive; do not use this file")
        if info.is_dir() or not _is_image(entry) or entry.parts[0] == "__MACOSX":
            continue
        if info.file_size > _LARGEST_FILE:
            raise DataError(
                f"{path}: entry {info.filename} is {info.file_size:,} bytes; at most {_LARGEST_FILE:,} are read"
            )
        if info.compress_type not in _COMPRESSIONS:
            raise DataError(f"{path}: entry {info.filename} is neither stored nor deflated; zip the images again so")
        infos[entry] = info
    # Most people zip the folder that holds train/ and test/, some its content.
    top = {entry.parts[0] for entry in infos}
    prefix = PurePosixPath(*top) if len(top) == 1 and not top & set(_SPLITS) else PurePosixPath()
    inside = sorted(entry.relative_to(prefix) for entry in infos)
    wanted = tuple(entry for entry in inside if len(entry.parts) == 3 and entry.parts[0] in _SPLITS)
    if not wanted:
        raise DataError(f"{path}: no images found; {_LAYOUT}")

    def read(entry: PurePosixPath) -> bytes:
        info = infos[prefix / entry]
        try:
            # Without a number zipfile inflates all that is compressed, whatever size the entry claims.
            with archive.open(info) as member:
                return member.read(info.file_size)
        except MemoryError:
            raise
        except Exception as error:  # BadZipFile, zlib.error, and whatever damaged numbers make it raise
            raise DataError(f"{path}: entry {entry} cannot be read ({error}); fetch the file again") from error

    return _Source(path=path, entries=wanted, read=read)


def _is_image(path: Path | PurePosixPath) -> bool:
    return path.suffix.lower() in _SUFFIXES and not any(part.startswith(".") for part in path.parts[-3:])


def _by_class(source: _Source, split: str) -> dict[str, list[PurePosixPath]]:
    found: dict[str, list[PurePosixPath]] = {}
    for entry in source.entries:
        if entry.parts[0] == split:
            found.setdefault(entry.parts[1], []).append(entry)
    if not found:
        raise DataError(f"{source.path}: no images below {split}/; {_LAYOUT}")
    return found


def _check_classes(path: Path, train: tuple[str, ...], test: tuple[str, ...]) -> None:
    if len(train) < 2:
        raise DataError(f"{path}: has one class, {train[0]!r}; a classifier needs at least two folders below train/")
    for split, other, lacking in (("train", "test", set(test) - set(train)), ("test", "train", set(train) - set(test))):
        if lacking:
            raise DataError(
                f"{path}: {split}/ has no images of class {sorted(lacking)[0]!r}, which {other}/ has; add some"
            )
    for name in train:
        try:
            length = len(name.encode())
        except UnicodeEncodeError:
            raise DataError(f"{path}: the class name {name!r} is not UTF-8; rename the folder") from None
        if length > _LONGEST_CLASS:
            raise DataError(
                f"{path}: the class name {name[:20]!r}… is {length:,} bytes long; rename the folder, to at most "
                f"{_LONGEST_CLASS}"
            )


class _Decoder:
    """Turns entries into arrays, the first image's size being everyone's."""

    def __init__(self, source: _Source, total: int) -> None:
        self._source = source
        self._total = total
        self._done = 0
        self._first: tuple[PurePosixPath, tuple[int, ...]] | None = None

    def decode(
        self, by_class: dict[str, list[PurePosixPath]], classes: tuple[str, ...]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        labelled = [(entry, label) for label, name in enumerate(classes) for entry in by_class[name]]
        images: NDArray[np.uint8] | None = None
        for index, (entry, _) in enumerate(labelled):
            image = self._image(entry)
            if images is None:
                images = np.empty((len(labelled), *image.shape), np.uint8)
            images[index] = image
            self._done += 1
            report(self._done, self._total, "decoding images")
        assert images is not None
        return images, np.array([label for _, label in labelled], np.int64)

    def _image(self, entry: PurePosixPath) -> NDArray[np.uint8]:
        from PIL import Image, ImageOps, UnidentifiedImageError

        content = self._source.read(entry)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(io.BytesIO(content), formats=_FORMATS) as opened:
                    self._check_room(entry, *opened.size)
                    if opened.mode.startswith(("I", "F")) or ";16" in str(opened.tile):
                        raise DataError(f"{self._source.path}: {entry} has more than 8 bits a channel; convert it to 8")
                    image = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
        except (DeployError, MemoryError):
            raise
        except UnidentifiedImageError as error:
            raise DataError(
                f"{self._source.path}: {entry} is not a readable image (no PNG, JPEG, WebP or BMP); mend or remove it"
            ) from error
        except Exception as error:  # Pillow's plugins raise whatever they like on damaged files
            raise DataError(
                f"{self._source.path}: {entry} is not a readable image ({error}); mend or remove it"
            ) from error
        if self._first is None:
            self._first = (entry, image.shape)
        elif image.shape != self._first[1]:
            (first, (height, width, _)), (own_height, own_width, _) = self._first, image.shape
            raise DataError(
                f"{self._source.path}: {entry} is {own_width}×{own_height}, but {first} is {width}×{height}; "
                "bring all images to one size"
            )
        return image

    def _check_room(self, entry: PurePosixPath, width: int, height: int) -> None:
        """By what an image's header declares, before any of its pixels is decoded."""
        if width * height > _MOST_PIXELS:
            raise DataError(
                f"{self._source.path}: {entry} is {width:,}×{height:,}; at most {_MOST_PIXELS:,} pixels an image are "
                "decoded, make the images smaller"
            )
        wanted, most = self._total * width * height * 3, limits.from_environment(_MOST_BYTES_VARIABLE, _MOST_BYTES)
        if wanted > most:
            raise DataError(
                f"{self._source.path}: {self._total:,} images of {width:,}×{height:,} take {limits.shown(wanted)} of "
                f"memory, and {limits.shown(most)} are allowed; make them smaller, or set {_MOST_BYTES_VARIABLE}"
            )


DATASET = Dataset(
    summary="train/<class>/ and test/<class>/ of PNG, JPEG, WebP or BMP, in a directory or a .zip (--data-dir)",
    requires=("PIL",),
    identify=identify,
    load=load,
)
