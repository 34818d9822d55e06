"""A results file says a thing once, survives crashes and joins, and tells of each line that it cannot read."""

import json
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from cifar_deploy.core import sealing, untrusted
from cifar_deploy.core.errors import Unwritable
from cifar_deploy.core.journal import POOLED, Journal, grouped, read_lines
from cifar_deploy.core.records import Failure, Run
from cifar_deploy.core.store import Store
from tests.probes import a_checkpoint, a_job, a_run, a_session

DATA = Path(__file__).parents[1] / "data"


def records(path: Path) -> list[dict[str, Any]]:
    return [sealing.opened(json.loads(line)) for line in path.read_text().splitlines()]


def write(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(sealing.sealed(record)) + "\n" for record in records))


def kinds(path: Path) -> list[str]:
    return [record["kind"] for record in records(path)]


def blocks_of(path: Path) -> list[Run]:
    """Of a file that is whole."""
    lines = read_lines(path)
    assert not lines.told()
    return list(lines.runs)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A results file of three runs; on lines 1 to 4 is what they have in common, on 5, 6 and 7 are they."""
    job = a_job()
    runs = [a_run(job=job, session=a_session(job), round=round) for round in range(3)]
    Journal(tmp_path / "results.jsonl").append(*runs)
    assert blocks_of(tmp_path / "results.jsonl") == runs
    return tmp_path / "results.jsonl"


def test_results_come_back_in_the_order_they_were_added(tmp_path: Path) -> None:
    runs = [a_run("latency"), a_run("memory")]
    with Store(tmp_path) as store:
        for run in runs:
            store.append(run)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Store(tmp_path).runs() == runs


def test_no_results_yet_is_an_empty_list(tmp_path: Path) -> None:
    assert not Store(tmp_path).runs()


def test_a_torn_last_line_is_skipped_and_cut_by_the_next_result(tmp_path: Path) -> None:
    first, second = a_run("latency"), a_run("memory")
    with Store(tmp_path) as store:
        store.append(first)
        *_, line = store.results_path.read_bytes().splitlines()
        with open(store.results_path, "ab") as file:
            file.write(line[: len(line) // 2])
        with pytest.warns(UserWarning, match="line 5 left out"):
            assert store.runs() == [first]
        store.append(second)
        assert kinds(store.results_path) == ["machine", "checkpoint", "artifact", "run", "run"]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert store.runs() == [first, second]


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'"text"',
        b'{"version": 2}',
        b'{"version": "x"}',
        b'{"version": 3}',
        b'{"version": 0}',
        b'{"version": 3, "kind": 5}',
        b'{"version": 3, "kind": "cat"}',
        b'{"version": 3, "kind": "machine"}',
        b'{"version": 3, "kind": "machine", "key": []}',
    ],
    ids=repr,
)
def test_a_line_of_garbage_is_skipped_and_named(tmp_path: Path, line: bytes) -> None:
    run = a_run()
    with Store(tmp_path) as store:
        store.append(run)
        with open(store.results_path, "ab") as file:
            file.write(line + b"\n")
        store.append(run)
        with pytest.warns(UserWarning, match=r"results\.jsonl: line 5 left out"):
            assert store.runs() == [run, run]


def test_what_blocks_have_in_common_is_written_once_and_read_as_the_same_object(path: Path) -> None:
    assert kinds(path) == ["machine", "checkpoint", "artifact", "session", "run", "run", "run"]
    first, *others = read_lines(path).runs
    for other in others:
        assert other.job.artifact is first.job.artifact and other.session is first.session
        assert other.job.machine is first.job.machine is first.job.artifact.checkpoint.machine


def test_another_process_goes_on_without_writing_it_again(path: Path) -> None:
    before = path.read_text()
    Journal(path).append(a_run("memory"))
    assert path.read_text().startswith(before) and kinds(path)[7:] == ["run"]


def test_a_line_has_no_field_that_a_record_has_too() -> None:
    own = {"integrity", "version", "kind", "key", "checksum"}
    for kind in (*POOLED.values(), Run):
        assert not own & {field.name for field in fields(kind)}


def test_an_artifact_whose_first_block_was_never_written_is_neither_told_nor_written_again(path: Path) -> None:
    last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(last[:4]) + last[4][:100])  # killed in the middle of a write
    Journal(path).append(a_run("memory"))
    assert kinds(path) == ["machine", "checkpoint", "artifact", "session", "run"]
    assert blocks_of(path) == [a_run("memory")]


@pytest.mark.parametrize("size", range(0, 4000, 97))
def test_wherever_a_write_was_torn_the_next_one_mends_it(size: int, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    Journal(path).append(a_run("latency"))
    path.write_bytes(path.read_bytes()[:size])
    Journal(path).append(a_run("memory"))
    assert blocks_of(path)[-1] == a_run("memory") and kinds(path).count("artifact") == 1


def test_a_block_and_what_it_brings_are_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    Journal(tmp_path / "x").append(a_run())
    assert synced == [(tmp_path / "x").stat().st_size]


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_blocks_that_refer_to_a_damaged_line_are_left_out_with_a_reason(number: int, path: Path) -> None:
    lines = path.read_text().splitlines()
    lines[number - 1] = lines[number - 1].replace('": "', '": "x', 3)
    path.write_text("\n".join(lines) + "\n")
    read = read_lines(path)
    assert not read.runs and {number, 5, 6, 7} <= read.left_out.keys()
    assert "is damaged" in read.left_out[number]
    assert len({read.left_out[run] for run in (5, 6, 7)}) == 1
    assert "which is on no line that can be read" in read.left_out[7]
    assert any(told.startswith("lines 5, 6, 7 left out: Run.") for told in read.told())


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_so_are_those_that_refer_to_a_line_that_is_gone(number: int, path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: number - 1] + lines[number:]))
    assert not read_lines(path).runs and {4, 5, 6} <= read_lines(path).left_out.keys()


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_the_next_block_brings_again_what_was_damaged_and_so_mends_the_others(number: int, path: Path) -> None:
    whole = blocks_of(path)
    lines = path.read_text().splitlines()
    lines[number - 1] = lines[number - 1][:50]
    path.write_text("\n".join(lines) + "\n")
    journal = Journal(path)
    assert not journal.lines().runs
    journal.append(a_run(job=whole[0].job, session=whole[0].session, round=3))
    for read in (journal.lines(), read_lines(path)):
        assert list(read.runs[:3]) == whole and len(read.runs) == 4 and list(read.left_out) == [number]


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"key": "0" * 16}, {"key": None}], ids=str)
def test_a_key_that_is_not_that_of_its_line_is_told_and_nothing_is_taken_for_it(
    change: dict[str, Any], path: Path
) -> None:
    whole, found = blocks_of(path), records(path)
    write(path, [{**found[0], **change}, *found])
    lines = read_lines(path)
    assert list(lines.runs) == whole and list(lines.left_out) == [1] and "its key" in lines.left_out[1]
    write(path, [{**found[0], **change}, *found[1:]])
    assert not read_lines(path).runs


@pytest.mark.parametrize(
    "ref", ["0" * 16, "", "x" * 10_000, 5, None, [], {}, {"ref": "x"}, "\x1b[31m"], ids=lambda ref: str(ref)[:20]
)
@pytest.mark.parametrize("place", ["artifact", "machine"])
def test_a_reference_to_nothing_leaves_its_line_out(place: str, ref: Any, path: Path) -> None:
    found = records(path)
    found[5]["job"][place] = {"ref": ref}
    write(path, found)
    lines = read_lines(path)
    assert len(lines.runs) == 2 and list(lines.left_out) == [6] and len(lines.left_out[6]) < 200


def test_a_reference_to_a_thing_of_another_kind_leads_nowhere(path: Path) -> None:
    found = records(path)
    found[5]["job"]["machine"] = found[5]["job"]["artifact"]
    write(path, found)
    assert list(read_lines(path).left_out) == [6]


def test_a_thing_that_is_none_of_its_kind_is_told_at_its_own_line(path: Path) -> None:
    found = records(path)
    odd = {"host": "x"}
    found.append({"version": 3, "kind": "machine", "key": sealing.digest(odd)[:16], **odd})
    write(path, found)
    lines = read_lines(path)
    assert len(lines.runs) == 3 and lines.left_out.keys() == {8} and "Machine: lacks" in lines.left_out[8]


def joined(first: bytes, second: bytes) -> bytes:
    return first + second


def reversed_lines(first: bytes, second: bytes) -> bytes:
    return b"".join(reversed((first + second).splitlines(keepends=True)))


def without_the_first_things(first: bytes, second: bytes) -> bytes:
    return b"".join((first + second).splitlines(keepends=True)[4:])


@pytest.mark.parametrize("join", [joined, reversed_lines, without_the_first_things])
def test_files_that_were_joined_are_read_in_whatever_order(
    join: Callable[[bytes, bytes], bytes], path: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.jsonl"
    job = a_job(format="onnx")
    Journal(other).append(*(a_run(job=each, session=a_session(a_job())) for each in (job, a_job("memory"), a_job())))
    whole = [*blocks_of(path), *blocks_of(other)]
    path.write_bytes(join(path.read_bytes(), other.read_bytes()))
    assert sorted(map(repr, blocks_of(path))) == sorted(map(repr, whole))
    Journal(path).append(a_run(job=job))
    assert kinds(path)[-1] == "run" and kinds(path)[-2] != "artifact", "nothing is written a second time"


# Read once


def test_a_command_reads_the_file_once_and_finds_what_it_has_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [a_run(round=round) for round in range(4)]
    with Store(tmp_path) as store:
        store.append(runs[0])
    reads: list[Path] = []
    read_bytes = untrusted.read_bytes
    monkeypatch.setattr(untrusted, "read_bytes", lambda path, most: reads.append(path) or read_bytes(path, most))
    with Store(tmp_path) as store:
        for number, run in enumerate(runs[1:], start=2):
            store.append(run)
            assert store.runs() == runs[:number]
        assert reads == [store.results_path]
    assert Store(tmp_path).runs() == runs and len(reads) == 2


def test_a_file_that_somebody_else_has_changed_is_read_again(path: Path) -> None:
    journal = Journal(path)
    assert len(journal.lines().runs) == 3
    Journal(path).append(a_run("memory"))
    assert len(journal.lines().runs) == 4
    path.unlink()
    assert not journal.lines().runs
    journal.append(a_run())
    assert kinds(path) == ["machine", "checkpoint", "artifact", "run"]


def test_what_a_full_disk_has_cut_is_not_taken_for_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, whole = Journal(path), blocks_of(path)
    kept.lines()
    new = a_run(job=replace(a_job("memory"), machine=replace(a_checkpoint().machine, host="other")))

    def fail(descriptor: int) -> None:
        os.truncate(descriptor, os.fstat(descriptor).st_size - 100)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(Unwritable, match="No space"):
            kept.append(new)
    kept.append(new)
    assert blocks_of(path) == [*whole, new] == list(kept.lines().runs)
    assert kinds(path)[-2:] == ["machine", "run"]


# Other versions


def test_a_line_of_a_newer_version_is_read_as_far_as_it_is_known(path: Path) -> None:
    found, whole = records(path), blocks_of(path)
    found[5] |= {"version": 99, "mood": "good"}
    found[5]["measurement"]["colour"] = "red"
    write(path, found)
    lines = read_lines(path)
    assert list(lines.runs) == whole and not lines.left_out
    (told,) = lines.told()
    assert told.startswith("line 6: was written by a newer cifar-deploy (version 99, not 3); ")
    assert told.endswith("set aside: Run.mood, Measurement.colour")


def test_a_line_of_a_newer_version_that_cannot_be_read_is_left_out_and_says_why(path: Path) -> None:
    found = records(path)
    found[5] = {"version": 99, "kind": "run", "jobs": []}
    found.append({"version": 99, "kind": "cat", "name": "Tom"})
    write(path, found)
    lines = read_lines(path)
    assert len(lines.runs) == 2 and list(lines.left_out) == [6, 8]
    assert all(reason.startswith("was written by a newer") for reason in lines.left_out.values())


def test_unknown_fields_are_told_once_whatever_number_of_lines_has_them(path: Path) -> None:
    found, whole = records(path), blocks_of(path)
    for record in found[4:]:
        record["mood"] = "good"
    write(path, found)
    assert list(read_lines(path).runs) == whole
    (told,) = read_lines(path).told()
    assert told.startswith("lines 5, 6, 7: ") and "Run.mood" in told


def test_an_unknown_field_of_what_is_referred_to_is_told_at_its_line_wherever_that_is(path: Path) -> None:
    machine, *others = records(path)
    del machine["key"]
    fields = {name: value for name, value in machine.items() if name not in ("version", "kind")} | {"mood": "good"}
    key = sealing.digest(fields)[:16]
    for record in others:
        if record["kind"] == "run":
            record["job"]["machine"] = {"ref": key}
    new = {"version": 3, "kind": "machine", "key": key, **fields}
    for order in ([new, machine | {"key": "x"}, *others], [*others, machine | {"key": "x"}, new]):
        write(path, order)
        assert [told for told in read_lines(path).told() if "Machine.mood" in told]


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("version", [1, 2])
def test_a_file_of_an_earlier_version_is_read(version: int, sealed: bool, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    found = [json.loads(line) for line in (DATA / f"results-{version}.jsonl").read_text().splitlines()]
    path.write_text("".join(json.dumps(sealing.sealed(line) if sealed else line) + "\n" for line in found))
    runs = blocks_of(path)
    assert len(runs) == len(found)
    for run, line in zip(runs, found, strict=True):
        assert run.started == line["started"] and run.job.metric == line["job"]["metric"]
        if line["reading"]:
            assert run.measurement and run.measurement.values == line["reading"]["values"]
        else:
            assert run.failure and run.failure.reason == line["failure"]["reason"]
        if run.session and not run.control:
            assert run.job.key in run.session.jobs


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_of_an_earlier_version_goes_on_in_this_one_and_shrinks_when_it_is_written_anew(
    version: int, tmp_path: Path
) -> None:
    path, anew = tmp_path / "results.jsonl", tmp_path / "anew.jsonl"
    old = (DATA / f"results-{version}.jsonl").read_bytes()
    path.write_bytes(old)
    earlier = blocks_of(path)
    Journal(path).append(*earlier)
    assert path.read_bytes().startswith(old) and blocks_of(path) == [*earlier, *earlier]
    Journal(anew).append(*earlier)
    assert blocks_of(anew) == earlier and anew.stat().st_size < len(old)


def test_what_earlier_lines_repeat_is_one_object() -> None:
    runs = blocks_of(DATA / "results-2.jsonl")
    checkpoints = [checkpoint for run in runs if (checkpoint := run.job.artifact.checkpoint)]
    networks = {checkpoint.weights.sha256 for checkpoint in checkpoints}
    assert len({id(checkpoint) for checkpoint in checkpoints}) == len(networks) > 1
    assert len({id(run.job.machine) for run in runs}) == 1


def test_lines_that_are_of_no_version_are_left_out_with_one_reason(path: Path) -> None:
    path.write_text('{"version": 1, "job": {}}\n' * 3 + path.read_text())
    lines = read_lines(path)
    assert len(lines.runs) == 3
    (told,) = lines.told()
    assert told.startswith("lines 1, 2, 3 left out: is not a run of version 2 ")


@pytest.mark.parametrize("kind", ["run", "machine"])
def test_a_line_is_left_out_however_deeply_it_is_nested(kind: str, path: Path) -> None:
    whole = path.read_text()
    depths = (10, 500, *range(sys.getrecursionlimit() - 120, sys.getrecursionlimit() + 10))
    deep = ("[" * depth + "]" * depth for depth in depths)
    odd = [
        f'{{{start}"version": 3, "kind": "{kind}", "key": "x", "job": {{"artifact": {value}}}, "checksum": "x"}}'
        for value in deep
        for start in ('"integrity": "sha256", ', "")
    ]
    path.write_text(whole + "\n".join(odd) + "\n")
    assert len(read_lines(path).left_out) == len(odd) and len(read_lines(path).runs) == 3


# What runs say together


def test_blocks_of_a_session_are_one_result_and_a_repeated_round_replaces_the_first() -> None:
    latency, memory = a_job("latency"), a_job("memory")
    one, other = a_session(latency), replace(a_session(latency), seed=2)
    runs = [
        a_run(job=memory),
        a_run(job=latency, session=other, round=0),
        a_run(job=latency, session=one, round=1, value=5.0),
        a_run(job=latency, session=one, round=0, failure=Failure(kind="crashed", reason="died")),
        a_run(job=latency, session=one, round=0, control=True),
        a_run(job=latency, session=one, round=0, value=4.0),
    ]
    results = grouped(runs)
    assert [(result.job.metric, len(result.runs), result.control) for result in results] == [
        ("memory", 1, False),
        ("latency", 1, False),
        ("latency", 1, True),
        ("latency", 2, False),
    ]
    assert results[-1].rounds("p50") == {0: 4.0, 1: 5.0} and results[-1].failure is None


def test_a_round_that_failed_is_the_results_failure() -> None:
    failure = Failure(kind="crashed", reason="died")
    session = a_session(a_job())
    (result,) = grouped([a_run(session=session), a_run(session=session, round=1, failure=failure)])
    assert result.failure == failure
