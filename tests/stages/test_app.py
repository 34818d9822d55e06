"""An artifact's folder holds what an app needs: class names, preprocessing, and a program of at most 20 lines that runs alone."""

import ast
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core.records import Artifact, Failure, ImageType, Interpolation, Preprocessing
from cifar_deploy.core.registry import interpreter_for
from cifar_deploy.core.store import FOR_APPS, Store, as_artifact
from cifar_deploy.datasets.preprocessing import for_any_size, preprocessed
from cifar_deploy.formats import FORMATS
from cifar_deploy.stages import app
from cifar_deploy.stages.export import readers
from tests.conftest import Exported
from tests.in_process import run_here, workers_here
from tests.probes import a_checkpoint

# A network's images need no more, or have all of it.
STEPS = {
    "none": None,
    "nothing": Preprocessing(),
    "resize": Preprocessing(resize=(8, 9)),
    "shorter side and crop": Preprocessing(resize=(11,), crop=(8, 9), interpolation="bicubic"),
    "shorter side alone": Preprocessing(resize=(8,), interpolation="lanczos"),
    "resize and crop": Preprocessing(resize=(12, 13), crop=(8, 9), interpolation="nearest"),
    "crop": Preprocessing(crop=(8, 9)),
}


def of(
    format: str, input: ImageType = "float32", preprocessing: Preprocessing | None = None, **changes: Any
) -> Artifact:
    """An artifact of images that are 9 wide and 8 high, by its record."""
    checkpoint = a_checkpoint()
    data = replace(checkpoint.training.data, preprocessing=preprocessing, **changes)
    made = as_artifact(replace(checkpoint, training=replace(checkpoint.training, data=data)))
    return replace(made, format=format, input=input)


@pytest.mark.parametrize("input", ["float32", "uint8"])
@pytest.mark.parametrize("format", [name for name in FORMATS if name != "checkpoint"])
def test_an_example_is_a_program_of_at_most_twenty_lines(format: str, input: ImageType) -> None:
    for steps in STEPS.values():
        text = app.texts(of(format, input, steps))["example.py"]
        ast.parse(text)
        lines = text.splitlines()
        assert len(lines) <= 20 and max(map(len, lines)) <= 120
        assert "$" not in text and text == app.texts(of(format, input, steps))["example.py"]


def test_every_format_has_an_example_but_the_checkpoint() -> None:
    assert [format for format in FORMATS if "example.py" not in app.texts(of(format))] == ["checkpoint"]


@pytest.mark.parametrize("interpolation", get_args(Interpolation))
@pytest.mark.parametrize("name", STEPS)
def test_an_example_prepares_an_image_of_any_size_to_the_pixel(name: str, interpolation: Interpolation) -> None:
    steps = STEPS[name] and replace(STEPS[name], interpolation=interpolation)
    artifact = of("onnx", "uint8", steps)
    assert artifact.data
    code = [
        line
        for line in app.texts(artifact)["example.py"].splitlines()
        if re.match("(image|images|left.*) = |assert", line)
    ]
    for width, height in ((9, 8), (30, 20), (20, 31), (17, 17), (300, 40)):
        image = Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8))
        names: dict[str, Any] = {"image": image, "Image": Image, "np": np}
        exec("\n".join(code[1:]), names)  # but for the line that opens it
        expected = np.asarray(preprocessed(image, for_any_size(artifact.data)))
        assert expected.shape == (8, 9, 3)
        np.testing.assert_array_equal(names["images"], expected[None])


def test_an_example_refuses_what_the_crop_would_fill_with_black() -> None:
    code = app.texts(of("onnx", preprocessing=Preprocessing(crop=(8, 9))))["example.py"]
    (line,) = [line for line in code.splitlines() if line.startswith("assert")]
    with pytest.raises(AssertionError, match="the image is smaller than 9×8"):
        exec(line, {"image": Image.new("RGB", (9, 7))})


def test_a_class_name_is_a_line_of_data_and_no_code() -> None:
    names = (
        '"""; import os',
        "new\nline",
        "größer",
        "\u2028",
        "it's",
        " spaced ",
        "back\\slash",
        "\x1b[31mred",
        "{x}",
        "$model",
    )
    wild, tame = app.texts(of("onnx", classes=names)), app.texts(of("onnx", classes=tuple("abcdefghij")))
    assert wild["example.py"] == tame["example.py"]
    labels = wild["labels.txt"].splitlines()
    assert len(labels) == len(names)
    assert labels == [
        '"""; import os',
        "new\\nline",
        "größer",
        "\\u2028",
        "it's",
        " spaced ",
        "back\\slash",
        "\\x1b[31mred",
        "{x}",
        "$model",
    ]


def test_the_preprocessing_says_how_an_image_becomes_the_input() -> None:
    steps = Preprocessing(resize=(11,), crop=(8, 9), interpolation="bicubic")
    assert json.loads(app.texts(of("onnx", "uint8", steps))["preprocessing.json"]) == {
        "width": 9,
        "height": 8,
        "resize": {"shorter_side": 11},
        "crop": {"width": 9, "height": 8},
        "interpolation": "bicubic",
        "antialias": True,
        "channels": "RGB",
        "layout": "NHWC",
        "dtype": "uint8",
        "range": [0, 255],
        "mean_and_std": "inside the network",
        "input": "image",
        "output": "logits",
        "output_values": "logits",
        "classes": 3,
    }
    of_ncnn = json.loads(app.texts(of("ncnn"))["preprocessing.json"])
    assert (of_ncnn["layout"], of_ncnn["input"], of_ncnn["output"], of_ncnn["range"]) == ("CHW", "in0", "out0", [0, 1])
    assert of_ncnn["resize"] == {"width": 9, "height": 8} and "another size" in of_ncnn["note"]
    assert json.loads(app.texts(of("torchscript"))["preprocessing.json"])["input"] is None


def test_what_failed_and_a_no_op_network_have_none() -> None:
    failed = replace(of("onnx"), failure=Failure(kind="export error", reason="no"))
    assert app.texts(failed) == {}


def test_an_artifact_of_an_earlier_version_gets_them_without_a_new_export(road: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(road, tmp_path / "road"))
    store = Store(out)
    artifact, weights = store.artifact("resnet8", "onnx"), store.artifact("resnet8", "checkpoint")
    assert artifact and weights
    folder, of_weights = store.folder_of(artifact), store.folder_of(weights)
    written = {name: (folder / name).read_bytes() for name in FOR_APPS}
    assert {path.name for path in of_weights.iterdir()} >= {"labels.txt", "preprocessing.json"}
    assert store.strays(artifact) == store.strays(weights) == []
    assert {file.name for file in artifact.files} == {"model.onnx"}
    record = (folder / "artifact.json").read_bytes()
    (folder / "labels.txt").unlink()
    (folder / "example.py").write_text("somebody else's")
    with workers_here():
        done = run_here("export", "--format", "onnx", "--out", out)
    assert done.returncode == 0, done.stderr
    assert {name: (folder / name).read_bytes() for name in FOR_APPS} == written
    assert (folder / "artifact.json").read_bytes() == record


# What an example needs is what its first line says: its process finds nothing else.


def closure(names: Iterable[str], path: list[str]) -> Iterator[importlib.metadata.Distribution]:
    """These packages and whatever they require, as far as that is here."""
    waiting, seen = list(names), set()
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        found = next(iter(importlib.metadata.distributions(name=name, path=path)), None)
        if found and name not in seen:
            yield found
            needs = (need for need in found.requires or () if "extra ==" not in need)
            waiting += [re.match(r"[\w.-]+", need)[0] for need in needs]  # type: ignore[index]
        seen.add(name)


def linked(distributions: Iterable[importlib.metadata.Distribution], site: Path) -> None:
    site.mkdir()
    for distribution in distributions:
        for name in {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}:
            if not (site / name).exists():
                (site / name).symlink_to(Path(str(distribution.locate_file(name))))


def run_alone(example: Path, image: Path, site: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    # -I: nothing from the environment or the current folder; -S: no site-packages.
    start = "import runpy, sys; sys.path.append(sys.argv[1]); sys.argv = sys.argv[2:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-I", "-S", "-c", start, str(site), str(example), str(image)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300)


@pytest.mark.parametrize(
    "format",
    [
        "onnx",
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for name in FORMATS
            for each in (name, f"{name}-uint8")
            if name != "checkpoint" and each not in ("onnx", "ncnn-uint8")
        ),
    ],
)
def test_an_example_answers_as_the_backend_does_with_nothing_else_on_its_path(
    format: str, exported: Exported, tmp_path: Path
) -> None:
    artifact, path = exported(format)
    moved = shutil.copytree(path.parent, tmp_path / "an app" / "model")
    needs = re.findall(r"[\w-]+", (moved / "example.py").read_text().splitlines()[0].partition("Needs ")[2])
    plugin = next(BACKENDS[name] for name in readers(str(artifact.format)) if BACKENDS[name].example)
    site = tmp_path / "site"
    linked(closure(needs, [*interpreter_for(plugin).path, *sys.path]), site)
    assert not (site / "cifar_deploy").exists() and ((site / "torch").exists() == ("torch" in plugin.requires))
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(image := tmp_path / "image.png")
    done = run_alone(moved / "example.py", image, site, tmp_path)
    assert done.returncode == 0, done.stderr
    told = [(label, float(share) / 100) for share, label in re.findall(r"([\d.]+)%  (.*)", done.stdout)]
    with workers_here():
        asked = run_here("predict", moved, image, "--json", "--trust")
    assert asked.returncode == 0, asked.stderr
    (answer,) = json.loads(asked.stdout)["images"]
    assert [label for label, _ in told] == [each["label"] for each in answer["classes"]]
    assert [share for _, share in told] == pytest.approx([each["probability"] for each in answer["classes"]], abs=2e-4)
