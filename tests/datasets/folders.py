"""Image folders made for a test, as a directory or a zip."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from cifar_deploy.core.arrays import ImageSet
from cifar_deploy.core.errors import DataError, DeployError
from cifar_deploy.datasets.image_folder import load

SIZE = (4, 5)  # height, width


def random_pixels(seed: int) -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)


def save(path: Path, seed: int, **options: object) -> None:
    """An image of its own, of the format that the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(random_pixels(seed)).save(path, **options)  # type: ignore[arg-type]


def zipped(root: Path, top: str = "") -> Path:
    """A zip of all that lies in a folder, empty folders and hidden files too."""
    path = root.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, f"{top}{file.relative_to(root)}")
    return path


def zip_of(path: Path, names: Mapping[str, bytes], image: bytes, *, flag: bool = False) -> Path:
    """A zip of an image under each name. Its bytes in the zip are given; the keys are stand-ins of the same length."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, image)
    content = path.read_bytes()
    for name, raw in names.items():
        assert name.isascii() and len(name) == len(raw)
        if flag:
            content = _flagged(content, name.encode())
        content = content.replace(name.encode(), raw)
    path.write_bytes(content)
    return path


def _flagged(content: bytes, name: bytes) -> bytes:
    """With the flag that a name is UTF-8, in the entry's own header and in the directory at the end."""
    changed = bytearray(content)
    for place, before in ((content.index(name), 24), (content.rindex(name), 38)):
        changed[place - before + 1] |= 0x08
    return bytes(changed)


def refused(path: Path, message: str) -> str:
    return refused_as(DataError, path, message)


def refused_as(kind: type[DeployError], path: Path, message: str) -> str:
    import pytest

    with pytest.raises(kind, match=message) as caught:
        load(path)
    return str(caught.value)


def both(root: Path) -> list[ImageSet]:
    """The directory's images, and those of its zip: equal, but for the name of the source."""
    directory, archive = load(root), load(zipped(root))
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        assert np.array_equal(getattr(directory, name), getattr(archive, name))
    for name in ("classes", "train_names", "test_names", "warnings"):
        assert getattr(directory, name) == getattr(archive, name)
    return [directory, archive]
