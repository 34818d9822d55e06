"""External models: what they take, what they cost, and what is said of those that cannot be run."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _pytest.mark.structures import ParameterSet
from onnx import TensorProto

from cifar_deploy import pipeline
from cifar_deploy.backends import BACKENDS, Input
from cifar_deploy.backends.tensors import is_compiled
from cifar_deploy.core import codec
from cifar_deploy.core.arrays import random_arrays
from cifar_deploy.core.errors import Unsupported, UsageError
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.records import External, Tensor
from cifar_deploy.core.registry import interpreter_for
from cifar_deploy.metrics.summary import same_input
from cifar_deploy.stages.bench import Shape, Value, taken
from tests import models, pictures
from tests.conftest import Exported, heed_signals, need_plugin
from tests.in_process import run_here
from tests.probes import a_job
from tests.test_cli import assert_refused

QUICK = ["--rounds", "1", "--seconds", "0.02"]
ORT = ["--backend", "onnxruntime"]


def _opened() -> list[ParameterSet]:
    """Each backend with each suffix that it opens; a compiler takes half a minute."""
    pairs = [
        (name, suffix)
        for name in BACKENDS
        if (opens := BACKENDS[name].opens) and not BACKENDS[name].environment
        for suffix in opens.suffixes
    ]
    return [pytest.param(*pair, marks=[pytest.mark.slow] if pair[0] == "aoti" else []) for pair in pairs]


def bench(*arguments: object, cwd: Path) -> tuple[list[dict[str, Any]], subprocess.CompletedProcess[str]]:
    """The rows of the table, by `--json`."""
    done = run_here("bench", *arguments, *QUICK, "--json", cwd=cwd)
    assert done.stdout, done.stderr
    return table_of(done)["rows"], done


def table_of(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)["report"]["tables"][0]


@pytest.mark.parametrize(("name", "suffix"), _opened())
def test_a_backend_says_what_a_file_takes_and_runs_it(name: str, suffix: str, tmp_path: Path) -> None:
    backend = BACKENDS[name]
    need_plugin(backend)
    assert backend.opens
    path = models.MAKERS[name, suffix](tmp_path / f"model{suffix}")
    assert backend.opens.knows(path)
    opened = backend.opens.open(path, backend.targets[backend.validated_on], 1)
    for input, known in zip(opened.inputs, ("x float32", "ids int64"), strict=True):
        assert input.dtype is None or f"{input.name} {input.dtype}" == known
        assert input.shape is None or (
            len(input.shape) == 2 and not isinstance(input.shape[0], int) and input.shape[1] == 3
        )
    x, ids = np.random.default_rng(0).random((2, 3), np.float32), np.array([[0, 1, 2], [3, 4, 5]])
    answer = opened.run([x, ids])
    np.testing.assert_allclose(np.asarray(answer[0] if isinstance(answer, list) else answer), x * ids, rtol=1e-6)


@pytest.mark.parametrize(("format", "suffix"), [("litert", ".tflite"), ("executorch", ".pte")])
@pytest.mark.slow
def test_a_runtime_in_an_environment_opens_files_of_its_own(
    format: str, suffix: str, exported: Exported, tmp_path: Path
) -> None:
    _, path = exported(format)
    assert path.suffix == suffix
    (row,), done = bench(path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert row["labels"]["backend"] == format and row["values"]["latency.p50"]["number"] > 0
    assert any("float32 1×3×32×32" in note for note in table_of(done)["notes"])


@pytest.mark.slow
def test_executorch_opens_a_program_that_takes_a_number(tmp_path: Path) -> None:
    backend, path = BACKENDS["executorch"], tmp_path / "model.pte"
    need_plugin(backend)
    interpreter = interpreter_for(backend)
    Worker(interpreter=interpreter).call(models.times_a_number, path=path)
    (row,), done = bench(path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert row["values"]["latency.p50"]["number"] > 0


@pytest.mark.parametrize(
    ("input", "given", "expected"),
    [
        (Input(name="x", dtype="float32", shape=("N", 3, 8, 8)), None, (1, 3, 8, 8)),
        (Input(name="x", dtype="float32", shape=(None, 3)), (7, 3), (7, 3)),
        (Input(name="x", dtype="float32", shape=(4, 3)), None, (4, 3)),
        (Input(name="x", dtype="bool", shape=()), None, ()),
        (Input(name="x", dtype=None, shape=None), (), ()),
        (Input(name="x", dtype="float32", shape=()), (1, 3), "x is a scalar, and --shape says 1,3"),
        (Input(name="x", dtype="float32", shape=(1, 3)), (), "--shape says a scalar"),
        (Input(name="x", dtype=None, shape=None), (1, 3), (1, 3)),
        (Input(name="x", dtype="float32", shape=(1, "sequence")), None, "[1, sequence]; say how large, as in --shape x=1,N"),
        (Input(name="x", dtype=None, shape=None), None, "a shape that the file does not tell"),
        (Input(name="x", dtype="float32", shape=("N", 3)), (1, 4), "--shape says 1,4"),
        (Input(name="x", dtype="float32", shape=("N", 3)), (1, 3, 1), "--shape says 1,3,1"),
    ],
    ids=str,
)  # fmt: skip
def test_the_batch_is_one_and_other_free_sizes_have_to_be_given(
    input: Input, given: tuple[int, ...] | None, expected: tuple[int, ...] | str
) -> None:
    shapes = {"x": Shape(name="x", sizes=given)} if given is not None else {}
    if isinstance(expected, str):
        with pytest.raises(UsageError) as refused:
            taken(Path("a.onnx"), (input,), shapes)
        assert "a.onnx: input x" in str(refused.value) and expected in str(refused.value)
    else:
        (tensor,) = taken(Path("a.onnx"), (input,), shapes)
        assert tensor.shape == expected and tensor.dtype == (input.dtype or "float32")


X, Z = (
    Input(name="x", dtype="float32", shape=(1, None), aliases=("a", "both")),
    Input(name="z", dtype="float32", shape=(1, None), aliases=("b", "both", "x")),
)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["x=2", "z=3"], [2, 3]),
        (["a=2", "b=3"], [2, 3]),
        (["both=2", "z=3"], "input x is [1, ?]; say how large"),
        (["x=2"], "input z is [1, ?]; say how large"),  # another input's own name is none of its aliases
        (["x=2", "a=2", "z=3"], "input x is given as x and as a; give it once"),
    ],
    ids=str,
)
def test_an_input_is_given_by_any_name_that_is_its_alone(given: list[str], expected: list[int] | str) -> None:
    pairs = [each.split("=") for each in given]
    shapes = {name: Shape(name=name, sizes=(1, int(size))) for name, size in pairs}
    if isinstance(expected, str):
        with pytest.raises(UsageError) as refused:
            taken(Path("a.onnx"), (X, Z), shapes)
        assert expected in str(refused.value)
    else:
        assert [tensor.shape[1] for tensor in taken(Path("a.onnx"), (X, Z), shapes)] == expected


@pytest.mark.parametrize(
    "dtype",
    [
        *("bfloat16", "string", "bytes", "object", "complex64", "float8_e4m3fn", "seq(tensor(float))", "List[Tensor]"),
        # Numpy reads each of these as a type of its own, and not as the runtime means it.
        *("i4", "u1", "f8", "int", "float", "double", "half", "long", "byte", "f16", "<f4", "2f4", "?"),
    ],
)
def test_a_type_of_which_there_are_no_arrays_is_named_and_unsupported(dtype: str) -> None:
    with pytest.raises(Unsupported, match=f"x is of type {re.escape(dtype)}, which cannot be made up"):
        taken(Path("a.onnx"), (Input(name="x", dtype=dtype, shape=(1,)),), {})


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("int64", 16000, 16000),
        ("int32", 16000.0, 16000),
        ("uint8", 255, 255),
        ("float32", 16000, 16000.0),
        ("float32", 0.1, 0.1),
        ("float32", 1e30, 1e30),
        ("float16", -0.5, -0.5),
        ("bool", True, True),
        ("bool", 0, False),
        ("uint8", 256, "--value 256 is outside of 0 to 255"),
        ("uint64", -1, "--value -1 is outside of 0 to"),
        ("uint64", 1e19, "is outside of 0 to 9223372036854775807"),
        ("int64", 0.5, "--value 0.5 is no whole number"),
        ("int64", True, "--value true is no number"),
        ("float32", True, "--value true is no number"),
        ("bool", 2, "--value 2 is neither true nor false"),
        ("float16", 70000, "is outside of ±65504"),
        ("float16", 16001, "--value 16001 would be 16000.0"),
        ("float32", 1e39, "is outside of ±3.4"),
        ("float32", 1e-60, "--value 1e-60 would be 0.0"),
    ],
)  # fmt: skip
def test_a_value_fills_an_input_if_its_type_holds_it(
    dtype: str, value: bool | int | float, expected: bool | int | float | str
) -> None:
    inputs = (Input(name="k", dtype=dtype, shape=(2, 2), aliases=("k:0",)),)
    given = {"k:0": Value(name="k:0", value=value)}
    if isinstance(expected, str):
        with pytest.raises(UsageError) as refused:
            taken(Path("a.onnx"), inputs, {}, given)
        assert "a.onnx: input k is of" in str(refused.value) and expected in str(refused.value)
        return
    tensors = taken(Path("a.onnx"), inputs, {}, given)
    assert tensors[0].value == expected and type(tensors[0].value) is type(expected)
    assert codec.from_json(Tensor, codec.to_json(tensors[0])) == tensors[0]
    assert str(tensors[0]) == f"k {dtype} 2×2 = {str(expected).lower()}"
    ((array,), *_) = random_arrays(tensors, 2)
    assert array.dtype == dtype and np.array_equal(array, np.full((2, 2), expected, dtype))


@pytest.mark.slow
def test_a_value_reaches_the_program_is_shown_and_tells_results_apart(tmp_path: Path) -> None:
    path = models.needs_rate(tmp_path / "speech.onnx")
    arguments = [path, *ORT, "--out", tmp_path]
    rows, done = bench(*arguments, cwd=tmp_path)
    assert done.returncode == 1 and rows[0]["failures"], "it runs at a rate of 16000 alone"
    assert any(note.startswith("No value was given for rate.") for note in table_of(done)["notes"])
    rows, done = bench(*arguments, "--value", "rate=16000", cwd=tmp_path)
    assert done.returncode == 0 and not rows[0]["failures"], done.stderr
    notes = table_of(done)["notes"]
    assert "Input: x float32 1×3, rate int64 scalar = 16000." in notes
    assert not any("No value" in note for note in notes)
    results = tmp_path / "bench" / "reports" / "results.jsonl"
    before = results.read_text()
    bench(*arguments, "--value", "rate=16000.0", cwd=tmp_path)
    assert results.read_text() == before, "the same question has its answer"
    rows, _ = bench(*arguments, "--value", "rate=8000", cwd=tmp_path)
    assert rows[0]["failures"], "another value is another question"


def test_an_argument_of_torchscript_that_is_a_number_needs_no_shape_and_gets_its_value(tmp_path: Path) -> None:
    path = models.takes_numbers(tmp_path / "model.ts")
    opened = BACKENDS["torchscript"].opens.open(path, "cpu", 1)  # type: ignore[union-attr]
    shapes = {"x": Shape(name="x", sizes=(1, 3))}
    values = {name: Value(name=name, value=value) for name, value in {"k": 16, "scale": 0.5, "on": True}.items()}
    tensors = taken(path, opened.inputs, shapes, values)
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in tensors] == [
        ("x", "float32", (1, 3)), ("k", "int64", ()), ("scale", "float64", ()), ("on", "bool", ())
    ]  # fmt: skip
    (arrays, *_) = random_arrays(tensors, 1)
    np.testing.assert_allclose(np.asarray(opened.run(arrays)), arrays[0] * 8)


def test_a_value_is_part_of_what_identifies_a_job_and_a_name_is_none_of_what_is_fed() -> None:
    takes = (Tensor(name="x", dtype="float32", shape=(1, 3)),)
    job = a_job()
    plain = replace(job, artifact=replace(job.artifact, origin=External(path="a.onnx", takes=takes), format=None))
    valued = replace(
        plain, artifact=replace(plain.artifact, origin=External(path="a.onnx", takes=(replace(takes[0], value=1.0),)))
    )
    assert valued.key != plain.key and not same_input(plain, valued)
    # Nothing of a value where there is none: the keys of earlier versions hold.
    assert takes[0].fed == {"dtype": "float32", "shape": [1, 3]} == replace(takes[0], name="z").fed


def test_random_arrays_are_the_same_each_time_harmless_and_few_where_they_are_large() -> None:
    tensors = [
        Tensor(name=dtype, dtype=dtype, shape=(50, 2))
        for dtype in ("float32", "float16", "int64", "int8", "uint8", "bool")
    ]
    batches = random_arrays(tensors, 3)
    assert len(batches) == 3 and not np.array_equal(batches[0][0], batches[1][0])
    for tensor, array, again in zip(tensors, batches[0], random_arrays(tensors, 3)[0], strict=True):
        assert array.dtype == tensor.dtype and array.shape == tensor.shape and np.array_equal(array, again)
        assert array.min() >= 0 and array.max() <= 1 and len(np.unique(array)) > 1
    assert set(np.unique(batches[0][2])) == {0, 1}
    assert len(random_arrays([Tensor(name="x", dtype="float32", shape=(3, 2048, 2048))], 64)) == 1


def test_files_are_measured_side_by_side_and_nothing_is_left_behind(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(temporary))
    models.images(tmp_path / "images.onnx")
    models.two_inputs(tmp_path / "two.onnx")
    (tmp_path / "damaged.onnx").write_bytes((tmp_path / "images.onnx").read_bytes()[:99])
    before = sorted(tmp_path.iterdir())
    rows, done = bench("images.onnx", "two.onnx", "damaged.onnx", *ORT, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("cifar-deploy: error: 1 of the asked"), done.stderr
    assert [(row["labels"]["file"], row["labels"]["backend"]) for row in rows] == [
        (f"{name}.onnx", "onnxruntime") for name in ("images", "two", "damaged")
    ]
    first, second, damaged = rows
    for row in (first, second):
        values = {key: value["number"] for key, value in row["values"].items()}
        assert 0 < values["latency.p50"] < 1 and 0 < values["latency.load"] < 60 and 0 < values["latency.first"] < 60
        assert values["memory.peak"] > 2**24 and not row["failures"]
        assert values["file_size.bytes"] == (tmp_path / row["labels"]["file"]).stat().st_size
    ratio = second["values"]["latency.p50"]["number"] / first["values"]["latency.p50"]["number"]
    assert second["values"]["speed_up"]["number"] == pytest.approx(1 / ratio) and "speed_up" not in first["values"]
    assert damaged["failures"]["latency.p50"]["kind"] == "load error" and not damaged["values"]
    assert "damaged.onnx" in damaged["failures"]["latency.p50"]["reason"]
    notes = " ".join(table_of(done)["notes"])
    assert "x float32 1×3×224×224" in notes and "ids int64 1×3" in notes and "A/A" in notes
    assert sorted(tmp_path.iterdir()) == before and not list(temporary.glob("cifar-deploy*"))


@pytest.mark.slow
def test_out_keeps_the_results_apart_and_a_second_bench_uses_them_again(tmp_path: Path) -> None:
    path = models.images(tmp_path / "images.onnx")
    arguments = ["bench", path, *ORT, "--rounds", "2", "--seconds", "0.02", "--out", tmp_path]
    done = run_here(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Ship ") == 1 and "report.md" in done.stdout
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["bench", "images.onnx"]
    results = tmp_path / "bench" / "reports" / "results.jsonl"
    before = results.read_text()
    assert before.count('"kind": "run"') == 6  # memory, size, and in each of two rounds a latency and its control
    again = run_here(*arguments)
    assert again.returncode == 0 and results.read_text() == before
    assert again.stdout[again.stdout.index("Ship ") :] == done.stdout[done.stdout.index("Ship ") :]
    other = models.two_inputs(tmp_path / "two.onnx")
    rows, _ = bench(other, *ORT, "--out", tmp_path, cwd=tmp_path)
    assert [row["labels"]["file"] for row in rows] == [str(other)], "only what was asked for is shown"
    assert run_here("compare", tmp_path / "bench", tmp_path / "bench").returncode == 0


def test_external_data_belong_to_the_file(tmp_path: Path) -> None:
    how = {"save_as_external_data": True, "location": "weights.data", "size_threshold": 0}
    path = models.images(tmp_path / "images.onnx", **how)
    rows, done = bench(path, *ORT, cwd=tmp_path.parent)
    assert done.returncode == 0, done.stderr
    both = path.stat().st_size + (tmp_path / "weights.data").stat().st_size
    assert rows[0]["values"]["file_size.bytes"]["number"] == both
    (tmp_path / "weights.data").unlink()
    rows, done = bench(path, *ORT, cwd=tmp_path.parent)
    assert done.returncode == 1 and "needs weights.data beside it" in rows[0]["failures"]["latency.p50"]["reason"]


def test_data_outside_the_files_folder_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    path = models.images(tmp_path / "model.onnx", save_as_external_data=True, location="w.data", size_threshold=0)
    inside = tmp_path / "inner" / "model.onnx"
    inside.write_bytes(path.read_bytes().replace(b"w.data", b"../w.d"))
    (tmp_path / "w.d").write_text("not for others")
    rows, _ = bench(inside, *ORT, cwd=tmp_path)
    assert "from outside its folder" in rows[0]["failures"]["latency.p50"]["reason"]


def test_a_crash_is_a_row_beside_the_others(tmp_path: Path) -> None:
    path = models.images(tmp_path / "images.onnx")
    rows, done = bench(path, *ORT, "--backend", "tests.plugins:CRASHES_ON_ANY_FILE", cwd=tmp_path)
    assert done.returncode == 1
    assert not rows[0]["failures"] and rows[0]["values"]["latency.p50"]["number"] > 0
    assert rows[1]["failures"]["latency.p50"]["kind"] == "crashed"
    assert "latency: the worker died of SIGSEGV" in done.stdout


@pytest.mark.slow
def test_a_program_runs_only_if_it_is_trusted(tmp_path: Path) -> None:
    path = models.torchscript(tmp_path / "model.ts")
    shapes = ["--shape", "x=1,3", "--shape", "ids=1,3:int64"]
    rows, done = bench(path, *shapes, cwd=tmp_path)
    assert done.returncode == 1 and "--trust" in rows[0]["failures"]["latency.p50"]["reason"]
    rows, done = bench(path, *shapes, "--trust", cwd=tmp_path)
    assert done.returncode == 0 and rows[0]["values"]["latency.p50"]["number"] > 0, done.stderr


@pytest.mark.slow
def test_a_program_that_writes_into_its_input_says_so(tmp_path: Path) -> None:
    paths = [models.in_place(tmp_path / "in_place.ts"), models.torchscript(tmp_path / "apart.ts")]
    shapes = ["--shape", "x=2,3", "--shape", "ids=2,3:int64"]
    rows, done = bench(*paths, *shapes, "--trust", cwd=tmp_path)
    assert done.returncode == 0 and not any(row["failures"] for row in rows), done.stderr
    (note,) = [note for note in table_of(done)["notes"] if "writes into its input" in note]
    assert note.startswith(str(paths[0])) and "outside of the timed part" in note


@pytest.mark.slow
def test_a_program_that_was_saved_in_training_mode_says_so(tmp_path: Path) -> None:
    path = models.in_training_mode(tmp_path / "model.ts")
    rows, done = bench(path, "--shape", "input=2,3", "--trust", cwd=tmp_path)
    assert done.returncode == 0 and not rows[0]["failures"], done.stderr
    (note,) = [note for note in table_of(done)["notes"] if "training mode" in note]
    assert (
        note
        == f"{path} on torchscript was saved in training mode (2 modules); it ran in evaluation mode, as after .eval()."
    )


def test_of_two_kinds_with_one_suffix_the_backend_of_the_other_is_refused(tmp_path: Path) -> None:
    path = models.MAKERS["torch_export", ".pt2"](tmp_path / "model.pt2")
    assert not is_compiled(path)
    assert_refused(run_here("bench", path, "--backend", "aoti"), 2, "model.pt2", "aoti", "--backend")


def test_a_file_of_weights_is_told_from_a_program(tmp_path: Path) -> None:
    import torch

    torch.save({"weight": torch.ones(2)}, tmp_path / "weights.pt")
    rows, _ = bench("weights.pt", "--trust", cwd=tmp_path)
    assert "torch.save, which keeps weights" in rows[0]["failures"]["latency.p50"]["reason"]


def test_an_ir_without_its_weights_and_an_empty_file_say_so(tmp_path: Path) -> None:
    (tmp_path / "model.xml").write_text("<net/>")
    (tmp_path / "model.onnx").touch()
    rows, done = bench("model.xml", "model.onnx", cwd=tmp_path)
    assert done.returncode == 1
    reasons = {row["labels"]["file"]: row["failures"]["latency.p50"]["reason"] for row in rows}
    assert "needs model.bin beside it" in reasons["model.xml"] and "is empty" in reasons["model.onnx"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone.onnx"], ["gone.onnx", "does not exist"]),
        (["."], ["is no file"]),
        (["notes.txt"], [".txt", ".onnx", ".pt2"]),
        (["free.onnx", "./free.onnx"], ["free.onnx again", "once"]),
        (["free.onnx", "link.onnx"], ["link.onnx", "free.onnx again"]),
        (["free.onnx", *ORT], ["free.onnx", "[N, 3, height, width]", "--shape x=1,3,N,N"]),
        (["free.onnx", *ORT, "--shape", "x=1,4,8,8"], ["input x", "1,4,8,8"]),
        (["free.onnx", *ORT, "--shape", "x=1,3,8,8:int64"], ["input x", "float32", "int64"]),
        (["free.onnx", *ORT, "--shape", "x=1,3,8,8", "--shape", "z=1"], ["z: no input", "x"]),
        (["free.onnx", *ORT, "--shape", "x=1,3,8,8", "--shape", "x=1,3,9,9"], ["--shape", "x is given twice"]),
        (["free.onnx", *ORT, "--shape", "x=1,3,8,8", "--value", "y=1"], ["y: no input (--value)", "x"]),
        (["free.onnx", *ORT, "--shape", "x=1,3,8,8", "--value", "x=true"], ["input x is of float32", "--value true"]),
        (
            ["free.onnx", *ORT, "--shape", "x=1,3,8,8", "--value", "x=1", "--value", "x=2"],
            ["--value", "x is given twice"],
        ),
        (["free.onnx", "--value", "x=a"], ["--value", "x=a is no value", "rate=16000"]),
        (["free.onnx", "--value", "x=nan"], ["x=nan is no value"]),
        (["free.onnx", "--value", "x=1e999"], ["x=1e999 is no value"]),
        (["free.onnx", "--value", "16000"], ["16000 is no value"]),
        (["free.onnx", "--shape", "x=1,a"], ["--shape", "x=1,a"]),
        (["free.onnx", "--shape", "x=1,0"], ["--shape", "x=1,0"]),
        (["free.onnx", "--shape", "x=1,3:float99"], ["--shape", "float99", "float32"]),
        (["free.onnx", "--shape", "x=1,3:i4"], ["--shape", "the type i4", "int32"]),
        (["unranked.onnx", *ORT], ["unranked.onnx", "input x", "shape that the file does not tell", "--shape x="]),
        (["free.onnx", "--backend", "onnxruntim"], ["did you mean 'onnxruntime'"]),
        (["free.onnx", "--backend", "pytorch"], ["--backend: pytorch"]),
        (["free.onnx", "--backend", "torchscript"], [".onnx", "torchscript", ".ts"]),
        (["free.onnx", *ORT, "--backend", "torchscript"], ["--backend: torchscript"]),
        ([], ["FILE: is missing"]),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(
    arguments: list[str],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    models.free(tmp_path / "free.onnx")
    models.identity(tmp_path / "unranked.onnx", None)
    (tmp_path / "link.onnx").symlink_to("free.onnx")
    (tmp_path / "notes.txt").write_text("no model")
    assert_refused(run_here("bench", *arguments), 2, *words)


def test_ctrl_c_says_that_nothing_is_kept(tmp_path: Path) -> None:
    models.images(tmp_path / "images.onnx")
    command = [sys.executable, "-m", "cifar_deploy", "bench", "images.onnx", *ORT, "--rounds", "99"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        preexec_fn=heed_signals,
    ) as running:
        assert running.stdout and "99 rounds" in running.stdout.readline()
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert errors.startswith("cifar-deploy: error: interrupted; nothing is kept") and errors.count("\n") == 1
    assert not list(tmp_path.glob("cifar-deploy*"))


def test_the_parent_never_loads_a_runtime(tmp_path: Path) -> None:
    path = models.images(tmp_path / "images.onnx")
    code = (
        "import sys; from pathlib import Path; from cifar_deploy import pipeline\n"
        f"planned = pipeline.plan_external([Path({str(path)!r})], backends=['onnxruntime'])\n"
        "assert planned[0].job.artifact.takes, planned\n"
        "assert not {'onnx', 'onnxruntime', 'torch', 'openvino'} & set(sys.modules), 'a runtime in the parent'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_backend_that_is_not_here_is_no_failure_unless_a_file_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['openvino'] = None\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}")
    monkeypatch.setitem(sys.modules, "openvino", None)  # nor has the parent it
    path = models.images(tmp_path / "images.onnx")
    rows, done = bench(path, cwd=tmp_path)
    assert done.returncode == 0 and rows[0]["labels"]["backend"] == "onnxruntime" and not rows[0]["failures"], (
        done.stderr
    )
    assert rows[1]["failures"]["latency.p50"]["kind"] == "unavailable"
    assert "pip install openvino" in rows[1]["failures"]["latency.p50"]["reason"]
    (tmp_path / "model.xml").write_text("<net/>")
    (tmp_path / "model.bin").write_text("")
    _, done = bench("model.xml", cwd=tmp_path)
    assert done.returncode == 1


def test_a_backend_that_is_not_here_is_a_row_with_the_remedy(tmp_path: Path) -> None:
    path = models.images(tmp_path / "images.onnx")
    (planned, *_) = pipeline.plan_external([path], backends=["tests.plugins:LACKS_A_PACKAGE"])
    assert planned.failure and planned.failure.kind == "unavailable" and "pip install" in planned.failure.reason


@pytest.mark.slow
def test_answers_are_compared_with_the_reference_on_the_screen_and_in_every_report(tmp_path: Path) -> None:
    colours = pictures.folder(tmp_path / "colours")
    pictures.model(tmp_path / "a.onnx")
    pictures.model(tmp_path / "b.onnx", shape=("N", 8, 8, 3), dtype=TensorProto.UINT8)
    line = ["a.onnx", "--reference", "b.onnx", "--data-dir", colours, *ORT, "--out", "."]
    rows, done = bench(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [row["labels"]["file"] for row in rows] == ["b.onnx", "a.onnx"], "the reference is the first"
    assert [row["values"]["accuracy.accuracy"]["number"] for row in rows] == [0.8, 0.8]
    (paired,) = (
        table for table in json.loads(done.stdout)["report"]["tables"] if table["title"].startswith("Accuracy ag")
    )
    assert paired["title"] == "Accuracy against b.onnx on onnxruntime"
    assert {key: value["number"] for key, value in paired["rows"][0]["values"].items()} == {
        "same": 1.0, "worse": 0, "better": 0, "difference": 0.0, "p": 1.0
    }  # fmt: skip
    notes = " ".join(table_of(done)["notes"])
    assert "Of latency and memory the inputs are random" in notes
    assert "30 test images of images from colours, as uint8, NHWC, pixels in 0..255; scores from scores." in notes
    shown = run_here("bench", *line, *QUICK, cwd=tmp_path)
    first, second = (line for line in shown.stdout.splitlines() if line.startswith("Top-1 of"))
    assert first == "Top-1 of b.onnx on onnxruntime: 80.00 [62.69, 90.49] %."
    assert second.startswith(
        "Top-1 of a.onnx on onnxruntime: 80.00 [62.69, 90.49] %. It agrees with the first on 100.00%"
    )
    assert "with 0 negative and 0 positive flips (McNemar p 1, not distinguishable)" in second
    written = list(csv.DictReader((tmp_path / "bench" / "reports" / "report.csv").open()))
    found = [row for row in written if row["metric"] == "accuracy"]
    assert len(found) >= 2 and {row["source"] for row in found} == {"images from colours"}
    assert run_here("compare", "bench", "bench", cwd=tmp_path).returncode == 0
