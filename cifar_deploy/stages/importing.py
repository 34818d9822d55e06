"""Results of another device, verified line by line and appended to an output folder: the other end of stages.bundle.

All that a line says is somebody else's. Checked is what home knows: the protocol; the artifact, by the hashes of its files
and by the record of its training; the choice of images, and their labels; the numbers, by the raw samples behind them. That
the device has measured these samples cannot be checked: see SECURITY.md.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from cifar_deploy.core import arrays, files, image_cache, machine, trust, untrusted
from cifar_deploy.core.arrays import Labels
from cifar_deploy.core.codec import to_json
from cifar_deploy.core.errors import Corrupt, DeployError, UsageError, one_line
from cifar_deploy.core.journal import Lines, read_lines
from cifar_deploy.core.progress import OnProgress, Progress, counted
from cifar_deploy.core.records import Artifact, External, Job, Machine, Measurement, Run, Session, Trained
from cifar_deploy.core.store import Store, check_name
from cifar_deploy.metrics import METRICS, PROTOCOL, RecordedMetric, contradiction
from cifar_deploy.metrics.summary import is_per_image
from cifar_deploy.stages import bundle, evaluate, prepare
from cifar_deploy.stages.bundle import Bundle
from cifar_deploy.stages.results import fault

# What a machine says of itself stands in the rows of tables. The end of a worker's log is the longest of all texts.
_LONGEST_OF_MACHINE = 256
_LONGEST = 4096
_LONGEST_PRINTED = 2**16
# Fields of words that runtimes and converters have printed, on several lines.
_PRINTED = {"log", "reason", "unvalidated"}

# The arrays of one run, in memory.
_LARGEST_ARRAYS = 2**28

# Before there was this program; and what is tomorrow in every time zone.
_EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
_AHEAD = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What has come in of one file, and what has not."""

    path: Path
    appended: int
    duplicates: int  # that were here before
    refused: Mapping[str, int]  # by reason
    machines: tuple[str, ...]  # that have measured what was appended
    packs: tuple[str, ...]  # the ids of those that they ran
    notes: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether all of it is here now, and it is not nothing."""
        return not self.refused and bool(self.appended or self.duplicates)


def import_results(
    store: Store,
    path: Path,
    *,
    foreign: bool = False,
    known: Iterable[Artifact] = (),
    on_progress: OnProgress | None = None,
) -> Imported:
    """Append the results in `path` to those of the store, each after it was verified. Others are counted by their reason.

    `path`: what a pack wrote, an output folder, its reports/, or a results.jsonl with raw/ beside it. `foreign`: results of
    artifacts that are not here come in, too, and are marked. `known`: artifacts that need not be here: those of a pack that
    was sent from here.

    Raises Corrupt if there are no results in `path`.
    """
    with bundle.opened(path) as source:
        lines = read_lines(source.results)
        intake = _Intake(store, source, foreign, known)
        for done, run in enumerate(lines.runs):
            if on_progress:
                on_progress(Progress(done=done, total=len(lines.runs), message="verifying"))
            intake.take(run)
        if intake.taken:
            store.append(*intake.taken)
    taken = intake.taken
    return Imported(
        path=path,
        appended=len(taken),
        duplicates=intake.duplicates,
        refused=Counter(lines.left_out.values()) + intake.refused,
        machines=tuple(dict.fromkeys(str(run.job.machine) for run in taken)),
        packs=tuple(dict.fromkeys(run.pack for run in taken if run.pack)),
        notes=(*Lines(notes=lines.notes).told(), *_notes(taken, intake.machines)),
    )


# One process's work, and all that must differ between two.
_Identity = tuple[str, Session | None, int, bool, str]


class _Intake:
    """What is here already, and what comes in: each run is taken, known or refused."""

    def __init__(self, store: Store, source: Bundle, foreign: bool, known: Iterable[Artifact]) -> None:
        self.taken: list[Run] = []
        self.duplicates = 0
        self.refused: Counter[str] = Counter()
        self._store, self._source, self._foreign = store, source, foreign
        self._now = machine.now()
        self._runs: dict[_Identity, Run] = {}
        self._slots: set[tuple[str, Session, int, bool]] = set()  # rounds of configurations that are measured
        self._raw: dict[str, _Identity] = {}  # whose raw files they are
        self._artifacts: dict[tuple[str, str], list[Artifact]] = {}  # of results here, by name and variant
        self._exports: dict[tuple[str, str], list[Artifact]] = {}  # likewise, of exported/ and baselines/
        self._looked: dict[int, str | None] = {}  # by id, of what lives as long as the lines
        for artifact in known:
            self._artifacts.setdefault((artifact.name, artifact.variant), []).append(artifact)
        here = store.lines(fault).runs
        self.machines = {run.job.machine for run in here}
        for run in here:
            self._add(run)

    def _add(self, run: Run) -> None:
        self._runs[_identity(run)] = run
        if run.measurement and run.session:
            self._slots.add((run.job.key, run.session, run.round, run.control))
        if run.measurement and run.measurement.raw:
            self._raw[run.measurement.raw] = _identity(run)
        known = self._artifacts.setdefault((run.job.artifact.name, run.job.artifact.variant), [])
        if not run.foreign and run.job.artifact not in known:
            known.append(run.job.artifact)

    def take(self, run: Run) -> None:
        try:
            self._check_texts(run)
            _check(run)
            if self._is_here(run):
                self.duplicates += 1
                return
            run = dataclasses.replace(run, imported=self._now, foreign=not self._is_known(run.job.artifact))
            self._check_measured(run)
        except Corrupt as error:
            self.refused[str(error)] += 1
            return
        self._add(run)
        self.taken.append(run)

    def _check_texts(self, run: Run) -> None:
        """Those of an artifact, a machine or a session once, though thousands of runs hold it."""
        for part in (run.job.machine, run.job.artifact, run.session, run):
            if id(part) not in self._looked:
                self._looked[id(part)] = _of_machine(part) if isinstance(part, Machine) else _odd_text(part)
            if reason := self._looked[id(part)]:
                raise Corrupt(reason)

    def _is_here(self, run: Run) -> bool:
        if earlier := self._runs.get(_identity(run)):
            if (earlier.measurement, earlier.failure) != (run.measurement, run.failure):
                raise Corrupt("differs from the result here of the same job, round and start")
            return True
        if run.session and (run.job.key, run.session, run.round, run.control) in self._slots and run.measurement:
            raise Corrupt(
                "another process has measured its round already; give two devices that look alike a name each (--as)"
            )
        return False

    def _is_known(self, artifact: Artifact) -> bool:
        """Whether the artifact is one of home's. Raises Corrupt if it is not, and foreign ones are not asked for."""
        place = artifact.name, artifact.variant
        if place not in self._exports:
            self._exports[place] = self._exported(artifact)
        alike = [*self._artifacts.get(place, ()), *self._exports[place]]
        same = [one for one in alike if (one.files, one.weights_sha256) == (artifact.files, artifact.weights_sha256)]
        if any((one.origin, one.choices) == (artifact.origin, artifact.choices) for one in same):
            return True
        if self._foreign:
            return False
        what = "is not exported here"
        if same:
            what = "comes with another record of its training or export than the one here"
        elif alike:
            what = "is another export than the one here (sha256 differs)"
        title = one_line(artifact.title, 80)
        raise Corrupt(f"{title}: {what}; give the --out that was packed, or add --foreign")

    def _exported(self, artifact: Artifact) -> list[Artifact]:
        """What lies in the place of an artifact, if there is anything."""
        try:
            if isinstance(artifact.origin, Trained):
                check_name(artifact.name)
                found = self._store.artifact(artifact.name, artifact.variant)
            else:
                found = self._store.earlier(artifact)
        except UsageError:  # a name that nothing here can have
            return []
        return [found] if found else []

    def _check_measured(self, run: Run) -> None:
        """Check the numbers by what lies behind them, and take that over."""
        if not (measurement := run.measurement):
            return
        metric = METRICS[run.job.metric]
        if isinstance(metric, RecordedMetric):
            _check_recorded(run.job, measurement)
        elif (metric.sampled or metric.per_image) and not measurement.raw:
            raise Corrupt("its raw samples are missing")
        if not measurement.raw:
            return
        if self._raw.get(measurement.raw, _identity(run)) != _identity(run):
            raise Corrupt("its raw file is that of another result")
        place = self._store.raw_path(measurement.raw)
        if place.exists():
            _check_raw(run.job, measurement, place)
            return
        with files.atomic_write(place) as part:
            self._source.copy(measurement.raw, part)
            _check_raw(run.job, measurement, part)


def _identity(run: Run) -> _Identity:
    return run.job.key, run.session, run.round, run.control, run.started


def _check(run: Run) -> None:
    """Raises Corrupt for what a run's own line shows to be wrong."""
    if run.job.protocol != PROTOCOL:
        raise Corrupt(
            f"was measured by protocol {run.job.protocol}, and this version measures by {PROTOCOL}; pack and measure again"
        )
    if reason := fault(run):
        raise Corrupt(one_line(reason))
    if isinstance(run.job.artifact.origin, External):
        raise Corrupt("is of an external model file; compare its folder with `cifar-deploy compare`")


def _of_machine(found: Machine) -> str | None:
    """Why a machine cannot be shown, or None."""
    if reason := _odd_text(found, _LONGEST_OF_MACHINE):
        return f"its machine: {reason}"
    if len(str(found)) > _LONGEST:
        return f"its machine: is described by {len(str(found)):,} characters"
    if not found.host:
        return "its machine: has no host name"
    if found.name is not None:
        try:
            machine.check_name(found.name, "its machine")
        except UsageError as error:
            return str(error)
    return None


def _odd_text(record: Any, longest: int = _LONGEST) -> str | None:
    """Why a text of a record cannot be shown, or None. Of a run, what has a look of its own is passed over."""
    apart = (Artifact, Machine, Session) if isinstance(record, Run) else ()

    def refer(part: Any) -> Any:
        return {} if isinstance(part, apart) else None

    for name, text in _texts(to_json(record, refer)):
        printed = name in _PRINTED
        if len(text) > (_LONGEST_PRINTED if printed else longest):
            return f"{one_line(name, 80)} is {len(text):,} characters long"
        if not text.isprintable() and not (printed and text.replace("\n", "").replace("\t", "").isprintable()):
            return f"{one_line(name, 80)} holds what cannot be shown: {one_line(text, 80)!r}"
    return None


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Each text in JSON, with the field that it is in; keys of mappings, too."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield "a name", key
            yield from _texts(item, name if name in _PRINTED else key)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, name)


def _check_recorded(job: Job, measurement: Measurement) -> None:
    """Of a metric that is read from the artifact's record: that it is what the record says."""
    try:
        recorded = evaluate.copy(job).values
    except DeployError as error:
        raise Corrupt(f"{job.metric} is not in the record of its artifact ({one_line(str(error), 120)})") from error
    if recorded.keys() != measurement.values.keys() or not all(
        math.isclose(number, recorded[key], rel_tol=1e-9) for key, number in measurement.values.items()
    ):
        raise Corrupt(f"{job.metric} is not what the record of its artifact says")


def _check_raw(job: Job, measurement: Measurement, path: Path) -> None:
    if not path.is_file() or untrusted.sha256(path) != measurement.raw_sha256:
        raise Corrupt("its raw file is not the one that it was written with (sha256 differs)")
    try:
        found = arrays.read_npz(path, _LARGEST_ARRAYS)
    except Corrupt as error:
        raise Corrupt(f"its raw file {str(error).removeprefix(f'{path}: ')}") from error
    if reason := contradiction(job, measurement.values, found):
        raise Corrupt(reason)
    if is_per_image(job) and not _are_labels(found["labels"], found["chosen"], job):
        raise Corrupt("its labels are not those of its data set")


def _are_labels(labels: Labels, chosen: Labels, job: Job) -> bool:
    """Whether these are the labels of the chosen test images, as far as the data set is in the cache here."""
    assert job.artifact.data
    folder = prepare.find(job.artifact.data.fingerprint)
    return not folder or np.array_equal(labels, image_cache.load_array(folder, "test_labels")[chosen])


def _notes(taken: Sequence[Run], before: Iterable[Machine]) -> Iterator[str]:
    """What a reader of these results should know."""
    here = machine.machine()
    machines = dict.fromkeys(run.job.machine for run in taken)
    for one in machines:
        if one.id and one.id == here.id:
            yield f"{one.title}: is this machine itself"
    kinds: dict[str, set[tuple[Any, ...]]] = {}
    for one in (*before, *machines):
        kinds.setdefault(one.title, set()).add((one.id or one.host, one.processor, one.cores))
    for title in dict.fromkeys(one.title for one in machines):
        if len(kinds[title]) > 1:
            yield f"{title}: is the name of {len(kinds[title])} machines; name each of its own (--as)"
        if wrong := [run.started for run in taken if run.job.machine.title == title and _is_wrong(run.started)]:
            yield f"{title}: its clock was wrong: {counted(len(wrong), 'result')} began at {wrong[0][:19]}"
    for pack in dict.fromkeys(run.pack for run in taken if run.pack and not trust.knows_pack(run.pack)):
        yield f"pack {one_line(pack, 80)}: was not made here by you"
    if foreign := sum(run.foreign for run in taken):
        yield f"{counted(foreign, 'result')} of artifacts that are not here: marked as foreign"
    for data in dict.fromkeys(run.job.artifact.data for run in taken if run.measurement and is_per_image(run.job)):
        if data and not prepare.find(data.fingerprint):
            yield f"labels of {data.dataset}: not compared, its images are not in the cache (`cifar-deploy data`)"


def _is_wrong(started: str) -> bool:
    return not _EARLIEST <= datetime.fromisoformat(started) <= datetime.now(UTC) + _AHEAD
