"""CIFAR-10 (Krizhevsky 2009), the original files, found through torchvision's address and checksums.

The batches are pickles, so each is read only if its bytes have the md5 that torchvision states for it, and then by an
unpickler that knows arrays and nothing else. Before the md5 is known, no more is read or decompressed than the original
files hold.
"""

import gzip
import hashlib
import io
import pickle
import tarfile
import threading
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cifar_deploy.core import untrusted
from cifar_deploy.core.arrays import ImageSet
from cifar_deploy.core.errors import DataError
from cifar_deploy.core.progress import report
from cifar_deploy.datasets import AS_IS, Dataset, Preparation

# Seconds without a byte after which a download has failed.
_SILENCE_S = 60.0

# The archive's size, for the progress bar alone.
_ARCHIVE_BYTES = 170_498_071

# The largest of the original files has 31.04 MB, and all of them with the archive's headers 186.2 MB.
_LARGEST_FILE = 32_000_000
_LARGEST_ARCHIVE = 200_000_000

_ELSEWHERE = "give --data-dir with cifar-10-python.tar.gz or its folder, or try --dataset digits"

# Everything that the official batches refer to, under the names of old and new numpy.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise DataError(f"CIFAR-10: a batch refers to {module}.{name}, which no batch needs; it is not read")
        return super().find_class(module, name)


def identify(data_dir: Path | None) -> str:
    """The same for every copy: a copy that differs fails its md5."""
    if data_dir is not None:
        _place(data_dir)
    return "cifar10"


def load(data_dir: Path | None, preparation: Preparation = AS_IS) -> ImageSet:
    """50,000 training and 10,000 test images, 32x32, in the official order."""
    from torchvision.datasets import CIFAR10

    if data_dir is None:
        from cifar_deploy.core import cache

        data_dir = cache.folder() / "downloads"
        _download(CIFAR10.url, CIFAR10.filename, CIFAR10.tgz_md5, data_dir)
    train = [name for name, _ in CIFAR10.train_list]
    test = [name for name, _ in CIFAR10.test_list]
    meta = CIFAR10.meta["filename"]
    md5s = {**dict(CIFAR10.train_list), **dict(CIFAR10.test_list), meta: CIFAR10.meta["md5"]}
    batches: dict[str, dict[str, Any]] = {}
    for name, content in _contents(_place(data_dir), md5s):
        batches[name] = _unpickled(name, content, md5s[name])
        report(len(batches), len(md5s), f"reading {name}")
    return ImageSet(
        train_images=_images([batches[name] for name in train]),
        train_labels=_labels([batches[name] for name in train]),
        test_images=_images([batches[name] for name in test]),
        test_labels=_labels([batches[name] for name in test]),
        classes=tuple(batches[meta]["label_names"]),
        source="CIFAR-10, the original files",
    )


def _place(data_dir: Path) -> Path:
    """The folder of the batches, or the archive, in `data_dir` or that is `data_dir`."""
    untrusted.check_named(data_dir, _ELSEWHERE, "--data-dir")
    for folder in (data_dir / "cifar-10-batches-py", data_dir):
        if (folder / "data_batch_1").exists():
            return folder
    for archive in (data_dir / "cifar-10-python.tar.gz", data_dir):
        if archive.exists() and not archive.is_dir():
            return archive
    has_splits = any((data_dir / split).is_dir() for split in ("train", "test"))
    remedy = "for images of your own add --dataset image_folder" if has_splits else _ELSEWHERE
    raise DataError(f"--data-dir: {data_dir} holds no CIFAR-10 (no cifar-10-batches-py, no archive); {remedy}")


def _contents(place: Path, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Each of these files with its content, in any order. Raises DataError if one is missing or too large."""
    if not place.is_dir():
        yield from _from_archive(place, set(names))
        return
    for name in names:
        try:
            yield name, untrusted.read_bytes(place / name, _LARGEST_FILE)
        except OSError as error:
            raise DataError(f"{place / name}: cannot be read ({error.strerror}); fetch CIFAR-10 again") from error


def _from_archive(archive: Path, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    """In one pass, which ends with the last file that is wanted: what follows is not decompressed."""
    try:
        with (
            untrusted.open_regular(archive) as file,
            gzip.GzipFile(fileobj=file) as content,
            tarfile.open(fileobj=_Bounded(content, archive), mode="r|") as tar,
        ):
            while wanted and (member := tar.next()):
                name = member.name.removeprefix("cifar-10-batches-py/")
                if name not in wanted or name == member.name or not member.isreg():
                    continue
                if not 0 <= member.size <= _LARGEST_FILE:
                    raise DataError(
                        f"{archive}: {name} is {member.size:,} bytes, and the original less than {_LARGEST_FILE:,}; "
                        "fetch CIFAR-10 again"
                    )
                batch = tar.extractfile(member)
                assert batch
                wanted.remove(name)
                yield name, batch.read(member.size)
    except (OSError, EOFError, tarfile.TarError, zlib.error, ValueError, RecursionError) as error:
        names = ", ".join(sorted(wanted))
        raise DataError(f"{archive}: {names} cannot be read from it ({error}); fetch CIFAR-10 again") from error
    if wanted:
        raise DataError(f"{archive}: holds no {', '.join(sorted(wanted))}; fetch CIFAR-10 again")


class _Bounded(io.RawIOBase):
    """A decompressed archive, of which no more is read than the original one holds: 13 MB may decompress to gigabytes."""

    def __init__(self, content: gzip.GzipFile, archive: Path) -> None:
        self._content = content
        self._archive = archive
        self._left = _LARGEST_ARCHIVE

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > self._left:
            raise DataError(
                f"{self._archive}: holds more than {_LARGEST_ARCHIVE:,} bytes, and so is not the original; "
                "fetch CIFAR-10 again"
            )
        self._left -= size
        return self._content.read(size)


def _unpickled(name: str, content: bytes, md5: str) -> dict[str, Any]:
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise DataError(
            f"CIFAR-10 {name}: md5 is {found}, not {md5}; the copy is damaged or not the original, fetch it again"
        )
    value: dict[str, Any] = _ArraysOnly(io.BytesIO(content), encoding="latin1").load()
    return value


def _images(batches: list[dict[str, Any]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Rows of 3072 bytes, red, green, then blue -> (N, 32, 32, 3)."""
    rows = np.concatenate([batch["data"] for batch in batches])
    return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _labels(batches: list[dict[str, Any]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.concatenate([np.asarray(batch["labels"], dtype=np.int64) for batch in batches])


def _download(url: str, filename: str, md5: str, folder: Path) -> None:
    """The archive, by torchvision, which checks its md5 and downloads nothing that is there and whole."""
    import socket

    from torchvision.datasets.utils import download_url

    socket.setdefaulttimeout(_SILENCE_S)
    folder.mkdir(parents=True, exist_ok=True)
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(folder / filename, over), daemon=True)
    watch.start()
    try:
        download_url(url, str(folder), filename, md5)
    except Exception as error:  # urllib, ssl, socket and torchvision each raise their own
        raise DataError(f"CIFAR-10: the download from {url} failed ({error}); {_ELSEWHERE}") from error
    finally:
        over.set()
        watch.join()


def _watch(file: Path, over: threading.Event) -> None:
    while not over.wait(0.5):
        if file.exists():
            report(min(file.stat().st_size, _ARCHIVE_BYTES - 1), _ARCHIVE_BYTES, "downloading CIFAR-10")


DATASET = Dataset(
    summary="the original 60,000 images; downloaded (170 MB) and md5-checked, or read from --data-dir",
    requires=("torchvision",),
    identify=identify,
    load=load,
)
