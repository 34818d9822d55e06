"""What an external model may make a runtime read: itself, and what lies beside it; all of it hashed."""

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cifar_deploy import pipeline
from cifar_deploy.backends import BACKENDS, onnx_graphs
from cifar_deploy.core.errors import Corrupt, DeployError, LoadError, UsageError
from cifar_deploy.stages import bench
from cifar_deploy.workers.inspect import look
from tests import models
from tests.conftest import need_package


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """An ONNX file whose weights are in `w.data`, in the folder `inner`; beside that folder is `secret`, of the same size."""
    (tmp_path / "inner").mkdir()
    path = models.images(tmp_path / "inner" / "m.onnx", save_as_external_data=True, location="w.data", size_threshold=0)
    shutil.copy(tmp_path / "inner" / "w.data", tmp_path / "secret")
    return path


def relocate(path: Path, location: str) -> None:
    loaded = onnx.load(path, load_external_data=False)
    (entry,) = (entry for entry in loaded.graph.initializer[0].external_data if entry.key == "location")
    entry.value = location
    path.write_bytes(loaded.SerializeToString())


def refused(path: Path, message: str, backend: str = "onnxruntime", kind: type[DeployError] = LoadError) -> None:
    with pytest.raises(kind, match=message):
        look(path, backend, False)


def test_what_is_hashed_is_what_is_read(model: Path) -> None:
    found = look(model, "onnxruntime", False)
    data = model.with_name("w.data")
    assert [file.name for file in found.files] == [str(model), str(data)]
    assert found.files[1].sha256 == hashlib.sha256(data.read_bytes()).hexdigest()


@pytest.mark.parametrize("location", ["../secret", "x/../../secret", "x/../w.data", "/etc/passwd", "{folder}/w.data"])
def test_a_location_outside_the_folder_or_by_a_detour_is_refused(model: Path, location: str) -> None:
    (model.parent / "x").mkdir()
    relocate(model, location.format(folder=model.parent))
    refused(model, "takes its data from outside its folder")


@pytest.fixture
def cached(model: Path, tmp_path: Path) -> Path:
    """That file in a hub's cache: names are links, in `snapshots/main`, to what `blobs` holds."""
    blobs, names = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "main"
    for folder in (blobs, names):
        folder.mkdir(parents=True)
    for file, blob in ((model, "aa"), (model.with_name("w.data"), "bb")):
        file.rename(blobs / blob)
        (names / file.name).symlink_to(f"../../blobs/{blob}")
    return names / model.name


def test_links_into_the_folder_that_the_models_own_link_leads_to_are_followed(cached: Path) -> None:
    found = look(cached, "onnxruntime", False)
    assert [file.name for file in found.files] == [str(cached), str(cached.with_name("w.data"))]
    assert found.files[1].sha256 == hashlib.sha256(cached.with_name("w.data").read_bytes()).hexdigest()
    assert found.inputs and found.inputs[0].name == "x"


def test_such_data_below_the_folder_of_the_model_are_read_too(cached: Path) -> None:
    relocate(cached, "onnx/w.data")
    (cached.parent / "onnx").mkdir()
    (cached.parent / "onnx" / "w.data").symlink_to("../../../blobs/bb")
    assert Path(look(cached, "onnxruntime", False).files[1].name) == cached.parent / "onnx" / "w.data"


def test_a_hubs_ir_is_opened_by_its_links(ir: Path, tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    for file, blob in ((ir, "aa"), (ir.with_suffix(".bin"), "bb")):
        file.rename(tmp_path / "blobs" / blob)
        file.symlink_to(f"../blobs/{blob}")
    assert len(look(ir, "openvino", False).files) == 2


@pytest.mark.parametrize(
    "target",
    [
        "/etc/passwd",
        "../../../secret",  # beside the cache
        "../../blobs/../../secret",
        "../../blobs/below/secret",  # in the store, but not beside the model
        "../../blobs/out",  # a link in the store that leads out of it
        "../../elsewhere/secret",  # by the link to a folder
    ],
)
def test_a_link_that_leaves_the_store_is_refused(cached: Path, tmp_path: Path, target: str) -> None:
    (tmp_path / "hub" / "blobs" / "below").mkdir()
    shutil.copy(tmp_path / "secret", tmp_path / "hub" / "blobs" / "below")
    (tmp_path / "hub" / "blobs" / "out").symlink_to("../../secret")
    (tmp_path / "hub" / "elsewhere").symlink_to("..")
    data = cached.with_name("w.data")
    data.unlink()
    data.symlink_to(target)
    assert data.exists()
    refused(cached, "takes its data from outside its folder")


@pytest.mark.parametrize("location", ["../../blobs/bb", "{blobs}/bb"])
def test_the_store_is_reached_by_links_alone(cached: Path, location: str) -> None:
    relocate(cached, location.format(blobs=cached.resolve().parent))
    refused(cached, "takes its data from outside its folder")


def test_a_loop_of_links_in_the_store_is_refused(cached: Path) -> None:
    blob = cached.resolve().with_name("bb")
    blob.unlink()
    blob.symlink_to("bb")
    refused(cached, "cannot be read")


def test_a_link_to_the_model_alone_names_the_file_that_has_its_data(model: Path, tmp_path: Path) -> None:
    (tmp_path / "link.onnx").symlink_to("inner/m.onnx")
    refused(tmp_path / "link.onnx", rf"needs w.data beside it; give {re.escape(str(model))}, which the link leads to")


def test_data_that_are_a_git_lfs_pointer_are_refused(model: Path) -> None:
    model.with_name("w.data").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    refused(model, "w.data: is a Git LFS pointer, not a model or its data; run `git lfs pull`")


def test_a_link_to_outside_the_folder_is_refused_and_one_within_is_not(model: Path) -> None:
    data = model.with_name("w.data")
    data.rename(model.with_name("store"))
    data.symlink_to("store")
    assert look(model, "onnxruntime", False).files[1].name == str(data)
    data.unlink()
    data.symlink_to("../secret")
    refused(model, "takes its data from outside its folder")


def test_a_folder_that_is_a_link_to_outside_is_refused(model: Path) -> None:
    (model.parent / "x").symlink_to("..")
    relocate(model, "x/secret")
    refused(model, "takes its data from outside its folder")


@pytest.mark.parametrize(
    ("make", "message", "kind"),
    [
        (lambda data: None, "needs w.data beside it", LoadError),
        (lambda data: data.symlink_to("absent"), "needs w.data beside it", LoadError),
        (lambda data: data.symlink_to("w.data"), "cannot be read", LoadError),
        (lambda data: data.mkdir(), "is a folder", Corrupt),
        (lambda data: os.mkfifo(data), "is a named pipe", Corrupt),
    ],
    ids=["nothing", "dangling", "loop", "folder", "pipe"],
)
def test_data_that_are_no_file_are_refused(
    model: Path, make: Callable[[Path], None], message: str, kind: type[DeployError]
) -> None:
    data = model.with_name("w.data")
    data.unlink()
    make(data)
    refused(model, message, kind=kind)


def test_a_location_that_no_file_can_have_is_refused(model: Path) -> None:
    relocate(model, "w\0.data")
    refused(model, "cannot be read")


def test_every_location_of_a_tensor_counts(model: Path) -> None:
    """Readers differ in which of several they take."""
    loaded = onnx.load(model, load_external_data=False)
    for index in (0, 1):
        external = loaded.graph.initializer[0].external_data
        entries = [onnx.StringStringEntryProto(key="location", value="../secret"), *external]
        del external[:]
        external.extend(entries if index else entries[::-1])
        model.write_bytes(loaded.SerializeToString())
        refused(model, "takes its data from outside its folder")


def external(name: str) -> onnx.TensorProto:
    return onnx.TensorProto(
        name=name,
        data_type=TensorProto.FLOAT,
        dims=[1],
        data_location=TensorProto.EXTERNAL,
        external_data=[onnx.StringStringEntryProto(key="location", value="../secret")],
    )


@pytest.mark.parametrize("place", ["sparse", "constant", "subgraph", "function"])
def test_external_data_are_found_wherever_in_the_model_they_are(model: Path, place: str) -> None:
    loaded = onnx.load(model, load_external_data=True)
    constant = helper.make_node("Constant", [], ["c"], value=external("c"))
    match place:
        case "sparse":
            indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
            loaded.graph.sparse_initializer.append(helper.make_sparse_tensor(external("c"), indices, [9]))
        case "constant":
            loaded.graph.node.append(constant)
        case "subgraph":
            graph = helper.make_graph([constant], "g", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, [1])])
            loaded.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=graph, else_branch=graph))
        case "function":
            opsets = [helper.make_opsetid("", 17)]
            loaded.functions.append(helper.make_function("own", "f", [], ["c"], [constant], opsets))
    model.write_bytes(loaded.SerializeToString())
    refused(model, "takes its data from outside its folder")


@pytest.fixture
def ir(tmp_path: Path) -> Path:
    need_package("openvino")
    (tmp_path / "ir").mkdir()
    path = models.MAKERS["openvino", ".xml"](tmp_path / "ir" / "m.xml")
    path.with_suffix(".onnx").unlink()
    return path


def test_the_weights_of_an_ir_that_are_a_link_out_of_its_folder_are_refused(ir: Path) -> None:
    assert [Path(file.name).name for file in look(ir, "openvino", False).files] == ["m.xml", "m.bin"]
    ir.with_suffix(".bin").rename(ir.parents[1] / "secret")
    ir.with_suffix(".bin").symlink_to("../secret")
    refused(ir, "takes its data from outside its folder", "openvino")


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_file_of_another_kind_than_its_suffix_is_refused(ir: Path, model: Path, backend: str) -> None:
    """OpenVINO would open either, and read the files that belong to that kind, unhashed."""
    as_onnx = ir.with_name("a.onnx")
    shutil.copy(ir, as_onnx)
    shutil.copy(ir.with_suffix(".bin"), as_onnx.with_suffix(".bin"))
    refused(as_onnx, "is an OpenVINO IR, not an ONNX model", backend)
    as_ir = model.with_name("b.xml")
    shutil.copy(model, as_ir)
    as_ir.with_suffix(".bin").touch()
    refused(as_ir, "is an ONNX model, not an OpenVINO IR", "openvino")
    as_ir.write_bytes(b"\x12\x00" + model.read_bytes())  # which is not recognised
    refused(as_ir, "is no OpenVINO IR", "openvino")


FLOATS = (TensorProto.FLOAT, ["N", 3])


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("first", ["Dropout", "Identity", "Cast", "Reshape"])
def test_an_input_has_the_name_that_the_file_declares_even_if_its_first_operation_is_optimised_away(
    first: str, backend: str, tmp_path: Path
) -> None:
    how = {"Cast": {"to": TensorProto.FLOAT}}.get(first, {})
    inputs = {"z": FLOATS, "unused": FLOATS, "b": FLOATS}
    extra = ["shape"] if first == "Reshape" else []
    nodes = [
        helper.make_node(first, ["b", *extra], ["a1"], **how),
        helper.make_node(first, ["z", *extra], ["a0"], **how),
        helper.make_node("Sub", ["a0", "a1"], ["y"]),
    ]
    if extra:
        shape = helper.make_tensor("s", TensorProto.INT64, [2], [-1, 3])
        nodes.insert(0, helper.make_node("Constant", [], ["shape"], value=shape))
    path = models.save(tmp_path / "m.onnx", nodes, inputs)
    found = look(path, backend, False).inputs
    assert found and [input.name for input in found] == ["z", "unused", "b"]
    # In that order they reach the program, too.
    run = BACKENDS[backend].opens.open(path, BACKENDS[backend].targets["cpu"], 1).run  # type: ignore[union-attr]
    z, b = np.full((1, 3), 5, np.float32), np.full((1, 3), 2, np.float32)
    assert np.asarray(run([z, np.zeros((1, 3), np.float32), b])[0]).tolist() == [[3, 3, 3]]  # type: ignore[index]


def test_an_input_without_a_name_has_that_of_its_layer(ir: Path) -> None:
    import openvino

    model = openvino.Core().read_model(ir)
    for port in model.inputs:
        port.get_tensor().set_names(set())
    openvino.save_model(model, ir.with_name("nameless.xml"))
    found = look(ir.with_name("nameless.xml"), "openvino", False).inputs
    assert found and [(input.name, input.aliases) for input in found] == [("x", ("input0",)), ("ids", ("input1",))]


def test_of_several_names_an_ir_has_the_one_of_its_input_first(ir: Path) -> None:
    import openvino

    model = openvino.Core().read_model(ir)
    model.inputs[0].get_tensor().add_names({"a_name_for_it"})
    openvino.save_model(model, ir.with_name("several.xml"))
    found = look(ir.with_name("several.xml"), "openvino", False).inputs
    assert found and found[0].name == "x" and "a_name_for_it" in found[0].aliases


def test_weights_that_are_listed_among_the_inputs_are_none(tmp_path: Path) -> None:
    weights = (TensorProto.FLOAT, [8, 3, 3, 3])
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    path = models.save(tmp_path / "m.onnx", [node], {"w": weights, "x": (TensorProto.FLOAT, [1, 3, 8, 8])})
    assert onnx_graphs.declared(path).inputs == ("x",)
    for backend in ("onnxruntime", "openvino"):
        found = look(path, backend, False).inputs
        assert found and [input.name for input in found] == ["x"]


def test_a_file_is_parsed_once_whatever_is_asked_of_it(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[object] = []
    load = onnx.load
    monkeypatch.setattr(onnx, "load", lambda path, *rest, **how: (parsed.append(path), load(path, *rest, **how))[1])
    for backend in ("onnxruntime", "openvino"):
        need_package(backend)
        parsed.clear()
        assert look(model, backend, False).inputs
        assert parsed == [model]


def test_nodes_that_are_none_are_the_runtimes_to_refuse(tmp_path: Path) -> None:
    x = {"x": (TensorProto.FLOAT, [1])}
    short = helper.make_tensor("training", TensorProto.BOOL, [1], [True])
    short.dims[0] = 3  # and one value
    odd = [
        helper.make_node("Identity", [], ["y"]),
        helper.make_node("Constant", [], [], value=short),
        helper.make_node("Constant", [], ["t"], value=short),
        helper.make_node("Dropout", ["x", "", "t"], ["y"]),
    ]
    for number, node in enumerate(odd):
        path = models.save(tmp_path / f"{number}.onnx", [odd[2], node], x)
        assert onnx_graphs.declared(path).training_mode.operators == {}


def test_an_argument_of_torchscript_has_the_name_of_the_graph_too(tmp_path: Path) -> None:
    found = look(models.torchscript(tmp_path / "m.ts"), "torchscript", True).inputs
    assert found and [(input.name, input.aliases) for input in found] == [("x", ("x.1",)), ("ids", ("ids.1",))]


@pytest.mark.parametrize("content", [b"\x0a\x00", b"\xc3\x28 no model", b"\x08\x08"])
def test_an_onnx_file_without_a_graph_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    refused(tmp_path / "m.onnx", "is no ONNX model")


def test_half_an_onnx_file_is_said_to_be_part_of_one(tmp_path: Path) -> None:
    path = models.images(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:99])
    refused(path, "is no ONNX model, or only part of one")


@pytest.mark.parametrize("check", [lambda path: bench._check(path), lambda path: pipeline.compare(path, path)])
def test_what_is_not_there_is_a_usage_error_and_what_cannot_be_read_is_not(
    check: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="absent: does not exist"):
        check(tmp_path / "absent")
    (tmp_path / "nowhere").symlink_to("absent")
    with pytest.raises(Corrupt, match=r"nowhere: cannot be read \(nowhere is a link that leads nowhere\)"):
        check(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(Corrupt, match="loop: cannot be read"):
        check(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Corrupt, match="pipe: is a named pipe"):
        check(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with pytest.raises(Corrupt, match="zero: is a device"):
        check(tmp_path / "zero")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=r"folder: (is no file|neither a)"):
        check(tmp_path / "folder")


def test_results_that_are_a_link_to_nowhere_are_no_usage_error(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "results.jsonl").symlink_to("absent")
    with pytest.raises(Corrupt, match="leads nowhere"):
        pipeline.compare(tmp_path, tmp_path)
