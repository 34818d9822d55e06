"""The report says what the results say: intervals or ranges, ranks, verdicts, and what each image's label became."""

import io
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cifar_deploy import documents
from cifar_deploy.core.errors import Corrupt, DeployError
from cifar_deploy.core.journal import grouped
from cifar_deploy.core.profile import Profile
from cifar_deploy.core.records import (
    Baseline,
    Checkpoint,
    Disturbance,
    External,
    Failure,
    File,
    Job,
    Measurement,
    Run,
    Session,
    Sustained,
    Tensor,
    Trained,
    UnderLimit,
)
from cifar_deploy.core.store import Store
from cifar_deploy.core.table import Column, Row, Section, Table
from cifar_deploy.reports import REPORTS
from cifar_deploy.stages import report
from tests.probes import a_job, a_profile, a_run, a_session, an_operator, calm

DATA = Path(__file__).parents[1] / "data"
EAGER = a_job()
ONNX = replace(a_job(format="onnx"), backend="onnxruntime")


def no_raw(measurement: Measurement) -> Mapping[str, Any]:
    raise Corrupt("no samples")


def timed(
    job: Job,
    session: Session,
    middle: float,
    *,
    rounds: int = 7,
    step: float = 0.001,
    control: bool = False,
    gauge: Disturbance | None = None,
) -> list[Run]:
    return [
        a_run(
            job=job,
            session=session,
            round=index,
            control=control,
            value=middle * (1 + step * (index - 3)),
            disturbance=gauge,
        )
        for index in range(rounds)
    ]


def no_op(job: Job) -> Job:
    """What measures the runtime of `job` alone."""
    data = job.artifact.data
    assert data
    origin = Baseline(network="module:no_op", data=data, weights=File(name="weights", bytes=1, sha256="1" * 64))
    return replace(job, artifact=replace(job.artifact, origin=origin))


def section(table: Table, title: str) -> Section:
    return next(section for section in table.sections if section.title == title)


def shown(section: Section, row: int) -> dict[str, str]:
    return {column.title: section.rows[row].text(key, column) for key, column in section.columns.items()}


def test_rounds_become_an_interval_a_rank_and_a_ratio_to_the_eager_network() -> None:
    session = a_session(EAGER, ONNX)
    runs = [*timed(EAGER, session, 0.004), *timed(ONNX, session, 0.001), *timed(ONNX, session, 0.001, control=True)]
    ship = section(report.build(grouped(runs), no_raw), "What to ship")
    assert [row.labels for row in ship.rows] == [("small", "onnx", "onnxruntime"), ("small", "checkpoint", "pytorch")]
    onnx, eager = shown(ship, 0), shown(ship, 1)
    assert eager["latency"] == "4.000 [3.988, 4.012]" and eager["rank"] == "2" and eager["speed-up"] == "–"
    assert onnx["rank"] == "1" and onnx["speed-up"].startswith("4.00 [")
    assert onnx["p90"] == "samples unreadable"
    notes = " ".join(ship.notes)
    assert "median of 7 rounds" in notes and "[ ] is the 95 % interval" in notes
    assert "The same configuration against itself: +0.0% (A/A)" in notes and "Not interleaved" not in notes


def test_few_rounds_are_a_range_and_claim_no_percentile_and_no_difference() -> None:
    session = a_session(EAGER, ONNX)
    runs = [*timed(EAGER, session, 0.004, rounds=3), *timed(ONNX, session, 0.001, rounds=3)]
    ship = section(report.build(grouped(runs), no_raw), "What to ship")
    assert shown(ship, 1)["latency"] == "3.992 (3.988, 3.996)"
    assert shown(ship, 0)["p90"] == "n/a (needs 6 rounds)"
    assert "rank" not in shown(ship, 0)
    assert "6 rounds or more would give an interval and ranks" in " ".join(ship.notes)


def test_percentiles_are_of_all_samples_and_say_how_many_they_need() -> None:
    session = a_session(EAGER)
    runs = timed(EAGER, session, 0.001)

    def ship(count: int) -> Section:
        measurements = [
            replace(one.measurement, values={**one.measurement.values, "samples": count})
            for one in runs
            if one.measurement
        ]
        of_count = [replace(run, measurement=measurement) for run, measurement in zip(runs, measurements, strict=True)]
        raw = {"samples_ns": np.arange(1, count + 1) * 10_000}
        return section(report.build(grouped(of_count), lambda measurement: raw), "What to ship")

    assert shown(ship(9), 0)["p90"] == "n/a (needs 64)"  # there are 63
    assert shown(ship(100), 0)["p90"] == "0.901 (0.901, 0.901)"


def test_a_verdict_follows_the_number_and_its_reason_stands_below() -> None:
    session = a_session(EAGER)
    table = report.build(grouped(timed(EAGER, session, 0.004, gauge=calm(run_delay=0.3))), no_raw)
    assert shown(section(table, "What to ship"), 0)["latency"].endswith("] noisy")
    assert table.warnings == (
        "small checkpoint on pytorch (cpu), latency: noisy: 7 of 7 rounds disturbed: CPU contention: waited 30% of the time (run-queue delay)",
    )
    assert {record.fields["verdict"] for record in table.records} == {"noisy"}


def test_a_round_that_crashed_makes_the_cell_a_failure() -> None:
    session = a_session(EAGER)
    failure = Failure(kind="crashed", reason="died of SIGSEGV")
    runs = [*timed(EAGER, session, 0.004), a_run(job=EAGER, session=session, round=7, failure=failure)]
    table = report.build(grouped(runs), no_raw)
    assert shown(section(table, "What to ship"), 0)["latency"] == "crashed"
    assert "died of SIGSEGV" in table.failures[0]


def test_sessions_are_not_mixed_in_a_ranking() -> None:
    old, new = a_session(EAGER), replace(a_session(ONNX), started="2026-01-02T00:00:00+00:00")
    runs = [*timed(EAGER, old, 0.004), *timed(ONNX, new, 0.001)]
    ship = section(report.build(grouped(runs), no_raw), "What to ship")
    assert shown(ship, 1)["rank"] == "–" and shown(ship, 0)["rank"] == "1"
    assert "speed-up" not in shown(ship, 0)
    assert "Not interleaved" in " ".join(ship.notes)


@pytest.mark.parametrize(
    ("format", "latency", "instructions", "words"),
    [
        ("onnx_int8", 0.00099, ("avx2",), "no instructions for INT8 dot products"),
        ("onnx_int8", 0.00099, ("avx512_vnni",), "outweighs what INT8 saves"),
        ("onnx_int8", 0.00099, (), "outweighs what INT8 saves"),
        ("onnx_fp16", 0.00103, ("avx2",), "does not compute in float16"),
        ("onnx_fp16", 0.00103, ("avx512_fp16",), "onnxruntime may have no float16 kernels"),
        ("onnx_int8", 0.00090, ("avx2",), None),
    ],
)
def test_fewer_bits_that_bring_no_speed_are_said_to_and_why(
    format: str, latency: float, instructions: tuple[str, ...], words: str | None
) -> None:
    machine = replace(ONNX.machine, instructions=instructions)
    float_form = replace(ONNX, machine=machine)
    small = replace(a_job(format=format), backend="onnxruntime", machine=machine)
    session = a_session(float_form, small)
    runs = [*timed(float_form, session, 0.001), *timed(small, session, latency)]
    table = report.build(grouped(runs), no_raw)
    if words is None:
        assert "Where a reduced precision is not faster" not in [one.title for one in table.sections]
    else:
        (said,) = section(table, "Where a reduced precision is not faster").notes
        assert said.startswith(f"Not faster than float32: small {format} ({0.001 / latency:.2f}×).") and words in said


def test_int8_that_is_not_faster_names_its_evidence() -> None:
    small = replace(a_job(format="onnx_int8"), backend="onnxruntime")
    session = a_session(ONNX, small)
    results = grouped([*timed(ONNX, session, 0.001), *timed(small, session, 0.00099)])

    def said(*profiles: Profile) -> str:
        notes = section(
            report.build(results, no_raw, profiles=profiles), "Where a reduced precision is not faster"
        ).notes
        return next(iter(notes))

    operators = [an_operator(name, "Conv", dtype, 0.001) for name, dtype in {"a": "float32", "b": "int8"}.items()]
    profile = a_profile(small, *operators)
    command = "cifar-deploy profile small --format onnx_int8 --backend onnxruntime"
    assert said(profile).endswith(f"Profile: 1 of 2 convolutions run in INT8 ({command}).")
    other = replace(profile, files=(File(name="weights", bytes=1, sha256="9" * 64),))
    assert said() == said(other) and said().endswith(f"To check: {command}")


def test_int8_on_a_runtime_without_a_profiler_names_no_command() -> None:
    float_form, small = (replace(a_job(format=name), backend="litert") for name in ("litert", "litert_int8"))
    session = a_session(float_form, small)
    runs = [*timed(float_form, session, 0.001), *timed(small, session, 0.00099)]
    (said,) = section(report.build(grouped(runs), no_raw), "Where a reduced precision is not faster").notes
    assert "cifar-deploy profile" not in said


def test_rounds_that_lie_too_far_apart_to_tell_are_no_verdict_on_fewer_bits() -> None:
    small = replace(a_job(format="onnx_int8"), backend="onnxruntime")
    session = a_session(ONNX, small)
    latencies = (0.0007, 0.0008, 0.0008, 0.0008, 0.0008, 0.0009, 0.0012)
    runs = [a_run(job=small, session=session, round=index, value=latency) for index, latency in enumerate(latencies)]
    runs += timed(ONNX, session, 0.001)
    (said,) = section(report.build(grouped(runs), no_raw), "Where a reduced precision is not faster").notes
    assert (
        said.startswith("Perhaps not faster than float32: small onnx_int8") and "(1.25×)" in said and "--rounds" in said
    )


def test_the_floor_is_of_the_same_runtime_and_session() -> None:
    overhead = no_op(ONNX)
    session = a_session(EAGER, ONNX, overhead)
    runs = [*timed(EAGER, session, 0.004), *timed(ONNX, session, 0.001), *timed(overhead, session, 0.00001)]
    ship = section(report.build(grouped(runs), no_raw), "What to ship")
    assert len(ship.rows) == 2
    assert shown(ship, 1)["runtime overhead"] == "–" and shown(ship, 0)["runtime overhead"] == "0.010"


@pytest.fixture
def predictions() -> dict[str, Mapping[str, Any]]:
    """Of 100 images of three classes: `a` has all right, `b` three wrong."""
    labels = np.arange(100, dtype=np.int64) % 3
    chosen = np.arange(100)
    wrong = labels.astype(np.int32)
    wrong[[3, 50, 99]] = (wrong[[3, 50, 99]] + 1) % 3
    right = {"predicted": labels.astype(np.int32), "labels": labels, "chosen": chosen}
    return {"a": right, "b": {**right, "predicted": wrong}}


def accuracy(job: Job, value: float, raw: str) -> Run:
    job = replace(job, metric="accuracy", batch_size=64)
    run = a_run(job=job)
    return replace(
        run, measurement=Measurement(values={"accuracy": value, "correct": 100 * value, "images": 100}, raw=raw)
    )


def test_accuracies_are_compared_image_by_image(predictions: dict[str, Mapping[str, Any]]) -> None:
    runs = [accuracy(EAGER, 1.0, "a"), accuracy(ONNX, 0.97, "b")]
    table = report.build(grouped(runs), lambda measurement: predictions[str(measurement.raw)])
    compared = shown(section(table, "Accuracy against the eager network"), 0)
    assert (compared["top-1 agreement"], compared["negative flips"], compared["positive flips"]) == ("97.00", "3", "0")
    assert compared["accuracy change"].startswith("-3.00 [") and compared["McNemar p"] == "0.250"
    assert compared[""] == "not distinguishable"

    changed = section(table, "Images whose label changed")
    assert [shown(changed, row)["test image"] for row in range(3)] == ["3", "50", "99"]
    assert shown(changed, 0) == {"test image": "3", "is": "0", "reference label": "0", "label": "1"}
    classes = section(table, "Accuracy by class")
    assert shown(classes, 0) == {"0": "100.0", "1": "100.0", "größer": "100.0"}
    assert shown(classes, 1)["0"] == "94.1"
    confusion = section(table, "Confusion matrix of small")
    assert [shown(confusion, row)["0"] for row in range(3)] == ["34", "0", "0"]
    assert not any(part.on_screen for part in (changed, classes, confusion))


def test_a_long_list_is_folded_where_it_would_bury_the_tables() -> None:
    few, many = (
        Section(
            title=f"{count} of them",
            label_titles=("a",),
            columns={"b": Column(title="b", unit="", stored_unit="")},
            rows=(Row(labels=("b",), values={}),) * count,
            on_screen=False,
        )
        for count in (3, 101)
    )
    parts = {"title": "t", "facts": {}, "failures": (), "warnings": (), "records": ()}
    ship = replace(few, title="What to ship", main=("b",))
    text = REPORTS["html"].render(Table(sections=(few, many, replace(ship, rows=many.rows)), **parts))  # type: ignore[arg-type]
    folded = re.findall(r"<summary>(.*?)</summary>", text)
    assert folded == ["101 of them (101 rows)"], "few rows and the main table are not"


def test_accuracies_of_other_images_are_not_compared(predictions: dict[str, Mapping[str, Any]]) -> None:
    predictions["b"] = {**predictions["b"], "chosen": np.arange(1, 101)}
    runs = [accuracy(EAGER, 1.0, "a"), accuracy(ONNX, 0.97, "b")]
    table = report.build(grouped(runs), lambda measurement: predictions[str(measurement.raw)])
    assert "Accuracy against the eager network" not in {part.title for part in table.sections}


def test_a_memory_limit_that_kills_is_no_failure_of_the_cell() -> None:
    memory = replace(EAGER, metric="memory", seconds=None)
    values = {"peak": 100 * 2.0**20, "batch": 110 * 2.0**20, "counted": 60 * 2.0**20}
    measured = replace(
        a_run(job=memory), measurement=Measurement(values={k: v for k, v in values.items() if k != "counted"})
    )

    def limited(mebibytes: int, expected: Any) -> Job:
        trial = UnderLimit(limit_bytes=mebibytes * 2**20, limited_by="cgroup v2", expected=expected)
        return replace(memory, trial=trial)

    runs = [
        measured,
        replace(a_run(job=limited(116, "runs")), measurement=Measurement(values=values)),
        replace(a_run(job=limited(99, "either")), measurement=Measurement(values=values)),
        a_run(job=limited(54, "runs out"), failure=Failure(kind="out of memory", reason="killed")),
    ]
    table = report.build(grouped(runs), no_raw)
    assert shown(section(table, "Memory under a limit"), 0) == {
        "claimed peak": "110.0",
        "105% of it": "ran in 116.0 MiB",
        "90% of it": "ran in 99.0 MiB",
        "counted": "60.0",
        "90% of that": "out of memory in 54.0 MiB",
        "limited by": "cgroup v2",
    }
    assert table.failures == () and shown(section(table, "What to ship"), 0)["memory"] == "100"


def load(job: Job, session: Session, minutes: range, **changes: Any) -> list[Run]:
    """A run a minute, each 2 % slower, 0.1 GHz slower and 1 degree hotter than the one before."""
    runs = []
    for minute in minutes:
        run = a_run(job=job, session=session, round=minute, value=0.001 * (1 + 0.02 * minute))
        assert run.measurement
        gauge = calm(frequency_hz=2e9 - 1e8 * minute, temperature_c=50.0 + minute)
        measurement = replace(run.measurement, disturbance=gauge)
        started = f"2026-01-01T00:{minute:02}:00+00:00"
        runs.append(replace(run, measurement=measurement, started=started, seconds=60.0, **changes))
    return runs


LOADED = replace(EAGER, seconds=5.0, trial=Sustained(seconds=600.0))


def test_a_long_load_is_a_section_of_its_own() -> None:
    session = a_session(LOADED)
    runs = [*timed(EAGER, a_session(EAGER), 0.004), *load(LOADED, session, range(10))]
    table = report.build(grouped(runs), no_raw)
    row = shown(section(table, "Under sustained load"), 0)
    assert row["first minute"] == "1.000 ms" and row["last minute"] == "1.180 ms" and row["speed-up"] == "0.847"
    assert row["frequency"] == "2.00 → 1.10" and row["temperature"] == "50 → 59" and row["under load"] == "10.0"
    assert shown(section(table, "What to ship"), 0)["latency"].startswith("4.000")


def test_under_load_more_images_per_second_are_a_speed_up() -> None:
    loaded = replace(LOADED, metric="throughput", batch_size=64)
    session = a_session(loaded)
    runs = [
        replace(run, measurement=replace(run.measurement, values={"images_per_second": 100.0 + minute, "samples": 50}))  # type: ignore[type-var]
        for minute, run in enumerate(load(loaded, session, range(10)))
    ]
    table = report.build(grouped([*timed(EAGER, a_session(EAGER), 0.004), *runs]), no_raw)
    row = shown(section(table, "Under sustained load"), 0)
    assert row["first minute"] == "100 images/s" and row["last minute"] == "109 images/s" and row["speed-up"] == "1.090"


def test_the_first_minute_is_the_loads_and_not_the_cells() -> None:
    other = replace(ONNX, seconds=LOADED.seconds, trial=LOADED.trial)
    session = a_session(LOADED, other)
    runs = [
        *timed(EAGER, a_session(EAGER), 0.004),
        *timed(ONNX, a_session(ONNX), 0.004),
        *load(LOADED, session, range(0, 10, 2)),
        *load(other, session, range(1, 10, 2)),
    ]
    rows = section(report.build(grouped(runs), no_raw), "Under sustained load")
    # A turn of both takes two minutes, so that the first two and the last two count.
    assert [shown(rows, row)["first minute"] for row in (0, 1)] == ["1.000 ms", "1.020 ms"]
    assert [shown(rows, row)["last minute"] for row in (0, 1)] == ["1.160 ms", "1.180 ms"]


def test_a_load_that_ends_in_crashes_says_so() -> None:
    failure = Failure(kind="crashed", reason="died of SIGSEGV")
    session = a_session(LOADED)
    runs = [
        *timed(EAGER, a_session(EAGER), 0.004),
        *load(LOADED, session, range(5)),
        *load(LOADED, session, range(5, 10), failure=failure),
    ]
    runs[-5:] = [replace(run, measurement=None) for run in runs[-5:]]
    row = shown(section(report.build(grouped(runs), no_raw), "Under sustained load"), 0)
    assert row["last minute"] == "crashed" and row.get("speed-up", "–") == "–"


def test_only_a_load_is_no_report() -> None:
    with pytest.raises(DeployError, match="only loads and limits were measured"):
        report.build(grouped(load(LOADED, a_session(LOADED), range(3))), no_raw)


def test_results_of_before_an_upgrade_of_the_machine_are_left_out_and_said_to_be() -> None:
    before = replace(EAGER, machine=replace(EAGER.machine, system="Linux 5"))
    runs = [*timed(before, a_session(before), 0.001), *timed(EAGER, a_session(EAGER), 0.004)]
    table = report.build(grouped(runs), no_raw)
    assert shown(section(table, "What to ship"), 0)["latency"].startswith("4.000")
    assert "Linux 5" in table.facts["left out"][0] and not table.others


def test_two_trainings_of_the_same_weights_are_two_rows() -> None:
    checkpoint = EAGER.artifact.checkpoint
    twin = replace(checkpoint, training=replace(checkpoint.training, name="twin"))
    other = replace(EAGER, artifact=replace(EAGER.artifact, origin=Trained(checkpoint=twin)))
    session = a_session(EAGER, other)
    table = report.build(grouped([*timed(EAGER, session, 0.004), *timed(other, session, 0.001)]), no_raw)
    ship = section(table, "What to ship")
    assert [(row.labels[0], shown(ship, index)["rank"]) for index, row in enumerate(ship.rows)] == [
        ("small", "2"),
        ("twin", "1"),
    ]


def test_nothing_measured_is_said_so() -> None:
    with pytest.raises(DeployError, match="there are no results yet"):
        report.build([], no_raw)


def test_what_uint8_images_cost_end_to_end_is_said_of_the_rounds_that_both_have() -> None:
    of_pixels = replace(a_job(format="onnx", input="uint8"), backend="onnxruntime")
    session = a_session(ONNX, of_pixels)
    runs = []
    for job, middle in ((ONNX, 0.00100), (of_pixels, 0.00108)):
        for run in timed(job, session, 0.001):
            assert run.measurement
            values = {**run.measurement.values, "end_to_end": middle * (1 + 0.001 * run.round)}
            runs.append(replace(run, measurement=replace(run.measurement, values=values)))
    found = section(report.build(grouped(runs), no_raw), "uint8 input")
    assert [row.labels for row in found.rows] == [("small", "onnx", "onnxruntime")]
    assert shown(found, 0) == {
        "float32 in": "1.003",
        "uint8 in": "1.083",
        "speed-up": "0.93 [0.93, 0.93]",
    }
    alone = report.build(grouped(timed(of_pixels, a_session(of_pixels), 0.001)), no_raw)
    assert "uint8 input" not in [each.title for each in alone.sections]


def test_files_from_elsewhere_are_ranked_and_compared_with_the_first() -> None:
    takes = (Tensor(name="x", dtype="float32", shape=(1, 3)),)
    first, second, failed = (
        replace(
            ONNX, artifact=replace(ONNX.artifact, origin=External(path=path, takes=takes), format=None), backend=backend
        )
        for path, backend in (
            ("a.onnx", "onnxruntime"),
            ("b.onnx", "onnxruntime"),
            ("b.onnx", "openvino"),
        )
    )
    session = a_session(first, second)
    reason = Failure(kind="load error", reason="no such operator")
    runs = [
        *timed(first, session, 0.004),
        *timed(second, session, 0.001),
        *timed(second, session, 0.001, control=True),
        *(a_run(job=replace(failed, metric=metric), failure=reason) for metric in ("latency", "memory")),
    ]
    table = report.build(grouped(runs), no_raw)
    files = section(table, "Files side by side")
    rows = {row.labels: shown(files, index) for index, row in enumerate(files.rows)}
    assert rows["a.onnx", "onnxruntime"]["rank"] == "2" and rows["a.onnx", "onnxruntime"]["speed-up"] == "–"
    assert rows["b.onnx", "onnxruntime"]["rank"] == "1"
    assert rows["b.onnx", "onnxruntime"]["speed-up"].startswith("4.00 [")
    assert [text for text in rows["b.onnx", "openvino"].values() if text != "–"] == ["load error"]
    assert "First is a.onnx on onnxruntime" in " ".join(files.notes) and "A/A" in " ".join(files.notes)
    assert table.failures == ("b.onnx on openvino (cpu), latency, memory: load error: no such operator",)
    told = documents.TitledTable.of(files)
    (row,) = (row for row in told.rows if row.labels == {"file": "b.onnx", "backend": "onnxruntime"})
    assert row.values["speed_up"].number == pytest.approx(4.0)
    assert row.words["rank"] == "1" and row.values["latency.p50"].unit == "s"


def named(name: str) -> Checkpoint:
    checkpoint = EAGER.artifact.checkpoint
    return replace(checkpoint, training=replace(checkpoint.training, name=name))


def test_pinned_and_free_runs_are_rows_and_share_what_depends_on_neither() -> None:
    jobs = [replace(ONNX, cpus=cpus) for cpus in (None, "4-7")]
    session = a_session(*jobs)
    size = replace(a_run(job=replace(ONNX, metric="file_size")), measurement=Measurement(values={"bytes": 1000.0}))
    runs = [run for job in jobs for run in timed(job, session, 0.01)]
    table = report.build(grouped([*runs, size]), no_raw)
    ship = section(table, "What to ship")
    assert ship.label_titles == ("network", "format", "backend", "CPUs")
    assert sorted(row.labels[3] for row in ship.rows) == ["4-7", "any"]
    assert all("file_size.bytes" in row.values for row in ship.rows)
    assert table.facts["pinned to CPUs"] == ("4-7",)
    assert any("--cpus 4-7" in command for command in table.commands)
    pinned = next(record.fields for record in table.records if record.fields["cpus"])
    assert (pinned["cpus"], pinned["metric"]) == ("4-7", ONNX.metric)


def test_threads_and_batch_sizes_are_rows_of_one_session() -> None:
    jobs = [replace(ONNX, threads=threads, batch_size=size) for threads in (2, 1) for size in (8, 1)]
    throughput = [replace(job, metric="throughput") for job in jobs[2:]]
    session = a_session(*jobs, *throughput)
    runs = [run for index, job in enumerate(jobs) for run in timed(job, session, 0.001 * (index + 1))]
    for job in throughput:
        for run in timed(job, session, 0.001):
            values = {"images_per_second": 1000.0 * job.batch_size, "samples": 100.0}
            assert run.measurement
            runs.append(replace(run, measurement=replace(run.measurement, values=values)))
    runs.append(
        replace(a_run(job=replace(ONNX, metric="file_size")), measurement=Measurement(values={"bytes": 2.0**20}))
    )
    ship = section(report.build(grouped(runs), no_raw), "What to ship")
    assert ship.label_titles == ("network", "format", "backend", "threads", "batch")
    rows = {row.labels[3:]: shown(ship, index) for index, row in enumerate(ship.rows)}
    assert list(rows) == [("2", "8"), ("2", "own"), ("1", "8"), ("1", "1")], "the fastest first"
    assert rows["1", "1"]["latency"].startswith("4.000")  # the metric's own size is one that was asked for
    assert rows["1", "8"]["latency"].startswith("3.000") and rows["2", "own"]["latency"].startswith("2.000")
    assert (rows["1", "1"]["throughput"], rows["1", "8"]["throughput"]) == ("1,000", "8,000")
    assert {row["size"] for row in rows.values()} == {"1.00"}
    assert rows["1", "8"]["rank"] == "2" and rows["2", "8"]["rank"] == "1"


def test_the_flipped_images_of_int8_are_shown_with_their_labels(predictions: dict[str, Mapping[str, Any]]) -> None:
    int8 = replace(a_job(format="onnx_int8"), backend="onnxruntime")
    runs = [accuracy(EAGER, 1.0, "a"), accuracy(int8, 0.97, "b")]
    images = np.arange(100 * 4 * 4 * 3, dtype=np.uint8).reshape(100, 4, 4, 3)
    table = report.build(
        grouped(runs), lambda measurement: predictions[str(measurement.raw)], images=lambda data: images
    )
    assert table.thumbnails
    assert [(each.image, each.true, each.reference, each.label) for each in table.thumbnails.images] == [
        (3, "0", "0", "1"),
        (50, "größer", "größer", "0"),
        (99, "0", "0", "1"),
    ]
    with Image.open(io.BytesIO(table.thumbnails.images[1].png)) as shown:
        assert np.array_equal(np.asarray(shown), images[50])
    page = REPORTS["html"].render(table)
    assert page.count('<img src="data:image/png;base64,') == 3 and "eager: größer" in page
    without = report.build(grouped(runs), lambda measurement: predictions[str(measurement.raw)])
    assert without.thumbnails is None, "no images, no thumbnails"


def test_doubts_are_grouped_by_their_cause_and_failures_by_their_reason() -> None:
    session = a_session(EAGER, ONNX)
    failure = Failure(kind="crashed", reason="died of SIGSEGV")
    runs = [
        *timed(EAGER, session, 0.004, gauge=calm(run_delay=0.3)),
        *timed(ONNX, session, 0.001, gauge=calm(run_delay=0.2)),
        *(a_run(job=replace(job, metric="memory"), failure=failure) for job in (EAGER, ONNX)),
    ]
    table = report.build(grouped(runs), no_raw)
    assert table.health
    assert table.health.line.startswith("Unstable: 2 of 2 latencies. Causes: CPU contention (run-queue delay) (2).")
    assert {cause: len(lines) for cause, lines in table.health.causes.items()} == {
        "CPU contention (run-queue delay)": 2
    }
    assert table.failures_by_reason == {
        "crashed: died of SIGSEGV": (
            "small checkpoint on pytorch (cpu), memory",
            "small onnx on onnxruntime (cpu), memory",
        )
    }


def test_causes_are_counted_over_the_numbers_that_the_line_counts() -> None:
    empty = [no_op(EAGER), no_op(ONNX)]
    session = a_session(EAGER, ONNX, *empty)
    falling = [replace(run, round=6 - run.round) for run in timed(EAGER, session, 0.004, step=0.02)]
    both = timed(ONNX, session, 0.001, step=0.02, gauge=calm(run_delay=0.2))
    alone = [run for job in empty for run in timed(job, session, 0.00001, gauge=calm(run_delay=0.2))]
    health = report.build(grouped([*falling, *both, *alone]), no_raw).health
    assert health
    moved, contention = "the median moved from the first to the last rounds", "CPU contention (run-queue delay)"
    assert health.line.startswith(f"Unstable: 2 of 2 latencies. Causes: {moved} (2), {contention} (1).")
    assert {cause: len(lines) for cause, lines in health.causes.items()} == {contention: 3, moved: 2}, "no-op ones too"


def test_failures_alone_make_a_report_that_says_that_nothing_qualifies() -> None:
    table = report.build([*grouped([a_run(job=EAGER, failure=Failure(kind="crashed", reason="died"))])], no_raw)
    assert table.answer and table.answer.headline.startswith("Nothing qualifies")
    for name in ("html", "markdown"):
        assert "Nothing qualifies" in REPORTS[name].render(table) and "died" in REPORTS[name].render(table)
    assert "No chart" in REPORTS["svg"].render(table)
    assert table.health is None, "nothing was timed, so nothing is said to be stable"


def test_every_column_has_its_place_in_the_glossary(predictions: dict[str, Mapping[str, Any]]) -> None:
    session = a_session(EAGER, ONNX)
    runs = [*timed(EAGER, session, 0.004), *timed(ONNX, session, 0.001)]
    runs += [accuracy(EAGER, 1.0, "a"), accuracy(ONNX, 0.97, "b")]
    predictions["abc"] = {"samples_ns": np.arange(1, 101)}
    table = report.build(grouped(runs), lambda measurement: predictions[str(measurement.raw)])
    titles = {column.title for section in table.sections for column in section.columns.values()}
    titles |= {title for section in table.sections for title in section.label_titles}
    assert titles - {""} <= table.glossary.keys()
    assert all(table.glossary.values())


def test_the_same_results_make_the_same_bytes_wherever_they_lie(tmp_path: Path) -> None:
    made = []
    for name in ("one", "other place"):
        store = Store(tmp_path / name)
        store.reports.mkdir(parents=True)
        (store.reports / "results.jsonl").write_bytes((DATA / "results-2.jsonl").read_bytes())
        _, paths = report.report(store)
        made.append({path.name: path.read_bytes() for path in paths})
    assert made[0] == made[1] and made[0].keys() == {plugin.filename for plugin in map(REPORTS.get, REPORTS) if plugin}


def test_a_report_imports_nothing_that_a_record_names() -> None:
    own = replace(a_job(format="not_there.module:FORMAT"), backend="not_there.module:BACKEND")
    gone = replace(a_job(format="a_format_of_tomorrow"), backend="a_runtime_of_tomorrow")
    session = a_session(EAGER, own, gone)
    runs = [*timed(EAGER, session, 0.004), *timed(own, session, 0.001), *timed(gone, session, 0.002)]
    runs += [accuracy(job, 1.0, "lost") for job in (EAGER, own, gone)]
    table = report.build(grouped(runs), no_raw)
    page = REPORTS["html"].render(table)
    assert "not_there.module:BACKEND" in page and "a_runtime_of_tomorrow" in page


def of_labels(job: Job, predicted: np.ndarray[Any, Any], raw: str) -> tuple[Run, Mapping[str, Any]]:
    """An accuracy over 300 images of three classes, with what is kept of each."""
    labels = np.arange(300) % 3
    right = int((predicted == labels).sum())
    run = accuracy(job, right / 300, raw)
    values = {"accuracy": right / 300, "correct": right, "images": 300}
    assert run.measurement
    arrays = {"predicted": predicted.astype(np.int32), "labels": labels, "chosen": np.arange(300)}
    return replace(run, measurement=replace(run.measurement, values=values)), arrays


def test_what_fell_to_chance_is_told_from_what_did_not_in_every_report() -> None:
    int8 = replace(ONNX, artifact=replace(ONNX.artifact, format="onnx_int8"))
    labels = np.arange(300) % 3
    found = {
        raw: of_labels(job, predicted, raw)
        for job, raw, predicted in (
            (EAGER, "a", np.where(np.arange(300) < 290, labels, 0)),
            (ONNX, "b", np.random.default_rng(0).permutation(labels)),
            (int8, "c", np.full(300, 2)),
        )
    }
    results = grouped([run for run, _ in found.values()])
    table = report.build(results, lambda measurement: found[str(measurement.raw)][1])
    ship = section(table, "What to ship")
    eager, onnx, last = (shown(ship, row)["accuracy"] for row in range(3))
    assert eager.endswith("]") and onnx.endswith("] at chance") and last == "33.33 [28.24, 38.85] at chance"
    assert [line.partition(", accuracy: ")[2] for line in table.warnings] == [
        f"at chance: {found['b'][0].measurement.values['correct']} of 300 right is not above 33.3%, the share of the commonest class",  # type: ignore[union-attr]
        "at chance: each of the 300 images got the same label, and 200 are of other classes",
    ]
    verdicts = {(record.fields["format"], record.fields["verdict"]) for record in table.records}
    assert verdicts == {("checkpoint", None), ("onnx", "at chance"), ("onnx_int8", "at chance")}
    assert "the share of the commonest class" in REPORTS["html"].render(table)
    for name in ("markdown", "html"):
        assert "at chance" in REPORTS[name].render(table)
    assert "each of the 300 images got the same label" in REPORTS["csv"].render(table)


def test_where_the_predictions_are_lost_the_classes_count_as_equally_common() -> None:
    run, _ = of_labels(EAGER, np.random.default_rng(0).permutation(np.arange(300) % 3), "gone")
    table = report.build(grouped([run]), no_raw)
    assert len(table.warnings) == 1 and "33.3%, the share of the commonest class" in table.warnings[0]


def test_warnings_of_the_data_are_among_the_facts() -> None:
    def with_warnings(*warnings: str) -> Checkpoint:
        checkpoint = EAGER.artifact.checkpoint
        assert checkpoint
        data = replace(checkpoint.training.data, warnings=warnings)
        return replace(checkpoint, training=replace(checkpoint.training, data=data))

    facts = report._origins([], {"a": with_warnings("2 are twice"), "b": with_warnings("2 are twice")})
    assert facts["data warnings"] == ("handwritten digits: 2 are twice",)
    assert "data warnings" not in report._origins([], {"a": with_warnings()})


def test_lost_predictions_are_one_note_and_no_row_each() -> None:
    runs = [accuracy(EAGER, 1.0, "a"), accuracy(ONNX, 0.97, "b")]
    table = report.build(grouped(runs), no_raw)
    against = section(table, "Accuracy against the eager network")
    assert not against.rows and "the predictions of 1 configuration are not here" in against.notes[0]
    assert against.notes[0] in REPORTS["html"].render(table)
    assert "Accuracy by class" not in {part.title for part in table.sections}
