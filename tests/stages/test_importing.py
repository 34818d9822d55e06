"""What a device hands over comes in if it is what home knows it to be; all else is refused with its reason."""

import io
import os
import re
import shutil
import stat
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifar_deploy import pipeline
from cifar_deploy.core import untrusted
from cifar_deploy.core.errors import Corrupt
from cifar_deploy.core.journal import Journal, read_lines
from cifar_deploy.core.locks import Lock
from cifar_deploy.core.progress import Progress
from cifar_deploy.core.records import Run
from cifar_deploy.core.store import Store
from cifar_deploy.pipeline import Imported
from cifar_deploy.stages import bundle
from cifar_deploy.stages.rounds import open_session
from tests.conftest import Pack
from tests.in_process import run_here
from tests.lines import WholeLines
from tests.schemas import document_of

DEVICE = "pi-one"
_METRICS = ("accuracy", "latency", "throughput", "file_size", "parity")


@pytest.fixture(scope="session")
def brought(of_all: Path, pack_it: Pack) -> Path:
    """What a pack of the road wrote where it ran: the road's resnet8 as ONNX, on 100 images, in one short round."""
    folder = of_all / "brought"
    with Lock(of_all / "brought.lock", None):
        if not (found := list(folder.glob(f"*{bundle.SUFFIX}"))):
            folder.mkdir()
            metrics = [word for metric in _METRICS for word in ("--metric", metric)]
            short = ["--images", "100", "--rounds", "1", "--seconds", "0.05", "--no-controls"]
            bench = folder / "bench.py"
            done = pack_it("--format", "onnx", "--backend", "onnxruntime", *metrics, *short, "--to", bench)
            assert done.returncode == 0, done.stderr
            ran = subprocess.run(
                [sys.executable, bench, "--as", DEVICE, "--out", folder / "there", "--results", folder],
                capture_output=True,
                text=True,
                timeout=240,
            )
            assert ran.returncode == 0, ran.stderr
            found = list(folder.glob(f"*{bundle.SUFFIX}"))
    return found[0]


@pytest.fixture
def home(road: Path, tmp_path: Path) -> Path:
    """An output folder with the exports that were packed, and results of its own."""
    return Path(shutil.copytree(road, tmp_path / "home"))


@pytest.fixture(scope="module")
def untouched(road: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a folder for what is refused: it leaves nothing."""
    return Path(shutil.copytree(road, tmp_path_factory.mktemp("untouched") / "home"))


@pytest.fixture
def unpacked(brought: Path, tmp_path: Path) -> Path:
    with zipfile.ZipFile(brought) as archive:
        archive.extractall(tmp_path / "unpacked")
    return tmp_path / "unpacked"


def come_in(home: Path, *paths: Path, foreign: bool = False) -> Imported:
    """What is said of the last one."""
    with Store(home) as store:
        return [pipeline.import_results(store, path, foreign=foreign) for path in paths][-1]


def of_device(home: Path) -> list[Run]:
    return [run for run in Store(home).lines().runs if run.job.machine.name]


def rewritten(folder: Path, change: Callable[[Any], object], metric: str = "latency") -> Path:
    """The folder after a change of the lines of a metric, with keys and checksums that fit."""
    lines = WholeLines(folder / "results.jsonl")
    for record in lines.records:
        if record["job"]["metric"] == metric:
            change(record)
    lines.write()
    return folder


def only(folder: Path, metric: str) -> Path:
    """The folder with the lines of one metric."""
    lines = WholeLines(folder / "results.jsonl")
    lines.records = [record for record in lines.records if record["job"]["metric"] == metric]
    lines.write()
    return folder


def with_arrays(folder: Path, metric: str, change: Callable[[dict[str, Any]], object]) -> Path:
    """The folder after a change of a metric's raw file, whose hash is given anew."""

    def again(record: Any) -> None:
        path = folder / "raw" / f"{record['measurement']['raw']}.npz"
        arrays = dict(np.load(path))
        change(arrays)
        np.savez_compressed(path, **arrays)
        record["measurement"]["raw_sha256"] = untrusted.sha256(path)

    return rewritten(folder, again, metric)


def on_another(folder: Path, raw: str = "", **machine: str) -> Path:
    """The folder with the same results of a machine that differs in this, and their raw files under other names."""
    runs = read_lines(folder / "results.jsonl").runs
    jobs = {run.job.key: replace(run.job, machine=replace(run.job.machine, **machine)) for run in runs}
    (folder / "results.jsonl").unlink()
    for run in runs:
        session = run.session and replace(run.session, jobs=tuple(jobs[key].key for key in run.session.jobs))
        measurement = run.measurement
        if measurement and measurement.raw and raw:
            shutil.copy(folder / "raw" / f"{measurement.raw}.npz", folder / "raw" / f"{raw}{measurement.raw}.npz")
            measurement = replace(measurement, raw=f"{raw}{measurement.raw}")
        changed = replace(run, job=jobs[run.job.key], session=session, measurement=measurement)
        Journal(folder / "results.jsonl").append(changed)
    return folder


def put(where: str, value: Any) -> Callable[[Any], None]:
    def change(record: Any) -> None:
        *way, last = where.split(".")
        for name in way:
            record = record[name]
        record[last] = value

    return change


# What comes in


def test_results_of_a_device_come_in_and_importing_them_again_changes_nothing(brought: Path, home: Path) -> None:
    before = Store(home).results_path.read_bytes()
    first = come_in(home, brought)
    assert (first.appended, first.duplicates, first.refused) == (len(_METRICS), 0, {}) and first.is_complete
    assert first.machines[0].startswith(DEVICE) and brought.stem.startswith(f"{DEVICE}-{first.packs[0]}")
    assert first.notes == (f"{DEVICE}: is this machine itself",)
    runs = of_device(home)
    assert {run.job.metric for run in runs} == set(_METRICS)
    assert all(run.imported and not run.foreign for run in runs)
    assert all(Store(home).has_samples(run.measurement) for run in runs if run.measurement and run.measurement.raw)
    once = Store(home).results_path.read_bytes()
    assert once.startswith(before)
    again = come_in(home, brought, brought)
    assert (again.appended, again.duplicates) == (0, len(_METRICS)) and again.is_complete
    assert Store(home).results_path.read_bytes() == once


def test_the_report_says_who_reported_them(brought: Path, home: Path) -> None:
    come_in(home, brought)
    table, _ = pipeline.report(Store(home))
    at_home, of_device = table.devices
    assert "imported" not in at_home.facts and of_device.device == DEVICE
    assert of_device.facts["imported"] == (f"as reported by {DEVICE}",)


@pytest.mark.parametrize("form", ["its output folder", "its reports", "unpacked", "results.jsonl", "zipped again"])
def test_each_form_comes_in(form: str, brought: Path, unpacked: Path, home: Path, tmp_path: Path) -> None:
    again = Path(shutil.make_archive(str(tmp_path / "again"), "zip", unpacked))  # with an entry for the folder raw/
    forms = {
        "its output folder": brought.parent / "there",
        "its reports": brought.parent / "there" / "reports",
        "unpacked": unpacked,
        "results.jsonl": unpacked / "results.jsonl",
        "zipped again": again,
    }
    assert come_in(home, forms[form]).appended == len(_METRICS)


def test_what_was_interrupted_goes_on(brought: Path, home: Path) -> None:
    before = Store(home).results_path.read_bytes()

    def interrupt(latest: Progress) -> None:
        if latest.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Store(home) as store:
        pipeline.import_results(store, brought, on_progress=interrupt)
    assert Store(home).results_path.read_bytes() == before
    assert come_in(home, brought).appended == len(_METRICS)


def test_a_measurement_that_failed_comes_in_with_its_reason(unpacked: Path, home: Path) -> None:
    failure = {"kind": "crashed", "reason": "the worker died", "log": "Segmentation\nfault"}
    rewritten(unpacked, lambda record: record.update(measurement=None, failure=failure))
    assert come_in(home, unpacked).appended == len(_METRICS)
    assert [run.failure.reason for run in of_device(home) if run.failure] == ["the worker died"]


# Artifacts


def test_results_of_other_artifacts_come_in_only_if_they_are_asked_for(brought: Path, tmp_path: Path) -> None:
    refused = come_in(tmp_path / "empty", brought)
    assert refused.appended == 0 and not refused.is_complete
    assert refused.refused == {
        "resnet8 onnx: is not exported here; give the --out that was packed, or add --foreign": len(_METRICS)
    }
    foreign = come_in(tmp_path / "empty", brought, foreign=True)
    assert foreign.appended == len(_METRICS) and all(run.foreign for run in of_device(tmp_path / "empty"))
    assert f"{len(_METRICS)} results of artifacts that are not here: marked as foreign" in foreign.notes
    table, _ = pipeline.report(Store(tmp_path / "empty"))
    assert table.facts["imported"][1] == "artifacts that were not made here: resnet8 onnx"


def test_foreign_results_make_no_artifact_known(brought: Path, unpacked: Path, tmp_path: Path) -> None:
    come_in(tmp_path / "empty", brought, foreign=True)
    rewritten(unpacked, put("started", "2026-11-01T00:00:00+00:00"), "file_size")
    assert set(come_in(tmp_path / "empty", unpacked).refused.values()) == {1}


@pytest.mark.parametrize(
    ("where", "value", "reason"),
    [
        ("job.artifact.files", [], "another export"),
        ("job.artifact.origin.checkpoint.weights.sha256", "0" * 64, "another export"),
        ("job.artifact.origin.checkpoint.curve", [], "comes with another record of its training or export"),
        ("job.artifact.origin.checkpoint.macs", 1, "comes with another record of its training or export"),
        ("job.artifact.choices", {"x": 1}, "comes with another record of its training or export"),
        ("job.artifact.origin.checkpoint.training.name", "../../road", "is not exported here"),
        ("job.artifact.origin.checkpoint.training.name", "other", "is not exported here"),
        ("job.artifact.input", "uint8", "is not exported here"),
    ],
)
def test_an_artifact_that_is_not_homes_is_refused(
    where: str, value: Any, reason: str, unpacked: Path, untouched: Path
) -> None:
    found = come_in(untouched, rewritten(only(unpacked, "file_size"), put(where, value), "file_size"))
    ((told, count),) = found.refused.items()
    assert (found.appended, count) == (0, 1) and reason in told


# Lines


@pytest.mark.parametrize(
    ("where", "value", "reason"),
    [
        ("job.protocol", 3, r"was measured by protocol 3, and this version measures by \d+"),
        ("job.metric", "evil:METRIC", "evil:METRIC"),
        ("measurement.values", {"samples": 5}, "latency lacks p50"),
        ("measurement.values.p50", float("nan"), "nan|NaN"),
        ("measurement.values.p50", -1.0, "p50 -1 is not above 0"),
        ("measurement.values.p50", 1e-9, "p50 is 1e-09, and by its raw samples"),
        ("measurement.values.end_to_end", 1e-9, "end_to_end is 1e-09"),
        ("measurement.values.samples", 10**6, "samples is 1e.06"),
        ("measurement.values", {"p50": 1.0, "samples": 5}, "p50 is 1, and by its raw samples"),
        ("measurement.raw", None, "its raw samples are missing"),
        ("measurement.raw", "nowhere", "raw file cannot be read"),
        ("measurement.raw", "../../road", "is not a plain name"),
        ("measurement.raw_sha256", None, "sha256 differs"),
        ("measurement.raw_sha256", "0" * 64, "sha256 differs"),
        ("session", None, "it was timed, and is of no session"),
        ("failure", {"kind": "failed", "reason": "both"}, "neither or both"),
        ("started", "yesterday", "is not a time in ISO 8601"),
        ("job.machine.host", "x" * 2**20, "host is 1,048,576 characters long"),
        ("job.machine.host", "", "has no host name"),
        ("job.machine.host", "\x1b[2Jpi", r"host holds what cannot be shown: '\\\\x1b\[2Jpi'"),
        ("job.machine.name", "<script>", "cannot name a machine"),
        ("job.machine.name", "..", "cannot name a machine"),
        ("job.machine.board", "\u202egnp.exe", "board holds what cannot be shown"),
        ("job.machine.processor", "x\ny", "processor holds what cannot be shown"),
        ("job.machine.instructions", ["avx2"] * 2000, "is described by"),
        ("job.versions", {"a\x00b": "1"}, "a name holds what cannot be shown"),
        ("job.backend_options", {"x" * 5000: 1}, "5,000 characters long"),
        ("commit", "x" * 5000, "commit is 5,000 characters long"),
        ("measurement.disturbance.power", "\x07", "power holds what cannot be shown"),
    ],
)
def test_a_line_that_does_not_hold_is_refused(
    where: str, value: Any, reason: str, unpacked: Path, untouched: Path
) -> None:
    found = come_in(untouched, rewritten(only(unpacked, "latency"), put(where, value)))
    ((told, count),) = found.refused.items()
    assert (found.appended, count) == (0, 1) and not found.is_complete
    assert re.search(reason, told), told


def test_a_line_that_is_refused_keeps_no_other_out(unpacked: Path, home: Path) -> None:
    found = come_in(home, rewritten(unpacked, put("measurement.values.p50", -1.0)))
    assert (found.appended, found.refused) == (len(_METRICS) - 1, {"latency p50 -1 is not above 0": 1})
    assert {run.job.metric for run in of_device(home)} == {*_METRICS} - {"latency"}


def test_a_name_that_runs_code_imports_nothing(unpacked: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (unpacked.parent / "evil.py").write_text("import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n")
    monkeypatch.chdir(unpacked.parent)
    rewritten(unpacked, put("job.backend", "evil:BACKEND"))
    done = run_here("import", unpacked, "--out", home, cwd=unpacked.parent)
    assert done.returncode == 1 and "evil:BACKEND" in done.stdout
    assert not (unpacked.parent / "ran").exists()


def test_a_line_whose_checksum_differs_is_refused(unpacked: Path, home: Path) -> None:
    path = unpacked / "results.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lines[-1] = lines[-1].replace('"control": false', '"control": true')
    path.write_text("".join(lines))
    assert come_in(home, unpacked).refused == {"is damaged (its checksum differs)": 1}


@pytest.mark.parametrize("metric", ["file_size", "parity"])
def test_what_is_read_from_a_record_has_to_be_what_it_says(metric: str, unpacked: Path, home: Path) -> None:
    rewritten(unpacked, lambda record: record["measurement"]["values"].update({_first(record): 7}), metric)
    assert come_in(home, unpacked).refused == {f"{metric} is not what the record of its artifact says": 1}


def _first(record: Any) -> str:
    return str(next(iter(record["measurement"]["values"])))


# Raw files


@pytest.mark.parametrize(
    ("metric", "change", "reason"),
    [
        ("latency", lambda arrays: arrays.pop("samples_ns"), "its array samples_ns is missing"),
        ("latency", lambda arrays: arrays.update(samples_ns=np.array([], np.int64)), "no list of nanoseconds"),
        ("latency", lambda arrays: arrays.update(samples_ns=np.ones((2, 2), np.int64)), "no list of nanoseconds"),
        ("latency", lambda arrays: arrays.update(samples_ns=np.array([1.0, np.nan])), "holds what is no number"),
        ("latency", lambda arrays: arrays.update(samples_ns=np.array(["1"])), "holds what is no number"),
        ("latency", lambda arrays: arrays.update(samples_ns=np.array([5, -1])), "holds a time of -1 ns"),
        ("latency", lambda arrays: arrays.update(samples_ns=arrays["samples_ns"] // 2 + 1), "by its raw samples"),
        ("throughput", lambda arrays: arrays.update(samples_ns=arrays["samples_ns"] // 2 + 1), "by its raw samples"),
        ("accuracy", lambda arrays: arrays.pop("chosen"), "its array chosen is missing"),
        ("accuracy", lambda arrays: arrays.update(chosen=arrays["chosen"][::-1]), "not those that --limit-test 100"),
        ("accuracy", lambda arrays: arrays.update(predicted=arrays["predicted"][:50]), "no list of 100 whole"),
        ("accuracy", lambda arrays: arrays.update(predicted=arrays["predicted"] + 10), "a class that its data set"),
        ("accuracy", lambda arrays: arrays.update(predicted=arrays["labels"].copy()), "and by its raw samples 1"),
        ("accuracy", lambda arrays: arrays.update(margins=np.full(100, np.nan)), "holds what is no number"),
    ],
)
def test_raw_samples_that_do_not_give_the_numbers_are_refused(
    metric: str, change: Callable[[dict[str, Any]], object], reason: str, unpacked: Path, untouched: Path
) -> None:
    raw = set((untouched / "reports" / "raw").iterdir())
    found = come_in(untouched, with_arrays(only(unpacked, metric), metric, change))
    ((told, count),) = found.refused.items()
    assert (found.appended, count) == (0, 1) and reason in told
    assert set((untouched / "reports" / "raw").iterdir()) == raw, "what was refused has left nothing"


def test_labels_have_to_be_those_of_the_data_set(unpacked: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many are right as before: only home's own labels tell."""

    def swap(arrays: dict[str, Any]) -> None:
        wrong = np.flatnonzero(arrays["labels"] != arrays["predicted"])[0]
        others = set(range(10)) - {int(arrays["labels"][wrong]), int(arrays["predicted"][wrong])}
        arrays["labels"][wrong] = min(others)

    with_arrays(unpacked, "accuracy", swap)
    assert come_in(home, unpacked).refused == {"its labels are not those of its data set": 1}
    monkeypatch.setenv("CIFAR_DEPLOY_CACHE", str(home.parent / "no cache"))
    found = come_in(home, unpacked)
    assert (found.appended, found.refused) == (1, {})
    assert found.notes[-1].startswith("labels of digits: not compared")


def test_a_raw_file_that_is_here_under_the_name_stays_as_it_is(brought: Path, home: Path) -> None:
    with zipfile.ZipFile(brought) as archive:
        name = next(name for name in archive.namelist() if name.startswith("raw/"))
    place = home / "reports" / name
    place.write_bytes(b"mine")
    found = come_in(home, brought)
    assert found.appended == len(_METRICS) - 1 and place.read_bytes() == b"mine"
    assert list(found.refused) == ["its raw file is not the one that it was written with (sha256 differs)"]


def test_two_results_cannot_share_their_samples(unpacked: Path, home: Path) -> None:
    lines = WholeLines(unpacked / "results.jsonl")
    first, second = (record for record in lines.records if record["job"]["metric"] in ("latency", "throughput"))
    second["measurement"] |= {name: first["measurement"][name] for name in ("raw", "raw_sha256")}
    lines.write()
    assert come_in(home, unpacked).refused == {"its raw file is that of another result": 1}


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_raw_file_that_is_no_file_is_refused(kind: str, unpacked: Path, home: Path) -> None:
    path = next((unpacked / "raw").iterdir())
    path.rename(path.with_suffix(".was"))
    {
        "link": lambda: path.symlink_to(path.with_suffix(".was")),
        "pipe": lambda: os.mkfifo(path),
        "folder": lambda: path.mkdir(),
    }[kind]()
    found = come_in(home, unpacked)
    assert found.appended == len(_METRICS) - 1 and len(found.refused) == 1


# Files


def _zip(path: Path, members: Sequence[tuple[zipfile.ZipInfo | str, bytes]], how: int = zipfile.ZIP_DEFLATED) -> Path:
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(path, "w", how) as archive:  # of a name twice
        for name, content in members:
            archive.writestr(name, content)
    return path


def _with_mode(name: str, mode: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.external_attr = mode << 16
    return member


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def _appended(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x" * 100)


def _encrypted(path: Path) -> None:
    content = path.read_bytes()
    listed = content.rfind(b"PK\x01\x02")
    path.write_bytes(content[: listed + 8] + b"\x01" + content[listed + 9 :])


def _bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("raw/bomb.npz", bytes(2**20 + 1))


def _bombs(path: Path) -> None:
    """Many members that are the same bytes of the file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("results.jsonl", b"")
        archive.writestr("raw/a.npz", bytes(2**20))
        for number in range(8):
            member = zipfile.ZipInfo(f"raw/a{number}.npz")
            original = archive.getinfo("raw/a.npz")
            for name in ("header_offset", "file_size", "compress_size", "CRC", "compress_type"):
                setattr(member, name, getattr(original, name))
            archive.filelist.append(member)
    path.write_bytes(buffer.getvalue())


def _many(path: Path) -> None:
    """A list of members that says of itself that it is larger than they need."""
    content = bytearray(path.read_bytes())
    content[-10:-6] = (2**30).to_bytes(4, "little")
    path.write_bytes(content)


def _damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(30)
    path.write_bytes(content)


def _huge(path: Path) -> None:
    with open(path, "ab") as file:
        file.truncate(2**30)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_cut, "is cut off"),
        (_appended, "is cut off, or has something behind its end"),
        (_encrypted, "is encrypted"),
        (_bomb, "'raw/bomb.npz' is 1,048,577 bytes, and at most 1,048,576 are read"),
        (_bombs, "holds 9,437,184 bytes, and at most"),
        (_many, "lists more than"),
        (_damaged, "is damaged|is cut off"),
        (_huge, "is 1,073,741,824 bytes, and at most"),
        (lambda path: _zip(path, []), "holds no results.jsonl"),
        (lambda path: _zip(path, [("results.jsonl", b"")] * 2), "'results.jsonl' is there twice"),
        (lambda path: _zip(path, [("results.jsonl", b""), ("../evil", b"")]), "'../evil' is neither"),
        (lambda path: _zip(path, [("/etc/passwd", b"")]), "'/etc/passwd' is neither"),
        (lambda path: _zip(path, [("raw/../../a.npz", b"")]), "is neither"),
        (lambda path: _zip(path, [("raw/a\n.npz", b"")]), "is neither"),
        (lambda path: _zip(path, [("reports/results.jsonl", b"")]), "is neither"),
        (lambda path: _zip(path, [(_with_mode("results.jsonl", stat.S_IFLNK | 0o777), b"/etc/passwd")]), "no regular"),
        (lambda path: _zip(path, [(_with_mode("results.jsonl", stat.S_IFIFO), b"")]), "is no regular file"),
        (lambda path: _zip(path, [("results.jsonl", b"")], zipfile.ZIP_BZIP2), "is neither stored nor deflated"),
        (lambda path: _zip(path, [("results.jsonl", b"")], zipfile.ZIP_LZMA), "is neither stored nor deflated"),
    ],
)
def test_a_zip_that_no_pack_writes_is_refused_whole(
    damage: Callable[[Path], object],
    reason: str,
    brought: Path,
    untouched: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bundle, "_LARGEST_RAW", 2**20)
    monkeypatch.setattr(bundle, "_LARGEST_FILE", 2**23)
    path = Path(shutil.copy(brought, tmp_path / "given.zip"))
    damage(path)
    before = Store(untouched).results_path.read_bytes(), set((untouched / "reports" / "raw").iterdir())
    with pytest.raises(Corrupt, match=f"given.zip: .*({reason})"):
        come_in(untouched, path)
    assert before == (Store(untouched).results_path.read_bytes(), set((untouched / "reports" / "raw").iterdir()))


@pytest.mark.parametrize("kind", ["pipe", "device", "large", "no results", "link inside"])
def test_a_file_of_another_kind_is_refused(kind: str, untouched: Path, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "large":
        path.touch()
        _huge(path)
    elif kind == "link inside":
        path.symlink_to(Store(untouched).results_path)
    given = tmp_path if kind in ("no results", "link inside") else path
    with pytest.raises(Corrupt, match=r"named pipe|a device|and at most|holds no results\.jsonl|is a link"):
        come_in(untouched, given)


@pytest.mark.parametrize("content", [b"", b"\n", b"hello\n", b"\xff\xfe", b"[" * 10**5, b'{"version": 3}\n'])
def test_a_file_without_results_is_said_to_have_none(content: bytes, untouched: Path, tmp_path: Path) -> None:
    (tmp_path / "some.jsonl").write_bytes(content)
    done = run_here("import", tmp_path / "some.jsonl", "--out", untouched)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "or not at all" in done.stderr
    assert "refused" in done.stdout or "there are no results in it" in done.stdout


# Clocks and devices


def _clock(started: str) -> Callable[[Any], None]:
    def change(record: Any) -> None:
        record["started"] = started
        if record["session"]:
            record["session"]["started"] = started

    return change


@pytest.mark.parametrize("started", ["1970-01-01T00:01:00+00:00", "2067-01-01T00:00:00+00:00"])
def test_a_wrong_clock_is_said_and_makes_no_session_the_newest(started: str, unpacked: Path, home: Path) -> None:
    for metric in _METRICS:
        rewritten(unpacked, _clock(started), metric)
    found = come_in(home, unpacked)
    assert (found.appended, found.refused) == (len(_METRICS), {})
    assert f"{DEVICE}: its clock was wrong: {len(_METRICS)} results began at {started[:19]}" in found.notes
    pipeline.report(Store(home))
    (run,) = (run for run in of_device(home) if run.job.metric == "latency")
    assert run.session and run.imported
    later = (datetime.fromisoformat(run.imported) + timedelta(seconds=1)).isoformat()
    newer = _with_session(run, later)
    assert open_session([run.job], [newer, run], controls=False, force=False)[0] == newer.session


def _with_session(run: Run, started: str) -> Run:
    assert run.session
    return replace(run, session=replace(run.session, started=started), started=started, imported=None)


def test_two_devices_that_look_alike_are_not_mixed(brought: Path, unpacked: Path, home: Path) -> None:
    """A card that was copied: the same machine, and a session of the same start and seed."""
    come_in(home, brought)
    rewritten(unpacked, put("started", "2026-11-27T00:00:00+00:00"))
    found = come_in(home, unpacked)
    ((told, count),) = found.refused.items()
    assert count == 1 and "give two devices that look alike a name each (--as)" in told


def test_two_devices_whose_sessions_have_the_same_seed_come_in(brought: Path, unpacked: Path, home: Path) -> None:
    come_in(home, brought)
    assert come_in(home, on_another(unpacked, name="pi-two")).refused == {"its raw file is that of another result": 3}
    found = come_in(home, on_another(unpacked, name="pi-three", raw="x"))
    assert (found.appended, found.refused) == (len(_METRICS), {})
    assert len({run.session for run in of_device(home) if run.session}) == 2
    assert len({run.session.seed for run in of_device(home) if run.session}) == 1


def test_one_name_of_two_machines_is_said(brought: Path, unpacked: Path, home: Path) -> None:
    come_in(home, brought)
    found = come_in(home, on_another(unpacked, processor="Cortex-A76", raw="x"))
    assert f"{DEVICE}: is the name of 2 machines; name each of its own (--as)" in found.notes


def test_a_result_that_contradicts_one_that_is_here_is_refused(brought: Path, unpacked: Path, home: Path) -> None:
    come_in(home, brought)
    found = come_in(home, rewritten(unpacked, put("measurement.values.load", 1.0)))
    assert found.refused == {"differs from the result here of the same job, round and start": 1}


def test_a_pack_of_somebody_else_is_said(brought: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR_DEPLOY_STATE", str(home.parent / "state of another"))
    found = come_in(home, brought)
    assert found.appended == len(_METRICS) and f"pack {found.packs[0]}: was not made here by you" in found.notes


# The command


def test_the_command_takes_the_good_and_says_what_is_refused(
    brought: Path, unpacked: Path, home: Path, tmp_path: Path
) -> None:
    rewritten(unpacked, put("job.protocol", 1))
    _cut(Path(shutil.copy(brought, tmp_path / "cut.zip")))
    done = run_here("import", unpacked, tmp_path / "cut.zip", brought, brought, "--out", home, "--json")
    assert done.returncode == 1
    document = document_of(done, "import")
    assert [one["appended"] for one in document["imported"]] == [len(_METRICS) - 1, 1, 0]
    assert [one["duplicates"] for one in document["imported"]] == [0, len(_METRICS) - 1, len(_METRICS)]
    assert [Path(one["path"]).name for one in document["failed"]] == ["cut.zip"]
    assert "cut.zip" in done.stderr.splitlines()[-1] and "unpacked" in done.stderr.splitlines()[-1]


def test_the_command_ends_well_if_all_is_here(brought: Path, home: Path) -> None:
    for told in (f"{len(_METRICS)} results\n", f"0 results, {len(_METRICS)} results here before\n"):
        done = run_here("import", brought, "--out", home)
        assert (done.returncode, done.stderr) == (0, "") and told in done.stdout


def test_a_file_that_is_not_there_is_a_wrong_command_line(brought: Path, home: Path, tmp_path: Path) -> None:
    before = Store(home).results_path.read_bytes()
    done = run_here("import", brought, tmp_path / "gone.zip", "--out", home)
    assert done.returncode == 2 and "gone.zip: does not exist" in done.stderr
    assert Store(home).results_path.read_bytes() == before
