"""reports/raw/: the samples and predictions behind the measurements, a file each."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cifar_deploy.core import arrays, untrusted
from cifar_deploy.core.errors import Corrupt, by_reason
from cifar_deploy.core.records import Measurement

# A folder may be somebody else's: of the samples of one run, far more than enough.
_LARGEST_BYTES = 2**28


def raw_path(reports: Path, name: str) -> Path:
    """Where the samples or predictions of this name lie, which has to be a plain one."""
    return untrusted.inside(reports / "raw", f"{name}.npz")


def has_samples(reports: Path, measurement: Measurement) -> bool:
    """Whether the samples behind a measurement are there, and are those that were written."""
    try:
        path = raw_path(reports, str(measurement.raw))
        return path.exists() and measurement.raw_sha256 in (None, untrusted.sha256(path))
    except (Corrupt, OSError):
        return False


def read_raw(reports: Path, measurement: Measurement) -> Mapping[str, NDArray[Any]]:
    """The samples or predictions behind a measurement. Raises Corrupt if they are gone or damaged."""
    path = raw_path(reports, str(measurement.raw))
    if not path.exists():
        raise Corrupt(f"{path}: samples are gone; run `cifar-deploy evaluate --force`")
    try:
        if measurement.raw_sha256 and untrusted.sha256(path) != measurement.raw_sha256:
            raise Corrupt(f"{path}: samples are damaged (sha256 differs); run `cifar-deploy evaluate --force`")
        return arrays.read_npz(path, _LARGEST_BYTES, "run `cifar-deploy evaluate --force`")
    except OSError as error:
        raise Corrupt(
            f"{path}: samples cannot be read ({error.strerror}); run `cifar-deploy evaluate --force`"
        ) from error


class Samples:
    """Reads what is behind the measurements of a reports folder, each file once, and knows afterwards what it could not read."""

    def __init__(self, reports: Path) -> None:
        self._reports = reports
        self._read: dict[str, Mapping[str, NDArray[Any]]] = {}
        self._lost: dict[str, str] = {}

    def __call__(self, measurement: Measurement) -> Mapping[str, NDArray[Any]]:
        """Raises Corrupt."""
        name = str(measurement.raw)
        if name in self._lost:
            raise Corrupt(self._lost[name])
        if name not in self._read:
            try:
                self._read[name] = read_raw(self._reports, measurement)
            except Corrupt as error:
                self._lost[name] = str(error)
                raise
        return self._read[name]

    def told(self) -> list[str]:
        """What could not be read, a text for each reason."""
        folder = self._reports / "raw"
        files_lost = {f"{name}.npz": why.removeprefix(f"{folder / name}.npz: ") for name, why in self._lost.items()}
        return [f"{those} in {folder}: {reason}" for reason, those, _ in by_reason(files_lost)]
