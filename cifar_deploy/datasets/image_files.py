"""The files of an image folder: a directory or a zip, which of its files are images, and how one is read.

Everything here is untrusted input. A zip is read in place: nothing is extracted. Below each class folder the search goes
down as torchvision's `ImageFolder` does: through all folders, in sorted order, by suffix. A file or folder that is not
read is kept with the reason, so that nothing is left out silently.

Names in a zip are text by a rule: UTF-8 where the zip says so (a flag, or Info-ZIP's extra field), else UTF-8 where a name
is valid UTF-8, as macOS writes it unsaid, else code page 437, as the zip format says.
"""

import os
import stat
import struct
import unicodedata
import weakref
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias

from cifar_deploy.core import untrusted
from cifar_deploy.core.errors import DataError, by_reason

TRAIN = "train"
TESTS = ("test", "val", "valid")  # what the folder of the test images may be called; the first that is there is read

# Those of torchvision's ImageFolder, GIF, and other suffixes of the same formats: see image_decoder.FORMATS.
SUFFIXES = {
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp"),
    *(".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
}

LAYOUT = "expected train/<class>/*.png (or another image format) and test/<class>/..., or test/ alone"

# What macOS and Synology put beside files: images, some of them, but nobody's.
_OF_THE_SYSTEM = {"__MACOSX", "@eaDir"}

# No photograph is larger; a zip entry that claims to be is a bomb.
LARGEST_FILE = 64 * 2**20

# By links, few folders may be many: each is followed. Of the smallest images, 4 GiB are 1.4 million.
_MOST_FILES = 2**22
_DEEPEST = 50

# zipfile lets the others inflate a few bytes to gigabytes at once.
_COMPRESSIONS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}

# Of the zip format (APPNOTE 4.4.4, and 4.6.9: Info-ZIP's Unicode Path).
_IS_UTF_8 = 0x800
_IS_ENCRYPTED = 0x1
_UNICODE_PATH = 0x7075

_Kind: TypeAlias = Literal["file", "folder", "link"]


class Unreadable(Exception):
    """One image cannot be read; the text says why, in a few words."""


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """A directory's or a zip's, as paths from its root. `read` raises Unreadable, or Corrupt for a file of another kind."""

    path: Path
    splits: tuple[str, ...]  # the folders that are read; that of the test images is the last
    images: tuple[PurePosixPath, ...]  # as torchvision sorts them
    classes: tuple[PurePosixPath, ...]  # the folders <split>/<class>, those without images too
    not_read: Mapping[str, str]  # all else, with the reason; what lies in a folder that is not read counts as one
    guessed: frozenset[str]  # names of code page 437, or of another: nothing says which
    read: Callable[[PurePosixPath], bytes]

    @property
    def test(self) -> str:
        return self.splits[-1]

    def not_read_line(self, below: str = "") -> str:
        """How many are not read for which reason, with a few names; empty if all are read."""
        chosen = {name: reason for name, reason in self.not_read.items() if name.startswith(below)}
        return "; ".join(f"{count:,} {reason} ({names})" for reason, names, count in by_reason(chosen))


def find(path: Path) -> ImageFiles:
    """Those of train/ and test/. Raises DataError if the directory or the zip cannot be read, or holds two files of one name."""
    return _in_directory(path, _splits) if path.is_dir() else _in_zip(path, _splits)


def find_anywhere(path: Path) -> ImageFiles:
    """Those of all folders, which are no classes. Raises DataError as `find` does."""
    return _in_directory(path, lambda tops: ()) if path.is_dir() else _in_zip(path, lambda tops: ())


def _splits(tops: Collection[str]) -> tuple[str, ...]:
    """Which of the uppermost folders are read."""
    test = next((name for name in TESTS if name in tops), TESTS[0])
    return (test,) if test in tops and TRAIN not in tops else (TRAIN, test)


def _in_directory(path: Path, splits_of: Callable[[Collection[str]], tuple[str, ...]]) -> ImageFiles:
    try:
        with os.scandir(path) as entries:
            splits = splits_of([entry.name for entry in entries if entry.is_dir()])
        # Not by glob: it passes over a folder that it may not read, and a class would be missing.
        found = list(_walk(path, splits))
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read ({error.strerror}); mend that") from error

    def read(entry: PurePosixPath) -> bytes:
        try:
            return untrusted.read_bytes(path / entry, LARGEST_FILE)
        except OSError as error:
            raise Unreadable(f"cannot be read ({error.strerror})") from error

    return _sorted_out(path, splits, found, frozenset(), read)


def _walk(root: Path, splits: Collection[str]) -> Iterator[tuple[PurePosixPath, _Kind]]:
    """What lies in a folder and, of the splits, below it. Links are followed, unless they lead back up."""
    waiting = [(PurePosixPath(), frozenset[tuple[int, int]]())]
    count = 0
    while waiting:
        folder, above = waiting.pop()
        above |= {_identity((root / folder).stat())}
        with os.scandir(root / folder) as entries:
            for entry in entries:
                path = folder / entry.name
                count += 1
                if count > _MOST_FILES:
                    raise DataError(f"{root}: holds more than {_MOST_FILES:,} files, by its links too; give fewer")
                if not entry.is_dir():
                    yield path, "file"
                elif entry.is_symlink() and _identity(entry.stat()) in above:
                    yield path, "link"
                else:
                    yield path, "folder"
                    if not _not_read(path, splits)[1]:
                        waiting.append((path, above))


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _in_zip(path: Path, splits_of: Callable[[Collection[str]], tuple[str, ...]]) -> ImageFiles:
    file = untrusted.open_regular(path)
    try:
        archive = zipfile.ZipFile(file)
    except Exception as error:  # BadZipFile, and whatever a damaged name or number makes it raise
        file.close()
        remedy = "fetch it again" if path.suffix.lower() == ".zip" else "give a folder or a .zip"
        raise DataError(f"{path}: is not a whole zip file ({error}); {remedy}") from error
    weakref.finalize(archive, file.close)  # ZipFile leaves a file open that it was given
    guessed: set[str] = set()
    listed: list[tuple[PurePosixPath, _Kind, zipfile.ZipInfo]] = []
    for info in archive.infolist():
        name = _name(info, guessed).replace("\\", "/")
        entry = PurePosixPath(name)
        if entry.is_absolute() or ".." in entry.parts or ":" in "".join(entry.parts[:1]):
            raise DataError(f"{path}: entry {name!r} lies outside the archive; do not use this file")
        if entry.parts:
            listed.append((entry, _kind(info, name), info))
    prefix = _prefix(entry for entry, _, _ in listed)
    infos: dict[PurePosixPath, zipfile.ZipInfo] = {}
    found: list[tuple[PurePosixPath, _Kind]] = []
    for whole, kind, info in listed:
        entry = whole.relative_to(prefix) if prefix.parts and whole.is_relative_to(prefix) else whole
        if entry.parts:
            found.append((entry, kind))
            infos[entry] = info

    def read(entry: PurePosixPath) -> bytes:
        info = infos[entry]
        if info.flag_bits & _IS_ENCRYPTED:
            raise Unreadable("is encrypted")
        try:
            # Without a number zipfile inflates all that is compressed, whatever size the entry claims.
            with archive.open(info) as member:
                return member.read(info.file_size)
        except MemoryError:
            raise
        except Exception as error:  # BadZipFile, zlib.error, and whatever damaged numbers make it raise
            raise Unreadable(f"cannot be unzipped ({error})") from error

    splits = splits_of({entry.parts[0] for entry, kind in found if kind == "folder" or len(entry.parts) > 1})
    files = _sorted_out(path, splits, found, frozenset(guessed), read)
    for entry in files.images:
        info = infos[entry]
        if info.file_size > LARGEST_FILE:
            raise DataError(f"{path}: entry {entry} is {info.file_size:,} bytes; at most {LARGEST_FILE:,} are read")
        if info.compress_type not in _COMPRESSIONS:
            raise DataError(f"{path}: entry {entry} is neither stored nor deflated; zip the images again so")
    return files


def _name(info: zipfile.ZipInfo, guessed: set[str]) -> str:
    """An entry's name, by the rule of this module. A part of it that is code page 437 is added to `guessed`."""
    # zipfile reads unflagged names as code page 437, which has a character for each byte.
    name = info.orig_filename.partition("\0")[0]
    if info.flag_bits & _IS_UTF_8:
        return name
    raw = name.encode("cp437")
    if (said := _unicode_path(info.extra, raw)) is not None:
        return said
    parts = []
    for part in raw.split(b"/"):
        try:
            parts.append(part.decode())
        except UnicodeDecodeError:
            parts.append(part.decode("cp437"))
            guessed.add(parts[-1])
    return "/".join(parts)


def _unicode_path(extra: bytes, raw: bytes) -> str | None:
    """The name in Info-ZIP's extra field, if that field is of this very name."""
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind != _UNICODE_PATH or len(field) < 5:
            continue
        version, checksum = struct.unpack("<BL", field[:5])
        if version == 1 and checksum == zlib.crc32(raw):
            try:
                return field[5:].decode().partition("\0")[0] or None
            except UnicodeDecodeError:
                return None
    return None


def _kind(info: zipfile.ZipInfo, name: str) -> _Kind:
    if name.endswith("/"):
        return "folder"
    return "link" if stat.S_ISLNK(info.external_attr >> 16) else "file"


def _prefix(entries: Iterable[PurePosixPath]) -> PurePosixPath:
    """Most people zip the folder that holds train/ and test/, some its content."""
    entries = list(entries)
    splits = {TRAIN, *TESTS}
    if any(entry.parts[0] in splits for entry in entries):
        return PurePosixPath()
    tops = {entry.parts[0] for entry in entries if entry.parts[1:2] and entry.parts[1] in splits} - _OF_THE_SYSTEM
    return PurePosixPath(*tops) if len(tops) == 1 else PurePosixPath()


def _sorted_out(
    path: Path,
    splits: tuple[str, ...],
    found: Iterable[tuple[PurePosixPath, _Kind]],
    guessed: frozenset[str],
    read: Callable[[PurePosixPath], bytes],
) -> ImageFiles:
    """By their names alone. Raises DataError for two files of one name."""
    images: dict[str, PurePosixPath] = {}
    folders: set[PurePosixPath] = set()
    holding: set[PurePosixPath] = set()  # folders that are not empty
    not_read: dict[str, str] = {}
    for whole, kind in found:
        entry, reason = _not_read(whole, splits)
        if entry.parent not in holding:
            holding.update(entry.parents)
        if reason:
            is_folder = kind == "folder" or entry != whole
            not_read[f"{entry}/" if is_folder else str(entry)] = reason
        elif kind == "folder":
            folders.add(entry)
        elif kind == "link":
            not_read[str(entry)] = "linked"
        elif splits and len(entry.parts) < 3:
            not_read[str(entry)] = "in no class folder"
        elif entry.suffix.lower() not in SUFFIXES:
            not_read[str(entry)] = "with another suffix"
        elif (other := images.setdefault(f"{entry.parent}/{one_spelling(entry.name)}", entry)) is not entry:
            raise DataError(f"{path}: {two_names(str(other), str(entry))} are one name of two files; rename one")
    folders |= holding
    for folder in folders - holding:
        if splits and len(folder.parts) > 2:
            not_read[f"{folder}/"] = "empty"
    return ImageFiles(
        path=path,
        splits=splits,
        images=tuple(sorted(images.values(), key=lambda entry: (str(entry.parent), entry.name))),
        classes=tuple(sorted(folder for folder in folders if len(folder.parts) == 2)),
        not_read=dict(sorted(not_read.items())),
        guessed=guessed,
        read=read,
    )


def _not_read(entry: PurePosixPath, splits: Collection[str]) -> tuple[PurePosixPath, str | None]:
    """The path; or the uppermost folder in it that is not read, or a hidden file, with the reason."""
    if splits and entry.parts[0] not in splits:
        return PurePosixPath(entry.parts[0]), f"beside {' and '.join(f'{split}/' for split in splits)}"
    for length, name in enumerate(entry.parts, 1):
        if name.startswith(".") or name in _OF_THE_SYSTEM:
            return PurePosixPath(*entry.parts[:length]), "hidden"
        if length > _DEEPEST:
            return PurePosixPath(*entry.parts[:length]), f"more than {_DEEPEST} folders deep"
    return entry, None


def one_spelling(name: str) -> str:
    """The same for names that look the same: macOS may store ö as o and two dots, and others as one character."""
    return unicodedata.normalize("NFC", name)


def two_names(first: str, second: str) -> str:
    """Both, so that they can be told apart even where they look the same."""
    return f"{first!r} and {second!r}" if first == second else f"{first!a} and {second!a}"
