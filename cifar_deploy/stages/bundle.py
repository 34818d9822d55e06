"""The results of a device in one file, to take home: what `cifar-deploy import` reads.

results.jsonl    as in reports/: see core.journal
raw/NAME.npz     the samples and predictions behind it

A folder that holds the same is read as well. Whatever is read is somebody else's: of a zip, only these members, none of
them encrypted, a link, there twice, or larger than it says.
"""

import contextlib
import os
import re
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cifar_deploy.core import files, machine, packs, untrusted
from cifar_deploy.core.errors import Corrupt, DeployError, one_line
from cifar_deploy.core.store import Store
from cifar_deploy.stages.results import fault

SUFFIX = ".results.zip"

_RESULTS = "results.jsonl"
_MEMBER = re.compile(r"raw/[A-Za-z0-9][A-Za-z0-9_-]{0,99}\.npz")

# Of all that a device has measured in weeks: 24 results are 25 kB.
_LARGEST_FILE = 2**29
_LARGEST_RESULTS = 2**26
_LARGEST_RAW = 2**26
_MOST_MEMBERS = 2**16 - 1

# Of the zip format (APPNOTE 4.3.16, 4.3.15 and 4.4.4).
_END, _END_OF_64, _IS_ENCRYPTED = b"PK\x05\x06", b"PK\x06\x07", 0x1
_END_FIELDS = struct.Struct("<4s4H2LH")
_BYTES_A_MEMBER = 256  # in the list of members, with a name of ours
_MAGIC = (b"PK\x03\x04", _END)


@dataclass(frozen=True)
class Bundle:
    """Results that lie somewhere else. `copy` writes the raw file of a name to a path; it raises Corrupt."""

    results: Path
    copy: Callable[[str, Path], None]


def write(store: Store, place: Path) -> Path:
    """Write all results of the store, with what lies behind them, to `place`: a file, or a folder for one."""
    pack = packs.here()
    name = "-".join(filter(None, [machine.machine().title, pack.id if pack else ""]))
    path = place / f"{name}{SUFFIX}" if place.is_dir() else place
    with files.atomic_write(path) as part, _zip(part) as bundle:
        bundle.write(store.results_path, store.results_path.name)
        measured = {run.measurement.raw: run.measurement for run in store.lines(fault).runs if run.measurement}
        for raw_name, measurement in measured.items():
            if raw_name and store.has_samples(measurement):
                raw = store.raw_path(raw_name)
                bundle.write(raw, f"raw/{raw.name}", zipfile.ZIP_STORED)  # an .npz is deflated already
    return path


def _zip(path: Path) -> zipfile.ZipFile:
    """A device's clock may say 1970, and a zip knows of nothing before 1980."""
    return zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Bundle]:
    """What `write` wrote, an output folder, its reports/, or a results.jsonl with raw/ beside it.

    Raises Corrupt for anything else, and for a file above the size limits.
    """
    if path.is_dir():
        yield _in_folder(_folder_of(path), _RESULTS)
        return
    with untrusted.open_regular(path) as file:
        is_zip = file.read(4) in _MAGIC
    if not is_zip:
        yield _in_folder(path.parent, path.name, path)
        return
    with files.temporary_folder() as aside, untrusted.open_regular(path) as file:
        archive = _archive(path, file)

        def copy(name: str, to: Path) -> None:
            to.write_bytes(_read(path, archive, name))

        results = aside / _RESULTS
        with files.errors_named(results):
            copy(_RESULTS, results)
        yield Bundle(results, lambda raw, to: copy(f"raw/{raw}.npz", to))


def _folder_of(path: Path) -> Path:
    """Where results.jsonl lies, in a folder that may be an output folder."""
    for folder in (path / "reports", path):
        if os.path.lexists(folder / _RESULTS):
            return folder
    raise Corrupt(f"{path}: holds no {_RESULTS}; give the folder that does, or a *{SUFFIX}")


def _in_folder(folder: Path, name: str, given: Path | None = None) -> Bundle:
    """`given` is the file itself, where the command line names that: it may be a link."""
    results = given or untrusted.inside(folder, name)
    _check_size(results, _LARGEST_RESULTS)

    def copy(raw: str, to: Path) -> None:
        try:
            content = untrusted.read_bytes(untrusted.inside(folder / "raw", f"{raw}.npz"), _LARGEST_RAW)
        except OSError as error:
            raise Corrupt(f"its raw file cannot be read ({error.strerror})") from error
        to.write_bytes(content)

    return Bundle(results, copy)


def _check_size(path: Path, most_bytes: int) -> None:
    with untrusted.open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
    if size > most_bytes:
        raise Corrupt(f"{path}: is {size:,} bytes, and at most {most_bytes:,} are read; give a smaller one")


def _archive(path: Path, file: BinaryIO) -> zipfile.ZipFile:
    """Its members are looked at: each is as `write` may have written it."""
    _check_size(path, _LARGEST_FILE)
    _check_list(path, file)
    with _errors_named(path):
        archive = zipfile.ZipFile(file)
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        if reason := _why_not(member, members):
            name = one_line(member.orig_filename, 80)
            raise Corrupt(f"{path}: its member {name!r} {reason}; do not use this file")
        members[member.filename] = member
    if _RESULTS not in members:
        raise Corrupt(f"{path}: holds no {_RESULTS}; give a *{SUFFIX}")
    declared = sum(member.file_size for member in members.values())
    if declared > _LARGEST_FILE:
        raise Corrupt(f"{path}: holds {declared:,} bytes, and at most {_LARGEST_FILE:,} are read; do not use this file")
    return archive


def _check_list(path: Path, file: BinaryIO) -> None:
    """Before zipfile reads the whole list of members: that it is of a size that fits their number."""
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - _END_FIELDS.size - 20))
    end = file.read()
    fields = end[-_END_FIELDS.size :]
    if len(fields) < _END_FIELDS.size or not fields.startswith(_END):
        raise Corrupt(f"{path}: is cut off, or has something behind its end; fetch it again")
    _, _, _, _, count, list_bytes, _, _ = _END_FIELDS.unpack(fields)
    if end.startswith(_END_OF_64) or list_bytes > (count + 1) * _BYTES_A_MEMBER or count >= _MOST_MEMBERS:
        raise Corrupt(f"{path}: lists more than {_MOST_MEMBERS:,} members, or long ones; do not use this file")


def _why_not(member: zipfile.ZipInfo, before: Mapping[str, zipfile.ZipInfo]) -> str | None:
    name, kind = member.orig_filename, stat.S_IFMT(member.external_attr >> 16)
    if name == "raw/" and not member.file_size and kind in (0, stat.S_IFDIR):
        return None  # as zip programs add it
    if name != _RESULTS and not _MEMBER.fullmatch(name):
        return f"is neither {_RESULTS} nor raw/NAME.npz"
    if name in before:
        return "is there twice"
    if kind not in (0, stat.S_IFREG):
        return "is no regular file"
    if member.flag_bits & _IS_ENCRYPTED:
        return "is encrypted"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is neither stored nor deflated"  # the others inflate without a bound
    most = _LARGEST_RESULTS if name == _RESULTS else _LARGEST_RAW
    return f"is {member.file_size:,} bytes, and at most {most:,} are read" if member.file_size > most else None


def _read(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    """A member. zipfile reads no more than the size that it declares, and checks its checksum at the end."""
    if name not in archive.NameToInfo:
        raise Corrupt("its raw file is not in the zip")
    with _errors_named(path):
        return archive.read(name)


@contextlib.contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    """Whatever reading a zip raises is raised as Corrupt."""
    try:
        yield
    except DeployError:
        raise
    except Exception as error:  # zipfile and zlib raise much on damaged bytes
        raise Corrupt(f"{path}: is damaged ({one_line(str(error), 80)}); fetch it again") from error
