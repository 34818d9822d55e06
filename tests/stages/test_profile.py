"""A profile tells the time of every operator, the precision of every convolution, and leaves a trace that viewers load."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from cifar_deploy import console, pipeline
from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import codec
from cifar_deploy.core.errors import Corrupt, Unsupported, Untrusted, UsageError
from cifar_deploy.core.profile import Profile
from cifar_deploy.core.store import Store
from cifar_deploy.networks import NETWORKS
from cifar_deploy.stages.profile import sections
from tests.conftest import Exported, need_plugin
from tests.in_process import run_here, workers_here
from tests.probes import a_job, a_profile, an_operator
from tests.schemas import document_of

CONVOLUTIONS = sum(isinstance(layer, nn.Conv2d) for layer in NETWORKS["resnet8"].build(10).modules())
FLOAT = [("onnx", "onnxruntime"), ("onnx", "openvino"), ("checkpoint", "pytorch"), ("torchscript", "torchscript")]
QUICK = 0.001  # the fewest inferences


@pytest.fixture
def out(road: Path, tmp_path: Path) -> Path:
    """A road of one's own."""
    return Path(shutil.copytree(road, tmp_path / "road"))


def profiled(out: Path, format: str, backend: str | None = None) -> Profile:
    if backend:
        need_plugin(BACKENDS[backend])
    with workers_here(), Store(out) as store:
        return pipeline.profile(store, "resnet8", format=format, backend=backend, seconds=QUICK)


def check_trace(path: Path, profile: Profile | None = None) -> list[dict[str, Any]]:
    """The complete events of a trace that keeps to the Trace Event Format, as chrome://tracing and Perfetto read it.

    Each has what a viewer needs, in microseconds; they are sorted by time, and on a thread they nest.
    """
    trace = json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert trace["displayTimeUnit"] in ("ms", "ns")
    assert all(isinstance(value, str) for value in trace["otherData"].values())
    events = trace["traceEvents"]
    assert {event["ph"] for event in events} == {"M", "X"}
    for event in events:
        assert isinstance(event["name"], str) and event["name"]
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int)
        assert isinstance(event["ts"], int | float) and event["ts"] >= 0
        assert isinstance(event["args"], dict)
    (title,) = [event["args"]["name"] for event in events if event["ph"] == "M"]
    complete = [event for event in events if event["ph"] == "X"]
    assert all(isinstance(event["dur"], int | float) and event["dur"] >= 0 for event in complete)
    assert all(isinstance(event["cat"], str) for event in complete)
    assert [event["ts"] for event in complete] == sorted(event["ts"] for event in complete)
    for thread in {event["tid"] for event in complete}:
        check_nesting([event for event in complete if event["tid"] == thread])
    if profile:
        assert profile.name in title and BACKENDS[profile.backend].title in title
        shown = 1 if profile.backend == "openvino" else min(10, profile.inferences)
        spent_us = profile.seconds / profile.inferences * 1e6 * shown
        extent_us = max(event["ts"] + event["dur"] for event in complete) - complete[0]["ts"]
        assert spent_us / 50 < extent_us < spent_us * 50, "another unit would be a thousand times off"
    return complete


def check_nesting(events: list[dict[str, Any]]) -> None:
    """Each lies within an earlier one that has not ended, or begins after it."""
    ends: list[float] = []
    for event in events:
        end = event["ts"] + event["dur"]
        while ends and event["ts"] >= ends[-1] - 0.001:  # a nanosecond is lost in a float
            ends.pop()
        assert not ends or end <= ends[-1] + 0.001, event
        ends.append(end)


@pytest.mark.parametrize(("format", "backend"), FLOAT)
def test_every_convolution_of_a_float_artifact_runs_once_an_inference_in_float(
    out: Path, format: str, backend: str
) -> None:
    profile = profiled(out, format, backend)
    assert profile.convolutions() == {"float32": CONVOLUTIONS}
    found = [operator for operator in profile.operators if operator.is_convolution]
    assert {operator.calls for operator in found} == {profile.inferences}
    assert profile.convolutions_in("int8") == f"0 of {CONVOLUTIONS} convolutions run in INT8"


@pytest.mark.parametrize(("format", "backend"), FLOAT)
def test_the_shares_are_of_the_whole_and_the_trace_is_chromes(out: Path, format: str, backend: str) -> None:
    profile = profiled(out, format, backend)
    assert 0 < profile.profiled_share <= 1
    for operators in (profile.by_type(), profile.by_node()):
        assert sum(map(profile.share, operators)) == pytest.approx(profile.profiled_share)
        assert list(operators) == sorted(operators, key=lambda operator: -operator.seconds)
    assert sum(one.calls for one in profile.by_type()) == sum(one.calls for one in profile.by_node())
    events = check_trace(Store(out).trace_path("resnet8", format, backend), profile)
    names = Counter(event["name"] for event in events)
    for operator in profile.operators:
        of_operator = sum(count for name, count in names.items() if _is_of(name, operator.name, operator.type))
        assert of_operator >= 1, operator


def _is_of(event: str, name: str, type: str) -> bool:
    return event in (name, f"{name}_kernel_time", f"aten::{type}")


def test_a_program_of_torch_export_is_profiled_too(exported: Exported, tmp_path: Path) -> None:
    _, path = exported("torch_export")
    out = Path(shutil.copytree(path.parents[3], tmp_path / "out"))
    profile = profiled(out, "torch_export")
    assert profile.convolutions() == {"float32": CONVOLUTIONS}
    check_trace(Store(out).trace_path("resnet8", "torch_export", "torch_export"), profile)


@pytest.mark.slow  # its environment's torch is imported to export, and again to profile
@pytest.mark.parametrize(("format", "precision"), [("executorch", "float32"), ("executorch_int8", "int8")])
def test_executorch_times_what_xnnpack_runs_and_in_which_precision(
    format: str, precision: str, exported: Exported, tmp_path: Path
) -> None:
    _, path = exported(format)
    out = Path(shutil.copytree(path.parents[3], tmp_path / "out"))
    profile = profiled(out, format)
    assert profile.convolutions() == {precision: CONVOLUTIONS}
    assert {operator.calls for operator in profile.operators} == {profile.inferences}
    assert 0 < profile.profiled_share <= 1 and "XNNPACK" in profile.note
    check_trace(Store(out).trace_path("resnet8", format, "executorch"), profile)


def test_onnx_runtime_runs_every_convolution_of_onnx_int8_in_int8(exported: Exported, tmp_path: Path) -> None:
    _, path = exported("onnx_int8")
    out = Path(shutil.copytree(path.parents[3], tmp_path / "out"))
    profile = profiled(out, "onnx_int8")
    assert profile.backend == "onnxruntime"  # the first that reads the format and can be profiled
    assert profile.convolutions() == {"int8": CONVOLUTIONS}
    assert "QLinearConv" in {operator.type for operator in profile.operators}
    assert profile.convolutions_in("int8") == f"{CONVOLUTIONS} of {CONVOLUTIONS} convolutions run in INT8"


def test_openvino_counts_every_convolution_of_onnx_int8(exported: Exported, tmp_path: Path) -> None:
    _, path = exported("onnx_int8")
    out = Path(shutil.copytree(path.parents[3], tmp_path / "out"))
    profile = profiled(out, "onnx_int8", "openvino")
    found = profile.convolutions()  # in which precision depends on the processor
    assert sum(found.values()) == CONVOLUTIONS and set(found) <= {"int8", "float32"}


def test_a_profile_is_stored_and_read_again(out: Path) -> None:
    profile = profiled(out, "onnx")
    assert Store(out).profiles() == [profile]
    (result, *_) = [result for result in Store(out).results() if result.job.backend == "onnxruntime"]
    assert profile.is_of(result.job)


def test_a_damaged_record_is_named_and_left_out(out: Path) -> None:
    profiled(out, "onnx")
    path = out / "profile" / "resnet8-onnx-onnxruntime.profile.json"
    path.write_text(path.read_text().replace("onnxruntime", "onnxruntim3", 1))
    with pytest.warns(UserWarning, match=r"resnet8-onnx-onnxruntime\.profile\.json: .*profile` again"):
        assert Store(out).profiles() == []


def test_a_record_in_another_ones_place_is_left_out(out: Path) -> None:
    profiled(out, "onnx")
    folder = out / "profile"
    (folder / "resnet8-onnx-onnxruntime.profile.json").rename(folder / "resnet8-onnx-openvino.profile.json")
    with pytest.warns(UserWarning, match="is the record of resnet8 onnx on onnxruntime"):
        assert Store(out).profiles() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resnet9"], "resnet9: no trained network has this name; did you mean 'resnet8'?"),
        (["resnet8", "--format", "onxx"], "onxx: no format has this name; did you mean 'onnx'?"),
        (["resnet8", "--backend", "onnxruntim"], "no backend has this name; did you mean 'onnxruntime'?"),
        (
            ["resnet8", "--format", "torchscript", "--backend", "openvino"],
            "openvino does not read torchscript; give one of torchscript",
        ),
        (
            ["resnet8", "--format", "openvino_ir"],
            "no openvino_ir of resnet8 is exported (there are: checkpoint, onnx, torchscript)",
        ),
        (["resnet8", "--format", "onnx-uint8"], "no onnx-uint8 of resnet8 is exported"),
        (["resnet8", "--seconds", "0"], "--seconds"),
        (["resnet8", "--threads", "0"], "--threads"),
        (["resnet8", "--device", "cuda"], "--device: no option of `cifar-deploy profile` has this name"),
    ],
)
def test_a_name_that_is_none_is_the_command_lines_fault(road: Path, arguments: list[str], words: str) -> None:
    done = run_here("profile", *arguments, "--out", road)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("backend", [name for name in BACKENDS if not BACKENDS[name].profile])
def test_a_backend_that_cannot_be_profiled_says_why_and_which_can(road: Path, backend: str) -> None:
    (format, *_) = BACKENDS[backend].reads
    done = run_here("profile", "resnet8", "--format", format, "--backend", backend, "--out", road)
    assert done.returncode == 1
    assert BACKENDS[backend].why_no_profile in done.stderr
    assert (
        "these can, with a format that they read: pytorch, torchscript, onnxruntime, openvino, torch_export, executorch"
        in done.stderr
    )


def test_anyones_own_backend_is_asked_whether_it_can_be_profiled(road: Path) -> None:
    done = run_here("profile", "resnet8", "--backend", "tests.plugins:REFUSES", "--out", road)
    assert done.returncode == 1
    assert "onnx on tests.plugins:REFUSES: cannot be profiled, since it does not say how long" in done.stderr


@pytest.mark.parametrize("hides", ["a link to nowhere", "a folder"])
def test_a_record_that_is_no_file_is_named_and_left_out(out: Path, hides: str) -> None:
    path = out / "profile" / "resnet8-onnx-onnxruntime.profile.json"
    path.parent.mkdir()
    path.symlink_to(out / "nowhere") if hides == "a link to nowhere" else path.mkdir()
    with pytest.warns(UserWarning, match=r"resnet8-onnx-onnxruntime\.profile\.json: .*"):
        assert Store(out).profiles() == []


def test_a_damaged_artifact_is_refused_before_it_is_parsed(out: Path) -> None:
    model = out / "exported" / "resnet8" / "onnx" / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    with pytest.raises(Corrupt, match=r"model\.onnx: .*sha256"):
        profiled(out, "onnx")
    assert not list((out / "profile").glob("*"))


def test_a_program_of_somebody_else_runs_only_with_trust(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR_DEPLOY_STATE", str(tmp_path / "empty"))
    with pytest.raises(Untrusted, match="--trust"):
        profiled(out, "torchscript")
    with workers_here(), Store(out) as store:
        trusted = pipeline.profile(store, "resnet8", format="torchscript", seconds=QUICK, trusted=True)
    assert trusted.operators


def test_an_export_of_replaced_weights_is_not_profiled(out: Path) -> None:
    store = Store(out)
    checkpoint = store.checkpoint("resnet8")
    assert checkpoint
    other = replace(checkpoint, weights=replace(checkpoint.weights, sha256="0" * 64))
    codec.save(store.checkpoint_folder("resnet8") / "checkpoint.json", other)
    with pytest.raises(UsageError, match=r"no onnx of resnet8 is exported \(there are: checkpoint\)"):
        profiled(out, "onnx")


def test_the_command_shows_the_largest_operators_and_the_convolutions(out: Path) -> None:
    arguments = ["profile", "resnet8", "--seconds", QUICK, "--out", out]
    done = run_here(*arguments)
    assert done.returncode == 0, done.stderr
    assert "resnet8 onnx on onnxruntime (cpu, 1 thread): " in done.stdout
    assert f"0 of {CONVOLUTIONS} convolutions run in INT8." in done.stdout
    assert "not comparable with a latency" in done.stdout
    by_type, by_node = done.stdout.split("Operators by type")[1].split("Operators by node")
    (of_conv,) = (line.split() for line in by_type.splitlines() if line.startswith("Conv "))
    assert of_conv[1] == "float32" and int(of_conv[3]) == CONVOLUTIONS
    assert len([line for line in by_node.splitlines() if " float32 " in line]) == 10
    assert "resnet8-onnx-onnxruntime.json" in done.stdout


def test_a_long_name_of_an_operator_keeps_the_tables_within_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    name = "InsertedPrecisionFreeCast_getitem_6_nchwc"
    profile = a_profile(a_job(format="onnx_int8"), an_operator(name, "DequantizeLinear", "float32", 0.0099))
    for section in sections(profile):
        console.print_section(section)
    printed = capsys.readouterr().out
    assert "InsertedPrecisi…_6_nchwc" in printed
    assert max(map(len, map(str.rstrip, printed.splitlines()))) <= 80


def test_json_holds_every_operator_and_no_number_twice(out: Path) -> None:
    done = run_here("profile", "resnet8", "--seconds", QUICK, "--json", "--out", out)
    told = document_of(done, "profile")
    (profile,) = Store(out).profiles()
    assert told["trace"] == str(Store(out).trace_path("resnet8", "onnx", "onnxruntime"))
    assert told["convolutions"] == [{"precision": "float32", "count": CONVOLUTIONS}]
    assert told["by_node"][0]["share"] >= told["by_node"][1]["share"] > 0
    assert len(told["by_node"]) == len(profile.operators)
    check_trace(Path(told["trace"]))


def test_two_threads_are_two_threads(out: Path) -> None:
    with Store(out) as store:
        profile = pipeline.profile(store, "resnet8", threads=2, seconds=QUICK)
    assert profile.threads == 2 and profile.convolutions() == {"float32": CONVOLUTIONS}


def test_unsupported_is_raised_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="pytorch_compile: cannot be profiled"), Store(tmp_path) as store:
        pipeline.profile(store, "resnet8", format="checkpoint", backend="pytorch_compile")
