"""Do others measure the same? Our p50, p90 and peak memory against tools that are not ours, on the same ONNX file.

    pip install -e '.[second-opinion]'
    cifar-deploy run --dataset digits --network resnet8 --format onnx --out runs/opinion
    python benchmarks/second_opinion.py runs/opinion resnet8

- MLPerf's LoadGen (SingleStream) drives the same ONNX Runtime session; ours is the `latency` metric.
- OpenVINO's benchmark_app runs the same file; ours is the `latency` metric through a backend that this file holds. It
  prints the runtime's own clock, ours is from host array to host array: 14 µs more, whatever the network.
- An outside reader polls VmHWM in /proc/PID/status while our worker measures its own memory.

Each round runs all of them once, each in a process of its own, in a fresh order; printed are the medians over rounds, and
the median of the ratios in each round with its interval. Targets on a quiet machine: 3 % at p50, 5 % at p90, 2 % of memory.
"""

import argparse
import random
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cifar_deploy import pipeline
from cifar_deploy.backends import BACKENDS, Backend, openvino
from cifar_deploy.core.arrays import Predict, as_input
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.records import Artifact, Job, Measurement
from cifar_deploy.core.samples import read_raw
from cifar_deploy.core.statistics import Estimate, paired_ratio
from cifar_deploy.core.store import Store
from cifar_deploy.workers import measure, prepare

SECONDS = 2.0
IMAGES = 64


def _load_openvino(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    # A static shape, as benchmark_app gives it.
    data = artifact.checkpoint.training.data
    return openvino.predicting(path, target, threads, shape=[1, 3, data.height, data.width])


OPENVINO = Backend(
    summary="OpenVINO, as benchmark_app runs it",
    reads=("onnx",),
    targets={"cpu": "CPU"},
    requires=("openvino",),
    load=_load_openvino,
)


def ours(store: Store, job: Job) -> tuple[float, float]:
    """Seconds at p50 and p90, by the worker that every latency comes from."""
    measurement = _measured(store, job)
    assert measurement.raw
    samples = read_raw(store.reports, measurement)["samples_ns"]
    store.raw_path(measurement.raw).unlink()
    return float(np.percentile(samples, 50)) / 1e9, float(np.percentile(samples, 90)) / 1e9


def _measured(store: Store, job: Job) -> Measurement:
    return Worker(pool_threads=job.threads).call(
        measure.measure,
        job=job,
        root=store.root,
        data_folder=prepare.folder_of(job.artifact.data),
        stand_in=None,
        raw_name="second-opinion",
        trusted=True,
    )


def benchmark_app(store: Store, job: Job) -> tuple[float, float]:
    """It prints one percentile a run, so it runs twice."""
    return _benchmark_app(store, job, 50), _benchmark_app(store, job, 90)


def _benchmark_app(store: Store, job: Job, percentile: int) -> float:
    data = job.artifact.checkpoint.training.data
    command = [
        str(Path(sys.executable).with_name("benchmark_app")),
        *("-m", str(_model(store, job)), "-shape", f"[1,3,{data.height},{data.width}]"),
        # Without -hint none it sets the threads itself; in its "inference only" mode it leaves the input where it was.
        *("-hint", "none", "-nthreads", "1", "-nstreams", "1", "-api", "sync", "-infer_precision", "f32"),
        *("-inference_only", "False"),
        *("-t", str(round(SECONDS)), "-latency_percentile", str(percentile)),
    ]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(rf"(?:Median|{percentile} percentile):\s+([\d.]+) (us|ms)", shown)
    assert found, shown
    return float(found[1]) * {"us": 1e-6, "ms": 1e-3}[found[2]]


def loadgen(store: Store, job: Job) -> tuple[float, float]:
    """LoadGen in a process of its own: this file again, with the word `loadgen`."""
    folder = prepare.folder_of(job.artifact.data)
    command = [sys.executable, __file__, "loadgen", str(_model(store, job)), str(folder)]
    with tempfile.TemporaryDirectory() as logs:
        subprocess.run([*command, logs], check=True, stdout=subprocess.DEVNULL)
        text = (Path(logs) / "mlperf_log_summary.txt").read_text()
    found = {int(p): int(ns) / 1e9 for p, ns in re.findall(r"(50|90)\.00 percentile latency \(ns\)\s*: (\d+)", text)}
    return found[50], found[90]


def run_loadgen(model: Path, data_folder: Path, logs: Path) -> None:
    import mlperf_loadgen as lg

    # The backend asks nothing of the artifact.
    predict = BACKENDS["onnxruntime"].load(model, None, "CPUExecutionProvider", 1)  # type: ignore[arg-type]
    images = as_input(np.load(data_folder / "test_images.npy")[:IMAGES])[:, np.newaxis]

    def issue(samples: list[Any]) -> None:
        for sample in samples:
            logits = predict(images[sample.index])
            lg.QuerySamplesComplete([lg.QuerySampleResponse(sample.id, logits.ctypes.data, logits.nbytes)])

    settings = lg.TestSettings()
    settings.scenario = lg.TestScenario.SingleStream
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms = settings.max_duration_ms = round(SECONDS * 1000)
    settings.min_query_count = 1
    output = lg.LogSettings()
    output.log_output = lg.LogOutputSettings()
    output.log_output.outdir = str(logs)
    system = lg.ConstructSUT(issue, lambda: None)
    library = lg.ConstructQSL(IMAGES, IMAGES, lambda indices: None, lambda indices: None)
    lg.StartTestWithLogSettings(system, library, settings, output)
    lg.DestroyQSL(library)
    lg.DestroySUT(system)


def memory_inside_and_outside(store: Store, job: Job) -> tuple[float, float]:
    """Peak bytes as the worker says, and as somebody who watches it sees."""
    over, seen = threading.Event(), [0]

    def watch() -> None:
        while not over.wait(0.002):
            for children in Path("/proc/self/task").glob("*/children"):
                for child in children.read_text().split():
                    seen[0] = max(seen[0], _peak(Path("/proc") / child))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        measurement = _measured(store, job)
    finally:
        over.set()
        watching.join()
    return max(measurement.values["peak"], measurement.values["batch"]), seen[0]


def _peak(process: Path) -> int:
    """0 for what is no worker, or not yet one: between fork and exec it has our own peak."""
    try:
        status, command = (process / "status").read_text(), (process / "cmdline").read_bytes()
    except OSError:
        return 0
    if b"cifar_deploy.core.worker" not in command:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def _model(store: Store, job: Job) -> Path:
    return store.artifact_folder(job.artifact.name, "onnx") / "model.onnx"


def _line(what: str, first: dict[int, float], second: dict[int, float], scale: float, unit: str, target: float) -> str:
    medians = [float(np.median(list(each.values()))) * scale for each in (first, second)]
    ratio = paired_ratio(first, second)
    assert isinstance(ratio, Estimate)
    held = "holds" if abs(ratio.value - 1) <= target else "MISSED"
    return (
        f"{what:34}{medians[0]:10.4f} {unit:4}{medians[1]:10.4f} {unit:4}"
        f"{ratio.value:8.3f} [{ratio.low:.3f}, {ratio.high:.3f}]   within {target:.0%}: {held}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="an output folder with an ONNX export")
    parser.add_argument("name", help="the training")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    store = Store(arguments.out)
    conditions = pipeline.Conditions(seconds=SECONDS)

    def job(backend: str, metric: str) -> Job:
        backends, metrics = [backend], [metric]
        (planned,) = pipeline.plan(
            store, [arguments.name], formats=["onnx"], backends=backends, metrics=metrics, conditions=conditions
        )
        return planned.job

    through_ort, through_openvino = job("onnxruntime", "latency"), job("benchmarks.second_opinion:OPENVINO", "latency")
    runs: dict[str, Callable[[], tuple[float, float]]] = {
        "ort ours": lambda: ours(store, through_ort),
        "ort loadgen": lambda: loadgen(store, through_ort),
        "openvino ours": lambda: ours(store, through_openvino),
        "openvino benchmark_app": lambda: benchmark_app(store, through_openvino),
        "memory": lambda: memory_inside_and_outside(store, job("onnxruntime", "memory")),
    }
    found: dict[str, dict[int, tuple[float, float]]] = {name: {} for name in runs}
    for number in range(arguments.rounds):
        for name in random.Random(number).sample(list(runs), len(runs)):
            print(f"round {number + 1}/{arguments.rounds}  {name}", file=sys.stderr)
            found[name][number] = runs[name]()

    def column(name: str, index: int) -> dict[int, float]:
        return {number: values[index] for number, values in found[name].items()}

    print(f"{'':34}{'ours':>14} {'theirs':>14} {'ours / theirs':>8}")
    for index, percentile, target in ((0, "p50", 0.03), (1, "p90", 0.05)):
        for runtime, other in (("ort", "loadgen"), ("openvino", "benchmark_app")):
            pair = column(f"{runtime} ours", index), column(f"{runtime} {other}", index)
            print(_line(f"{percentile}, {other}", *pair, 1e3, "ms", target))
    print(_line("peak memory, read from outside", column("memory", 0), column("memory", 1), 2**-20, "MiB", 0.02))


if __name__ == "__main__":
    if sys.argv[1:2] == ["loadgen"]:
        run_loadgen(*map(Path, sys.argv[2:5]))
    else:
        main()
