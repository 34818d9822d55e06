"""The images that an artifact is given."""

from pathlib import Path

import numpy as np
import pytest

from cifar_deploy import metrics
from cifar_deploy.formats import FORMATS, given


@pytest.mark.parametrize("format", ["onnx", "onnx-uint8"])
def test_batches_are_arrays_that_a_runtime_may_share_however_the_images_are_stored(format: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(256, size=(5, 4, 4, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", pixels)
    stored = np.load(tmp_path / "images.npy", mmap_mode="r")
    name, input = given(format)
    prepare = FORMATS[name].taking(input).prepare
    batches = list(metrics.TestImages(pixels=stored, labels=np.zeros(5, np.int64), prepare=prepare).batches(stored, 2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    # OpenVINO takes no others: "array is not writeable".
    assert all(batch.flags.writeable and batch.flags.c_contiguous for batch in batches)
    assert np.array_equal(np.concatenate(batches), prepare(pixels))
