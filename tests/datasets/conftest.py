from pathlib import Path

import pytest

from tests.datasets.folders import save


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two classes, two training images and a test image each, 5 wide and 4 high; all different."""
    root = tmp_path / "animals"
    names = ("train/cat/0", "train/cat/1", "train/dog/0", "train/dog/1", "test/cat/0", "test/dog/0")
    for seed, name in enumerate(names):
        save(root / f"{name}.png", seed)
    return root
