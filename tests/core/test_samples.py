"""Samples are believed only if they are those that were written."""

from pathlib import Path

import pytest

from cifar_deploy.core.errors import Corrupt
from cifar_deploy.core.records import Measurement
from cifar_deploy.core.samples import read_raw
from cifar_deploy.core.store import Store


def test_samples_that_are_damaged_are_named(tmp_path: Path) -> None:
    path = Store(tmp_path).raw_path("abc")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no archive")
    with pytest.raises(Corrupt, match=r"abc\.npz: cannot be read .*run `cifar-deploy evaluate --force`"):
        read_raw(tmp_path / "reports", Measurement(values={}, raw="abc"))
