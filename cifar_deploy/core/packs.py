"""A pack: a program, artifacts and test images in one file for another device, and the folder that it unpacks to there.

The folder is an output folder (see core.store) with one folder more:

    pack/manifest.json      what all of it is: the sha256 of this names the pack
    pack/cifar_deploy/      the modules of this package, which run from there
    pack/images/<data>/     a choice of a data set's test images: see Choice
    exported/, baselines/   the artifacts
    reports/                what was measured on the device
"""

import base64
import functools
import hashlib
import io
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cifar_deploy.core import codec, files, untrusted
from cifar_deploy.core.errors import Corrupt
from cifar_deploy.core.records import Artifact, AtLeastOne, Count, Data, File, Positive

FOLDER = "pack"
MANIFEST = "manifest.json"

# The content follows this line of a pack's file, as comments.
CONTENT = b"# content\n"

_ID_DIGITS = 16
_LARGEST_BYTES = 2**31
_LARGEST_MANIFEST = 2**24
_REMEDY = "make the pack again (`cifar-deploy pack`)"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Test images that travel: those which `evaluate --limit-test` chooses, in the same order.

    In its folder lie data.json (of the whole data set), test_images.npy, test_labels.npy, chosen.npy (their places in the
    test set), and for each network what it answers itself: NAME.logits.npy (of the images that an export is validated
    with) and NAME.labels.npy (of all).
    """

    data: Data
    images: AtLeastOne

    @property
    def place(self) -> PurePosixPath:
        """The folder, below that of the pack."""
        return PurePosixPath(FOLDER, "images", self.data.fingerprint[:_ID_DIGITS])

    @property
    def limit_test(self) -> int | None:
        """What `evaluate` at home is told for the same images."""
        return None if self.images == self.data.test_images else self.images


@dataclass(frozen=True, kw_only=True)
class PackSettings:
    """How to measure, unless the device's command line says otherwise."""

    backends: tuple[str, ...] | None = None  # None: those that are there
    metrics: tuple[str, ...] | None = None
    threads: tuple[AtLeastOne, ...] = (1,)
    batch_sizes: tuple[AtLeastOne, ...] = ()
    seconds: Positive
    rounds: AtLeastOne
    budget_s: Positive | None = None
    cpus: str | None = None
    controls: bool = True


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a pack holds. Two packs of the same content are the same bytes, whenever they were made."""

    program: str  # its version
    commit: str | None
    protocol: Count  # of the metrics
    networks: tuple[str, ...]
    variants: tuple[str, ...]  # formats with their inputs
    choices: tuple[Choice, ...]
    requires: tuple[str, ...]  # packages as pip takes them
    settings: PackSettings
    files: tuple[File, ...]  # each by its place below the output folder


@dataclass(frozen=True)
class Pack:
    """One that is unpacked."""

    root: Path  # the output folder
    id: str
    manifest: Manifest

    def check(self) -> None:
        """Raises Corrupt for the first file that is not the one of the manifest."""
        for file in self.manifest.files:
            path = self.root / file.name
            if not path.is_file() or path.stat().st_size != file.bytes or untrusted.sha256(path) != file.sha256:
                raise Corrupt(f"{path}: is not the file that was packed; delete {self.root} and run the pack again")

    def images(self, fingerprint: str) -> Path | None:
        """The folder with a choice of this data set's images."""
        for choice in self.manifest.choices:
            if choice.data.fingerprint == fingerprint:
                return self.root / choice.place
        return None


def open_(root: Path) -> Pack:
    """The pack that was unpacked to `root`. Raises Corrupt if its manifest cannot be read."""
    path = root / FOLDER / MANIFEST
    return Pack(root, id_of(untrusted.read_bytes(path, _LARGEST_MANIFEST)), codec.load(Manifest, path, _REMEDY))


@dataclass(frozen=True)
class Content:
    """Of a pack's file."""

    id: str
    manifest: Manifest
    artifacts: tuple[Artifact, ...]


def read(path: Path) -> Content:
    """The content of a pack's file. Nothing of it runs. Raises Corrupt for another file, or one that was cut or altered."""
    head, mark, content = untrusted.read_bytes(path, _LARGEST_BYTES).partition(CONTENT)
    told = re.search(rb'^SHA256 = ["\']([0-9a-f]{64})["\']\r?$', head, re.M)
    if not mark or not told:
        raise Corrupt(f"{path}: is no pack; {_REMEDY}")
    try:
        zipped = base64.b64decode(b"".join(line[2:] for line in content.splitlines()), validate=True)
        if hashlib.sha256(zipped).hexdigest().encode() != told[1]:
            raise ValueError
        with zipfile.ZipFile(io.BytesIO(zipped)) as packed, files.temporary_folder() as folder:
            names = [name for name in packed.namelist() if PurePosixPath(name).match("*/*/*/artifact.json")]
            for number, name in enumerate([f"{FOLDER}/{MANIFEST}", *names]):
                with packed.open(name) as member:
                    (folder / str(number)).write_bytes(member.read(_LARGEST_MANIFEST))
            return Content(
                id_of((folder / "0").read_bytes()),
                codec.load(Manifest, folder / "0", _REMEDY),
                tuple(codec.load(Artifact, folder / str(number), _REMEDY) for number in range(1, len(names) + 1)),
            )
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise Corrupt(f"{path}: was cut or altered (the sha256 differs); {_REMEDY}") from error


def names(requires: Iterable[str]) -> list[str]:
    """Of the packages, without their versions."""
    return [each.partition("==")[0] for each in requires]


def logits_of(name: str) -> str:
    return f"{name}.logits.npy"


def labels_of(name: str) -> str:
    return f"{name}.labels.npy"


def id_of(manifest: bytes) -> str:
    return hashlib.sha256(manifest).hexdigest()[:_ID_DIGITS]


@functools.cache
def here() -> Pack | None:
    """The pack that this program runs from; None where it is installed."""
    folder = Path(__file__).parents[2]
    if folder.name != FOLDER or not (folder / MANIFEST).is_file():
        return None
    return open_(folder.parent)
