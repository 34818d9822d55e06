"""Somebody else's output folder: it runs no code, leads nowhere outside, and what is damaged in it is said."""

import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cifar_deploy import pipeline
from cifar_deploy.core import files, sealing, trust
from cifar_deploy.core.errors import Corrupt, DeployError, Untrusted, WrongOutput
from cifar_deploy.core.journal import read_lines
from cifar_deploy.core.store import Store
from cifar_deploy.reports import REPORTS
from cifar_deploy.stages import export, results
from tests.conftest import TINY
from tests.in_process import run_here
from tests.lines import WholeLines
from tests.probes import a_run

EVIL = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\nNETWORK = METRIC = FORMAT = BACKEND = None\n"


@pytest.fixture
def foreign(road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the road; evil.py lies in the current folder, and leaves a mark if it is imported."""
    shutil.copytree(road, tmp_path / "out")
    (tmp_path / "evil.py").write_text(EVIL)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "out"


def rewrite(path: Path, change: Callable[[Any], None]) -> None:
    """Change a record as whoever made it could: its checksum fits."""
    record = sealing.read_record(path, "")
    change(record)
    sealing.write_record(path, record)


def rewrite_lines(out: Path, change: Callable[[Any], None]) -> None:
    lines = WholeLines(out / "reports" / "results.jsonl")
    for record in lines.records:
        change(record)
    lines.write()


def put(record: Any, where: str, value: Any) -> None:
    *way, last = where.split(".")
    for name in way:
        record = record[name]
    record[last] = value


# Code that a record names


NAMED = (
    ("job.metric", "evil:METRIC"),
    ("job.backend", "evil:BACKEND"),
    ("job.device", "evil:DEVICE"),
    ("job.artifact.format", "evil:FORMAT"),
    ("job.artifact.format", "evil:FORMAT-uint8"),
)


@pytest.mark.parametrize(
    ("command", "where", "value"),
    [*(("report", *named) for named in NAMED), *(("compare", *named) for named in NAMED), ("doctor", *NAMED[0])],
)
def test_a_result_imports_nothing(command: str, where: str, value: str, foreign: Path) -> None:
    rewrite_lines(foreign, lambda record: put(record, where, value))
    arguments = [foreign, foreign] if command == "compare" else ["--out", foreign]
    done = run_here(command, *arguments)
    assert not (foreign.parent / "ran").exists() and "evil" not in sys.modules
    assert value.removesuffix("-uint8") in done.stdout + done.stderr and "internal error" not in done.stderr
    assert done.returncode == (0 if command == "doctor" else 1)


@pytest.mark.parametrize(
    ("record", "where", "arguments"),
    [
        (
            "checkpoint/checkpoint.json",
            "training.network",
            ["evaluate", "--format", "checkpoint", "--metric", "memory"],
        ),
        ("checkpoint/checkpoint.json", "training.network", ["export", "--format", "onnx", "--force"]),
        ("onnx/artifact.json", "format", ["evaluate"]),
    ],
)
def test_a_record_of_a_network_or_an_export_imports_nothing(
    record: str, where: str, arguments: list[str], foreign: Path
) -> None:
    path = foreign / "exported" / "resnet8" / record
    rewrite(path, lambda content: put(content, where, "evil:NETWORK"))
    done = run_here(*arguments, "--out", foreign, cwd=foreign.parent)
    assert done.returncode == 1 and not (foreign.parent / "ran").exists()
    assert "evil:NETWORK" in done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["evaluate"], ["evaluate", "--backend", "onnxruntime"], pytest.param(["pack"], marks=pytest.mark.slow)],
    ids=" ".join,
)
def test_nor_does_an_export_whose_folder_has_the_name_of_its_format(arguments: list[str], foreign: Path) -> None:
    exports = foreign / "exported" / "resnet8"
    shutil.copytree(exports / "onnx", exports / "evil.FORMAT")
    rewrite(exports / "evil.FORMAT" / "artifact.json", lambda content: put(content, "format", "evil:FORMAT"))
    done = run_here(*arguments, "--out", foreign, cwd=foreign.parent)
    assert not (foreign.parent / "ran").exists() and "evil" not in sys.modules and "internal error" not in done.stderr
    assert not trust.code_path().exists() or "evil:FORMAT" not in trust.code_path().read_text()


def test_code_that_was_given_is_known_later_while_it_lies_in_the_same_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR_DEPLOY_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(trust, "_given", set())
    with pytest.raises(Untrusted, match=r"mine:THING: a record names this thing.*--trust-code mine:THING"):
        trust.check_code("thing", "mine:THING", "/home/me/mine.py")
    trust.remember_code("mine:THING", "/home/me/mine.py")
    trust.check_code("thing", "mine:THING", "/home/me/mine.py")
    for name, place in (("mine:THING", "/home/them/mine.py"), ("mine:OTHER", "/home/me/mine.py"), ("mine:THING", "")):
        with pytest.raises(Untrusted):
            trust.check_code("thing", name, place)
    trust.give(["mine:OTHER", "no_code"])
    trust.check_code("thing", "mine:OTHER", "anywhere")
    assert trust.given() == ["mine:OTHER"]


def test_a_state_folder_of_garbage_is_no_reason_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR_DEPLOY_STATE", str(tmp_path))
    trust.record_path().write_bytes(b"\xff\xfe\x00 no hash\n" + b"a" * 64 + b"\n")
    assert trust.knows("a" * 64) and not trust.knows("b" * 64)


# What runs is what was checked


def test_a_program_whose_record_lists_no_file_or_another_one_does_not_run(foreign: Path) -> None:
    path = foreign / "exported" / "resnet8" / "torchscript" / "artifact.json"
    known = sealing.read_record(path, "")["files"][0]
    other = foreign / "exported" / "resnet8" / "torchscript" / "other.ts"
    shutil.copy(path.with_name(known["name"]), other)
    path.with_name(known["name"]).write_bytes(b"another program")
    for listed in ([], [{**known, "name": "other.ts"}]):
        rewrite(path, lambda record, listed=listed: put(record, "files", listed))  # type: ignore[misc]
        store = Store(foreign)
        planned = pipeline.plan(store, formats=["torchscript"], metrics=["memory"])
        with store:
            (outcome,) = pipeline.evaluate(store, planned, force=True)
        assert outcome.value.failure and "does not list" in outcome.value.failure.reason


def test_a_view_holds_the_files_of_the_record_and_nothing_else(foreign: Path) -> None:
    store = Store(foreign)
    artifact = store.artifact("resnet8", "onnx")
    assert artifact
    (store.artifact_folder("resnet8", "onnx") / "weights.bin").write_text("not in the record")
    with store.view(artifact) as paths:
        (path,) = paths.values()
        assert [found.name for found in path.parent.iterdir()] == ["model.onnx"] == list(paths)
        assert path.read_bytes() == (store.artifact_folder("resnet8", "onnx") / "model.onnx").read_bytes()
    assert not path.parent.exists()


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "a/b", "..", ".", "", "a\0b", "..\\model.onnx"])
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str, foreign: Path) -> None:
    path = foreign / "exported" / "resnet8" / "onnx" / "artifact.json"
    rewrite(path, lambda record: put(record["files"][0], "name", name))
    artifact = Store(foreign).artifact("resnet8", "onnx")
    assert artifact
    with pytest.raises(Corrupt, match="no name of a file in it"):
        Store(foreign).verified(artifact)
    with pytest.raises(Corrupt, match="no name of a file in it"), Store(foreign).view(artifact):
        pass


def test_a_file_that_is_a_link_is_refused(foreign: Path) -> None:
    store = Store(foreign)
    artifact, path = store.artifact("resnet8", "onnx"), store.artifact_folder("resnet8", "onnx") / "model.onnx"
    assert artifact
    path.rename(foreign / "model.onnx")
    path.symlink_to(foreign / "model.onnx")
    with pytest.raises(Corrupt, match="is a link"):
        store.verified(artifact)
    with pytest.raises(Corrupt, match="is a link"), store.view(artifact):
        pass


@pytest.mark.parametrize("raw", ["../../../secret", "/etc/passwd", "a/b", "..", "a\0b", "a.b", ""])
def test_samples_that_lie_outside_make_a_line_that_is_left_out(raw: str, foreign: Path) -> None:
    rewrite_lines(foreign, lambda record: record["measurement"] and put(record, "measurement.raw", raw))
    lines = read_lines(Store(foreign).results_path)
    assert lines.left_out and all(
        "raw" in reason and "not a plain name" in reason for reason in lines.left_out.values()
    )


@pytest.mark.parametrize(
    ("record", "where", "value"),
    [
        ("onnx/artifact.json", "origin.checkpoint.training.name", "../elsewhere"),
        ("onnx/artifact.json", "format", "torchscript"),
        ("onnx/artifact.json", "origin", {"kind": "external", "path": "x", "takes": []}),
        ("checkpoint/checkpoint.json", "training.name", "another"),
        ("checkpoint/checkpoint.json", "weights.name", "other.safetensors"),
    ],
)
def test_a_record_of_something_else_is_refused_with_its_file(
    record: str, where: str, value: Any, foreign: Path
) -> None:
    path = foreign / "exported" / "resnet8" / record
    rewrite(path, lambda content: put(content, where, value))
    with pytest.raises(Corrupt) as raised:
        list(Store(foreign).artifacts("resnet8"))
    assert str(path) in str(raised.value) and "is the record of" in str(raised.value)


def test_code_that_a_record_names_runs_when_it_is_trusted_by_name(foreign: Path) -> None:
    (foreign.parent / "mine.py").write_text(
        "import pathlib\nfrom cifar_deploy.networks import NETWORKS\n"
        "pathlib.Path(__file__).with_name('ran').touch()\nnetwork = NETWORKS['resnet8'].build\n"
    )
    path = foreign / "exported" / "resnet8" / "checkpoint" / "checkpoint.json"
    rewrite(path, lambda record: put(record, "training.network", "mine:network"))
    arguments = ["evaluate", "--backend", "pytorch", "--metric", "memory", "--out", foreign, "--force"]
    refused = run_here(*arguments, cwd=foreign.parent)
    assert refused.returncode == 1 and "--trust-code mine:network" in refused.stdout
    assert not (foreign.parent / "ran").exists()
    done = run_here(*arguments, "--trust-code", "mine:network", cwd=foreign.parent)
    assert done.returncode == 0 and (foreign.parent / "ran").exists(), done.stderr
    wrong = run_here(*arguments, "--trust-code", "mine", cwd=foreign.parent)
    assert wrong.returncode == 2 and "mine is no code" in wrong.stderr


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_results_are_appended_to_no_file_elsewhere(kind: str, tmp_path: Path) -> None:
    elsewhere, store = tmp_path / "elsewhere", Store(tmp_path / "out")
    store.reports.mkdir(parents=True)
    store.results_path.symlink_to(elsewhere) if kind == "link" else os.mkfifo(store.results_path)
    with store, pytest.raises(DeployError, match=r"results\.jsonl"):
        store.append(a_run())
    assert not elsewhere.exists()


@pytest.mark.parametrize("fingerprint", ["/../../../elsewhere", "f" * 63, "F" * 64, ""])
def test_a_fingerprint_that_could_name_another_folder_is_refused(fingerprint: str, foreign: Path) -> None:
    path = foreign / "exported" / "resnet8" / "checkpoint" / "checkpoint.json"
    rewrite(path, lambda record: put(record, "training.data.fingerprint", fingerprint))
    with pytest.raises(Corrupt, match=r"fingerprint: .* is not a sha256"):
        Store(foreign).checkpoint("resnet8")


@pytest.mark.usefixtures("workers_here")
def test_a_network_whose_record_is_damaged_can_be_trained_again(foreign: Path) -> None:
    path = foreign / "exported" / "resnet8" / "checkpoint" / "checkpoint.json"
    path.write_text(path.read_text().replace('"threads": 1', '"threads": 2').replace('"epochs": 1', '"epochs": 2'))
    refused = run_here("train", "resnet8", *TINY, "--out", foreign)
    assert (
        refused.returncode == 1
        and "restore it from a copy, or run `cifar-deploy train NETWORK --force`" in refused.stderr
    )
    done = run_here("train", "resnet8", *TINY, "--out", foreign, "--force")
    assert done.returncode == 0 and Store(foreign).checkpoint("resnet8"), done.stderr


@pytest.mark.parametrize("damage", ["changed", "linked", "gone"])
def test_a_result_whose_samples_are_damaged_is_measured_again(damage: str, foreign: Path) -> None:
    store = Store(foreign)
    measurements = [result.measurement for result in store.results() if result.measurement and result.measurement.raw]
    measurement = measurements[0]
    path = store.raw_path(str(measurement.raw))
    assert store.has_samples(measurement)
    content = path.read_bytes()
    path.unlink()
    if damage == "changed":
        path.write_bytes(content[:-1] + b"x")
    elif damage == "linked":
        (foreign / "elsewhere.npz").write_bytes(content)
        path.symlink_to(foreign / "elsewhere.npz")
    assert not store.has_samples(measurement)


# Records that cannot be


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("measurement.values.p50", float("nan")),
        ("measurement.values.p50", -0.001),
        ("measurement.values.p50", 0),
        ("measurement.values.p50", 10**400),
        ("measurement.values.drift", -2),
        ("measurement.values.samples", -5),
        ("measurement.disturbance.seconds", 0),
        ("measurement.disturbance.calibration_before", 0.0),
        ("measurement.disturbance.run_delay", float("inf")),
        ("job.threads", 0),
        ("job.batch_size", -1),
        ("job.seconds", "long"),
        ("job.trial", {"kind": "under limit", "limit_bytes": 5}),
        ("job.trial.kind", "odd"),
        ("job.artifact.origin.checkpoint.training.recipe.scales", []),
        ("job.artifact.origin.checkpoint.curve", [{"loss": 1, "accuracy": 1.5, "seconds": 1, "wall_seconds": 1}]),
        ("job.machine.cores", "two"),
        ("job.backend", "tensorrt"),
        ("job.metric", "beauty"),
        ("job.device", "tpu"),
        ("job.artifact.format", "savedmodel"),
        ("session", None),
        ("session.jobs", []),
        ("session.started", "yesterday"),
        ("started", "2026-01-01T00:00:00"),
        ("round", -1),
        ("measurement", None),
    ],
    ids=str,
)
def test_a_line_that_cannot_be_is_left_out_with_its_reason(where: str, value: Any, foreign: Path) -> None:
    def change(record: Any) -> None:
        if record["job"]["metric"] == "latency":
            put(record, where, value)

    before = read_lines(Store(foreign).results_path, results.fault).runs
    rewrite_lines(foreign, change)
    lines = read_lines(Store(foreign).results_path, results.fault)
    assert lines.left_out and [run for run in before if run.job.metric != "latency"] == list(lines.runs)
    table, _ = pipeline.report(Store(foreign))
    assert table.lost and all("left out" in told for told in table.lost)
    for name in ("markdown", "html"):
        assert "What could not be read" in REPORTS[name].render(table)


def test_a_line_nested_too_deeply_is_left_out(foreign: Path) -> None:
    with open(foreign / "reports" / "results.jsonl", "a") as file:
        file.write("[" * 100_000 + "]" * 100_000 + "\n")
    (reason,) = read_lines(Store(foreign).results_path).left_out.values()
    assert "nested too deeply" in reason


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"[]", b"1", b"{}", b'{"training": 5}', b"null"]
)
def test_a_record_that_cannot_be_read_is_named_and_not_to_be_deleted(content: bytes, foreign: Path) -> None:
    path = foreign / "exported" / "resnet8" / "checkpoint" / "checkpoint.json"
    path.write_bytes(content)
    with pytest.raises(Corrupt) as raised:
        Store(foreign).checkpoint("resnet8")
    assert str(raised.value).startswith(f"{path}: ") and "restore it from a copy" in str(raised.value)
    assert "delete" not in str(raised.value)


# Samples that are not those of the result


@pytest.mark.parametrize("damage", ["other", "cut", "flipped", "gone"])
def test_samples_that_are_damaged_are_said_where_they_would_be_shown(damage: str, foreign: Path) -> None:
    store = Store(foreign)
    for result in store.results():
        if result.job.metric == "accuracy" and result.job.artifact.format == "onnx":
            assert result.measurement and result.measurement.raw and result.measurement.raw_sha256
            path = store.raw_path(result.measurement.raw)
    content = bytearray(path.read_bytes())
    if damage == "other":
        shutil.copy(next(other for other in path.parent.iterdir() if other != path), path)
    elif damage == "gone":
        path.unlink()
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content if damage == "flipped" else content[:-10])
    table, _ = pipeline.report(store)
    (told,) = table.lost
    assert path.name in told and ("gone" if damage == "gone" else "damaged") in told
    against = next(section for section in table.sections if section.title.startswith("Accuracy against"))
    assert {row.labels[1]: row.words["verdict"] for row in against.rows}["onnx"] == "predictions unreadable"


# What was good stays


@pytest.mark.usefixtures("workers_here")
def test_an_export_that_fails_leaves_the_good_one(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(foreign)
    before = store.artifact("resnet8", "onnx")

    def refuse(*_: Any, **__: Any) -> None:
        raise WrongOutput("its logits differ")

    monkeypatch.setattr(export, "validated", refuse)
    with store:
        (outcome,) = pipeline.export(store, ["resnet8"], ["onnx"], force=True)
    assert outcome.value.failure and outcome.value.failure.kind == "wrong output"
    assert store.artifact("resnet8", "onnx") == before
    assert before and store.verified(before)


@pytest.mark.parametrize("call", ["fsync", "replace", "rename"])
def test_an_error_of_the_disk_while_an_export_is_committed_leaves_the_good_one(
    call: str, foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(foreign)
    artifact = store.artifact("resnet8", "onnx")
    assert artifact
    folder = store.artifact_folder("resnet8", "onnx")
    real = getattr(files.os, call)
    calls = 0
    for at in range(1, 5):
        calls = 0

        def fail(*arguments: Any, at: int = at) -> Any:
            nonlocal calls
            calls += 1
            if calls == at:
                raise OSError(5, "Input/output error")
            return real(*arguments)

        with files.staging(folder) as staged:
            (staged / "model.onnx").write_bytes((folder / "model.onnx").read_bytes())
            monkeypatch.setattr(files.os, call, fail)
            try:
                store.save_artifact(artifact, staged)
            except Exception as error:
                assert "Input/output error" in str(error)
            finally:
                monkeypatch.setattr(files.os, call, real)
        assert store.artifact("resnet8", "onnx") == artifact and store.verified(artifact)


def test_two_folders_change_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for exchanged in (files._exchanged, lambda first, second: False):
        monkeypatch.setattr(files, "_exchanged", exchanged)
        for name in ("new", "old"):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "content").write_text(name)
        files.exchange(tmp_path / "new", tmp_path / "old")
        assert (tmp_path / "old" / "content").read_text() == "new"
        assert (tmp_path / "new" / "content").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]


def test_a_folder_that_cannot_be_renamed_is_exchanged_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of a container's image: only what was made since can be renamed."""
    rename = os.rename

    def rename_new_ones(source: Any, target: Any, **how: Any) -> None:
        if Path(source) == tmp_path / "old" and (tmp_path / "old" / "of the image").exists():
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(source))
        rename(source, target, **how)

    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text(name)
    (tmp_path / "old" / "of the image").touch()
    monkeypatch.setattr(files, "_exchanged", lambda first, second: False)
    monkeypatch.setattr(os, "rename", rename_new_ones)
    files.exchange(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old" / "content").read_text() == "new"
    assert (tmp_path / "new" / "content").read_text() == "old"


def test_a_stray_file_is_spoken_of(foreign: Path) -> None:
    store = Store(foreign)
    artifact, weights = store.artifact("resnet8", "onnx"), store.artifact("resnet8", "checkpoint")
    assert artifact and weights and store.strays(artifact) == [] and store.strays(weights) == []
    (store.artifact_folder("resnet8", "onnx") / "model.onnx.data").write_text("x")
    assert store.strays(artifact) == ["model.onnx.data"]
    with pytest.warns(UserWarning, match=r"model\.onnx\.data: belongs to no export"):
        pipeline.plan(store, formats=["onnx"], metrics=["file_size"])


def test_a_binary_is_no_results_file_and_said_so_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(256)) * 40)
    done = run_here("compare", tmp_path / "a", tmp_path / "a")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and str(tmp_path / "a") in done.stderr
