"""benchmarks/ runs to its last line: here with few images and without the rest of its rounds."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests import pictures

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_speed_of_a_training_is_told_of_each_recipe_and_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    speed = script("training_speed")
    monkeypatch.setattr(speed, "TURN_S", 0.001)
    images = pictures.folder(tmp_path / "images", each=100)
    monkeypatch.setattr(sys, "argv", ["training_speed.py", str(images), "resnet8", "--without-loader", "--rounds", "6"])
    speed.main()
    shown = capsys.readouterr().out
    assert "6 rounds" in shown
    for way in ("pure step, fast", "fast", "pure step, original", "original"):
        assert f"\n  {way} " in shown, way
    assert "pure step, original            1.000 [1.000, 1.000]" in shown, "each is compared with its own recipe's step"
    assert "original, outside of the steps: " in shown
