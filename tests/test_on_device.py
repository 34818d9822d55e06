"""A pack on a device: a bare Python measures as home does, goes on after an interruption, and says in a line what is wrong."""

import base64
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_deploy import on_device
from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import packs
from cifar_deploy.core.errors import UsageError
from cifar_deploy.core.interpreter import VARIABLE
from cifar_deploy.core.locks import Lock
from cifar_deploy.core.packs import Pack
from cifar_deploy.core.records import Result
from cifar_deploy.core.registry import interpreter_for
from cifar_deploy.core.samples import Samples
from cifar_deploy.core.store import Store
from cifar_deploy.stages.results import fault
from tests import devices, pythons
from tests.conftest import Exported, heed_signals
from tests.devices import Device
from tests.in_process import run_here

# One round of what says most; timed, but not to be believed.
SHORT = ["--metric", "accuracy", "--metric", "latency", "--rounds", "1", "--seconds", "0.05s", "--no-controls"]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return devices.bare_python(tmp_path_factory.mktemp("bare"))


@pytest.fixture
def device(tmp_path: Path, packed: Path, python: Path) -> Device:
    return devices.made(tmp_path / "device", packed, python)


@pytest.fixture
def pack(tmp_path: Path, packed: Path) -> Pack:
    """It, unpacked."""
    text = packed.read_text().partition("\n# content\n")[2]
    with zipfile.ZipFile(io.BytesIO(base64.b64decode("".join(line[2:] for line in text.splitlines())))) as content:
        content.extract("pack/manifest.json", tmp_path / "unpacked")
    return packs.open_(tmp_path / "unpacked")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, packed: Path, python: Path) -> tuple[Device, str, str]:
    """A device that has measured once, and what it printed."""
    device = devices.made(tmp_path_factory.mktemp("measured") / "device", packed, python)
    done = device.run(*SHORT, "--as", "kitchen")
    assert done.returncode == 0, done.stderr
    return device, done.stdout, done.stderr


def results(root: Path, metric: str) -> list[Result]:
    return [result for result in Store(root).results(fault) if result.job.metric == metric and result.measurement]


def only_line(done: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """What a device says that could not begin."""
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1), done.stderr
    assert done.stderr.startswith("bench.py: error: ")
    return done.stderr


def test_a_bare_python_measures_and_answers(measured: tuple[Device, str, str]) -> None:
    device, answer, progress = measured
    assert re.search(r"^resnet8 onnx on onnxruntime \(cpu\), latency: latency \S+ ms", answer, re.M)
    assert "Accuracy not above chance, or over too few images: 1 of 1." in answer, "it was trained on 128 images"
    assert "labels    resnet8 onnx on onnxruntime (cpu): 0 of 64 differ from PyTorch's at home" in answer
    assert re.search(r"^machine   kitchen$", answer, re.M)
    (results,) = device.folder.glob("*.results.zip")
    assert results.name.startswith("kitchen-")
    assert f"results   {results}\n" in answer and f"cifar-deploy import {results.name}\n" in answer
    assert "kitchen, " in progress.splitlines()[0] and "openvino" not in progress, "one runtime is enough"


def test_its_labels_are_those_of_home_image_by_image(measured: tuple[Device, str, str], road: Path) -> None:
    (root,) = measured[0].roots
    (there,) = (result for result in results(root, "accuracy"))
    (here,) = (
        result
        for result in results(road, "accuracy")
        if result.job.artifact.format == "onnx" and result.job.backend == "onnxruntime"
    )
    ours, theirs = (Samples(Path(root) / "reports")(each.measurement) for root, each in ((road, here), (root, there)))  # type: ignore[arg-type]
    for name in ("chosen", "predicted"):
        assert np.array_equal(ours[name], theirs[name]), name
    assert (here.job.limit_test, here.job.artifact.files) == (there.job.limit_test, there.job.artifact.files)
    assert there.runs[0].pack == packs.open_(root).id


def test_what_goes_home_are_the_results_and_what_lies_behind_them(measured: tuple[Device, str, str]) -> None:
    device, *_ = measured
    (path,), (root,) = device.folder.glob("*.results.zip"), device.roots
    with zipfile.ZipFile(path) as bundle:
        assert bundle.read("results.jsonl") == (root / "reports" / "results.jsonl").read_bytes()
        raw = {name for name in bundle.namelist() if name.startswith("raw/")}
    assert raw == {f"raw/{place.name}" for place in (root / "reports" / "raw").iterdir()}


def test_a_second_start_measures_nothing_and_says_so(measured: tuple[Device, str, str]) -> None:
    device, *_ = measured
    (root,) = device.roots
    before = (root / "reports" / "results.jsonl").read_bytes()
    done = device.run(*SHORT, "--as", "kitchen")
    assert done.returncode == 0 and done.stderr.count("(measured before)") == 2
    assert (root / "reports" / "results.jsonl").read_bytes() == before


@pytest.mark.slow
def test_force_measures_again(measured: tuple[Device, str, str]) -> None:
    device, *_ = measured
    done = device.run(*SHORT, "--as", "kitchen", "--force")
    assert done.returncode == 0 and "(measured before)" not in done.stderr


def test_the_help_says_what_can_be_chosen_and_nothing_heavy_is_imported(device: Device) -> None:
    code = (
        "import sys, runpy; sys.argv = ['bench.py', '--help']\n"
        "try: runpy.run_path('bench.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [device.python, "-c", code],
        cwd=device.folder,
        env=device.environment(COLUMNS="80"),
        capture_output=True,
        text=True,
    )
    found = set(done.stderr.split())
    assert "numpy" in found and not found & {"torch", "rich", "typer", "click", "pandas", "psutil", "PIL", "onnx"}
    assert max(map(len, done.stdout.splitlines())) <= 80
    for told in ("Measure resnet8 (onnx) on this machine", "--cpus LIST", "pip install numpy onnxruntime"):
        assert told in done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--rounds", "0"], "--rounds: 0 is not 1 or more"),
        (["--threads", "none"], "--threads: none is not 1 or more"),
        (["--threads", "4096"], "--threads: 4096 is more than the"),
        (["--cpus", "0", "--threads", "2"], "--threads: 2 is more than the 1 processor of --cpus 0; give at most 1"),
        (["--cpus", "5000"], "--cpus: 5000 is not among the processors that this process may use"),
        (["--format", "onnx_int8"], "--format: invalid choice: 'onnx_int8' (choose from"),
        (["--metric", "training_time"], "--metric: invalid choice: 'training_time'"),
        (["--backend", "torch"], "--backend: invalid choice: 'torch'"),
        (["--as", ""], "--as: '' cannot name a machine"),
        (["--results", "nowhere/results.zip"], "--results: nowhere is no folder; make it, or give another place"),
        (["--seconds", "soon"], "--seconds: "),
        (["--speed"], "unrecognized arguments: --speed"),
        (["more"], "unrecognized arguments: more"),
    ],
)
def test_a_wrong_option_is_refused(pack: Pack, words: list[str], told: str) -> None:
    if "--cpus" in words and 0 not in os.sched_getaffinity(0):
        pytest.skip("needs processor 0; this worker of pytest is pinned to another")
    with pytest.raises(UsageError) as refused:
        on_device._parsed(pack, words)
    assert told in str(refused.value).replace("argument ", "") and "\n" not in str(refused.value)


def test_a_refusal_is_a_line(device: Device) -> None:
    assert "'../up' cannot name a machine" in only_line(device.run("--as", "../up"), code=2)


def test_what_was_packed_is_the_default_and_an_option_replaces_it(pack: Pack) -> None:
    settings = replace(pack.manifest.settings, metrics=("latency",), backends=("onnxruntime",), rounds=3)
    packed = replace(pack, manifest=replace(pack.manifest, settings=settings))
    asked = on_device._parsed(packed, [])
    assert (list(asked.metric), list(asked.backend), asked.rounds) == (["latency"], ["onnxruntime"], 3)
    asked = on_device._parsed(packed, ["--metric", "memory", "--backend", "openvino", "--rounds", "4"])
    assert (asked.metric, asked.backend, asked.rounds) == (["memory"], ["openvino"], 4)


# What keeps a device from beginning.


def test_a_cut_or_altered_file_is_refused(device: Device) -> None:
    whole = device.bench.read_bytes()
    at = whole.index(b"\n# content\n")
    for damaged in (whole[:-2000], whole[: at + 11], whole.replace(b"\n# ", b"\n#", 1), _flipped(whole, at + 5000)):
        device.bench.write_bytes(damaged)
        if damaged[:400] == whole[:400]:
            assert "cut or altered (the sha256 differs); copy it here again" in only_line(device.run())
    assert not device.roots, "nothing was unpacked"


def _flipped(whole: bytes, place: int) -> bytes:
    return whole[:place] + (b"B" if whole[place : place + 1] == b"A" else b"A") + whole[place + 1 :]


@pytest.mark.slow
def test_line_ends_of_windows_and_what_lies_beside_the_file_do_no_harm(device: Device) -> None:
    device.bench.write_bytes(device.bench.read_bytes().replace(b"\n", b"\r\n"))
    for name in ("json", "typing", "numpy", "argparse", "cifar_deploy"):
        (device.folder / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    done = device.run(*SHORT[:2], "--no-controls")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_python_is_started_in_any_way(device: Device) -> None:
    for before in (["-P"] if sys.version_info >= (3, 11) else [], ["-O"], ["-W", "error"]):
        done = device.run("--help", before=before)
        assert done.returncode == 0, done.stderr
    linked = device.folder / "linked.py"
    linked.symlink_to(device.bench)
    assert (
        subprocess.run([device.python, linked, "--help"], env=device.environment(), capture_output=True).returncode == 0
    )


def test_numpy_is_missing(device: Device) -> None:
    without = Device(folder=device.folder, python=devices.bare_python(device.folder / "without", packages=()))
    told = only_line(without.run())
    assert "numpy cannot be imported (No module named 'numpy'); run `pip install numpy onnxruntime`" in told
    assert "uv run --script" in told


def test_the_runtime_is_missing(device: Device) -> None:
    without = Device(folder=device.folder, python=devices.bare_python(device.folder / "without", packages=["numpy"]))
    done = without.run()
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("bench.py: error: no runtime is here that reads what is packed: ")
    assert "pip install onnxruntime" in done.stderr and "Traceback" not in done.stderr


def test_a_32_bit_python_is_refused(device: Device) -> None:
    code = "import sys, runpy; sys.maxsize = 2**31 - 1; runpy.run_path('bench.py', run_name='__main__')"
    done = subprocess.run([device.python, "-c", code], cwd=device.folder, capture_output=True, text=True)
    assert "this Python has 32 bits" in only_line(done)


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.7", "3.8", "3.9"])
def test_an_old_python_says_what_is_needed(device: Device, version: str) -> None:
    if not (python := pythons.old().get(version)):
        pytest.skip(f"no Python {version} is here")
    told = only_line(Device(folder=device.folder, python=python).run())
    assert f"Python {version} is too old; run it with Python 3.10 or newer" in told


def test_a_home_that_cannot_be_written_has_a_substitute(device: Device) -> None:
    (device.folder / "file").write_text("")
    done = device.run("--help", HOME=str(device.folder / "file"), TMPDIR=str(device.folder))
    (root,) = device.folder.glob("cifar-deploy-*")
    assert done.returncode == 0 and done.stderr.count("\n") == 1
    assert f"cannot be written (Not a directory); {root} is used instead" in done.stderr
    assert root.stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
def test_there_is_no_space(device: Device) -> None:
    told = only_line(device.run(largest_file=20_000))
    assert "cannot be written (File too large); give another folder with --out" in told
    assert not [path for root in device.roots for path in root.rglob("*.part")]
    assert device.run("--help").returncode == 0, "there is space again"


def test_out_is_a_file_or_holds_other_files(device: Device) -> None:
    (device.folder / "file").write_text("")
    assert "file cannot be written (" in only_line(device.run("--out", "file"))
    own = device.folder / "own" / "exported" / "resnet8" / "artifact.json"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    assert "holds other files; give --out a new folder" in only_line(device.run("--out=own"))
    assert own.read_text() == "mine"


def test_what_was_altered_after_unpacking_is_mended_by_the_next_start(device: Device) -> None:
    assert device.run("--help").returncode == 0
    (root,) = device.roots
    pack = packs.open_(root)
    for name in (packs.MANIFEST, "cifar_deploy/on_device.py"):
        (root / packs.FOLDER / name).write_text("")
    (image,) = (root / packs.FOLDER).rglob("test_images.npy")
    image.unlink()
    assert device.run("--help").returncode == 0
    pack.check()


@pytest.mark.slow
def test_a_clock_of_1970_is_said_and_stops_nothing(device: Device) -> None:
    (device.folder / "sitecustomize.py").write_text("")
    start = device.folder / "in_1970.py"
    start.write_text(
        textwrap.dedent(
            """
            import datetime, os, runpy, sys, time
            now = time.time
            time.time = lambda: now() - 1.7e9
            sys.argv = ["bench.py", *sys.argv[1:]]
            root, started = sys.argv[sys.argv.index("--out") + 1], now()
            runpy.run_path("bench.py", run_name="__main__")
            """
        )
    )
    # The files' own times, too: a zip knows of none before 1980.
    prepared = device.run("--help", "--out", "out")
    assert prepared.returncode == 0
    clocked = device.folder / "clocked"
    done = subprocess.run(
        [device.python, start, *SHORT[:2], "--no-controls", "--out", "out", "--results", clocked],
        cwd=device.folder,
        env=device.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "bench.py: this machine's clock says " in done.stderr
    results_path = device.folder / "out" / "reports" / "results.jsonl"
    os.utime(results_path, (0, 0))
    again = device.run(*SHORT[:2], "--no-controls", "--out", "out", "--results", "again.zip")
    assert again.returncode == 0 and (device.folder / "again.zip").exists(), again.stderr


def test_an_internal_error_is_a_line_and_its_traceback_is_in_the_log(tmp_path: Path) -> None:
    code = "from cifar_deploy import on_device; on_device.run = lambda *given: 1 / 0; on_device.main('.')"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "internal error, please report; details in log.txt" in only_line(done)
    assert "ZeroDivisionError" in (tmp_path / "log.txt").read_text()


# What takes longer.


@pytest.mark.slow
def test_ctrl_c_ends_it_in_a_line_and_the_next_start_goes_on(device: Device) -> None:
    words = ["--metric", "latency", "--rounds", "6", "--seconds", "0.2s", "--no-controls"]
    process = device.start(*words, preexec_fn=heed_signals)
    _wait_for_lines(device, process, 2)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert told.splitlines()[-1] == "bench.py: interrupted; run it again to go on" and "Traceback" not in told
    _goes_on(device, words)


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_with_what_is_missing(device: Device) -> None:
    words = ["--metric", "latency", "--rounds", "6", "--seconds", "0.2s", "--no-controls"]
    process = device.start(*words)
    _wait_for_lines(device, process, 2)
    process.kill()
    process.communicate(timeout=30)
    _goes_on(device, words)


def _rounds(device: Device) -> list[int]:
    lines = [json.loads(line) for root in device.roots for line in _lines(root)]
    return [line["round"] for line in lines if line.get("kind") == "run"]


def _lines(root: Path) -> list[str]:
    path = root / "reports" / "results.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def _wait_for_lines(device: Device, process: subprocess.Popen[str], count: int) -> None:
    deadline = time.monotonic() + 60
    while len(_rounds(device)) < count:
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()
        time.sleep(0.05)


def _goes_on(device: Device, words: list[str]) -> None:
    before = _rounds(device)
    time.sleep(1)  # until the worker of the one that was killed has let go of the lock
    done = device.run(*words)
    assert done.returncode == 0, done.stderr
    assert sorted(_rounds(device)) == list(range(6)), f"each round once; before: {before}"


@pytest.mark.slow
@pytest.mark.parametrize("version", [f"3.{minor}" for minor in pythons.MINORS])
def test_it_runs_on_every_python(tmp_path: Path, packed: Path, version: str) -> None:
    python = sys.executable if sys.version.startswith(f"{version}.") else pythons.others().get(version)
    if not python:
        pytest.skip(f"no Python {version} is here")
    subprocess.run([python, "-m", "venv", tmp_path / "venv"], check=True)
    own = tmp_path / "venv" / "bin" / "python"
    install = [own, "-m", "pip", "install", "--quiet", "numpy", "onnxruntime"]
    if subprocess.run(install, capture_output=True).returncode:
        pytest.skip(f"numpy and onnxruntime cannot be installed for Python {version}")
    device = devices.made(tmp_path / "device", packed, own)
    done = device.run(*SHORT)
    assert done.returncode == 0 and "0 of 64 differ from PyTorch's at home" in done.stdout, done.stderr


@pytest.mark.slow
def test_uv_fetches_what_it_needs(device: Device) -> None:
    if not (uv := shutil.which("uv")):
        pytest.skip("uv is not here")
    done = subprocess.run(
        [uv, "run", "--script", device.bench, *SHORT],
        cwd=device.folder,
        env={name: value for name, value in device.environment().items() if name != VARIABLE},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "0 of 64 differ from PyTorch's at home" in done.stdout, done.stderr


@pytest.mark.slow
def test_a_runtime_that_answers_otherwise_there_is_found_out(device: Device, python: Path) -> None:
    """A failure with its reason: no latency of a wrong answer."""
    wrong = device.folder / "wrong.py"
    wrong.write_text(
        textwrap.dedent(
            """
            import runpy, sys
            import onnxruntime
            run = onnxruntime.InferenceSession.run
            onnxruntime.InferenceSession.run = lambda *given, **named: [-each for each in run(*given, **named)]
            words = [word for word in sys.argv[1:] if word != "-P"]
            sys.argv = words[words[0] == "-m" :]
            if words[0] == "-m":
                del sys.path[0]
                runpy.run_module(words[1], run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(words[0], run_name="__main__")
            """
        )
    )
    script = device.folder / "python"
    script.write_text(f'#!/bin/sh\nexec "{python}" "{wrong}" "$@"\n')
    script.chmod(0o755)
    done = Device(folder=device.folder, python=script).run(*SHORT)
    assert done.returncode == 1 and "wrong output" in done.stdout + done.stderr, done.stderr
    assert "Traceback" not in done.stderr and "Ship" not in done.stdout
    (root,) = device.roots
    assert not [result for result in Store(root).results(fault) if result.measurement and result.session]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "backend"),
    [
        ("onnx_int8", "onnxruntime"),
        ("onnx-uint8", "onnxruntime"),
        ("openvino_ir", "openvino"),
        ("ncnn", "ncnn"),
        ("litert", "litert"),
        ("executorch", "executorch"),
    ],
)
def test_every_portable_format_runs_from_a_pack(
    tmp_path: Path, exported: Exported, of_all: Path, workers_here: None, variant: str, backend: str
) -> None:
    exported(variant)
    bench = tmp_path / "bench.py"
    with Lock(of_all / "exported.lock", None):  # another worker of the tests may export there
        done = run_here("pack", "--format", variant, "--images", "32", "--to", bench, "--out", of_all / "exported")
    assert done.returncode == 0, done.stderr
    own = interpreter_for(BACKENDS[backend])  # of its environment, if it has one
    script = tmp_path / "python"
    script.write_text(
        f'#!/bin/sh\nexport PYTHONPATH="${{PYTHONPATH:+$PYTHONPATH:}}{os.pathsep.join(own.path[1:])}"\nexec "{own.python}" "$@"\n'
    )
    script.chmod(0o755)
    device = devices.made(tmp_path / "device", bench, script)
    done = device.run(*SHORT, "--backend", backend)
    assert done.returncode == 0, done.stderr
    assert f"resnet8 {variant} on {backend} (cpu): 0 of 32 differ" in done.stdout or "int8" in variant, done.stdout


@pytest.mark.slow
def test_a_network_of_the_users_own_and_other_data_travel(tmp_path: Path) -> None:
    """Its code stays at home: the artifact is all that is needed."""
    out, own = tmp_path / "out", "tests.own_networks:views"
    folder = tmp_path / "colours"
    _write_images(folder)
    for data, name in (
        (["--dataset", "digits"], "digits"),
        (["--dataset", "image_folder", "--data-dir", folder], "own"),
    ):
        done = run_here("train", own, "--name", name, *data, "--epochs", "1", "--limit-train", "64", "--out", out)
        assert done.returncode == 0, done.stderr
    done = run_here("export", "--format", "onnx", "--out", out)
    assert done.returncode == 0, done.stderr
    done = run_here("pack", "--images", "20", "--to", tmp_path / "bench.py", "--out", out)
    assert done.returncode == 0 and "digits" in done.stdout and "own" in done.stdout, done.stderr
    device = devices.made(tmp_path / "device", tmp_path / "bench.py", devices.bare_python(tmp_path / "bare"))
    done = device.run(*SHORT)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^labels    digits onnx on onnxruntime \(cpu\): 0 of 20 differ", done.stdout, re.M)
    assert re.search(r"^labels    own onnx on onnxruntime \(cpu\): 0 of \d+ differ", done.stdout, re.M)


def _write_images(folder: Path) -> None:
    """Two classes of plain colours, 32×32."""
    random = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 12)):
        for name, colour in (("red", (200, 20, 20)), ("blue", (20, 20, 200))):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                noise = random.integers(0, 40, (32, 32, 3))
                image = Image.fromarray((np.array(colour) + noise).astype(np.uint8))
                image.save(folder / split / name / f"{number}.png")
