"""A pack holds what its manifest says and nothing else, the same bytes each time, and says what cannot travel."""

import base64
import hashlib
import io
import re
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cifar_deploy.core import codec, image_cache, packs, trust
from cifar_deploy.core.arrays import choose
from cifar_deploy.core.errors import Corrupt
from cifar_deploy.core.packs import Manifest, Pack
from cifar_deploy.stages import prepare
from tests import conftest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def content(packed: Path) -> zipfile.ZipFile:
    text = packed.read_text().partition("\n# content\n")[2]
    return zipfile.ZipFile(io.BytesIO(base64.b64decode("".join(line[2:] for line in text.splitlines()))))


@pytest.fixture
def manifest(content: zipfile.ZipFile, tmp_path: Path) -> Manifest:
    path = tmp_path / "manifest.json"
    path.write_bytes(content.read("pack/manifest.json"))
    return codec.load(Manifest, path, "")


@pytest.fixture
def unpacked(content: zipfile.ZipFile, tmp_path: Path) -> Pack:
    content.extractall(tmp_path / "device")
    return packs.open_(tmp_path / "device")


def test_every_file_is_in_the_manifest_and_nothing_else(content: zipfile.ZipFile, manifest: Manifest) -> None:
    files = {file.name: file for file in manifest.files}
    assert {*content.namelist()} == {*files, "pack/manifest.json"}
    for name, file in files.items():
        found = content.read(name)
        assert (len(found), hashlib.sha256(found).hexdigest()) == (file.bytes, file.sha256), name


def test_nothing_travels_that_is_not_needed(content: zipfile.ZipFile) -> None:
    names = content.namelist()
    modules = {name.removeprefix("pack/") for name in names if name.startswith("pack/cifar_deploy/")}
    assert modules == {path.relative_to(ROOT).as_posix() for path in (ROOT / "cifar_deploy").rglob("*.py")}
    others = [name for name in names if not name.startswith(("pack/cifar_deploy/", "pack/images/"))]
    assert {name.partition("/")[0] for name in others} == {"pack", "exported", "baselines"}
    assert not [name for name in names if name.endswith((".safetensors", ".ts", ".pt2", "log.txt", ".lock", ".jsonl"))]


def test_the_images_are_those_that_evaluate_chooses(unpacked: Pack, manifest: Manifest) -> None:
    (choice,) = manifest.choices
    folder, source = unpacked.root / choice.place, prepare.folder_of(choice.data)
    chosen = choose(choice.data.test_images, 64)
    assert choice.limit_test == choice.images == 64
    assert np.array_equal(np.load(folder / "chosen.npy"), chosen)
    for name in ("test_images", "test_labels"):
        assert np.array_equal(np.load(folder / f"{name}.npy"), image_cache.load_array(source, name)[chosen])
    assert np.load(folder / packs.labels_of("resnet8")).shape == (64,)
    assert np.load(folder / packs.logits_of("resnet8")).shape == (64, 10)


def test_packing_again_writes_the_same_bytes(packed: Path, pack_it: conftest.Pack, tmp_path: Path) -> None:
    done = pack_it("--format", "onnx", "--images", "64", "--to", tmp_path / "b.py")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b.py").read_bytes() == packed.read_bytes()
    size = (tmp_path / "b.py").stat().st_size
    assert f"{size / 1e6:.1f} MB, resnet8 as onnx, 64 images of " in done.stdout


def test_its_head_is_a_script_with_metadata(packed: Path) -> None:
    text = packed.read_text()
    (found,) = re.findall(r"(?m)^# /// script$\n((?:#(?: .*)?$\n)+?)^# ///$", text)  # as PEP 723 says
    metadata = tomllib.loads("".join(line[2:] for line in found.splitlines(keepends=True)))
    assert metadata["requires-python"] == ">=3.10"
    names = {re.split("[=;]", each)[0] for each in metadata["dependencies"]}
    assert names == {"numpy", "onnxruntime"}
    assert all(ord(character) < 128 for character in text) and max(map(len, text.splitlines())) < 1000


def test_a_pack_is_known_to_whom_made_it(unpacked: Pack) -> None:
    assert trust.knows_pack(unpacked.id) and not trust.knows_pack("0" * 16)


@pytest.mark.parametrize("damage", ["cut", "altered", "deleted"])
def test_an_altered_folder_is_refused(unpacked: Pack, manifest: Manifest, damage: str) -> None:
    unpacked.check()
    path = unpacked.root / next(file.name for file in manifest.files if file.name.endswith("model.onnx"))
    whole = path.read_bytes()
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes(whole[:-1] if damage == "cut" else whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(Corrupt, match="is not the file that was packed"):
        unpacked.check()


def test_a_manifest_that_is_none_is_refused(unpacked: Pack) -> None:
    path = unpacked.root / packs.FOLDER / packs.MANIFEST
    for text in ("", "{", "[]", '{"program": "0.1.0"}', "null"):
        path.write_text(text)
        with pytest.raises(Corrupt, match="make the pack again"):
            packs.open_(unpacked.root)


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (
            ["--format", "torchscript"],
            2,
            "torchscript cannot travel: it needs PyTorch; install cifar-deploy on the device",
        ),
        (["--format", "checkpoint"], 2, "checkpoint cannot travel: it needs PyTorch"),
        (["--format", "onnx_int8"], 2, "--format: no onnx_int8 of resnet8 is exported; run `cifar-deploy export`"),
        (["--format", "onix"], 2, "onix: no format has this name; did you mean 'onnx'?"),
        (
            ["--format", "onnx", "--backend", "litert"],
            2,
            "--backend: litert reads litert, litert_int8, and there is no such artifact among onnx",
        ),
        (["--metric", "tests.own_energy:METRIC"], 2, "--metric: tests.own_energy:METRIC is your own code"),
        (["--cpus", "fast"], 2, "--cpus: 'fast' is no list of processors"),
        (["--images", "0"], 2, "--images"),
        (["nobody"], 2, "nobody"),
        (["--to", "."], 2, "--to"),
    ],
)
def test_what_cannot_be_packed_is_a_line(
    pack_it: conftest.Pack, tmp_path: Path, options: list[str], code: int, told: str
) -> None:
    given = [] if "--to" in options else ["--to", tmp_path / "bench.py"]
    done = pack_it(*options, *given, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1) and told in done.stderr, done.stderr
    assert not [*tmp_path.iterdir()]


def test_settings_travel(pack_it: conftest.Pack, tmp_path: Path) -> None:
    """Pinning to big cores is decided on the device: this machine may have none."""
    options = ["--cpus", "big", "--threads", "4096", "--rounds", "3", "--budget", "2m", "--metric", "latency"]
    done = pack_it("--format", "onnx", "--images", "16", *options, "--to", tmp_path / "b.py")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "b.py").read_text().partition("\n# content\n")[2]
    with zipfile.ZipFile(io.BytesIO(base64.b64decode("".join(line[2:] for line in text.splitlines())))) as content:
        (tmp_path / "m.json").write_bytes(content.read("pack/manifest.json"))
    settings = codec.load(Manifest, tmp_path / "m.json", "").settings
    assert (settings.cpus, settings.threads, settings.rounds, settings.budget_s) == ("big", (4096,), 3, 120)
    assert settings.metrics == ("latency",)
