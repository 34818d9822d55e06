"""Every plugin, by its being listed, keeps its folder's contract."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from _pytest.mark.structures import ParameterSet

from cifar_deploy.backends import BACKENDS, Backend
from cifar_deploy.core.errors import Unavailable
from cifar_deploy.core.interpreter import running
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.records import Baseline, variant_name
from cifar_deploy.core.registry import interpreter_for, lack_of
from cifar_deploy.core.store import FOR_APPS, Store, as_artifact
from cifar_deploy.datasets import DATASETS, Dataset
from cifar_deploy.devices import BY_PREFERENCE, DEVICES, Device
from cifar_deploy.formats import FORMATS, Format, format_of, given
from cifar_deploy.metrics import METRICS, RecordedMetric, RuntimeMetric
from cifar_deploy.networks import DEFAULT_NETWORKS, NETWORKS
from cifar_deploy.recipes import RECIPES
from cifar_deploy.stages import export as stage
from cifar_deploy.stages.export import readers
from tests import probes
from tests.conftest import Exported, need_plugin, wait_until_free

# What a compiler makes, what is calibrated with several tries, and the first start in an environment take half a minute. One
# calibration is tried always, and one format with uint8 images for the input: the others go through the same few lines.
_SLOW = {
    *("aoti", "pytorch_compile", "openvino_int8", "litert", "litert_int8", "executorch", "executorch_int8"),
    *("torchscript-uint8", "onnx_int8-uint8", "openvino_ir-uint8"),
}


def _marked(*names: str) -> ParameterSet:
    return pytest.param(*names, marks=[pytest.mark.slow] if set(names) & _SLOW else [])


_OF_PIXELS = tuple(variant_name(name, "uint8") for name in ("torchscript", "onnx", "onnx_int8", "openvino_ir"))

PAIRS = [_marked(name, format) for format in (*FORMATS, *_OF_PIXELS) for name in readers(given(format)[0])]


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_reads_formats_that_exist_and_runs_on_devices_that_exist(name: str) -> None:
    backend = BACKENDS[name]
    assert isinstance(backend, Backend) and backend.summary
    assert set(backend.reads) <= set(FORMATS) and set(backend.targets) <= set(DEVICES)
    assert backend.validated_on in backend.targets


@pytest.mark.parametrize(("name", "format"), PAIRS)
def test_a_backend_gives_logits_of_any_batch_size_as_float32(name: str, format: str, exported: Exported) -> None:
    backend = BACKENDS[name]
    need_plugin(backend)
    artifact, path = exported(format)
    folder, interpreter = path.parent / f"logits of {name}", interpreter_for(backend)
    arguments = {"backend": name, "artifact": artifact, "path": path, "folder": folder}
    if interpreter == running():
        probes.write_logits(**arguments)  # in this process, which has imported the runtimes once
    else:
        Worker(interpreter=interpreter).call(probes.write_logits, **arguments)
    together, alone = np.load(folder / "together.npy"), np.load(folder / "alone.npy")
    assert together.shape == (5, 10) and together.dtype == np.float32
    np.testing.assert_allclose(alone, together, atol=1e-4)


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_has_a_gate_and_a_reader(name: str) -> None:
    format = FORMATS[name]
    assert isinstance(format, Format) and format.summary and format.filename
    assert format.tolerance >= 0 and 0 < format.agreement <= 1
    assert readers(name)


@pytest.mark.parametrize("name", [_marked(name) for name in (*FORMATS, *_OF_PIXELS) if name != "checkpoint"])
def test_an_export_passed_its_gate_through_its_runtime(name: str, exported: Exported) -> None:
    artifact, _ = exported(name)
    here = [
        backend
        for backend in readers(given(name)[0])
        if not lack_of(BACKENDS[backend]) and backend not in artifact.unvalidated
    ]
    assert [parity.backend for parity in artifact.parity] == here
    for parity in artifact.parity:
        assert parity.images == 256
        format = format_of(artifact)
        assert parity.agreement == 1.0 or (format.reduces and parity.agreement >= format.agreement)
        assert parity.largest_difference <= format.tolerance * max(1, parity.largest_logit)


@pytest.fixture(scope="module")
def baselines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder that keeps the no-op network's weights from one format to the next."""
    return tmp_path_factory.mktemp("baselines")


# The rest are slow: .ci/run's main job makes a baseline in every format, and asks for each of them.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("torchscript", "onnx") else [pytest.mark.slow])
        for name in FORMATS
        if name != "checkpoint"
    ],
)
@pytest.mark.usefixtures("workers_here")
def test_a_format_holds_the_no_op_network(name: str, road: Path, baselines: Path) -> None:
    need_plugin(FORMATS[name])
    checkpoint = Store(road).checkpoint("resnet8")
    assert checkpoint
    of_network = replace(probes.a_job(), artifact=replace(as_artifact(checkpoint), format=name))
    wait_until_free(Store(baselines))
    with Store(baselines) as store:
        (job,) = stage.baselines(store, [of_network])
    assert job.artifact.parity and isinstance(job.artifact.origin, Baseline)


def test_an_onnx_file_says_what_it_is(road: Path) -> None:
    import onnx

    model = onnx.load(road / "exported" / "resnet8" / "onnx" / "model.onnx")
    assert {value.name for value in model.graph.input} == {"image"}
    assert {value.name for value in model.graph.output} == {"logits"}
    facts = {entry.key: entry.value for entry in model.metadata_props}
    checkpoint = Store(road).checkpoint("resnet8")
    assert checkpoint and facts["data_fingerprint"] == checkpoint.training.data.fingerprint
    assert facts["network"] == "resnet8" and '"9"' in facts["classes"]
    there = {path.name for path in (road / "exported/resnet8/onnx").iterdir()}
    assert there == {"artifact.json", "model.onnx", *FOR_APPS}


def test_a_graph_of_pixels_is_the_networks_own_with_three_steps_before_it(exported: Exported) -> None:
    import onnx

    kinds = [
        Counter(node.op_type for node in onnx.load(exported(name)[1]).graph.node) for name in ("onnx", "onnx-uint8")
    ]
    assert kinds[1] - kinds[0] == Counter({"Transpose": 1, "Cast": 1, "Div": 1})


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_says_what_it_is_or_why_it_is_not_here(name: str) -> None:
    device = DEVICES[name]
    assert isinstance(device, Device) and name in BY_PREFERENCE
    try:
        assert device.probe()
    except Unavailable as reason:
        assert name in str(reason)
        assert name != "cpu"


@pytest.mark.parametrize("name", DATASETS)
def test_a_data_set_explains_itself(name: str) -> None:
    assert isinstance(DATASETS[name], Dataset) and DATASETS[name].summary


def _scale(stored: str, shown: str) -> float:
    """What a number in the one unit is multiplied with to be in the other."""
    known = {("1", "%"): 100, ("1", ""): 1, ("1", "M"): 1e-6, ("bytes", "MiB"): 2**-20}
    return known.get((stored, shown)) or {stored: 1, f"m{stored}": 1000}[shown]


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_has_columns_with_units_and_a_direction(name: str) -> None:
    metric = METRICS[name]
    assert isinstance(metric, RecordedMetric | RuntimeMetric) and metric.better in ("higher", "lower")
    assert any(column.headline for column in metric.columns.values())
    if isinstance(metric, RuntimeMetric):
        assert {metric.compared_by, *metric.peaks} <= set(metric.columns)
        assert metric.timed == ("seconds" in metric.options)
        assert ("samples" in metric.columns) == metric.sampled
        assert metric.sampled or not any(column.percentile for column in metric.columns.values())
    for key, column in metric.columns.items():
        assert column.stored_unit, f"{key}: even a bare number says so, by 1"
        assert column.scale == _scale(column.stored_unit, column.unit), f"{key}: {column.stored_unit} to {column.unit}"


def test_the_paper_recipe_is_the_original_reports() -> None:
    recipe = RECIPES["original"]
    assert (recipe.optimizer, recipe.learning_rate, recipe.epochs, recipe.batch_size) == ("adam", 0.001, 20, 128)


def test_the_default_networks_exist() -> None:
    assert set(DEFAULT_NETWORKS) <= set(NETWORKS)
