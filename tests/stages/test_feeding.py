"""Images to files of any kind: what their answers are worth, and which files and options are refused."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cifar_deploy import pipeline
from cifar_deploy.core.errors import DeployError, UsageError
from cifar_deploy.core.records import Preprocessing, Result
from cifar_deploy.core.samples import Samples
from cifar_deploy.core.store import Store
from cifar_deploy.datasets import Preparation
from cifar_deploy.metrics.summary import agreement, is_per_image, predictions
from cifar_deploy.stages import feeding
from cifar_deploy.stages.feeding import ImageOptions
from tests import in_process, models, pictures
from tests.conftest import Exported
from tests.in_process import run_here
from tests.test_cli import assert_refused

ORT = ("onnxruntime",)
RIGHT = 24  # of 30 test images, whose colour is that of their class

pytestmark = pytest.mark.usefixtures("workers_here")


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures.folder(tmp_path_factory.mktemp("pictures") / "colours")


def answers(
    paths: Sequence[Path], images: ImageOptions, root: Path, backends: Sequence[str] | None = ORT, **how: Any
) -> tuple[list[Result], Samples]:
    """The results of the accuracy alone, in their order."""
    with Store(root) as store:
        planned = pipeline.plan_external(paths, images=images, backends=backends, **how)
        settings = pipeline.EvaluationSettings(overhead=False, trusted=bool(how.get("trusted")))
        those = [item for item in planned if is_per_image(item.job)]
        return [outcome.value for outcome in pipeline.evaluate(store, those, settings)], Samples(store.reports)


def correct(result: Result) -> float:
    assert result.measurement, result.failure
    return result.measurement.values["correct"]


MODELS: dict[str, dict[str, Any]] = {
    "nchw": {},
    "nhwc": {"shape": ("N", 8, 8, 3)},
    "uint8": {"shape": ("N", 8, 8, 3), "dtype": TensorProto.UINT8},
    "int8": {"shape": ("N", 3, 8, 8), "dtype": TensorProto.INT8},
    "float16": {"dtype": TensorProto.FLOAT16},
    "four": {"shape": (4, 3, 8, 8)},
    "softmax": {"answers": ("softmax",)},
    "label": {"answers": ("label",)},
    "map": {"answers": ("map",)},
    "both": {"answers": ("label", "scores")},
}


@pytest.fixture(scope="module")
def measured(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Result]:
    folder = tmp_path_factory.mktemp("models")
    paths = [pictures.model(folder / f"{name}.onnx", **how) for name, how in MODELS.items()]
    few = [path for path in paths if path.stem in ("nchw", "uint8", "label")]
    images = ImageOptions(data_dir=colours)
    with in_process.workers_here():
        found, _ = answers(paths, images, folder / "out")
        found += answers(few, images, folder / "out", ("openvino",))[0]
    return {(Path(each.job.artifact.name).stem, each.job.backend): each for each in found}


@pytest.mark.parametrize(
    ("name", "backend"),
    [*((name, "onnxruntime") for name in MODELS), *((name, "openvino") for name in ("nchw", "uint8", "label"))],
)
def test_any_file_is_right_as_often(name: str, backend: str, measured: dict[tuple[str, str], Result]) -> None:
    result = measured[name, backend]
    assert correct(result) == RIGHT
    feed = result.job.artifact.feed
    assert feed and feed.batch == (4 if name == "four" else None)
    assert feed.answer == ("labels" if name == "label" else "scores")
    assert feed.layout == ("nhwc" if name in ("nhwc", "uint8") else "nchw")


def test_the_cost_of_a_file_is_the_same_question_with_images_and_without(colours: Path, tmp_path: Path) -> None:
    path = pictures.model(tmp_path / "a.onnx")
    keys = [
        [item.job.key for item in pipeline.plan_external([path], backends=ORT, images=images)]
        for images in (None, ImageOptions(data_dir=colours), ImageOptions(data_dir=colours, channels="bgr"))
    ]
    assert keys[1][1:] == keys[2][1:] == keys[0] and keys[1][0] != keys[2][0], "only the accuracy is another one"


def test_channels_the_other_way_round_swap_red_and_blue(colours: Path, tmp_path: Path) -> None:
    path = pictures.model(tmp_path / "a.onnx")
    ((rgb,), raw) = answers([path], ImageOptions(data_dir=colours), tmp_path)
    with pytest.warns(UserWarning, match="at chance"):
        ((bgr,), _) = answers([path], ImageOptions(data_dir=colours, channels="bgr"), tmp_path)
    first, second = predictions(rgb, raw), predictions(bgr, raw)
    assert first and second
    assert np.array_equal(2 - first["predicted"], second["predicted"])


def test_a_named_output_is_taken_of_files_that_have_it(colours: Path, tmp_path: Path) -> None:
    two = pictures.model(tmp_path / "two.onnx", answers=("softmax", "scores"))
    one = pictures.model(tmp_path / "one.onnx", answers=("softmax",))
    with pytest.raises(
        UsageError, match=r"two.onnx: has 2 outputs that may be the answer \(softmax, scores\); add --output"
    ):
        answers([one, two], ImageOptions(data_dir=colours), tmp_path)
    found, _ = answers([one, two], ImageOptions(data_dir=colours, outputs=("scores",)), tmp_path)
    assert [each.job.artifact.feed.output for each in found if each.job.artifact.feed] == ["softmax", "scores"]
    with pytest.raises(DeployError, match=r"scroes: no output .* did you mean 'scores'"):
        answers([one, two], ImageOptions(data_dir=colours, outputs=("scroes", "scores")), tmp_path)


@pytest.mark.parametrize(
    ("how", "options", "words"),
    [
        ({"shape": ("N", 3, 16, 12)}, {}, "takes images of 12×16, and these are 8×8; add --resize 16x12"),
        ({"classes": 5}, {}, "gives 5 scores for an image, and the images have 3 classes; give --classes a file with the 5"),
        ({"dtype": TensorProto.UINT8}, {"mean": (0.5,)}, "--mean: input x of"),
        ({"dtype": TensorProto.UINT8}, {"scale": 255.0}, "takes uint8 pixels as they are; leave it out"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_told(
    how: dict[str, Any], options: dict[str, Any], words: str, colours: Path, tmp_path: Path
) -> None:
    path = pictures.model(tmp_path / "a.onnx", **how)
    with pytest.raises(UsageError) as told:
        answers([path], ImageOptions(data_dir=colours, **options), tmp_path)
    assert words in str(told.value)


def test_a_layout_that_cannot_be_told_is_asked_for(tmp_path: Path) -> None:
    tiny = pictures.folder(tmp_path / "tiny", side=3)
    path = pictures.model(tmp_path / "a.onnx", shape=("N", 3, 3, 3))
    with pytest.raises(UsageError, match="is 1×3×3×3, of which either 3 may be the channels; add --layout"):
        answers([path], ImageOptions(data_dir=tiny), tmp_path)
    ((result,), _) = answers([path], ImageOptions(data_dir=tiny, layout="nchw"), tmp_path)
    assert correct(result) == RIGHT


def test_a_file_that_takes_no_images_is_refused(colours: Path, tmp_path: Path) -> None:
    for path, words in (
        (models.two_inputs(tmp_path / "two.onnx"), "takes 2 inputs (x, ids), not images alone; leave out"),
        (models.identity(tmp_path / "flat.onnx", ["N", 3]), "input x is 1×3, no batch of colour images"),
        (models.identity(tmp_path / "grey.onnx", ["N", 1, 8, 8]), "input x is 1×1×8×8, no batch of colour images"),
        (models.identity(tmp_path / "same.onnx", ["N", 3, 8, 8]), "and no 3 scores each"),
    ):
        with pytest.raises(UsageError) as told:
            answers([path], ImageOptions(data_dir=colours), tmp_path)
        assert words in str(told.value), told.value


def test_a_runtime_that_fails_on_images_fails_in_the_accuracy_alone(colours: Path, tmp_path: Path) -> None:
    """A batch that is declared free, and is fixed in a reshape."""
    sizes = numpy_helper.from_array(np.array([1, 3, 64]), "sizes")
    nodes = [helper.make_node("Reshape", ["x", "sizes"], ["r"]), helper.make_node("ReduceMean", ["r"], ["y"], axes=[2])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "graph", [x], [y], [sizes])
    path = tmp_path / "fixed.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    planned = pipeline.plan_external([path], backends=ORT, images=ImageOptions(data_dir=colours))
    failed = {item.job.metric for item in planned if item.failure}
    assert failed == {item.job.metric for item in planned if is_per_image(item.job)} and len(planned) > 2


@pytest.mark.parametrize(
    "format",
    [
        "onnx",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("onnx-uint8", "torchscript", "openvino_ir", "torch_export")
        ),
    ],
)
def test_a_file_of_ours_needs_no_options_and_is_as_accurate_as_evaluate_says(
    format: str, exported: Exported, tmp_path: Path
) -> None:
    artifact, path = exported(format)
    ((first, *_), raw) = answers([path], ImageOptions(dataset="digits"), tmp_path, None)
    assert first.job.artifact.feed and first.job.artifact.feed.data == artifact.data
    for part in ("checkpoint", path.parent.name):  # other tests export into the shared folder
        shutil.copytree(path.parents[1] / part, tmp_path / "out" / "exported" / "resnet8" / part)
    store = Store(tmp_path / "out")
    planned = pipeline.plan(store, ["resnet8"], formats=[format], backends=[first.job.backend])
    ours = [item for item in planned if is_per_image(item.job)]
    with store:
        (result,) = (outcome.value for outcome in pipeline.evaluate(store, ours))
    expected, found = predictions(result, Samples(store.reports)), predictions(first, raw)
    assert expected and found and np.array_equal(expected["predicted"], found["predicted"])
    assert np.array_equal(expected["chosen"], found["chosen"]) and correct(result) == correct(first)


def test_a_record_is_of_its_file_alone(exported: Exported, tmp_path: Path, colours: Path) -> None:
    artifact, path = exported("onnx")
    (tmp_path / "model.onnx").write_bytes(path.read_bytes())
    (tmp_path / "artifact.json").write_bytes((path.parent / "artifact.json").read_bytes())
    file = next(file for file in artifact.files if file.name == path.name)
    assert feeding.record_of(tmp_path / "model.onnx", file) == artifact
    assert feeding.record_of(tmp_path / "model.onnx", replace(file, sha256="0" * 64)) is None
    assert feeding.record_of(tmp_path / "other.onnx", file) is None
    assert feeding.record_of(colours / "model.onnx", file) is None
    (tmp_path / "artifact.json").write_text("{}")
    with pytest.warns(UserWarning, match="is taken for a file from elsewhere"):
        assert feeding.record_of(tmp_path / "model.onnx", file) is None


def test_a_file_of_ours_is_refused_other_images_and_options_that_its_record_has(
    exported: Exported, colours: Path, tmp_path: Path
) -> None:
    _, path = exported("onnx")
    with pytest.raises(UsageError, match="has the classes 0, 1, 2 and 7 more, and the images have blue, green, red"):
        answers([path], ImageOptions(dataset="image_folder", data_dir=colours), tmp_path)
    with pytest.raises(UsageError, match="--mean: the records beside the files say how they take images; leave it out"):
        answers([path], ImageOptions(dataset="digits", mean=(0.5,)), tmp_path)


def test_each_file_gets_the_images_in_its_own_size_and_they_are_compared_image_by_image(tmp_path: Path) -> None:
    large = pictures.folder(tmp_path / "large", side=20)
    paths = [
        pictures.model(tmp_path / "eight.onnx"),
        pictures.model(tmp_path / "tall.onnx", shape=("N", 3, 10, 8)),
        pictures.model(tmp_path / "bgr.onnx", shape=("N", 12, 12, 3)),
    ]
    shorter = ImageOptions(data_dir=large, preparation=Preparation(preprocessing=Preprocessing(resize=(12,))))
    found, raw = answers(paths, shorter, tmp_path)
    assert [correct(each) for each in found] == [RIGHT] * 3
    assert len({each.job.artifact.data for each in found}) == 3
    for each in found[1:]:
        compared = agreement(found[0], each, raw, raw)
        assert compared and compared.images == 30 and compared.same_label == 30
    with pytest.raises(UsageError, match=r"tall.onnx: takes images of 8×10, and these are 20×20; add --resize 10x8"):
        answers(paths[1:2], ImageOptions(data_dir=large), tmp_path)
    for wanted, words in (
        (Preprocessing(resize=(9,)), r"--resize: 9 is less than .*tall.onnx takes, 8×10; give a larger one"),
        (Preprocessing(resize=(12,), crop=(8, 8)), "takes images of 8×10, and the crop is 8×8; give --resize alone"),
    ):
        with pytest.raises(UsageError, match=words):
            answers(paths, replace(shorter, preparation=Preparation(preprocessing=wanted)), tmp_path)


def test_classes_are_in_the_order_of_the_outputs(colours: Path, tmp_path: Path) -> None:
    """Outputs without images, and names in another order than the folders'."""
    path = pictures.model(tmp_path / "a.onnx", classes=5)
    named = Preparation(classes=("blue", "green", "red", "more", "still more"))
    ((result,), _) = answers([path], ImageOptions(data_dir=colours, preparation=named), tmp_path)
    assert correct(result) == RIGHT
    turned = Preparation(classes=("red", "green", "blue", "more", "still more"))
    with pytest.warns(UserWarning, match="at chance"):
        ((result,), _) = answers([path], ImageOptions(data_dir=colours, preparation=turned), tmp_path)
    assert correct(result) < RIGHT


QUICK = ["--rounds", "1", "--seconds", "0.01", "--backend", "onnxruntime"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--mean", "0.5,0.5"], 2, "--mean: 0.5,0.5 is neither one number nor three"),
        (["--mean", "123.7,116.3,103.5"], 2, "--mean: 123.7 is outside of 0 to 1; give it for pixels in 0..1"),
        (["--std", "0.2,0,0.2"], 2, "--std: 0.2,0,0.2 holds 0"),
        (["--scale", "0"], 2, "--scale: 0 is not a positive number"),
        (["--channels", "grb"], 2, "--channels:"),
        (["--data-dir", "gone"], 2, "gone does not exist; expected train/"),
        (["--dataset", "digit"], 2, "did you mean 'digits'"),
        (["--reference", "gone.onnx"], 2, "gone.onnx: does not exist"),
        (["--output", "y"], 2, "--data-dir: missing, and --output is of use with images alone"),
        (["--limit-test", "9"], 2, "--limit-test is of use with images alone"),
    ],
)
def test_a_wrong_line_is_one_line(arguments: list[str], code: int, words: str, tmp_path: Path) -> None:
    path = pictures.model(tmp_path / "a.onnx")
    images = [] if {"--output", "--limit-test", "--data-dir", "--dataset"} & {*arguments} else ["--dataset", "digits"]
    assert_refused(run_here("bench", path, *images, *arguments, *QUICK, cwd=tmp_path), code, words)
