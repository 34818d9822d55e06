"""The code that the guides show works as they say: a reader saves it under the name that is given there."""

import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import FEW_IMAGES, need_package
from tests.in_process import run_here

GUIDES = Path(__file__).parents[1] / "docs" / "guides"


def save(guide: str, folder: Path) -> None:
    """The first Python block of a guide, under the name that stands above it."""
    text = (GUIDES / guide).read_text()
    found = re.search(r"Save this as `(\w+\.py)`:\n\n```python\n(.*?)```", text, re.S)
    assert found, guide
    (folder / found[1]).write_text(found[2])


@pytest.mark.slow
def test_the_format_that_a_guide_adds_is_exported_and_validated(road: Path, tmp_path: Path, workers_here: None) -> None:
    need_package("onnxruntime")
    save("adding-a-format.md", tmp_path)
    shutil.copytree(road / "exported", tmp_path / "exported")
    done = run_here("export", "resnet8", "--format", "onnx_basic:FORMAT", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "resnet8 onnx_basic:FORMAT: " in done.stdout and " on onnxruntime" in done.stdout


def test_the_network_that_a_guide_shows_is_trained(tmp_path: Path, workers_here: None) -> None:
    save("own-network.md", tmp_path)
    done = run_here("train", "tiny_net:build", "--name", "tiny", *FEW_IMAGES, "--epochs", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "tiny: test accuracy " in done.stdout


@pytest.mark.parametrize("guide", sorted(GUIDES.glob("*.md")), ids=lambda guide: str(guide.stem))
def test_a_guide_names_options_that_exist(guide: Path) -> None:
    """Those of the blocks that no test runs, since they need a reader's files or hours."""
    from tests.test_docs import COMMANDS

    for line in re.findall(r"cifar-deploy ((?:env )?[a-z-]+[^\n`|]*)", guide.read_text()):
        name = next((name for name in sorted(COMMANDS, key=len, reverse=True) if line.startswith(name)), None)
        if name is None:
            continue
        known = {option for parameter in COMMANDS[name].params for option in parameter.opts + parameter.secondary_opts}
        assert set(re.findall(r"(?<= )--[a-z-]+", line)) <= {*known, "--help"}, f"{guide.name}: {line}"
