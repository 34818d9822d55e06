"""The program of a pack, on the device: python3 bench.py.

It measures by the same stages as `cifar-deploy evaluate`, with numpy and the runtimes alone. Results are stored as they come,
so a second start goes on. At the end it writes one file of results, for `cifar-deploy import`.
"""

import argparse
import contextlib
import dataclasses
import itertools
import logging
import os
import sys
import tempfile
import textwrap
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

import numpy as np

from cifar_deploy import process
from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import affinity, machine, packs, units
from cifar_deploy.core.defaults import COOL_WAIT_S, TIMEOUT_S
from cifar_deploy.core.errors import DeployError, Terminated, Unavailable, UsageError, one_line
from cifar_deploy.core.outcome import failure_of
from cifar_deploy.core.packs import Pack
from cifar_deploy.core.progress import Progress, counted
from cifar_deploy.core.records import Artifact, Result
from cifar_deploy.core.registry import lack_of
from cifar_deploy.core.samples import Samples
from cifar_deploy.core.store import Store
from cifar_deploy.formats import given as formats_of
from cifar_deploy.metrics import METRICS, default_metrics
from cifar_deploy.metrics.summary import Configuration, Summary, is_per_image
from cifar_deploy.remote.home import Home
from cifar_deploy.reports import text
from cifar_deploy.stages import bundle, export, plan, report
from cifar_deploy.stages.evaluate import EvaluationSettings, evaluate
from cifar_deploy.stages.plan import Conditions
from cifar_deploy.stages.rounds import Sampling
from cifar_deploy.workers.export import Reference

_PROGRAM = "bench.py"

# A line of progress, where there is no terminal to write over.
_LOG_INTERVAL_S = 10.0

_COLUMNS = 80  # of a terminal that does not say

# When this program did not exist yet: 2025. A board without a battery says 1970 until it is told.
_BEFORE_S = 1735689600.0


def main(root: str) -> NoReturn:
    process.begin()
    try:
        with process.signals_raised():
            code = run(Path(root), sys.argv[1:])
    except KeyboardInterrupt:
        process.complain(f"{_PROGRAM}: interrupted; run it again to go on")
        code = 130
    except Terminated:
        process.complain(f"{_PROGRAM}: terminated; run it again to go on")
        code = 143
    except DeployError as error:
        process.complain(f"{_PROGRAM}: error: {one_line(str(error))}")
        code = error.exit_code
    except OSError as error:
        process.complain(
            f"{_PROGRAM}: error: {error.filename or 'system'}: {error.strerror or error}; mend that and run it again"
        )
        code = 1
    except Exception:
        log = Path(root) / "log.txt"
        with open(log, "a") as file:
            traceback.print_exc(file=file)
        process.complain(f"{_PROGRAM}: error: internal error, please report; details in {log}")
        code = 1
    process.end(code)


def run(root: Path, arguments: Sequence[str]) -> int:
    """Measure what is packed, print the answer, and write the results to take home. The exit code."""
    pack = packs.open_(root)
    asked = _parsed(pack, arguments)
    pack.check()
    with contextlib.ExitStack() as stack:
        if asked.name is not None:
            stack.enter_context(machine.named(asked.name))
        show = stack.enter_context(Home(Store(root).reports, asked.frames)) if asked.frames else _Show()
        warnings.showwarning = lambda message, *_, **__: show.line(f"{_PROGRAM}: {one_line(str(message))}")
        if time.time() < _BEFORE_S:
            show.line(f"{_PROGRAM}: this machine's clock says {machine.now()}; the results will say so too")
        show.begun(pack.id, str(machine.machine()))
        store = stack.enter_context(Store(root))
        stack.callback(show.end)
        logging.basicConfig(filename=store.log, level=logging.INFO, force=True)
        code = _measured(pack, store, asked, show)
        if not asked.frames:
            _take_home(store, Path(asked.results))
        return code


def _measured(pack: Pack, store: Store, asked: argparse.Namespace, show: "_Show | Home") -> int:
    artifacts = _artifacts(pack, store, asked)
    backends = _backends(artifacts, asked.backend, show)
    validated = []
    for number, artifact in enumerate(artifacts):
        show(Progress(done=number, total=len(artifacts), message=f"validating {artifact.title}"))
        validated.append(_validated(pack, store, artifact, backends))
    planned = [
        item
        for artifact in validated
        for item in plan.jobs(
            [artifact],
            [name for name in backends if name in export.readers(str(artifact.format))] or None,
            ["cpu"],
            asked.metric or _metrics(),
            Conditions(
                threads=tuple(asked.threads),
                seconds=asked.seconds,
                batch_sizes=tuple(pack.manifest.settings.batch_sizes),
                limit_test=_limit(pack, artifact),
                cpus=asked.cpus,
            ),
        )
    ]
    settings = EvaluationSettings(
        sampling=Sampling(
            rounds=asked.rounds, budget_s=asked.budget, cool_to_c=asked.cool_to, cool_wait_s=asked.cool_wait
        ),
        controls=asked.controls,
        overhead=asked.controls,
        timeout_s=asked.timeout,
    )
    results, failed = [], []
    for outcome in evaluate(store, planned, settings, force=asked.force, on_progress=show):
        show.line(_told(outcome.value) + ("  (measured before)" if outcome.reused else ""))
        results.append(outcome.value)
        failure = outcome.value.failure
        if failure and (outcome.tried or failure.kind not in ("unsupported", "unavailable")):
            failed.append(outcome.value)
    show.end()
    stored, samples, _ = report.read(store, planned)
    table = report.build(stored, samples)
    if table.answer and table.answer.best:
        answer = text.lines(table, f"in {store.results_path}")
    else:  # with a metric or two, there is nothing to choose by; on a terminal the results stand above
        answer = itertools.chain([] if sys.stdout.isatty() else map(_told, results), text.remarks(table))
    for line in ("", *answer, *_against_home(pack, stored, samples)):
        show.answer(line)
    if failed:
        process.complain(f"{_PROGRAM}: {counted(len(failed), 'measurement')} failed")
    return 1 if failed else 0


def _take_home(store: Store, place: Path) -> None:
    path = bundle.write(store, place)
    unnamed = "" if machine.machine().name else f"  (`python3 {_PROGRAM} --as NAME` gives it another name)"
    _print(f"machine   {machine.machine().title}{unnamed}")
    _print(f"results   {path.absolute()}")
    _print(f"at home   copy this file there, and run: cifar-deploy import {path.name}")


def _parsed(pack: Pack, arguments: Sequence[str]) -> argparse.Namespace:
    packed = pack.manifest.settings
    parser = _Parser(
        prog=_PROGRAM,
        description=f"Measure {', '.join(pack.manifest.networks)} ({', '.join(pack.manifest.variants)}) on this machine.",
        epilog=f"The runtimes need: pip install {' '.join(packs.names(pack.manifest.requires))}.",
    )
    add = parser.add_argument
    for name, names, help in (
        ("format", pack.manifest.variants, "only this format"),
        ("backend", _readers(pack), "only on this runtime"),
        ("metric", _offered(), "only this metric"),
    ):
        add(
            f"--{name}",
            action="append",
            choices=names,
            metavar="NAME",
            help=f"{help}; may be given again: {_listed(names)}",
        )
    add(
        "--threads",
        action="append",
        type=_at_least_one,
        metavar="N",
        help=f"threads of a runtime; may be given again [{_listed(packed.threads)}]",
    )
    add(
        "--cpus",
        default=packed.cpus,
        metavar="LIST",
        help=f"pin the measurements to these processors: 4-7,2, or big, or little [{packed.cpus or 'all that are allowed'}]",
    )
    add("--rounds", type=_at_least_one, default=packed.rounds, metavar="N", help="rounds [%(default)s]")
    add(
        "--seconds",
        type=_duration,
        default=packed.seconds,
        metavar="1s",
        help="of timed calls in a round [%(default)s s]",
    )
    add("--budget", type=_duration, default=packed.budget_s, metavar="10m", help="as many rounds as fit into this")
    add("--cool-to", type=float, metavar="C", help="cool down to so many degrees before each round")
    add("--cool-wait", type=_duration, default=COOL_WAIT_S, metavar="60s", help="but wait no longer than this")
    add("--timeout", type=_duration, default=TIMEOUT_S, metavar="10m", help="without progress, a worker hangs")
    add(
        "--no-controls",
        dest="controls",
        action="store_false",
        default=packed.controls,
        help="without the no-op model and the control",
    )
    add("--as", dest="name", metavar="NAME", help="name of this machine in the results")
    add("--force", action="store_true", help="measure again")
    add("--out", metavar="DIR", help="folder to unpack to and to measure in [one of the user's cache]")
    add("--results", default=".", metavar="FILE", help="where the results go, to take home [the current folder]")
    add("--frames", type=_duration, metavar="60s", help="speak with `device ssh`, and end when it is silent so long")
    asked = parser.parse_args(arguments)
    asked.backend = asked.backend or packed.backends
    asked.metric = asked.metric or packed.metrics
    asked.cpus = affinity.chosen(asked.cpus) if asked.cpus else None
    asked.threads = [machine.check_threads(each, pinned=asked.cpus) for each in asked.threads or packed.threads]
    if asked.name is not None:
        machine.check_name(asked.name, "--as")
    _check_results(Path(asked.results))
    return asked


def _check_results(place: Path) -> None:
    """Raises UsageError if no file can be written there: after an hour of measuring is too late to say so."""
    folder = place if place.is_dir() else place.parent
    if not folder.is_dir():
        raise UsageError(f"--results: {folder} is no folder; make it, or give another place")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"--results: {folder.absolute()} cannot be written ({error.strerror}); give another place"
        ) from error


def _readers(pack: Pack) -> list[str]:
    formats = {formats_of(variant)[0] for variant in pack.manifest.variants}
    return list(dict.fromkeys(name for format in sorted(formats) for name in export.readers(format)))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `python3 {_PROGRAM} --help`")


def _at_least_one(value: str) -> int:
    if not value.isdigit() or not int(value):
        raise argparse.ArgumentTypeError(f"{value} is not 1 or more")
    return int(value)


def _duration(value: str) -> float:
    try:
        return units.duration(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))


def _artifacts(pack: Pack, store: Store, asked: argparse.Namespace) -> list[Artifact]:
    return [
        artifact
        for name in pack.manifest.networks
        for artifact in store.artifacts(name)
        if artifact.variant in (asked.format or pack.manifest.variants)
    ]


def _backends(artifacts: Sequence[Artifact], wanted: Sequence[str] | None, show: "_Show | Home") -> list[str]:
    """The runtimes that are here. Of one that is not, it is said how to install it, if it was asked for or nothing else reads a file."""
    found = []
    lacks = {}
    for name in dict.fromkeys(name for artifact in artifacts for name in export.readers(str(artifact.format), wanted)):
        if lack := lack_of(BACKENDS[name]):
            lacks[name] = lack
        else:
            found.append(name)
    if not found:
        raise Unavailable(f"no runtime is here that reads what is packed: {'; '.join(map(str, lacks.values()))}")
    served = {format for name in found for format in BACKENDS[name].reads}
    for name, lack in lacks.items():
        unserved = {str(artifact.format) for artifact in artifacts} & {*BACKENDS[name].reads} - served
        if wanted or unserved:
            show.line(f"{_PROGRAM}: {lack}")
    return found


def _validated(pack: Pack, store: Store, artifact: Artifact, backends: Sequence[str]) -> Artifact:
    """The artifact with its validation on this device, in place of the one from home."""
    assert artifact.data
    images = pack.images(artifact.data.fingerprint)
    assert images
    reference = Reference(images=images, stand_in=None, logits=images / packs.logits_of(artifact.name))
    try:
        return export.validated(artifact, reference, store.folder_of(artifact), backends)
    except DeployError as error:
        return dataclasses.replace(artifact, failure=failure_of(error))


def _offered() -> list[str]:
    """What can be measured, but for what was found in training: that is known at home."""
    return [name for name in METRICS if getattr(METRICS[name], "stage", None) != "train"]


def _metrics() -> list[str]:
    """What of it is measured by default."""
    return [name for name in default_metrics() if name in _offered()]


def _limit(pack: Pack, artifact: Artifact) -> int | None:
    return next(choice.limit_test for choice in pack.manifest.choices if choice.data == artifact.data)


def _told(result: Result) -> str:
    configuration = f"{Configuration.of(result)}, {result.job.metric}"
    if result.failure:
        return f"{configuration}: {result.failure.kind}: {result.failure.reason}"
    return f"{configuration}: {Summary(result).told}"


def _against_home(pack: Pack, results: Sequence[Result], samples: Samples) -> Iterator[str]:
    """How many labels differ from those of the network itself, through PyTorch at home."""
    for result in results:
        if not is_per_image(result.job) or not result.measurement or not result.job.artifact.data:
            continue
        images = pack.images(result.job.artifact.data.fingerprint)
        assert images
        own = np.load(images / packs.labels_of(result.job.artifact.name))
        there = samples(result.measurement)["predicted"]
        yield f"labels    {Configuration.of(result)}: {int((own != there).sum()):,} of {len(own):,} differ from PyTorch's at home"


class _Show:
    """Progress on stderr: one line that is written over on a terminal, a line now and then in a log."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._last = -_LOG_INTERVAL_S
        self._width = 0
        self._milestones: tuple[str, ...] = ()

    def __call__(self, latest: Progress) -> None:
        for milestone in latest.milestones[len(self._milestones) :]:
            self.line(milestone)
        self._milestones = latest.milestones
        shown = f"{latest.done}/{latest.total}  {latest.message}"
        if self._is_terminal:
            shown = shown[: _width(sys.stderr) - 1]  # a full line would wrap, and could not be written over
            self._write(f"\r{shown.ljust(self._width)}")
            self._width = len(shown)
        elif time.monotonic() - self._last >= _LOG_INTERVAL_S:
            self._last = time.monotonic()
            process.complain(shown)

    def begun(self, pack: str, machine: str) -> None:
        self.line(f"{_PROGRAM}: pack {pack}, {machine}")

    def line(self, told: str) -> None:
        self.end()
        process.complain(_wrapped(told, sys.stderr))

    def answer(self, line: str) -> None:
        _print(line)

    def end(self) -> None:
        """Leave nothing of the line that is written over."""
        if self._width:
            self._write("\r" + " " * self._width + "\r")
            self._width = 0

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()


def _print(line: str) -> None:
    print(_wrapped(line, sys.stdout))


def _wrapped(line: str, stream: TextIO) -> str:
    """The line for this stream: on a terminal in several, if it is too long for one."""
    if not stream.isatty() or len(line) < _width(stream):
        return line
    indent = " " * (len(line) - len(line.lstrip())) + "  "
    return "\n".join(
        textwrap.wrap(
            line, _width(stream) - 1, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
    )


def _width(stream: TextIO) -> int:
    """Of the terminal, in columns."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or _COLUMNS
    except OSError:
        return _COLUMNS
