"""Does the program measure right on this machine? It measures what is known, the whole way that everything is measured.

Each check says what must come out and within what tolerance. A check of time that fails while the machine is disturbed
is inconclusive: neither the program nor the machine is proved wrong. Everything happens in a folder of its own, with a
cache of its own, and is deleted at the end.
"""

import contextlib
import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cifar_deploy import pipeline
from cifar_deploy.backends import BACKENDS
from cifar_deploy.backends.synthetic import BUSY_MS, HELD_BYTES
from cifar_deploy.core import files, statistics
from cifar_deploy.core.errors import DeployError
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.progress import OnProgress, Progress
from cifar_deploy.core.records import Artifact, Baseline, File, Result
from cifar_deploy.core.store import WEIGHTS, Store, as_artifact, described
from cifar_deploy.datasets.synthetic import FLIPPED, IMAGES
from cifar_deploy.metrics.summary import Summary, against_itself, compared_by
from cifar_deploy.stages import plan
from cifar_deploy.stages.export import why_invalid
from cifar_deploy.stages.rounds import Sampling
from cifar_deploy.workers import export

_BACKEND = "cifar_deploy.backends.synthetic:"
_DATASET = "cifar_deploy.datasets.synthetic:"

_ROUNDS = statistics.ROUNDS_FOR_AN_INTERVAL
_SECONDS = 0.1
_TIME_TOLERANCE = 0.05  # above what is known; below it, a busy wait cannot be
_MEMORY_TOLERANCE_BYTES = 4 * 2**20
_HANG_S = 3.0
_ITSELF = 0.01  # what one wait may differ from the same wait


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was found. `expected` states the tolerance."""

    name: str
    outcome: Literal["ok", "failed", "inconclusive"]
    expected: str
    found: str


class Bench:
    """A store with artifacts that backends.synthetic answer for, one for each of the two data sets."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "out")
        self.artifacts: dict[str, Artifact] = {}

    def place(self, name: str, dataset: str) -> pipeline.Prepared:
        """An artifact under this name, whose file no backend of the self-test reads."""
        prepared = pipeline.prepare(_DATASET + dataset)
        wanted = Baseline(network="known", data=prepared.data, weights=File(name=WEIGHTS, bytes=0, sha256=""))
        with files.staging(self.store.folder_of(as_artifact(wanted))) as staged:
            (staged / WEIGHTS).write_bytes(b"not read by any backend of the self-test")
            self.artifacts[name] = as_artifact(dataclasses.replace(wanted, weights=described(staged / WEIGHTS)))
            self.store.save_artifact(self.artifacts[name], staged)
        return prepared

    def measure(
        self,
        backends: Sequence[str],
        metric: str,
        *,
        name: str = "right",
        rounds: int = _ROUNDS,
        timeout_s: float = 60.0,
        may_fail: bool = False,
    ) -> dict[str, Result]:
        """By backend; `control` beside them if the metric is timed. Raises DeployError if one fails and may not."""
        with self.store as store:
            planned = plan.jobs(
                [self.artifacts[name]],
                [BACKENDS.given(_BACKEND + backend) for backend in backends],
                ["cpu"],
                [metric],
                pipeline.Conditions(seconds=_SECONDS),
            )
            settings = pipeline.EvaluationSettings(
                sampling=Sampling(rounds=rounds), overhead=False, timeout_s=timeout_s
            )
            outcomes = pipeline.evaluate(store, planned, settings, force=True)
            found = {outcome.value.job.backend.removeprefix(_BACKEND): outcome.value for outcome in outcomes}
            if controls := [result for result in store.results() if result.control]:
                found["control"] = controls[-1]
        for backend, result in found.items():
            if result.failure and not may_fail:
                raise DeployError(f"{backend}, {metric}: {result.failure.kind}: {result.failure.reason}")
        return found


def run(names: Sequence[str] = (), on_progress: OnProgress | None = None) -> Iterator[Check]:
    """Every check, or those of these names, each as it is done."""
    wanted = {name: check for name, check in CHECKS.items() if not names or name in names}
    with bench() as on:
        for done, (name, check) in enumerate(wanted.items()):
            if on_progress:
                on_progress(Progress(done=done, total=len(wanted), message=f"measuring what is known: {name}"))
            try:
                yield from check(on)
            except DeployError as error:
                yield Check(name=name, outcome="failed", expected="a measurement", found=str(error))


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """A bench in a folder of its own, with a cache and a record of exports of its own."""
    variables = ("CIFAR_DEPLOY_CACHE", "CIFAR_DEPLOY_STATE")
    before = {name: os.environ.get(name) for name in variables}
    with files.temporary_folder() as folder:
        os.environ.update({name: str(folder / name) for name in variables})
        try:
            made = Bench(folder)
            made.place("right", "RIGHT")
            yield made
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _of_time(name: str, holds: bool, expected: str, found: str, results: Sequence[Result]) -> Check:
    """A check that a disturbed machine may spoil."""
    verdicts = [verdict for result in results if (verdict := Summary(result).verdict)]
    disturbed = [verdict for verdict in verdicts if verdict.word != "stable"]
    if holds or not disturbed:
        return Check(name=name, outcome="ok" if holds else "failed", expected=expected, found=found)
    reasons = "; ".join(dict.fromkeys(reason for verdict in disturbed for reason in verdict.reasons))
    return Check(name=name, outcome="inconclusive", expected=expected, found=f"{found}; {reasons}")


def _check(name: str, holds: bool, expected: str, found: str) -> Check:
    return Check(name=name, outcome="ok" if holds else "failed", expected=expected, found=found)


def check_latency(bench: Bench) -> Iterator[Check]:
    """A known wait is read as it is, a configuration ties with itself and with its twin, and not with one that takes longer."""
    configurations = ["BUSY_1_MS", "BUSY_1_MS_TOO", "BUSY_5_MS"]
    found = bench.measure(configurations, "latency")
    for milliseconds in BUSY_MS:
        result = found[f"BUSY_{milliseconds}_MS"]
        values = {key: value.number * 1000 for key, value in Summary(result).values.items()}
        for key, title in (("p50", "latency"), ("end_to_end", "end to end")):
            yield _of_time(
                f"{title} of a wait of {milliseconds} ms",
                milliseconds <= values[key] <= milliseconds * (1 + _TIME_TOLERANCE),
                f"{milliseconds:.3f} to {milliseconds * (1 + _TIME_TOLERANCE):.3f} ms",
                f"{values[key]:.4f} ms",
                [result],
            )
    results = [found[configuration] for configuration in configurations]
    ratios = against_itself(found.values(), "latency")
    noise = statistics.noise(ratios)
    itself = statistics.estimate(ratios)
    yield _of_time(
        "a configuration against itself",
        abs(itself.value - 1) <= _ITSELF,
        f"a ratio of 1 ± {_ITSELF:.0%}",
        f"{itself.value:.4f} [{itself.low:.4f}, {itself.high:.4f}]",
        results,
    )
    places = statistics.ranks([result.rounds(compared_by("latency")) for result in results], max(noise, 0.005))
    yield _of_time(
        "ranks of 1 ms, 1 ms and 5 ms", places == ["T-1", "T-1", "3"], "T-1, T-1, 3", ", ".join(places), results
    )


def check_throughput(bench: Bench) -> Iterator[Check]:
    """Batches of 64 in a known time."""
    result = bench.measure(["BUSY_5_MS"], "throughput", rounds=2)["BUSY_5_MS"]
    known = 64 / 0.005
    value = Summary(result).values["images_per_second"].number
    yield _of_time(
        "throughput of 64 images in 5 ms",
        known / (1 + _TIME_TOLERANCE) <= value <= known,
        f"{known / (1 + _TIME_TOLERANCE):,.0f} to {known:,.0f} images/s",
        f"{value:,.0f} images/s",
        [result],
    )


def check_memory(bench: Bench) -> Iterator[Check]:
    """256 MiB show in the part in which they are taken, in the peak, and in no other part."""
    found = bench.measure(["ANSWERS", "HOLDS", "HOLDS_LATER"], "memory")
    parts = {name: {k: v.number for k, v in Summary(result).values.items()} for name, result in found.items()}
    for name, where in (("HOLDS", "model"), ("HOLDS_LATER", "first")):
        # Without /proc there is no peak.
        looked_at = [part for part in ("runtime", "model", "first", "peak") if part in parts[name]]
        more = {part: parts[name][part] - parts["ANSWERS"][part] for part in looked_at}
        known = {part: HELD_BYTES if part in (where, "peak") else 0 for part in more}
        yield _check(
            f"memory of 256 MiB taken at {'load' if where == 'model' else 'the first call'}",
            all(abs(more[part] - known[part]) <= _MEMORY_TOLERANCE_BYTES for part in more),
            f"256 ± {_MEMORY_TOLERANCE_BYTES / 2**20:.0f} MiB more in {where} and peak, 0 in the rest",
            ", ".join(f"{part} {bytes_ / 2**20:+.1f}" for part, bytes_ in more.items()),
        )


def check_accuracy(bench: Bench) -> Iterator[Check]:
    """Labels that are wrong in exactly so many images cost exactly so much accuracy."""
    bench.place("wrong", "WRONG")
    right = bench.measure(["ANSWERS"], "accuracy")["ANSWERS"].rounds("accuracy")[0]
    wrong = bench.measure(["ANSWERS"], "accuracy", name="wrong")["ANSWERS"].rounds("accuracy")[0]
    yield _check(
        f"accuracy with {FLIPPED} of {IMAGES:,} labels flipped",
        right == 1.0 and wrong == (IMAGES - FLIPPED) / IMAGES,
        f"100 % and {(IMAGES - FLIPPED) / IMAGES:.1%}, exactly",
        f"{right:.2%} and {wrong:.2%}",
    )


def check_verdict(bench: Bench) -> Iterator[Check]:
    """A busy loop on every allowed processor is seen."""
    with hogs():
        result = bench.measure(["BUSY_1_MS"], "latency", rounds=3)["BUSY_1_MS"]
    verdict = Summary(result).verdict
    assert verdict
    yield _check(
        "verdict beside a busy loop on every processor",
        verdict.word in ("noisy", "invalid"),
        "noisy or invalid",
        ": ".join([verdict.word, *verdict.reasons]),
    )


def check_failures(bench: Bench) -> Iterator[Check]:
    """What dies, hangs or answers wrongly is a row that says so."""
    expected = {"IS_KILLED": ("crashed", "out of memory"), "HANGS": ("timed out",), "ANSWERS_NAN": ("wrong output",)}
    found = bench.measure(list(expected), "accuracy", timeout_s=_HANG_S, may_fail=True)
    for name, kinds in expected.items():
        failure = found[name].failure
        yield _check(
            f"a backend that {name.lower().replace('_', ' ')}",
            failure is not None and failure.kind in kinds,
            " or ".join(kinds),
            f"{failure.kind}: {failure.reason}" if failure else "no failure",
        )


def check_validation(bench: Bench) -> Iterator[Check]:
    """An export whose logits are the network's passes the output validation, one whose logits are not does not."""
    prepared = pipeline.prepare(_DATASET + "RIGHT")
    pixels = export.validation_pixels(prepared.folder)
    with files.temporary_folder() as folder:
        reference = export.Reference(images=prepared.folder, stand_in=None, logits=folder / "reference.npy")
        np.save(reference.logits, np.eye(10, dtype=np.float32)[pixels[:, 0, 0, 0]])
        reasons = {}
        for name in ("ANSWERS", "ANSWERS_OTHERWISE"):
            parity = Worker(what="output validation").call(
                export.check,
                artifact=bench.artifacts["right"],
                backend=BACKENDS.given(_BACKEND + name),
                reference=reference,
                staged=folder,
            )
            reasons[name] = why_invalid(parity, dataclasses.replace(bench.artifacts["right"], format="onnx"))
    yield _check(
        "output validation",
        reasons["ANSWERS"] is None and reasons["ANSWERS_OTHERWISE"] is not None,
        "lets the same logits through and stops others",
        reasons["ANSWERS_OTHERWISE"] or "let wrong logits through",
    )


@contextlib.contextmanager
def hogs() -> Iterator[None]:
    """A busy loop on every processor that this process may use."""
    processors = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    pin = "import os\nif hasattr(os, 'sched_setaffinity'): os.sched_setaffinity(0, {{{}}})\nwhile True: pass"
    running = [subprocess.Popen([sys.executable, "-c", pin.format(number)]) for number in processors]
    try:
        time.sleep(0.5)  # until they have started
        yield
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


CHECKS: Mapping[str, Callable[[Bench], Iterator[Check]]] = {
    "latency": check_latency,
    "throughput": check_throughput,
    "memory": check_memory,
    "accuracy": check_accuracy,
    "verdict": check_verdict,
    "failures": check_failures,
    "validation": check_validation,
}
