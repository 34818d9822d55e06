"""CIFAR-10 (Krizhevsky 2009), the original files, found through torchvision's address and checksums.

The batches are pickles, so each is read only if its bytes have the md5 that torchvision states for it, and then by an
unpickler that knows arrays and nothing else.
"""

import hashlib
import io
import pickle
import tarfile
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cifar_deploy.core.arrays import ImageSet
from cifar_deploy.core.errors import DataError
from cifar_deploy.core.progress import report
from cifar_deploy.datasets import Dataset

# Seconds without a byte after which a download has failed.
_SILENCE_S = 60.0

# The archive's size, for the progress bar alone.
_ARCHIVE_BYTES = 170_498_071

_ELSEWHERE = "give --data-dir with cifar-10-python.tar.gz or its folder, or try --dataset digits"

# Everything that the official batches refer to, under the names of old and new numpy.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}

Read = Callable[[str], bytes]  # a batch's name -> its bytes


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise DataError(f"CIFAR-10: a batch refers to {module}.{name}, which no batch needs; it is not read")
        return super().find_class(module, name)


def identify(data_dir: Path | None) -> str:
    """The same for every copy: a copy that differs fails its md5."""
    if data_dir is not None:
        _reader(data_dir)
    return "cifar10"


def load(data_dir: Path | None) -> ImageSet:
    """50,000 training and 10,000 test images, 32x32, in the official order."""
    from torchvision.datasets import CIFAR10

    if data_dir is None:
        from cifar_deploy.core import cache

        data_dir = cache.folder() / "downloads"
        _download(CIFAR10.url, CIFAR10.filename, CIFAR10.tgz_md5, data_dir)
    read = _reader(data_dir)
    lists = [*CIFAR10.train_list, *CIFAR10.test_list]
    batches = []
    for done, (name, md5) in enumerate(lists):
        report(done, len(lists), f"reading {name}")
        batches.append(_unpickled(name, read(name), md5))
    meta = _unpickled(CIFAR10.meta["filename"], read(CIFAR10.meta["filename"]), CIFAR10.meta["md5"])
    report(len(lists), len(lists))
    train, test = batches[: len(CIFAR10.train_list)], batches[len(CIFAR10.train_list) :]
    return ImageSet(
        train_images=_images(train),
        train_labels=_labels(train),
        test_images=_images(test),
        test_labels=_labels(test),
        classes=tuple(meta["label_names"]),
        source="CIFAR-10, the original files",
    )


def _reader(data_dir: Path) -> Read:
    """A function that reads a batch from the folder or the archive in `data_dir` (or that is `data_dir`)."""
    if not data_dir.exists():
        raise DataError(f"--data-dir: {data_dir} does not exist; {_ELSEWHERE}")
    for folder in (data_dir / "cifar-10-batches-py", data_dir):
        if (folder / "data_batch_1").exists():
            return lambda name: _from_folder(folder, name)
    for archive in (data_dir / "cifar-10-python.tar.gz", data_dir):
        if archive.is_file():
            return lambda name: _from_archive(archive, name)
    raise DataError(f"--data-dir: {data_dir} holds no CIFAR-10 (no cifar-10-batches-py, no archive); {_ELSEWHERE}")


def _from_folder(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise DataError(f"{folder / name}: cannot be read ({error.strerror}); fetch CIFAR-10 again") from error


def _from_archive(archive: Path, name: str) -> bytes:
    try:
        with tarfile.open(archive) as tar:
            member = tar.extractfile(f"cifar-10-batches-py/{name}")
            assert member is not None
            return member.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error, KeyError, AssertionError) as error:
        raise DataError(f"{archive}: {name} cannot be read from it ({error}); fetch CIFAR-10 again") from error


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
