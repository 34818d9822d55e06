"""Two results files: what is alike is compared, what is not is refused, and a tie is called a tie."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.measure import Measurement as Width

from cifar_deploy import console
from cifar_deploy.core.errors import UsageError
from cifar_deploy.core.journal import grouped
from cifar_deploy.core.records import (
    External,
    Failure,
    Job,
    Measurement,
    Result,
    Tensor,
    Trained,
    TrainingMode,
)
from cifar_deploy.core.store import Store
from cifar_deploy.core.table import Section
from cifar_deploy.metrics.memory import METRIC as MEMORY
from cifar_deploy.stages import compare, comparison
from tests.fleet import ARM, HOME, ONNX, PI5, Fleet
from tests.in_process import run_here
from tests.probes import a_job, a_run, a_session
from tests.stages.test_pairing import LARGE, file

SHIPPED = Path(__file__).parents[2] / "reports"


def results(job: Job, factor: float, control: float = 1.0, rounds: int = 7) -> list[Result]:
    """A session of `job` and its control, of about a millisecond times the factor."""
    session = a_session(job)
    runs = []
    for index in range(rounds):
        value = 0.001 * factor * (1 + 0.001 * (index - 3))
        runs.append(a_run(job=job, session=session, round=index, value=value))
        runs.append(a_run(job=job, session=session, round=index, value=value * control, control=True))
    return grouped(runs)


def no_samples(measurement: object) -> Any:
    raise AssertionError


def a_pair(a: list[Result], b: list[Result], allow_mismatch: bool = False) -> compare.Pair:
    (pair,) = compare.pairs_of(a, b, no_samples, no_samples, allow_mismatch=allow_mismatch)
    return pair


def compared(a: list[Result], b: list[Result], allow_mismatch: bool = False) -> compare.Difference:
    """Of two results of one metric, by its first column."""
    return next(iter(a_pair(a, b, allow_mismatch).differences.values()))


def words(pairs: list[compare.Pair], key: str = "latency.p50") -> list[str | None]:
    return [pair.differences[key].word for pair in pairs]


def once(metric: str, **values: float) -> Result:
    """A metric that is measured once, of the same configuration as all others here."""
    return grouped([replace(a_run(job=a_job(metric)), measurement=Measurement(values=values))])[0]


def shown(section: Section, row: int = 0) -> dict[str, str]:
    return {key: section.rows[row].text(key, column) for key, column in section.columns.items()}


def test_slower_is_slower_and_faster_is_faster() -> None:
    job = a_job()
    pair = a_pair(results(job, 1.0), results(job, 1.1))
    latency = pair.differences["latency.p50"]
    assert latency.word == "slower" and latency.ratio and latency.ratio.low <= 1 / 1.1 <= latency.ratio.high
    assert latency.ratio.value == pytest.approx(1 / 1.1, rel=1e-3), "a speed-up below 1 is slower"
    back = compared(results(job, 1.1), results(job, 1.0))
    assert back.word == "faster" and back.ratio and back.ratio.value == pytest.approx(1.1, rel=1e-3)
    assert compare.slower([pair], 0.05) == [pair] and compare.slower([pair], 0.15) == []


def test_below_three_percent_between_sessions_nothing_is_claimed() -> None:
    pair = compared(results(a_job(), 1.0), results(a_job(), 1.02))
    assert pair.word == "tie" and "inside the noise of ±3.0%" in pair.reason


def test_a_machine_that_differs_from_itself_claims_less() -> None:
    pair = compared(results(a_job(), 1.0, control=1.2), results(a_job(), 1.1))
    assert pair.word == "tie" and "±20.0%" in pair.reason


def test_what_crashed_or_is_missing_in_b_does_not_pass_the_gate() -> None:
    job, other = a_job(), replace(a_job(), device="cuda")
    good = [*results(job, 1.0), *results(other, 1.0)]
    failure = Failure(kind="crashed", reason="died of SIGSEGV")
    crashed = [*results(job, 1.0), *grouped([a_run(job=other, session=a_session(other), failure=failure)])]
    pairs = compare.pairs_of(good, crashed, no_samples, no_samples)
    assert words(pairs) == ["tie", "failed"] and "SIGSEGV" in pairs[1].differences["latency.p50"].reason
    assert compare.slower(pairs, 0.05) == [pairs[1]]

    pairs = compare.pairs_of(good, results(job, 1.0), no_samples, no_samples)
    assert words(pairs) == ["tie", "missing"] and len(compare.slower(pairs, 0.05)) == 1
    pairs = compare.pairs_of(results(job, 1.0), good, no_samples, no_samples)
    assert words(pairs) == ["tie", "new"] and compare.slower(pairs, 0.05) == []


def test_a_crash_is_not_hidden_behind_an_older_good_session() -> None:
    job = a_job()
    later = replace(a_session(job), started="2026-02-01T00:00:00+00:00")
    failure = Failure(kind="crashed", reason="died of SIGSEGV")
    b = [*results(job, 1.0), *grouped([a_run(job=job, session=later, failure=failure)])]
    assert compared(results(job, 1.0), b).word == "failed"


def test_nothing_in_common_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing to compare"):
        compared([], results(a_job(), 1.0))
    with pytest.raises(UsageError, match="B holds no measurement of a configuration; nothing to compare"):
        compared(results(a_job(), 1.0), [once("parity", difference=0.0)])
    with pytest.raises(UsageError, match="no format, runtime, device and metric of small is in both A and B"):
        compared(results(a_job(), 1.0), [once("memory", peak=1.0)])


def test_more_images_per_second_are_faster() -> None:
    job = a_job("throughput")

    def of(images_per_second: float) -> list[Result]:
        return [
            replace(
                result,
                runs=tuple(
                    replace(run, measurement=replace(run.measurement, values={"images_per_second": v, "samples": 50}))  # type: ignore[type-var]
                    for run, v in zip(result.runs, [images_per_second * (1 + 0.001 * i) for i in range(7)], strict=True)
                ),
            )
            for result in results(job, 1.0)
            if not result.control
        ]

    found = compared(of(100), of(120))
    assert found.word == "faster" and found.ratio and found.ratio.value == pytest.approx(1.2, rel=1e-2)


def test_too_few_rounds_decide_nothing() -> None:
    pair = a_pair(results(a_job(), 1.0, rounds=3), results(a_job(), 2.0, rounds=3))
    latency = pair.differences["latency.p50"]
    assert latency.word == "undecided" and "6 rounds" in latency.reason
    assert compare.slower([pair], 0.05) == [pair]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"protocol": 9}, "protocol 1 and 9"),
        ({"threads": 2}, "threads 1 and 2"),
        ({"batch_size": 8}, "batch size 1 and 8"),
        ({"limit_test": 10}, "--limit-test"),
    ],
)
def test_what_answers_another_question_is_refused_unless_asked_for(change: dict[str, object], told: str) -> None:
    other = replace(a_job(), **change)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=told):
        compared(results(a_job(), 1.0), results(other, 1.0))
    assert compared(results(a_job(), 1.0), results(other, 1.0), allow_mismatch=True).word == "tie"


def test_other_data_are_refused() -> None:
    job = a_job()
    training = job.artifact.checkpoint.training
    data = replace(training.data, fingerprint="0" * 64)
    checkpoint = replace(job.artifact.checkpoint, training=replace(training, data=data))
    other = replace(job, artifact=replace(job.artifact, origin=Trained(checkpoint=checkpoint)))
    with pytest.raises(UsageError, match="other data"):
        compared(results(job, 1.0), results(other, 1.0))


def test_of_several_thread_counts_the_alike_are_compared() -> None:
    one, two = a_job(), replace(a_job(), threads=2)
    before = [*results(one, 1.0), *results(two, 0.5)]
    pairs = compare.pairs_of(before, results(one, 1.1), no_samples, no_samples)
    assert [pair.configuration.threads for pair in pairs] == [1, 2] and words(pairs) == ["slower", "missing"]


def test_what_was_pinned_is_compared_with_what_was_pinned_alike() -> None:
    free, pinned = a_job(), replace(a_job(), cpus="4-7")
    before = [*results(free, 1.0), *results(pinned, 0.5)]
    pairs = compare.pairs_of(before, results(pinned, 0.6), no_samples, no_samples)
    assert [(pair.configuration.cpus, word) for pair, word in zip(pairs, words(pairs), strict=True)] == [
        (None, "missing"),
        ("4-7", "slower"),
    ]
    with pytest.raises(UsageError, match="CPUs unpinned and 4-7"):
        compare.pairs_of(results(free, 1.0), results(pinned, 1.0), no_samples, no_samples)


def test_batch_sizes_are_compared_each_with_its_own() -> None:
    one, eight = a_job(), replace(a_job(), batch_size=8)
    before, after = [*results(one, 1.0), *results(eight, 5.0)], [*results(one, 1.0), *results(eight, 6.0)]
    pairs = compare.pairs_of(before, after, no_samples, no_samples)
    assert [pair.configuration.batch_size for pair in pairs] == [None, 8] and words(pairs) == ["tie", "slower"]
    table = comparison.section(pairs)
    assert "batch" in table.label_titles and [row.labels[3] for row in table.rows] == ["own", "8"]


def test_the_command_gates_a_regression_and_names_it(tmp_path: Path) -> None:
    for name, factor in (("before", 1.0), ("after", 1.3)):
        with Store(tmp_path / name) as store:
            for result in results(a_job(), factor):
                for run in result.runs:
                    store.append(run)
    before, after = tmp_path / "before", tmp_path / "after" / "reports" / "results.jsonl"
    passed = run_here("compare", before, after)
    assert (
        passed.returncode == 0
        and "slower" in passed.stdout
        and "slower 0.77 [0.77, 0.77] 1.000 → 1.300" in passed.stdout
    )
    failed = run_here("compare", before, after, "--fail-if-slower", "5%")
    assert (
        failed.returncode == 1
        and "1 of 1 configuration: B is slower by more than 5.0%, or cannot be compared" in failed.stderr
        and "latency: 1.000 → 1.300 ms, speed-up 0.77" in failed.stderr
    )
    assert run_here("compare", after, before, "--fail-if-slower", "5%").returncode == 0
    assert run_here("compare", before, after, "--fail-if-slower", "40%").returncode == 0
    nothing = run_here("compare", before, tmp_path / "nowhere")
    assert nothing.returncode == 2 and "nowhere" in nothing.stderr


def stored(folder: Path, *results_of: Result) -> Path:
    with Store(folder) as store:
        for result in results_of:
            for run in result.runs:
                store.append(run)
    return folder


def word_of(pair: Any) -> str:
    word: str = pair["differences"]["latency.p50"]["word"]
    return word


def renamed(job: Job, name: str) -> Job:
    checkpoint = job.artifact.checkpoint
    assert checkpoint
    training = replace(checkpoint.training, name=name)
    return replace(
        job, artifact=replace(job.artifact, origin=Trained(checkpoint=replace(checkpoint, training=training)))
    )


def test_another_name_is_paired_and_said_so(tmp_path: Path) -> None:
    a = stored(tmp_path / "a", *results(renamed(a_job(), "resnet20"), 1.0))
    b = stored(tmp_path / "b", *results(renamed(a_job(), "resnet20-b"), 1.3))
    done = run_here("compare", a, b, "--fail-if-slower", "5%")
    assert done.returncode == 1 and "speed-up 0.77" in done.stderr
    assert "resnet20 of A is compared with resnet20-b of B: the same sha256." in done.stdout
    (pair,) = json.loads(run_here("compare", a, b, "--json").stdout)["pairs"]
    assert pair["match"] == {"a": "resnet20", "b": "resnet20-b", "rule": "sha256"}
    assert "is compared with" not in run_here("compare", a, a).stdout


def test_a_given_pair_overrides_and_what_is_left_over_is_named(tmp_path: Path) -> None:
    a = stored(tmp_path / "a", *results(renamed(a_job(), "x"), 1.0))
    both = [*results(renamed(a_job(), "x"), 1.0), *results(renamed(a_job(), "y"), 1.3)]
    b = stored(tmp_path / "b", *both)
    done = run_here("compare", a, b, "--pair", "x=y", "--json")
    assert [(p["match"], p["configuration"]["name"], word_of(p)) for p in json.loads(done.stdout)["pairs"]] == [
        ({"a": "x", "b": "y", "rule": "pair"}, "x", "slower"),
        (None, "x", "new"),
    ]
    shown = run_here("compare", a, b, "--pair", "x=y").stdout
    assert "x of A is compared with y of B: --pair says so." in shown and "Not paired: x of B." in shown
    assert "Not paired: y of A." in run_here("compare", b, a).stdout
    refused = run_here("compare", a, b, "--pair", "x=yy")
    assert refused.returncode == 2 and "did you mean 'y'?" in refused.stderr and refused.stderr.count("\n") == 1


def test_names_that_nothing_pairs_are_named_with_the_option_that_does(tmp_path: Path) -> None:
    def of(*names: str) -> list[Result]:
        return [result for name in names for result in results(renamed(a_job(), name), 1.0)]

    a, b = stored(tmp_path / "a", *of("p", "q", "q2")), stored(tmp_path / "b", *of("r", "s", "t"))
    done = run_here("compare", a, b)
    assert done.returncode == 2
    assert "no name of A (p, q, q2) is one of B (r, s, t); say which to compare, as in --pair p=r" in done.stderr
    one = run_here("compare", a, b, "--pair", "p=s")
    assert one.returncode == 0 and "Not paired: q, q2 of A; r, t of B. --pair q=r compares two of them." in one.stdout


@pytest.mark.parametrize("gate", [[], ["--fail-if-slower", "5%"]], ids=["", "gate"])
@pytest.mark.parametrize("rounds", [1, 3, 7])
def test_a_folder_with_itself_is_all_ties(rounds: int, gate: list[str], tmp_path: Path) -> None:
    job, other = a_job(), replace(a_job(), device="cuda")
    failure = Failure(kind="crashed", reason="died of SIGSEGV")
    crashed = grouped([a_run(job=other, session=a_session(other), failure=failure)])
    labels_lost = grouped(
        [replace(a_run("accuracy"), measurement=Measurement(values={"accuracy": 0.5, "correct": 5, "images": 10}))]
    )
    untimed = [once("memory", peak=2**20), once("file_size", bytes=100)]
    folder = stored(tmp_path / "r1", *results(job, 1.0, rounds=rounds), *crashed, *labels_lost, *untimed)
    (tmp_path / "link").symlink_to("r1")
    shutil.copytree(folder, tmp_path / "copy")
    for again in (folder, f"{folder}/", tmp_path / "link", f"{folder}/../r1", tmp_path / "copy"):
        done = run_here("compare", folder, again, *gate, "--json")
        assert done.returncode == 0, done.stderr
        found = {key: one for pair in json.loads(done.stdout)["pairs"] for key, one in pair["differences"].items()}
        assert len(json.loads(done.stdout)["pairs"]) == 2 and {one["word"] for one in found.values()} == {"tie"}
        assert {"latency.p50", "accuracy.accuracy", "memory.peak", "file_size.bytes"} == found.keys()
    assert "SIGSEGV" in run_here("compare", folder, folder).stdout


def test_another_session_of_few_rounds_is_no_tie(tmp_path: Path) -> None:
    job = a_job()
    later = [
        replace(result, runs=tuple(replace(run, started="2026-02-01T00:00:00+00:00") for run in result.runs))
        for result in results(job, 1.0, rounds=3)
    ]
    assert compared(results(job, 1.0, rounds=3), later).word == "undecided"


def test_the_folder_that_bench_was_given_is_found(tmp_path: Path) -> None:
    stored(tmp_path / "r1" / "bench", *results(a_job(), 1.0))
    assert run_here("compare", tmp_path / "r1", tmp_path / "r1" / "bench").returncode == 0


def test_two_versions_of_a_file_are_compared(tmp_path: Path) -> None:
    stored(tmp_path / "r1" / "bench", file("model-v1.onnx"))
    stored(tmp_path / "r2" / "bench", file("model-v2.onnx"))
    done = run_here("compare", "r1", "r2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = "model-v1.onnx of A is compared with model-v2.onnx of B: the only file left over on each side."
    assert told in done.stdout and "it takes 6 rounds of each" in done.stdout


def test_a_pair_of_other_inputs_is_refused_with_both(tmp_path: Path) -> None:
    stored(tmp_path / "r1", file("v1.onnx"))
    stored(tmp_path / "r2", file("v2.onnx", takes=LARGE))
    refused = run_here("compare", "r1", "r2", cwd=tmp_path)
    assert refused.returncode == 2 and "--pair v1.onnx=v2.onnx" in refused.stderr
    told = run_here("compare", "r1", "r2", "--pair", "v1.onnx=v2.onnx", cwd=tmp_path)
    assert told.returncode == 2 and "x float32 1×3×8×8; x float32 1×3×64×64" in told.stderr
    assert run_here("compare", "r1", "r2", "--allow-mismatch", cwd=tmp_path).returncode == 0


def test_files_fed_with_other_values_or_run_in_another_mode_answer_different_questions() -> None:
    def of_file(value: int | None = None, switched: int = 0, name: str = "k") -> Result:
        takes = (Tensor(name=name, dtype="int64", shape=(), value=value),)
        origin = External(path="a.ts", takes=takes, training_mode=TrainingMode(switched=switched))
        run = a_run()
        artifact = replace(run.job.artifact, origin=origin, format=None)
        return Result(job=replace(run.job, artifact=artifact), runs=(run,))

    assert compare._unlike(of_file(16), of_file(16, name="k.1")) is None
    assert compare._unlike(of_file(16), of_file(8)) == "of other data (k int64 scalar = 16; k int64 scalar = 8)"
    assert "training mode" in str(compare._unlike(of_file(), of_file(switched=3)))
    assert of_file().job.key != of_file(switched=3).job.key


def test_memory_and_size_are_compared_in_the_same_row_without_an_interval() -> None:
    def of(factor: float, peak: float, size: float) -> list[Result]:
        return [*results(a_job(), factor), once("memory", peak=peak), once("file_size", bytes=size)]

    pair = a_pair(of(1.0, 100 * 2**20, 2**22), of(0.5, 80 * 2**20, 2**22 + 1))
    memory, size = pair.differences["memory.peak"], pair.differences["file_size.bytes"]
    assert memory.word == "smaller" and memory.ratio and memory.ratio.value == pytest.approx(1.25)
    assert size.word == "larger" and size.ratio and size.ratio.value < 1, "a byte more is more"
    row = shown(comparison.section([pair]))
    assert row["latency.p50"] == "1.000 → 0.500" and row["latency.p50.ratio"] == "2.00 [1.99, 2.01]"
    assert row["latency.p50.word"] == "faster"
    assert row["memory.peak"] == "100 → 80" and row["memory.peak.ratio"] == "1.25"
    assert row["file_size.bytes"] == "4.00 → 4.00" and row["file_size.bytes.ratio"] == "1.00"


def test_memory_within_what_two_measurements_differ_by_is_a_tie() -> None:
    tie = next(compared.tie for compared in MEMORY.compared)
    for factor, word in ((1 + tie / 2, "tie"), (1 - tie / 2, "tie"), (1 + 2 * tie, "larger"), (1 - 2 * tie, "smaller")):
        pair = a_pair([once("memory", peak=1e9)], [once("memory", peak=1e9 * factor)])
        assert pair.differences["memory.peak"].word == word
        ratio = shown(comparison.section([pair]))["memory.peak.ratio"]
        assert ratio == ("tie" if word == "tie" else f"{1 / factor:.2f}")


@pytest.mark.parametrize(("metric", "column"), [("memory", "peak"), ("file_size", "bytes")])
def test_folders_without_a_timed_metric_are_compared(metric: str, column: str, tmp_path: Path) -> None:
    a = stored(tmp_path / "a", once(metric, **{column: 2**22}))
    b = stored(tmp_path / "b", once(metric, **{column: 2**21}))
    done = run_here("compare", a, b, "--fail-if-slower", "5%")
    assert done.returncode == 0, done.stderr
    assert "2.00" in done.stdout and "latency" not in done.stdout.replace("--latency", "")


def test_what_is_lacking_on_one_side_keeps_the_number_of_the_other() -> None:
    pair = a_pair([*results(a_job(), 1.0), once("memory", peak=2**20)], results(a_job(), 1.0))
    memory = pair.differences["memory.peak"]
    assert (memory.word, memory.b) == ("missing", None) and memory.a and memory.a.number == 2**20
    row = shown(comparison.section([pair]))
    assert row["memory.peak"] == "1 → –" and row["memory.peak.ratio"] == "missing"
    assert compare.slower([pair], 0.05) == [], "memory is no speed"


def test_load_and_first_inference_have_a_speed_up_and_no_verdict() -> None:
    def of(load: float) -> list[Result]:
        values = {"p50": 0.001, "samples": 100.0, "load": load, "first": 0.01}
        return [
            replace(
                result,
                runs=tuple(
                    replace(run, measurement=replace(run.measurement, values=values))  # type: ignore[type-var]
                    for run in result.runs
                ),
            )
            for result in results(a_job(), 1.0)
        ]

    pair = a_pair(of(0.3), of(0.1))
    load = pair.differences["latency.load"]
    assert load.word is None and load.ratio and load.ratio.value == pytest.approx(3)
    row = shown(comparison.section([pair]))
    assert row["latency.load"] == "300 → 100" and row["latency.load.ratio"] == "3.00"
    assert row["latency.first"] == "10.0 → 10.0" and "latency.load.word" not in row
    assert compare.slower([a_pair(of(0.1), of(0.3))], 0.05) == [], "the gate is on latency and throughput"
    nothing = a_pair(of(0.0), of(0.1)).differences["latency.load"]
    assert nothing.ratio is None and nothing.a and nothing.a.number == 0


def test_a_batch_size_that_was_asked_for_is_one_row_with_all_that_has_none() -> None:
    def of(memory: float) -> list[Result]:
        return [*results(replace(a_job(), batch_size=8), 1.0), once("memory", peak=memory)]

    pair = a_pair(of(2e9), of(1e9))
    assert (
        pair.configuration.batch_size == 8 and words([pair]) == ["tie"] and words([pair], "memory.peak") == ["smaller"]
    )


def test_size_does_not_depend_on_threads() -> None:
    two = replace(a_job("file_size"), threads=2)
    b = grouped([replace(a_run(job=two), measurement=Measurement(values={"bytes": 50}))])
    assert compared([once("file_size", bytes=100)], b).word == "smaller"


def test_accuracy_changes_in_points_with_its_flips() -> None:
    job = a_job("accuracy")
    checkpoint = job.artifact.checkpoint
    assert checkpoint
    labels = np.arange(90) % len(checkpoint.training.data.classes)
    right, wrong = labels.astype(np.int32), labels.astype(np.int32)
    wrong[:27] = (wrong[:27] + 1) % 3

    def of(correct: int) -> list[Result]:
        values = {"accuracy": correct / 90, "correct": correct, "images": 90}
        return grouped([replace(a_run(job=job), measurement=Measurement(values=values, raw=str(correct)))])

    def raw(predicted: Any) -> Any:
        return lambda measurement: {"predicted": predicted, "labels": labels, "chosen": np.arange(90)}

    a, b = of(63), of(90)
    (pair,) = compare.pairs_of(a, b, raw(wrong), raw(right))
    found = pair.differences["accuracy.accuracy"]
    assert found.word == "better" and found.change and found.change.p == 2**-26
    assert (found.change.negative_flips, found.change.positive_flips) == (0, 27)
    assert found.change.difference.value == pytest.approx(0.3)
    row = shown(comparison.section([pair]))
    assert row["accuracy.accuracy.change"].startswith("30.00 [2") and row["accuracy.accuracy.flips"] == "0, 27"
    (back,) = compare.pairs_of(b, a, raw(right), raw(wrong))
    assert words([back], "accuracy.accuracy") == ["worse"]
    assert shown(comparison.section([back]))["accuracy.accuracy.flips"] == "27, 0"


def test_a_doubt_or_a_reason_that_many_share_is_told_once() -> None:
    jobs = [renamed(a_job(), f"n{index}") for index in range(5)]
    before = [result for job in jobs for result in results(job, 1.0)]
    later = [result for job in jobs for result in results(job, 1.02)]
    notes = comparison.section(compare.pairs_of(before, later, no_samples, no_samples)).notes
    assert [note for note in notes if "noise" in note] == [
        "latency of 5 configurations: tie: inside the noise of ±3.0%"
    ]
    few = comparison.section(compare.pairs_of(before[:2], later[:2], no_samples, no_samples)).notes
    assert "latency of n0 checkpoint on pytorch (cpu): tie: inside the noise of ±3.0%" in few


def with_speeds(results: list[Result], factor_of: dict[str, float]) -> list[Result]:
    """The results with the latencies of these formats times a factor, in another session."""
    made = []
    for result in results:
        factor = factor_of.get(result.job.artifact.variant)
        runs = [
            replace(
                run,
                started=run.started.replace("2026", "2027"),
                measurement=run.measurement
                and replace(
                    run.measurement,
                    values={key: n * (factor or 1) for key, n in run.measurement.values.items()},
                ),
            )
            for run in result.runs
        ]
        made.append(replace(result, runs=tuple(runs)) if factor and result.job.metric == "latency" else result)
    return made


def trained_names(results: list[Result]) -> int:
    return len({result.job.artifact.name for result in results if isinstance(result.job.artifact.origin, Trained)})


def test_of_many_configurations_those_that_matter_fit_a_screen_of_100_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    a, raw = compare._read_results(SHIPPED)
    b = with_speeds(a, {"onnx": 1.5, "litert_int8": 0.5, "executorch_int8": 0.4})
    b = [result for result in b if result.job.artifact.variant != "torchscript"]
    pairs = compare.pairs_of(a, b, raw, raw)
    screen = io.StringIO()
    monkeypatch.setattr(console, "out", Console(file=screen, force_terminal=True, color_system=None, width=100))
    console.print_comparison(list(comparison.counts(pairs)), comparison.excerpt(pairs, 0.05), "summary")
    lines = screen.getvalue().splitlines()
    assert len(lines) <= 60 and max(map(len, lines)) <= 100
    names = trained_names(a)
    assert lines[2] == f"  latency:     {18 * names} ties, {2 * names} faster, {2 * names} slower, {names} missing"
    rows = [line.split()[:4] for line in lines if line.startswith(("! ", "  resnet20 "))]
    of_one = [row for row in rows if "resnet20" in row]
    assert sorted(of_one[:2]) == [["!", "resnet20", "onnx,", "onnxruntime"], ["!", "resnet20", "onnx,", "openvino"]]
    assert of_one[2:] == [
        ["!", "resnet20", "torchscript", "missing"],
        ["resnet20", "executorch_int8", "faster", "2.50"],
        ["resnet20", "litert_int8", "faster", "2.00"],
    ]
    told = screen.getvalue()
    assert (
        "! is fails" not in told
        and "Not shown at this width: throughput" in told
        and f"{18 * names} more configurations with --all" in told
    )


def test_every_configuration_that_is_worse_comes_before_one_that_is_better() -> None:
    jobs = [renamed(a_job(), f"n{index:02}") for index in range(40)]
    a = [result for job in jobs for result in results(job, 1.0)]
    b = [result for index, job in enumerate(jobs) for result in results(job, {3: 2.0, 30: 4.0, 5: 0.5}.get(index, 1.0))]
    pairs = compare.pairs_of(a, b, no_samples, no_samples)
    short = comparison.excerpt(pairs)
    assert [row.labels[0] for row in short.rows] == ["n30", "n03", "n05"] and short.more == 37
    assert list(comparison.counts(pairs)) == [
        "B against A: 40 configurations",
        "  latency:     37 ties, 1 faster, 2 slower",
    ]
    some = comparison.excerpt(pairs[:24])
    assert len(some.rows) == 24 and some.more == 0 and some.rows[0].labels[0] == "n03", "few are all shown"


def test_a_summary_says_as_much_as_is_asked_for(tmp_path: Path) -> None:
    a = stored(tmp_path / "a", *results(a_job(), 1.0), once("memory", peak=2**20))
    b = stored(tmp_path / "b", *results(a_job(), 1.3), once("memory", peak=2**21))
    quiet = run_here("compare", a, b, "--quiet").stdout
    assert quiet.splitlines()[1:] == [
        "B against A: 1 configuration",
        "  latency:     1 slower",
        "  memory:      1 larger",
    ]
    everything = run_here("compare", a, b, "--all").stdout
    assert "A → B, MiB" in everything and "A → B, MiB" not in run_here("compare", a, b).stdout
    wrong = run_here("compare", a, b, "--all", "--quiet")
    assert wrong.returncode == 2 and "exclude each other" in wrong.stderr


def test_the_main_columns_of_the_shipped_results_fit_a_terminal_of_100_columns() -> None:
    results, raw = compare._read_results(SHIPPED)
    section = comparison.section(compare.pairs_of(results, results, raw, raw))
    assert len(section.rows) == 23 * trained_names(results)
    parts = list(console._parts(section, 100))
    assert all(Width.get(console.out, console.out.options.update(width=10_000), part).maximum <= 100 for part in parts)
    heads = [[str(column.header).partition("\n")[0] for column in part.columns[3:]] for part in parts]
    assert heads[0] == ["latency", "speed-up", "B is"]
    told = {"memory": "smaller", "size": "smaller", "model load": "speed-up", "first inference": "speed-up"}
    pairs = {title: part[part.index(title) + 1 :][:1] for part in heads for title in part if title in told}
    assert pairs == {title: [ratio] for title, ratio in told.items()}, "a ratio stands beside its numbers"


def test_a_name_of_one_side_alone_is_told_and_takes_no_row() -> None:
    jobs = [renamed(a_job(), f"n{index:02}") for index in range(40)]
    a = [result for job in jobs for result in results(job, 1.0)]
    b = [result for job in jobs[5:] for result in results(job, 2.0 if job is jobs[9] else 1.0)]
    pairs = compare.pairs_of(a, b, no_samples, no_samples)
    short = comparison.excerpt(pairs)
    assert [row.labels[0] for row in short.rows] == ["n09"] and any("Not paired: n00" in note for note in short.notes)
    gated = comparison.excerpt(pairs, 0.05)
    assert {row.labels[0] for row in gated.rows} == {"n00", "n01", "n02", "n03", "n04", "n09"}


HOME_ALONE = Fleet().time(HOME, (ONNX, 0.002))


def on_devices(a: Fleet, b: Fleet) -> list[compare.Pair]:
    return compare.pairs_of(a.results, b.results, a.raw, b.raw)


def told(pairs: list[compare.Pair]) -> list[tuple[str, str | None]]:
    """On which devices, and what the latency is."""
    return [(str(pair.machines), pair.differences["latency.p50"].word) for pair in pairs]


def test_each_device_is_compared_with_itself() -> None:
    a = Fleet().time(HOME, (ONNX, 0.002)).time(PI5, (ONNX, 0.008))
    b = Fleet().time(PI5, (ONNX, 0.004)).time(HOME, (ONNX, 0.004))
    pairs = on_devices(a, b)
    assert told(pairs) == [("home", "slower"), ("pi5", "faster")]
    assert [row.name.partition(":")[0] for row in comparison.excerpt(pairs).rows] == ["home", "pi5"]
    assert comparison.section(pairs).label_titles[0] == "machine"
    assert [*comparison.counts(pairs)] == [
        "B against A: 2 configurations",
        *(
            "  home: 1 configuration",
            "    latency:     1 slower",
            "  pi5: 1 configuration",
            "    latency:     1 faster",
        ),
    ]
    assert not any("Not interleaved" in note for note in comparison.section(pairs).notes)


def test_a_device_that_is_on_one_side_alone_is_missing_or_new() -> None:
    both = Fleet().time(HOME, (ONNX, 0.002)).time(PI5, (ONNX, 0.008))
    assert told(on_devices(both, HOME_ALONE)) == [("home", "tie"), ("pi5", "missing")]
    pairs = on_devices(HOME_ALONE, both)
    assert told(pairs) == [("home", "tie"), ("pi5", "new")]
    assert "pi5 is in B alone." in comparison.excerpt(pairs).notes


def test_two_devices_are_compared_and_that_is_marked_as_not_interleaved() -> None:
    pairs = on_devices(HOME_ALONE, Fleet().time(PI5, (ONNX, 0.008)).time(replace(PI5, name="hall"), (ONNX, 0.001)))
    assert told(pairs) == [("home → pi5", "slower"), ("home → hall", "faster")]
    assert any("B on pi5. Not interleaved" in note for note in comparison.section(pairs).notes)


def test_one_device_alone_is_compared_as_ever() -> None:
    (pair,) = on_devices(HOME_ALONE, Fleet().time(replace(HOME, system="Linux 99"), (ONNX, 0.002)))
    assert pair.machines is None and pair.differences["latency.p50"].word == "tie"


def test_several_other_devices_on_both_sides_are_refused() -> None:
    a = Fleet().time(HOME, (ONNX, 0.002)).time(PI5, (ONNX, 0.008))
    b = Fleet().time(replace(PI5, name="hall"), (ONNX, 0.002)).time(replace(PI5, name="kitchen"), (ONNX, 0.008))
    with pytest.raises(UsageError, match=r"no machine of A \(home, pi5\) is one of B \(hall, kitchen\)"):
        on_devices(a, b)


def test_times_of_an_emulated_processor_are_not_compared() -> None:
    arm = Fleet().time(ARM, (ONNX, 0.1))
    (pair,) = on_devices(HOME_ALONE, arm)
    assert pair.differences["latency.p50"].word == "undecided" and pair.differences["latency.p50"].ratio is None
    assert compare.slower([pair], 0.05), "a gate cannot say that it is not slower"
    (same,) = on_devices(arm, Fleet().time(ARM, (ONNX, 0.5)))
    assert same.differences["latency.p50"].word == "emulated" and not compare.slower([same], 0.05)
    assert "emulated" in comparison.section([same]).notes[-1]


def test_a_gate_names_the_device() -> None:
    a = Fleet().time(HOME, (ONNX, 0.002)).time(PI5, (ONNX, 0.008))
    b = Fleet().time(HOME, (ONNX, 0.002)).time(PI5, (ONNX, 0.016))
    pairs = on_devices(a, b)
    assert "pi5: small onnx on onnxruntime" in str(comparison.refusal(pairs, 0.05))
    assert [row.mark for row in comparison.excerpt(pairs, 0.05).rows] == ["", "!"]
