"""A file is told by its first bytes, and an error says what it is."""

import gzip
import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import content
from cifar_deploy.core.content import ONNX, Content
from cifar_deploy.core.errors import LONGEST_LINE, LoadError, one_line
from tests import models
from tests.conftest import need_package

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n"


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.onnx"))
    return buffer.getvalue()


def saved() -> bytes:
    """Weights, as torch.save wrote them before it wrote archives."""
    import torch

    buffer = io.BytesIO()
    torch.save({"weight": torch.ones(2)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def arrays() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.ones(2))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", ["is empty"]),
        (bytes(5000), ["zeros"]),
        (LFS, ["is a Git LFS pointer, not an ONNX model", "git lfs pull"]),
        (b"<!DOCTYPE html>\n<html>Sign in</html>", ["HTML page (<!DOCTYPE html> <html>Sign in</html>)", "download the file"]),
        (b"\xef\xbb\xbf \r\n<?xml version='1.0'?><html xmlns='x'/>", ["HTML page"]),
        (b"<?xml version='1.0'?>\n<Error><Code>AccessDenied</Code></Error>", ["XML of another kind", "<Error>"]),
        (b'{"error": "Repository not found"}', ["is JSON", "Repository not found"]),
        (b" \n", ["is text (blank)"]),
        (b"Entry not found", ["is text (Entry not found)"]),
        ("Nicht gefunden: é".encode() * 2000, ["is text (Nicht gefunden"]),
        (b"7767517\n75 83\nInput data 0 1 data\n", ["is text (7767517"]),
        (gzip.compress(b"model"), ["is a gzip archive", "gunzip"]),
        (tarred(), ["is a tar archive"]),
        (b"\xfd7zXZ\0\0\4", ["is an xz archive"]),
        (b"\x28\xb5\x2f\xfd\4\0", ["is a Zstandard archive"]),
        (zipped("model.onnx", "read.me"), ["is a zip archive of other files", "unpack"]),
        (zipped("model.onnx")[:-9], ["is a zip archive without its end", "again"]),
        (zipped("metadata.json", "config.json", "model.weights.h5"), ["is a Keras model"]),
        (zipped("Manifest.json", "Data/com.apple.CoreML/model.mlmodel"), ["is a Core ML model"]),
        (zipped("archive/data.pkl", "archive/data/0", "archive/version"), ["torch.save", "weights"]),
        (zipped("m/data.pkl", "m/code/__torch__.py", "m/constants.pkl"), ["is a TorchScript program", ".ts"]),
        (zipped("m/models/model.json", "m/archive_format"), ["is a program of torch.export", ".pt2"]),
        (arrays(), ["NumPy"]),
        (saved(), ["is a Python pickle"]),
        (pickle.dumps({"a": 1}), ["is a Python pickle"]),
        (b"\x30\0\0\0\0\0\0\0" + b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', ["safetensors", "weights"]),
        (b"\x89HDF\r\n\x1a\n\0\0", ["HDF5", "Keras"]),
        (b"\x1c\0\0\0TFL3\x14\0", ["is a TFLite model", "end in .tflite"]),
        (b"\x18\0\0\0ORTM\0\0", ["a model in ORT format", "end in .ort"]),
        (b"\x1c\0\0\0ET12\0\0", ["is an ExecuTorch program", "end in .pte"]),
        (b"ftrt\0\0\0\0", ["is a TensorRT engine"]),
        (b"GGUF\3\0\0\0", ["is a GGUF file"]),
        (b"\x08\x04\x12\x20\x0a\x0f\x0a\x05image", ["is a Core ML model"]),
        (b"\x7fELF\2\1", ["machine code"]),
        (b"\x89PNG\r\n\x1a\n", ["image"]),
        (b'<?xml version="1.0"?>\n<!-- made -->\n<net name="m" version="11"/>', ["is an OpenVINO IR", ".xml"]),
    ],
    ids=lambda value: value[0][:40] if isinstance(value, list) else "",
)  # fmt: skip
def test_what_is_no_onnx_model_is_called_what_it_is(data: bytes, words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(LoadError) as refused:
        content.check(path, ONNX)
    line = one_line(str(refused.value).replace(str(tmp_path), ""), LONGEST_LINE)
    assert line.startswith("/model.onnx: is ") and "not an ONNX model; " in line
    for word in words:
        assert word in line


@pytest.mark.parametrize("start", [b"\x08\x08:", b"\x08\x07\x12\x07TFL3net", b"\x08\x0a\x12\x07pytorch\x1a"])
def test_an_onnx_model_is_recognised_whoever_made_it(start: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(start)
    with pytest.raises(LoadError, match=r"is an ONNX model, not a TFLite model; let its name end in .onnx"):
        content.check(path, content.TFLITE)


def test_what_is_not_recognised_is_left_to_its_parser(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for data in (b"\x0a\x05node1", b"\xff" * 99, b"\x12\x00"):
        path.write_bytes(data)
        for expected in (ONNX, None):
            content.check(path, expected)


def test_a_plugin_that_expects_nothing_gets_all_but_what_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    content.check(path, None)
    path.write_bytes(LFS)
    with pytest.raises(LoadError, match="Git LFS pointer"):
        content.check(path, None)


def _opened() -> Mapping[tuple[str, str], Callable[[Path], Path]]:
    return {pair: make for pair, make in models.MAKERS.items() if pair[0] != "aoti"}


@pytest.mark.parametrize("pair", _opened(), ids=" ".join)
def test_what_a_maker_writes_is_recognised_as_what_the_backend_expects(pair: tuple[str, str], tmp_path: Path) -> None:
    name, suffix = pair
    need_package(name if name in ("openvino", "onnxruntime") else "torch")
    opens = BACKENDS[name].opens
    assert opens
    expected: Content | None = opens.suffixes[suffix]
    assert expected and content.of(models.MAKERS[pair](tmp_path / f"m{suffix}")) == expected


def test_the_start_of_a_text_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("Not\u202e found\x1b[31m")
    with pytest.raises(LoadError) as refused:
        content.check(path, ONNX)
    assert one_line(str(refused.value)).isprintable()
