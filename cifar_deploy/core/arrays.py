"""The arrays, by numpy alone: a worker that measures a small runtime must not pay for a large library."""

import io
import math
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cifar_deploy.core import untrusted
from cifar_deploy.core.errors import Corrupt, DeployError
from cifar_deploy.core.records import Preprocessing, Tensor

Pixels: TypeAlias = NDArray[np.uint8]  # (N, H, W, 3), 0..255, red first: as files give them and as they are stored
Labels: TypeAlias = NDArray[np.int64]  # (N,)
Images: TypeAlias = NDArray[np.float32]  # (N, 3, H, W) in [0, 1]: as every network takes them
Logits: TypeAlias = NDArray[np.float32]  # (N, classes)

# Host arrays in, host arrays out: Images, or Pixels where the artifact takes those.
Predict: TypeAlias = Callable[[NDArray[Any]], Logits]

Arrays: TypeAlias = Sequence[NDArray[Any]]  # what a file takes, in its order

# The types of numbers that inputs are made of. Each backend translates its runtime's words into these.
NUMBERS = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)

# Of all random arrays together, as of 64 images of 32×32: they lie in the memory that is measured.
_RANDOM_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """A data set in memory (or mapped from disk)."""

    train_images: Pixels
    train_labels: Labels
    test_images: Pixels
    test_labels: Labels
    classes: tuple[str, ...]
    source: str  # where the images came from, for people
    train_names: Sequence[str] = ()  # of the images' files, in the images' order, where they have some
    test_names: Sequence[str] = ()
    warnings: tuple[str, ...] = ()  # what a reader of results should know about these images
    preprocessing: Preprocessing | None = None  # that the images went through already


def as_input(pixels: Pixels) -> Images:
    """Stored pixels as every network takes them.

    uint8 (N, H, W, 3) in 0..255 -> float32 (N, 3, H, W) in [0, 1]
    """
    images = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32)
    images /= 255  # in place: a second array would be another 0.5 GB of a calibration's images
    return images


def choose(count: int, limit: int | None, seed: int = 0) -> NDArray[np.int64]:
    """Indices of `limit` of `count` images, in stored order: a seeded choice, since files lie sorted by class."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))


def batched(array: NDArray[Any], size: int) -> Iterator[NDArray[Any]]:
    """`array` in order, `size` of its first dimension at a time; the last batch may be smaller."""
    return (array[start : start + size] for start in range(0, len(array), size))


def mapped(path: Path) -> NDArray[Any]:
    """The array in an .npy file, mapped into memory. Raises Corrupt if the file holds no array, OSError if it is missing."""
    untrusted.open_regular(path).close()
    try:
        # np.load would choose among its formats by the content.
        array: NDArray[Any] = npy.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # numpy raises much on a damaged header
        raise Corrupt(f"{path}: is no array ({error}); delete it and run the command again") from error
    return array


def read_npz(path: Path, most_bytes: int, remedy: str = "remove it") -> Mapping[str, NDArray[Any]]:
    """The arrays in an .npz file, of at most `most_bytes` together: by the sizes that it declares, before any is read.

    Raises Corrupt, with the remedy, if there are more, if they are not of numbers or text, or if the file is no whole .npz.
    """
    try:
        with untrusted.open_regular(path) as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            declared = max(os.fstat(file.fileno()).st_size, sum(member.file_size for member in members))
            if declared > most_bytes:
                raise Corrupt(f"{path}: holds {declared:,} bytes, and at most {most_bytes:,} are read; {remedy}")
            return {member.filename.removesuffix(".npy"): _member(archive, member) for member in members}
    except DeployError:
        raise
    except Exception as error:  # zipfile and numpy raise much on damaged bytes
        raise Corrupt(f"{path}: cannot be read ({error}); {remedy}") from error


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename} is neither stored nor deflated")  # the others inflate without a bound
    with archive.open(member) as opened:
        content = io.BytesIO(opened.read(member.file_size))
    if npy.read_magic(content) != (1, 0):
        raise ValueError(f"{member.filename} is not of version 1.0")
    shape, _, dtype = npy.read_array_header_1_0(content)
    if math.prod(shape) * dtype.itemsize > member.file_size:
        raise ValueError(f"{member.filename} is shorter than its shape")
    content.seek(0)
    array: NDArray[Any] = npy.read_array(content, allow_pickle=False)
    return array


def has_random(dtype: str) -> bool:
    """Whether `random_arrays` can make arrays of it.

    Only by a whole name. Numpy reads more, and reads it otherwise than a runtime: OpenVINO's i4 has 4 bits, numpy's has
    4 bytes, and the float of ONNX and PyTorch is no float64.
    """
    return dtype in NUMBERS


def misfit(value: bool | int | float, dtype: str) -> str | None:
    """Why an array of numbers of this type cannot hold `value`; None if it can."""
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return None if value in (0, 1) else "is neither true nor false"
    if isinstance(value, bool):
        return "is no number"
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        if value != int(value):
            return "is no whole number"
        most = min(limits.max, 2**63 - 1)  # a record holds no larger one
        return None if limits.min <= value <= most else f"is outside of {limits.min} to {most}"
    with np.errstate(over="ignore", under="ignore"):
        try:
            kept = float(kind.type(value))
        except OverflowError:
            kept = math.inf
    if not math.isfinite(kept):
        return f"is outside of ±{np.finfo(kind).max}"
    if (value and not kept) or (isinstance(value, int) and kept != value):
        return f"would be {kept}"
    return None


def random_arrays(tensors: Sequence[Tensor], count: int) -> list[Arrays]:
    """`count` times what a file takes, or as often as fits into 1 MiB: floats in [0, 1), integers and booleans 0 or 1.

    Larger integers might be no index of the file's own tables. A tensor with a value is full of it.
    """
    random = np.random.default_rng(0)
    once = sum(np.dtype(tensor.dtype).itemsize * math.prod(tensor.shape) for tensor in tensors)
    fitting = max(1, min(count, _RANDOM_BYTES // max(1, once)))
    return [[_random(random, tensor) for tensor in tensors] for _ in range(fitting)]


def _random(random: np.random.Generator, tensor: Tensor) -> NDArray[Any]:
    dtype = np.dtype(tensor.dtype)
    if tensor.value is not None:
        return np.full(tensor.shape, tensor.value, dtype)
    if dtype.kind == "f":
        return np.asarray(random.random(tensor.shape, np.float32), dtype)
    return np.asarray(random.integers(2, size=tensor.shape), dtype)
