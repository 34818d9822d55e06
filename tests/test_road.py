"""The whole road, as a user goes it: one command, a second time, interrupted, damaged."""

import json
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from cifar_deploy import main, pipeline
from cifar_deploy.core import codec, cooling, machine, sealing
from cifar_deploy.core.codec import from_json, to_json
from cifar_deploy.core.errors import Unavailable, UsageError
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.locks import Lock
from cifar_deploy.core.records import Arithmetic, Baseline, Begun, Recipe, Teacher, Training, UnderLimit
from cifar_deploy.core.store import Store
from cifar_deploy.devices import DEVICES
from cifar_deploy.metrics import default_metrics
from cifar_deploy.stages import export, train
from cifar_deploy.workers.prepare import Prepared
from tests import plugins
from tests.conftest import (
    FEW_BACKENDS,
    FEW_FORMATS,
    FEW_IMAGES,
    QUICK,
    TINY,
    heed_signals,
    run_cli,
    wait_for,
    wait_until_free,
)
from tests.in_process import run_here, workers_here
from tests.probes import a_checkpoint
from tests.schemas import document_of

CELLS = {("checkpoint", "pytorch"), ("torchscript", "torchscript"), ("onnx", "onnxruntime")}


@pytest.fixture
def copy(road: Path, tmp_path: Path) -> Path:
    """A road of one's own, to damage."""
    return Path(shutil.copytree(road, tmp_path / "road"))


def test_every_cell_has_every_metric(road: Path) -> None:
    table = pd.read_csv(road / "reports" / "report.csv")
    assert (table.status == "ok").all()
    assert set(zip(table.format, table.backend, strict=True)) == CELLS
    for _, configuration in table.groupby(["format", "backend"]):
        parity = set() if configuration.format.iloc[0] == "checkpoint" else {"parity"}
        assert set(configuration.metric) == set(default_metrics()) - {"parity"} | parity


def test_the_three_runtimes_agree_on_every_image(road: Path) -> None:
    store = Store(road)
    predicted = []
    for result in store.results():
        if result.job.metric == "accuracy":
            assert result.measurement and result.measurement.raw
            predicted.append(np.load(store.raw_path(result.measurement.raw))["predicted"])
    assert len(predicted) == 3
    assert all((labels == predicted[0]).all() for labels in predicted)


def test_raw_samples_are_those_that_the_median_is_of(road: Path) -> None:
    store = Store(road)
    for result in store.results():
        if result.job.metric == "latency":
            assert result.measurement and result.measurement.raw
            samples = np.load(store.raw_path(result.measurement.raw))["samples_ns"]
            assert len(samples) == result.measurement.values["samples"]
            assert np.median(samples) / 1e9 == pytest.approx(result.measurement.values["p50"])


def test_rounds_give_an_interval_a_floor_a_control_and_ranks(copy: Path) -> None:
    arguments = ["evaluate", "--backend", "onnxruntime", "--metric", "latency", "--seconds", "0.05", "--out", str(copy)]
    with workers_here(), Store(copy) as store:  # the overhead's export, of which only its times are looked at
        planned = pipeline.plan(store, backends=["onnxruntime"], metrics=["latency"])
        assert len(export.baselines(store, [item.job for item in planned])) == 1
    first = run_here(*arguments, "--rounds", "2")
    assert first.returncode == 0, first.stderr
    assert "3 configurations × 2 rounds, about" in first.stdout
    again = run_here(*arguments, "--rounds", "2")
    assert "1 of 1 results were measured before" in again.stdout
    before = len(Store(copy).runs())
    assert run_here(*arguments, "--rounds", "6").returncode == 0
    runs = Store(copy).runs()
    assert len(runs) == before + 3 * 4  # the same session went on
    assert {run.round for run in runs if run.control} == set(range(6))

    assert run_here("report", "--out", copy).returncode == 0
    table = pd.read_csv(copy / "reports" / "report.csv")
    configuration = table[
        (table.backend == "onnxruntime") & (table.name == "resnet8") & (table.value_name == "p50")
    ].iloc[0]
    overhead = table[(table.name.str.startswith("no-op ")) & (table.value_name == "p50")].iloc[0]
    assert (
        configuration.rounds == 6
        and configuration.interval_kind == "interval"
        and configuration.low <= configuration.value <= configuration.high
    )
    assert overhead.value < configuration.value / 2
    text = (copy / "reports" / "report.html").read_text()
    assert "rank" in text and "overhead" in text and "The same configuration against itself" in text


def test_a_crash_is_still_there_when_no_time_is_left_to_try_again(copy: Path) -> None:
    store = Store(copy)
    planned = pipeline.plan(
        store,
        formats=["onnx"],
        backends=["tests.plugins:CRASHES_ONCE_IN_A_WHILE"],
        metrics=["latency"],
        conditions=pipeline.Conditions(seconds=0.05),
    )
    with store:
        for rounds, budget_s in ((3, None), (3, 0.1)):
            sampling = pipeline.Sampling(rounds=rounds, budget_s=budget_s)
            settings = pipeline.EvaluationSettings(sampling=sampling, controls=False, overhead=False)
            (outcome,) = pipeline.evaluate(store, planned, settings)
            assert outcome.value.failure and outcome.value.failure.kind == "crashed"
        assert outcome.reused


@pytest.mark.usefixtures("workers_here")
def test_no_round_measures_baselines_alone(copy: Path) -> None:
    with open(copy / "exported" / "resnet8" / "onnx" / "model.onnx", "ab") as file:
        file.write(b"damage")
    store = Store(copy)
    conditions = pipeline.Conditions(seconds=0.05)
    planned = pipeline.plan(
        store, formats=["onnx"], backends=["onnxruntime"], metrics=["latency"], conditions=conditions
    )
    before = len(store.runs())
    with store:
        (outcome,) = pipeline.evaluate(
            store, planned, pipeline.EvaluationSettings(sampling=pipeline.Sampling(rounds=3)), force=True
        )
    assert outcome.value.failure and outcome.value.failure.kind == "load error"
    runs = store.runs()[before:]
    assert {run.round for run in runs} == {0} and any(run.measurement for run in runs), "the no-op's"


def test_a_budget_stops_the_rounds_and_one_too_small_is_refused(copy: Path) -> None:
    arguments = ["evaluate", "--backend", "onnxruntime", "--metric", "latency", "--no-controls", "--out", str(copy)]
    refused = run_here(*arguments, "--seconds", "20", "--budget", "20s")
    assert refused.returncode == 1 and "--budget: 20 s is too little for one round" in refused.stderr
    done = run_here(*arguments, "--seconds", "0.2", "--rounds", "50", "--budget", "5s")
    assert done.returncode == 0, done.stderr
    rounds = [run.round for run in Store(copy).runs() if run.job.seconds == 0.2]
    assert 1 < len(rounds) < 10 and rounds == list(range(len(rounds)))


@pytest.mark.usefixtures("workers_here")
def test_rounds_wait_for_a_cool_processor_and_the_report_says_which_did_not(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = iter(
        [40.0, 44.0, 60.0, *[58.0] * 100]
    )  # before the first round, the second, the third, and while that waits
    monkeypatch.setattr(cooling, "cool_down", partial(cooling.cool_down, read=lambda: next(shown)))
    arguments = ["evaluate", "--format", "onnx", "--backend", "onnxruntime", "--metric", "latency", "--no-controls"]
    done = run_here(*arguments, "--seconds", "0.06", "--rounds", "3", "--cool-wait", "0.6s", "--out", copy)
    assert done.returncode == 0, done.stderr
    found = [run.cooling for run in Store(copy).runs() if run.job.seconds == 0.06]
    assert [cooled and (cooled.after_c, cooled.reached, cooled.seconds) for cooled in found] == [
        (40.0, True, 0.0),
        (44.0, True, 0.0),
        (58.0, False, pytest.approx(0.6)),
    ]
    assert run_here("report", "--out", copy).returncode == 0
    page = (copy / "reports" / "report.html").read_text()
    assert "1 of 3 rounds began too warm, at up to 58 °C" in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--metric", "latency", "--verify-memory"], "--verify-memory: memory is not among the metrics"),
        (["--metric", "accuracy", "--soak", "10m"], "--soak: nothing that is timed is among the metrics"),
    ],
)
def test_an_option_that_has_nothing_to_do_is_refused(road: Path, arguments: list[str], words: str) -> None:
    done = run_here("evaluate", *arguments, "--out", road)
    assert done.returncode == 2 and words in done.stderr


@pytest.mark.usefixtures("workers_here")
def test_a_device_that_is_not_here_is_told_of_before_images_are_read_for_it(tmp_path: Path) -> None:
    device = next(name for name in ("mps", "cuda") if not _is_here(name))
    line = ("train-all", *TINY, "--network", "tests.plugins:linear", "--out", tmp_path)
    refused = run_here(*line, "--device", device)
    assert refused.returncode == 1 and f"error: device {device}: " in refused.stderr and not refused.stdout

    assert run_here(*line).returncode == 0
    reused = run_here(*line, "--device", device)
    assert reused.returncode == 0 and "trained before" in reused.stdout, "what is finished needs no device"
    for needs in (["--force"], ["--network", "resnet8"]):
        again = run_here(*line, *needs, "--device", device)
        assert again.returncode == 1 and f"device {device}" in again.stderr and not again.stdout


def _is_here(device: str) -> bool:
    try:
        return bool(DEVICES[device].probe())
    except Unavailable:
        return False


def test_a_claimed_peak_is_verified_under_limits(copy: Path) -> None:
    arguments = ["evaluate", "--backend", "onnxruntime", "--metric", "memory", "--verify-memory", "--out", str(copy)]
    done = run_here(*arguments)
    assert done.returncode == 0, done.stderr
    assert "memory: ran under" in done.stdout and "(expected: to run)" in done.stdout
    trials = [(run, run.job.trial) for run in Store(copy).runs()]
    limited = [run for run, trial in trials if isinstance(trial, UnderLimit)]
    found = [trial for _, trial in trials if isinstance(trial, UnderLimit)]
    assert [trial.expected for trial in found][:2] == ["runs", "either"]
    assert limited[0].measurement
    if "counted" in limited[0].measurement.values:
        assert limited[2].failure and limited[2].failure.kind == "out of memory"
    else:
        assert found[0].limited_by == "RLIMIT_DATA"
    assert f"{1 + len(limited)} of {1 + len(limited)} results were measured before" in run_here(*arguments).stdout
    assert len([run for run in Store(copy).runs() if not run.job.is_ordinary]) == len(limited)
    run_here("report", "--out", copy)
    text = (copy / "reports" / "report.html").read_text()
    assert "Memory under a limit" in text and "claimed peak" in text
    assert "out of memory" not in text.split("Training cost")[0].split("Memory under a limit")[0]


@pytest.mark.slow
def test_a_long_load_compares_its_first_minute_with_its_last(copy: Path) -> None:
    arguments = [
        "evaluate",
        "--backend",
        "onnxruntime",
        "--metric",
        "throughput",
        "--soak",
        "25s",  # two runs even where one takes ten seconds
        "--out",
        str(copy),
    ]
    done = run_here(*arguments)
    assert done.returncode == 0, done.stderr
    assert "1 configuration in rotation for 25 s" in done.stdout
    before = (copy / "reports" / "report.md").read_text()
    run_here("report", "--out", copy)
    after = (copy / "reports" / "report.md").read_text()
    page = (copy / "reports" / "report.html").read_text()
    assert "Under sustained load" in page and "how many times faster the last minute is" in page
    # The table of what to ship is of the rounds, not of the long load.
    assert before.split("## ")[1] == after.split("## ")[1]


def test_memory_holds_one_runtime_and_nothing_of_torch(road: Path) -> None:
    peaks = {
        result.job.backend: result.measurement.values["peak"]
        for result in Store(road).results()
        if result.job.metric == "memory" and result.measurement
    }
    # Importing torch alone is about 500 MiB, all of ONNX Runtime under 70.
    assert peaks["onnxruntime"] < 150 * 2**20 < peaks["pytorch"]


def test_a_second_run_measures_nothing_again_and_imports_no_torch(copy: Path) -> None:
    before = (copy / "reports" / "results.jsonl").read_bytes()
    code = (
        "import sys\n"
        "from cifar_deploy.main import main\n"
        "try:\n"
        f"    main({['run', *TINY, '--network', 'resnet8', *FEW_FORMATS, *FEW_BACKENDS, *QUICK, '--out', str(copy)]!r})\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "trained before" in done.stdout and "exported before" in done.stdout and "measured before" in done.stdout
    assert (copy / "reports" / "results.jsonl").read_bytes() == before


def test_a_worker_of_onnx_runtime_never_imports_torch(copy: Path) -> None:

    store = Store(copy)
    planned = pipeline.plan(store, backends=["onnxruntime"], metrics=["accuracy"])
    answer = Worker().call(
        plugins.measure_and_list_torch, job=planned[0].job, root=copy, data_folder=pipeline.prepare("digits").folder
    )
    assert answer == []


@pytest.mark.usefixtures("workers_here")
def test_a_damaged_artifact_is_refused_before_it_is_parsed(copy: Path) -> None:
    model = copy / "exported" / "resnet8" / "onnx" / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    done = run_here("evaluate", "--backend", "onnxruntime", "--metric", "memory", "--force", "--out", copy)
    assert done.returncode == 1
    assert "load error" in done.stdout and "model.onnx" in done.stdout and "sha256" in done.stdout
    assert "run `cifar-deploy export resnet8 --format onnx --force`" in done.stdout
    both = ("--metric", "memory", "--metric", "accuracy", "--format", "onnx", "--rounds", "1", "--seconds", "0.1s")
    done = run_here("evaluate", "--backend", "onnxruntime", *both, "--force", "--out", copy)
    assert done.stdout.count("load error") == 1 and "1 more result missing, for a reason given above" in done.stdout
    mended = run_here("export", "--format", "onnx", "--out", copy)
    assert mended.returncode == 0 and "exported before" not in mended.stdout


def test_a_torchscript_of_somebody_else_runs_only_with_trust(copy: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", "--backend", "torchscript", "--metric", "memory", "--force", "--out", str(copy)]
    patch = pytest.MonkeyPatch()
    patch.setenv("CIFAR_DEPLOY_STATE", str(tmp_path / "empty"))
    try:
        refused, trusted = run_here(*arguments), run_here(*arguments, "--trust")
    finally:
        patch.undo()
    assert refused.returncode == 1 and "--trust" in refused.stdout
    assert trusted.returncode == 0


@pytest.mark.parametrize(
    ("backend", "kind", "word"),
    [
        ("tests.plugins:CRASHES", "crashed", "accuracy: the worker died of SIGSEGV"),
        pytest.param("tests.plugins:HANGS", "timed out", "accuracy: no progress", marks=pytest.mark.slow),
        ("tests.plugins:RUNS_OUT_OF_MEMORY", "out of memory", "MemoryError: no more"),
        ("tests.plugins:REFUSES", "load error", "no such operator"),
        ("tests.plugins:ANSWERS_NAN", "wrong output", "no numbers"),
    ],
)
def test_a_bad_backend_becomes_a_row_with_its_reason_and_the_rest_goes_on(
    copy: Path, backend: str, kind: str, word: str
) -> None:
    store = Store(copy)
    planned = pipeline.plan(store, formats=["onnx"], backends=[backend, "onnxruntime"], metrics=["accuracy"])
    with store:
        outcomes = list(pipeline.evaluate(store, planned, pipeline.EvaluationSettings(timeout_s=8), force=True))
        table, _ = pipeline.report(store)
    first, second = (outcome.value for outcome in outcomes)
    assert first.failure and first.failure.kind == kind and word in first.failure.reason
    assert second.measurement
    assert any(kind in line for line in table.failures)


@pytest.mark.parametrize(
    ("format", "words"), [("WRONG_WEIGHTS", "its logits differ"), ("WRONG_SHAPE", "answers with (256, 5)")]
)
@pytest.mark.usefixtures("workers_here")
def test_a_wrong_export_is_a_failure_and_leaves_no_file(format: str, words: str, copy: Path) -> None:
    done = run_here("export", "--format", f"tests.plugins:{format}", "--out", copy)
    assert done.returncode == 1
    assert f"resnet8 tests.plugins:{format}: wrong output: " in done.stdout and words in done.stdout
    folder = copy / "exported" / "resnet8" / f"tests.plugins.{format}"
    assert [path.name for path in folder.iterdir()] == ["artifact.json"]


@pytest.mark.parametrize(
    ("format", "doing"),
    [("DIES_IN_EXPORT", "export"), ("DIES_IN_VALIDATION", "validation on tests.plugins:CRASHES")],
)
def test_a_crash_says_what_the_process_did(format: str, doing: str, copy: Path) -> None:
    done = run_here("export", "--format", f"tests.plugins:{format}", "--out", copy)
    assert done.returncode == 1
    assert f"resnet8 tests.plugins:{format}: crashed: {doing}: the worker died of SIGSEGV" in done.stdout


@pytest.mark.usefixtures("workers_here")
def test_an_export_that_one_runtime_misreads_is_kept_for_the_other(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run_here("export", "--format", "tests.plugins:MISREAD", "--out", copy)
    assert done.returncode == 1 and "1 of the asked" in done.stderr
    line = next(line for line in done.stdout.splitlines() if "MISREAD" in line)
    assert "logits differ by at most " in line
    assert (
        "wrong output: resnet8 tests.plugins:MISREAD: tests.plugins:ANSWERS_NAN answers with logits that are no num"
        in line
    )
    store, only = Store(copy), {"formats": ["tests.plugins:MISREAD"], "metrics": ["accuracy"]}
    right, wrong = pipeline.plan(store, **only)  # type: ignore[arg-type]
    assert wrong.failure and wrong.failure.kind == "wrong output" and "no numbers" in wrong.failure.reason
    assert right.job.backend == "onnxruntime" and not right.failure
    monkeypatch.setattr(machine, "versions", lambda names, path=None: {"numpy": "another"})
    assert not any(planned.failure for planned in pipeline.plan(store, **only))  # type: ignore[arg-type]


@pytest.mark.usefixtures("workers_here")
def test_an_export_may_be_asked_for_by_the_name_of_its_variant(copy: Path, workers_here: None) -> None:
    (exported,) = pipeline.export(Store(copy), ["resnet8"], ["onnx-uint8"])
    assert (exported.value.format, exported.value.input) == ("onnx", "uint8") and exported.value.parity
    (same,) = pipeline.export(Store(copy), ["resnet8"], ["onnx"], input="uint8")
    assert same.reused and same.value == exported.value


def test_a_baseline_of_somebody_elses_folder_must_be_the_no_op_network(copy: Path, workers_here: None) -> None:
    with Store(copy) as store:
        planned = pipeline.plan(store, backends=["pytorch"], metrics=["latency"])
        (job,) = export.baselines(store, [planned[0].job])
        folder = store.folder_of(job.artifact)
        assert isinstance(job.artifact.origin, Baseline)
        another = replace(job.artifact, origin=replace(job.artifact.origin, network="resnet8"))
        codec.save(folder / "artifact.json", another)
        (again,) = export.baselines(store, [planned[0].job])
    assert again.artifact.origin == job.artifact.origin


def test_a_former_name_of_a_metric_is_understood(copy: Path) -> None:
    (planned, *_) = pipeline.plan(Store(copy), metrics=["multiply_adds"])
    assert planned.job.metric == "macs"


@pytest.mark.slow
def test_images_as_they_are_stored_get_the_labels_that_the_network_gives_them(copy: Path) -> None:
    done = run_here("export", "--input", "uint8", "--format", "onnx", "--out", copy)
    assert done.returncode == 0 and "resnet8 onnx-uint8: " in done.stdout, done.stderr
    done = run_here("evaluate", "--backend", "onnxruntime", "--metric", "accuracy", "--limit-test", "64", "--out", copy)
    assert done.returncode == 0, done.stderr
    store, labels = Store(copy), {}
    for result in store.results():
        if result.job.metric == "accuracy" and result.measurement and result.measurement.raw:
            labels[result.job.artifact.variant] = np.load(store.raw_path(result.measurement.raw))["predicted"]
    assert (labels["onnx-uint8"] == labels["checkpoint"]).all()


def test_another_recipe_under_the_same_name_is_refused_with_the_difference(copy: Path) -> None:
    done = run_here("train", "resnet8", *TINY, "--seed", "7", "--out", copy)
    assert done.returncode == 2
    assert "seed 0, not 7" in done.stderr and "--force" in done.stderr


@pytest.mark.parametrize(
    ("there", "difference"),
    [
        ({"network": "resnet20"}, "network resnet20, not resnet8"),
        (
            {"data": {"fingerprint": "0" * 64}},
            f"data handwritten digits ({'0' * 12}), not handwritten digits ({'f' * 12})",
        ),
        ({"recipe": {"epochs": 3}}, "epochs 3, not 2"),
    ],
)
def test_an_unfinished_training_of_something_else_is_refused_with_the_difference(
    there: dict[str, Any], difference: str, tmp_path: Path
) -> None:
    wanted = a_checkpoint().training
    record = to_json(wanted)
    for field, value in there.items():
        record[field] = {**record[field], **value} if isinstance(value, dict) else value
    store = Store(tmp_path)
    store.begin(from_json(Training, record))
    (store.training_folder("small") / "state.1.pt").touch()
    prepared = Prepared(data=wanted.data, folder=tmp_path, decoded=False)
    settings = train.TrainingSettings(recipe=wanted.recipe)
    with pytest.raises(UsageError) as refused:
        train.training_of(store, prepared, "resnet8", settings, name="small")
    assert difference in str(refused.value) and "--force" in str(refused.value)
    assert train.training_of(store, prepared, "resnet8", settings, name="small", force=True) == wanted


def test_a_trained_network_teaches_another_one(uninterrupted: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(uninterrupted, tmp_path / "taught"))
    taught = [*_ONE_EPOCH[:-1], "--name", "taught", "--teacher", "resnet8", "--weight", "0.5", "--out", out]
    done = run_here(*taught)
    assert done.returncode == 0, done.stderr
    teacher, pupil = Store(out).checkpoint("resnet8"), Store(out).checkpoint("taught")
    assert teacher and pupil and pupil.recipe and pupil.recipe.teacher
    found = pupil.recipe.teacher
    assert (found.name, found.weights, found.temperature, found.weight) == ("resnet8", teacher.weights, 4.0, 0.5)
    assert pupil.weights != teacher.weights and f"taught by resnet8 ({teacher.weights.sha256[:12]})" in done.stdout
    assert "trained before" in run_here(*taught).stdout
    # A recipe of a record brings its teacher.
    with workers_here(), Store(out) as store:
        prepared = pipeline.prepare("digits", None)
        settings = train.TrainingSettings(recipe=pupil.recipe, limit_test=pupil.test_images, threads=pupil.threads)
        again = pipeline.train(store, prepared, pupil.training.network, settings, name="again").value
    assert again.recipe == pupil.recipe and again.curve[-1].accuracy == pupil.curve[-1].accuracy
    refused = run_here(*_ONE_EPOCH[:-1], "--name", "taught", "--out", out)
    assert refused.returncode == 2 and "exists already with teacher resnet8" in refused.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--teacher", "resnet8"], "give that another one by `cifar-deploy train --name`"),
        (
            ["--name", "taught", "--teacher", "resnet9"],
            "--teacher: resnet9: no trained network has this name; did you mean",
        ),
        (["--name", "taught", "--teacher", "resnet8", "--size", "10"], "give the same --size"),
        (["--name", "taught", "--teacher", "resnet8", "--weight", "1.5"], "--weight: 1.5 is not between 0 and 1"),
        (["--name", "taught", "--teacher", "resnet8", "--weight", "nan"], "nan is not between 0 and 1"),
        (["--name", "taught", "--teacher", "resnet8", "--temperature", "0"], "0 is not a positive number"),
        (["--name", "taught", "--teacher", "resnet8", "--temperature", "101"], "101 is more than 100"),
        (["--name", "taught", "--weight", "0.5"], "--weight: needs --teacher"),
        (["--name", "taught", "--temperature", "2"], "--temperature: needs --teacher"),
    ],
)
def test_who_cannot_teach_is_refused_with_the_way_out(
    uninterrupted: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    out = Path(shutil.copytree(uninterrupted, tmp_path / "taught"))
    refused = run_here(*_ONE_EPOCH[:-1], *options, "--force", "--out", out)
    assert refused.returncode == 2 and words in " ".join(refused.stderr.split())
    assert Store(out).names() == ["resnet8"] and not Store(out).unfinished("taught")


def test_a_damaged_teacher_is_named_with_the_way_out(uninterrupted: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(uninterrupted, tmp_path / "taught"))
    weights = out / "exported" / "resnet8" / "checkpoint" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    refused = run_here(*_ONE_EPOCH[:-1], "--name", "taught", "--teacher", "resnet8", "--out", out)
    assert (
        refused.returncode == 1
        and "run its `cifar-deploy train resnet8 ... --force` with its options" in refused.stderr
    )


def test_a_teacher_that_is_not_there_is_missed_before_the_images_are_read(tmp_path: Path) -> None:
    command = ["train", "resnet8", "--teacher", "large", "--dataset", "image_folder", "--data-dir", tmp_path / "none"]
    refused = run_here(*command, "--out", tmp_path)
    told = "--teacher large: no trained network has this name, nor any other; train it first (`cifar-deploy train NETWORK --name"
    assert refused.returncode == 2 and told in refused.stderr


def test_the_teacher_and_the_first_weights_of_a_recipe_are_those_that_it_names(
    uninterrupted: Path, tmp_path: Path
) -> None:
    store, wanted = Store(uninterrupted), a_checkpoint().training.recipe
    found = store.checkpoint("resnet8")
    assert found
    prepared = Prepared(data=found.training.data, folder=tmp_path, decoded=False)
    teacher = Teacher(name="resnet8", network="resnet8", weights=found.weights, temperature=2.5, weight=0.5)

    def training(**recipe: Any) -> Training:
        settings = train.TrainingSettings(recipe=replace(wanted, **recipe))
        return train.training_of(store, prepared, "resnet20", settings)

    assert training(teacher=teacher).recipe.teacher == teacher
    with pytest.raises(UsageError, match="--teacher resnet8: has other weights here"):
        training(teacher=replace(teacher, weights=replace(found.weights, sha256="0" * 64)))
    with pytest.raises(UsageError, match="recipe: begins from the weights of"):
        training(init=found.weights)


def test_other_classes_and_several_processes_cannot_be_taught(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = Store(uninterrupted).checkpoint("resnet8")
    assert teacher and isinstance(teacher.training, Training)
    data = replace(teacher.training.data, classes=("a", *teacher.training.data.classes[1:]))
    prepared = Prepared(data=data, folder=tmp_path, decoded=False)
    settings = train.TrainingSettings(teaching=train.Teaching(name="resnet8"))
    with pytest.raises(UsageError, match="other classes"):
        train.training_of(Store(uninterrupted), prepared, "resnet20", settings)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with pytest.raises(UsageError, match="without torchrun"):
        train.training_of(Store(uninterrupted), prepared, "resnet20", settings)
    with pytest.raises(UsageError, match="without torchrun"):
        train.follow(prepared, "resnet20", settings)


@pytest.mark.parametrize("begun", ["float32", "bfloat16"])
def test_a_training_goes_on_in_the_arithmetic_that_was_chosen(begun: Arithmetic, tmp_path: Path) -> None:
    training = a_checkpoint().training
    assert isinstance(training, Training)
    store = Store(tmp_path)
    store.begin(training.computed_in(begun))
    (store.training_folder("small") / "state.1.pt").touch()
    prepared = Prepared(data=training.data, folder=tmp_path, decoded=False)

    def wanted(recipe: Recipe, **settings: Any) -> Training:
        of_this = train.TrainingSettings(recipe=recipe, **settings)
        return train.training_of(store, prepared, "resnet8", of_this, name="small")

    assert wanted(training.recipe, choose_arithmetic=True).recipe.arithmetic == begun
    # The same images from elsewhere, of which more is known now.
    moved = replace(training.data, source="the same, unpacked", warnings=("a warning",))
    prepared = Prepared(data=moved, folder=tmp_path, decoded=False)
    assert wanted(training.recipe, choose_arithmetic=True).recipe.arithmetic == begun
    with pytest.raises(UsageError, match="seed 0, not 9"):
        wanted(replace(training.recipe, seed=9), choose_arithmetic=True)


def test_the_faster_arithmetic_is_chosen_once_and_recorded(of_all: Path) -> None:
    chosen = [*_ONE_EPOCH[:-1], "--arithmetic", "auto", "--out"]
    out = _trained(of_all, "chosen", chosen)
    checkpoint = Store(out).checkpoint("resnet8")
    assert checkpoint and checkpoint.recipe and set(checkpoint.step_seconds) == {"float32", "bfloat16"}
    arithmetic = checkpoint.recipe.arithmetic
    assert all(seconds > 0 for seconds in checkpoint.step_seconds.values())
    again = run_here(*chosen, out)
    assert again.returncode == 0 and "trained before" in again.stdout, again.stderr
    assert re.search(r"test accuracy \d+\.\d\d% on 64 of 3\d\d test images after 1 epoch", again.stdout), again.stdout
    other = "float32" if arithmetic == "bfloat16" else "bfloat16"
    refused = run_here(*_ONE_EPOCH[:-1], "--arithmetic", other, "--out", out)
    assert refused.returncode == 2 and f"arithmetic {arithmetic}, not {other}" in refused.stderr


# Of the recipe with the most to keep, in one epoch of 45 steps.
_ONE_EPOCH = ["train", "resnet8", "--dataset", "digits", "--recipe", "fast", "--epochs", "1", "--batch-size", "16"]
_ONE_EPOCH += ["--limit-train", "720", "--limit-test", "64", "--out"]
_OFTEN = ["--checkpoint-every", "0.05s"]


@pytest.fixture(scope="session")
def uninterrupted(of_all: Path) -> Path:
    return _trained(of_all, "uninterrupted", _ONE_EPOCH)


def _trained(of_all: Path, name: str, command: list[str]) -> Path:
    """Once in this run of the tests."""
    out = of_all / name
    with Lock(of_all / f"{name}.lock", None):
        if not Store(out).checkpoint("resnet8"):
            with workers_here():
                done = run_here(*command, out)
            assert done.returncode == 0, done.stderr
    return out


def _interrupted(out: Path, number: signal.Signals, command: list[str], states: str = "state.*.json") -> str:
    """What is said by a training that gets the signal once it has saved such a state."""
    words = [sys.executable, "-m", "cifar_deploy", *command]
    with subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=heed_signals
    ) as process:
        wait_for(out / "training" / "resnet8", states, process)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    expected = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}
    assert process.returncode == expected[number], errors
    wait_until_free(Store(out))
    return errors


@pytest.mark.slow
def test_a_training_killed_within_an_epoch_goes_on_there_to_the_same_weights(
    uninterrupted: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    _interrupted(broken, signal.SIGKILL, [*_ONE_EPOCH, str(broken), *_OFTEN], "state.[2-9]*.json")
    assert not (broken / "exported" / "resnet8" / "checkpoint" / "checkpoint.json").exists()
    # The newest of the two states is damaged, too.
    states = broken / "training" / "resnet8"
    newest = max(states.glob("state.*.json"), key=lambda path: int(path.name.split(".")[1])).with_suffix(".pt")
    newest.write_bytes(newest.read_bytes()[:-1])
    resumed = run_here(*_ONE_EPOCH, broken)
    assert resumed.returncode == 0, resumed.stderr
    assert "going on after epoch 0, step" in resumed.stdout
    assert f"warning: {newest}: is not the file its record describes" in resumed.stdout
    checkpoints = [Store(out).checkpoint("resnet8") for out in (uninterrupted, broken)]
    assert checkpoints[0] and checkpoints[1]
    assert checkpoints[0].weights == checkpoints[1].weights
    assert checkpoints[0].curve[0].loss == checkpoints[1].curve[0].loss
    metrics = (broken / "exported" / "resnet8" / "checkpoint" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in metrics] == [1]
    assert not list(broken.rglob("*.tmp.*"))


@pytest.mark.slow
def test_what_was_begun_again_and_interrupted_goes_on_without_again(uninterrupted: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    shutil.copytree(uninterrupted, out)
    errors = _interrupted(out, signal.SIGINT, [*_ONE_EPOCH, str(out), *_OFTEN, "--force"])
    assert "if a state was saved, the same command without --force goes on from there" in errors
    before = Store(out).checkpoint("resnet8")
    resumed = run_here(*_ONE_EPOCH, out)
    assert resumed.returncode == 0 and "going on after epoch" in resumed.stdout, resumed.stdout + resumed.stderr
    after = Store(out).checkpoint("resnet8")
    assert before and after and after.weights == before.weights and after.finished > before.finished


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["train", "resnet8"], "the same command goes on from what was saved"),
        (["train", "resnet8", "--force"], "without --force goes on from there"),
        (["evaluate", "--force"], "with --force the same command starts over"),
        (["bench", "model.onnx"], "nothing is kept; with --out the same command would go on"),
        (["bench", "model.onnx", "--out", "here"], "the same command goes on from here"),
        (["env", "create", "litert"], "nothing was changed"),
        (["evaluate", "--again"], "with --force the same command starts over"),
    ],
)
def test_whoever_interrupts_a_command_is_told_how_to_go_on(command: list[str], words: str) -> None:
    assert words in main._how_to_go_on(command)


_FOUR_EPOCHS = ["train", "resnet8", "--dataset", "digits", "--epochs", "4", "--limit-train", "512", "--out"]


# Within an epoch in the two tests above; here between epochs, by each signal.
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_training_goes_on_to_the_same_weights(
    of_all: Path, tmp_path: Path, number: signal.Signals
) -> None:
    whole, broken = _trained(of_all, "four epochs", _FOUR_EPOCHS), tmp_path / "broken"
    errors = _interrupted(broken, number, [*_FOUR_EPOCHS, str(broken)])
    assert number == signal.SIGKILL or "the same command goes on from what was saved" in errors
    assert not (broken / "exported" / "resnet8" / "checkpoint" / "checkpoint.json").exists()

    resumed = run_here(*_FOUR_EPOCHS, broken)
    assert resumed.returncode == 0, resumed.stderr
    assert "going on after epoch" in resumed.stdout
    hashes = [Store(out).checkpoint("resnet8").weights.sha256 for out in (whole, broken)]  # type: ignore[union-attr]
    assert hashes[0] == hashes[1]
    assert not list(broken.rglob("*.tmp.*"))


def test_a_state_that_a_finished_training_left_does_not_begin_it_anew(copy: Path) -> None:
    store = Store(copy)
    finished = store.checkpoint("resnet8")
    assert finished
    sealing.write_json(
        store.training_folder("resnet8") / "training.json", to_json(Begun(training=finished.training, replaces=None))
    )
    (store.training_folder("resnet8") / "state.1.pt").touch()
    assert "(trained before)" in run_here("train", "resnet8", *TINY, "--out", copy).stdout
    assert not store.training_folder("resnet8").exists()


@pytest.mark.usefixtures("workers_here")
def test_weights_stored_as_float16_take_half_the_room_and_classify_the_same(road: Path, tmp_path: Path) -> None:
    assert run_here("train", "resnet8", *TINY, "--save-fp16", "--out", tmp_path).returncode == 0
    whole, half = Store(road).checkpoint("resnet8"), Store(tmp_path).checkpoint("resnet8")
    assert whole and half and whole.curve[-1].loss == half.curve[-1].loss, "one seed, one training"
    assert half.rounded_accuracy == half.curve[-1].accuracy
    assert half.weights.bytes < 0.6 * whole.weights.bytes
    weights = [load_file(Store(out).checkpoint_folder("resnet8") / half.weights.name) for out in (road, tmp_path)]
    for name, original in weights[0].items():
        stored = weights[1][name]
        is_heavy = original.ndim > 1 and original.shape[0] != 1  # not the mean that the network takes away
        assert stored.dtype == (np.float16 if is_heavy else original.dtype), name
        assert np.array_equal(stored, original.astype(stored.dtype)), name


@pytest.mark.slow
def test_without_its_data_set_a_network_is_exported_and_timed_on_the_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = ["--out", tmp_path]
    with workers_here():
        done = run_here("train", "resnet8", "--dataset", "tests.plugins:NOISE", "--epochs", "1", *out)
        assert done.returncode == 0, done.stderr
    monkeypatch.setenv("CIFAR_DEPLOY_CACHE", str(tmp_path / "empty"))

    with workers_here():
        exported = run_here("export", "--format", "onnx", *out)
        calibrated = run_here("export", "--format", "onnx_int8", *out)
    assert exported.returncode == 0, exported.stdout + exported.stderr
    assert "handwritten digits" in exported.stdout
    artifact = Store(tmp_path).artifact("resnet8", "onnx")
    assert artifact and "handwritten digits" in str(artifact.parity[0].stand_in)
    assert calibrated.returncode == 1, calibrated.stdout
    assert "unavailable: format onnx_int8: needs training images" in calibrated.stdout
    assert "--data-dir" in calibrated.stdout

    where = ["--format", "onnx", *QUICK, *out]
    measured = run_here("evaluate", "--metric", "latency", "--metric", "memory", *where)
    assert measured.returncode == 0, measured.stdout + measured.stderr
    assert {result.measurement.stand_in for result in Store(tmp_path).results() if result.measurement} == {
        artifact.parity[0].stand_in
    }
    assert run_here("report", *out).returncode == 0
    assert "handwritten digits" in (tmp_path / "reports" / "report.md").read_text()
    judged = run_here("evaluate", "--metric", "accuracy", *where)
    assert judged.returncode == 1 and "its images (noise) are not in the cache" in judged.stdout, judged.stdout
    every_format = run_here("evaluate", "--metric", "file_size", *out)
    assert every_format.returncode == 0, "a metric was asked for by name, and no format that is not here"
    assert "unavailable: format onnx_int8: needs training images" in every_format.stdout
    assert run_here("evaluate", "--format", "onnx_int8", "--metric", "file_size", *out).returncode == 1


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(road: Path, tmp_path: Path) -> None:
    arguments = ["train", "resnet8", *FEW_IMAGES, "--epochs", "2", "--out", str(tmp_path)]
    # The state of resnet8 with Adam's moments is 1 MB, its weights 0.3 MB, the tests' data are in the cache already.
    full = run_cli(*arguments, largest_file=500_000)
    assert full.returncode == 1
    assert "state.1.pt: cannot be written (File too large)" in full.stderr and full.stderr.count("\n") == 1
    with workers_here():
        assert run_here(*arguments).returncode == 0

    for format in ("onnx", "torchscript"):
        full = run_cli("export", "--format", format, "--out", tmp_path, largest_file=100_000)
        assert full.returncode == 1
        assert f"{format}: cannot be written (File too large)" in full.stderr and full.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("*.tmp.*")) and not list(tmp_path.rglob("model.*"))


def test_a_second_run_on_the_same_folder_is_told_so(tmp_path: Path) -> None:
    with Store(tmp_path):
        done = run_here("report", "--out", tmp_path)
    assert done.returncode == 1
    assert "another cifar-deploy is at work here" in done.stderr


def test_data_and_list_answer_in_json() -> None:
    described = json.loads(run_here("data", "--dataset", "digits", "--json").stdout)
    assert (described["data"]["train_images"], described["data"]["test_images"]) == (1437, 360)
    listed = json.loads(run_here("list", "--json").stdout)
    assert {"resnet18", "onnx", "onnxruntime", "cuda"} <= {entry["name"] for entry in listed["entries"]}


def test_the_doctor_names_each_gap_and_its_remedy(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = ["--out", copy]
    monkeypatch.setenv("PATH", str(tmp_path))  # no compiler
    assert run_here("export", "--format", "aoti", *out).returncode == 1
    said = run_here("doctor", *out)
    assert said.returncode == 0, said.stderr
    told = document_of(run_here("doctor", "--json", *out), "doctor")["gaps"]
    gaps = {gap["reason"]: gap for gap in told}
    assert gaps["needs g++"]["names"] == ["format aoti", "backend pytorch_compile"]
    assert "apt install g++" in gaps["needs g++"]["command"] or sys.platform == "darwin"
    (again,) = [gap for reason, gap in gaps.items() if "unavailable: format aoti: needs g++" in reason]
    assert again["names"] == ["export of resnet8 to aoti"]
    assert again["command"] == f"cifar-deploy export resnet8 --format aoti --out {copy}"
    for gap in told:
        assert not gap["command"] or f"\n    $ {gap['command']}\n" in said.stdout
