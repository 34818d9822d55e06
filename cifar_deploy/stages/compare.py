"""Two sets of results -> how they differ, configuration by configuration: two machines, two versions, before and after.

Every ratio is above 1 where B is better. Of a speed it is the speed-up: how many times faster B is than A. Of memory and
size it is how many times smaller B is.

The two sets share no round, so a ratio is of all rounds of one to all rounds of the other (see core.statistics). No
difference is claimed below what the machines' own controls show, nor below 3 %. A metric that is measured once says
itself what is a tie (see metrics.Compared). stages.pairing says what is compared with what where the names differ. A
result that is on both sides is a tie with itself, however few its rounds.

Each device is compared with itself. Where the two sides hold no common device, one that is alone on its side is compared with
each of the other side. Times of an emulated processor are not compared.
"""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from cifar_deploy.core import statistics, untrusted
from cifar_deploy.core.errors import Corrupt, UsageError
from cifar_deploy.core.journal import grouped, read_lines
from cifar_deploy.core.records import Baseline, Job, Result
from cifar_deploy.core.samples import Samples
from cifar_deploy.core.statistics import Estimate
from cifar_deploy.core.table import Column, Value
from cifar_deploy.metrics import METRICS, Compared, RecordedMetric, as_runtime_metric
from cifar_deploy.metrics.summary import (
    Configuration,
    Raw,
    Summary,
    against_itself,
    agreement,
    compared_columns,
    is_batched,
    is_per_image,
    is_timed,
)
from cifar_deploy.stages import pairing
from cifar_deploy.stages.machines import by_machine
from cifar_deploy.stages.pairing import Match, is_same_input
from cifar_deploy.stages.results import fault

_SAME_RUNS = "the same runs on both sides"

# What B is. Times are faster or slower, bytes smaller or larger, all else better or worse.
Word: TypeAlias = Literal[
    "tie",
    "faster",
    "slower",
    "better",
    "worse",
    "smaller",
    "larger",
    "undecided",
    "failed",
    "missing",
    "new",
    "emulated",
]


_SPEED_WORDS: tuple[Word, Word] = ("faster", "slower")
_OTHER_WORDS: tuple[Word, Word] = ("better", "worse")
_Settings: TypeAlias = tuple[int, int, str]  # threads, batch size and CPUs


@dataclass(frozen=True, kw_only=True)
class Change:
    """How a share of images changed from A to B, image by image."""

    difference: Estimate  # B's share less A's, a fraction of 1
    negative_flips: int  # images that are right in A and wrong in B
    positive_flips: int
    p: float  # exact McNemar, two-sided


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One number of a configuration on both sides."""

    a: Value | None  # None if it failed or is missing
    b: Value | None
    ratio: Estimate | None = None  # above 1 where B is better; of a speed, the speed-up
    change: Change | None = None  # instead of a ratio, of a metric that leaves each image's label
    word: Word | None = None  # None where nothing is claimed
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Machines:
    """On which device each side was measured; None if the device is on the other side alone."""

    a: str | None
    b: str | None

    def __str__(self) -> str:
        return f"{self.a} → {self.b}" if self.a and self.b and self.a != self.b else str(self.a or self.b)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One configuration of both, or of one alone, and all that is compared of it."""

    configuration: Configuration  # as A names it, if it is there
    match: Match | None  # the names on both sides; None if the name is in A or in B alone
    machines: Machines | None = None  # None where A and B hold the same device, and no other
    differences: Mapping[str, Difference]  # by metric and column, as in "throughput.samples"


def compare(a: Path, b: Path, *, pairs: Sequence[str] = (), allow_mismatch: bool = False) -> list[Pair]:
    """How the results of `b` differ from those of `a`: output folders, or results.jsonl files with their raw/ beside them.

    Args:
        pairs: "A=B": networks or files to compare although their names differ. What it does not name is paired by the
            rules of stages.pairing.
        allow_mismatch: Compare what answers different questions, too.

    Raises:
        UsageError: There is nothing to compare, or, unless `allow_mismatch`, the two answer different questions.
    """
    (results_a, raw_a), (results_b, raw_b) = _read_results(a), _read_results(b)
    return pairs_of(results_a, results_b, raw_a, raw_b, pairs=pairs, allow_mismatch=allow_mismatch)


def _read_results(path: Path) -> tuple[list[Result], Raw]:
    file = _results_file(path)
    lines = read_lines(file, fault)
    if lines.left_out and not lines.runs:
        raise Corrupt(f"{file}: {lines.told()[0]}; give a results.jsonl that `cifar-deploy evaluate` wrote")
    lines.warn(file)
    return grouped(lines.runs), Samples(file.parent)


def _results_file(path: Path) -> Path:
    untrusted.check_named(path, "give an output folder, or a results.jsonl")
    inside = ("results.jsonl", "reports/results.jsonl", "bench/reports/results.jsonl")  # the last is of `bench --out`
    for candidate in (path, *(path / name for name in inside)):
        if os.path.lexists(candidate) and not candidate.is_dir():
            untrusted.check_named(candidate, "give another")
            untrusted.open_regular(candidate).close()
            return candidate
    raise UsageError(f"{path}: neither a results.jsonl nor a folder that holds reports/results.jsonl; give another")


def pairs_of(
    a: Sequence[Result],
    b: Sequence[Result],
    raw_a: Raw,
    raw_b: Raw,
    *,
    pairs: Sequence[str] = (),
    allow_mismatch: bool = False,
) -> list[Pair]:
    """Every configuration once, with all that is compared of it; what failed, or is in one of the two alone, is said to.

    Raises UsageError if the two have none in common, or if the two are not of the same question (protocol, data, batch, threads,
    CPUs), unless `allow_mismatch` is asked for.
    """
    of_a, of_b = _filter_compared(a), _filter_compared(b)
    matches = pairing.matched(of_a, of_b, pairs, any_input=allow_mismatch)
    on_a, on_b = _by_device(a, b)
    groups = list(_devices(list(on_a), list(on_b)))
    found: list[Pair] = []
    is_common = False
    for machines in groups:
        ours, theirs = on_a.get(machines.a or "", []), on_b.get(machines.b or "", [])
        noise = max([statistics.NOISE_BETWEEN_SESSIONS, *_noises(ours), *_noises(theirs)])
        in_a = _by_settings(_filter_compared(ours), "A", {match.a: match.a for match in matches})
        in_b = _by_settings(_filter_compared(theirs), "B", {match.b: match.a for match in matches})
        is_common = is_common or bool(in_a.keys() & in_b.keys())
        told = machines if len(groups) > 1 or machines.a != machines.b else None
        found += _pairs(in_a, in_b, matches, told, _Reading(raw_a, raw_b, noise, allow_mismatch))
    if not is_common:
        raise UsageError(f"compare: {_nothing(of_a, of_b, matches, groups)}")
    return found


class _Outcome(NamedTuple):
    """The differences of one configuration by one metric."""

    side: str  # as of _Key
    configuration: Configuration
    size: int | None  # of a batch; None if the metric has no other
    differences: Mapping[str, Difference]


class _Key(NamedTuple):
    """What is compared of one metric, apart from threads, batch size and CPUs."""

    side: str  # "" if the name is paired
    name: str  # the one in A, if it is paired
    format: str
    input: str
    backend: str
    device: str
    metric: str


# Of one side, by threads and batch size.
_Sides: TypeAlias = Mapping[_Key, Mapping[_Settings | None, Sequence[Result]]]


def _by_device(a: Sequence[Result], b: Sequence[Result]) -> tuple[dict[str, list[Result]], dict[str, list[Result]]]:
    """The results of each side by the titles of their devices; one device has one title on both sides."""
    title_of = {result.job.machine: each.title for each in by_machine([*a, *b]) for result in each.results}
    titles = dict.fromkeys(title_of.values())
    both = []
    for side in (a, b):
        by_title = {title: [result for result in side if title_of[result.job.machine] == title] for title in titles}
        both.append({title: those for title, those in by_title.items() if _filter_compared(those)})
    return both[0], both[1]


def _devices(a: Sequence[str], b: Sequence[str]) -> Iterator[Machines]:
    """Which device is compared with which: each with itself; one that is alone on its side with each other, if none is on both."""
    if not {*a} & {*b} and 1 in (len(a), len(b)):
        yield from (Machines(a=first, b=second) for first in a for second in b)
        return
    for title in dict.fromkeys((*a, *b)):
        yield Machines(a=title if title in a else None, b=title if title in b else None)


class _Reading(NamedTuple):
    """How two results are read."""

    raw_a: Raw
    raw_b: Raw
    noise: float
    allow_mismatch: bool


def _pairs(
    in_a: _Sides, in_b: _Sides, matches: Sequence[Match], machines: Machines | None, reading: _Reading
) -> Iterator[Pair]:
    """Of two devices, or of one on both sides."""
    match_of = {match.a: match for match in matches}
    outcomes = []
    for key in sorted({*in_a, *in_b}):
        for first, second in _side_by_side(in_a.get(key, {}), in_b.get(key, {})):
            of = first or second
            assert of
            outcomes.append(
                _Outcome(
                    side=key.side,
                    configuration=Configuration.of(of)._replace(name=key.name),
                    size=of.job.batch_size if is_batched(key.metric) else None,
                    differences=_differences(first, second, *reading),
                )
            )
    for (side, configuration), differences in sorted(_by_configuration(outcomes).items(), key=_order):
        yield Pair(
            configuration=configuration,
            match=None if side else match_of[configuration.name],
            machines=machines,
            differences={key: differences[key] for key in sorted(differences, key=lambda key: place_of(key))},
        )


def _nothing(a: Sequence[Result], b: Sequence[Result], matches: Sequence[Match], groups: Sequence[Machines]) -> str:
    """Why there is nothing to compare, and what to do about it."""
    names_a, names_b = _names(a), _names(b)
    if not names_a or not names_b:
        return f"{'A' if not names_a else 'B'} holds no measurement of a configuration; nothing to compare"
    if not matches:
        return (
            f"no name of A ({', '.join(names_a)}) is one of B ({', '.join(names_b)}); say which to compare, as in "
            f"--pair {names_a[0]}={names_b[0]}"
        )
    if not any(machines.a and machines.b for machines in groups):
        of_a, of_b = (
            ", ".join(filter(None, those)) for those in zip(*((each.a, each.b) for each in groups), strict=True)
        )
        return f"no machine of A ({of_a}) is one of B ({of_b}); give files of which one holds a single machine"
    return f"no format, runtime, device and metric of {matches[0].a} is in both A and B; nothing to compare"


def _side_by_side(
    ours: Mapping[_Settings | None, Sequence[Result]], theirs: Mapping[_Settings | None, Sequence[Result]]
) -> Iterator[tuple[Result | None, Result | None]]:
    """Of each number of threads, batch size and CPUs the newest two that are alike; None for what is on one side alone."""
    if ours and theirs and not ours.keys() & theirs.keys():  # other threads, batch sizes or CPUs
        yield list(ours.values())[-1][-1], list(theirs.values())[-1][-1]
        return
    for settings in sorted({*ours, *theirs}, key=lambda settings: settings or ()):
        first, second = ours.get(settings), theirs.get(settings)
        if first and second:
            yield _most_alike(first, second)
        else:
            yield first[-1] if first else None, second[-1] if second else None


def _by_configuration(outcomes: Sequence[_Outcome]) -> dict[tuple[str, Configuration], dict[str, Difference]]:
    """Each configuration once, with all that is compared of it.

    A metric's own batch size is one of the others where that was asked for too. What depends on no batch size stands
    with the metrics' own ones, or with the smallest where none is.
    """
    asked: dict[tuple[str, Configuration], set[int]] = {}
    for outcome in outcomes:
        if outcome.configuration.batch_size:
            alike = outcome.side, outcome.configuration._replace(batch_size=None)
            asked.setdefault(alike, set()).add(outcome.configuration.batch_size)
    placed = [
        outcome._replace(configuration=outcome.configuration._replace(batch_size=outcome.size))
        if outcome.size in asked.get((outcome.side, outcome.configuration), ())
        else outcome
        for outcome in outcomes
    ]
    own = {(outcome.side, outcome.configuration) for outcome in placed if outcome.size}
    found: dict[tuple[str, Configuration], dict[str, Difference]] = {}
    for outcome in placed:
        key = outcome.side, outcome.configuration
        if key not in own and key in asked:
            key = outcome.side, outcome.configuration._replace(batch_size=min(asked[key]))
        found.setdefault(key, {}).update(outcome.differences)
    return found


def _order(item: tuple[tuple[str, Configuration], object]) -> tuple[object, ...]:
    side, configuration = item[0]
    return side, *configuration._replace(batch_size=configuration.batch_size or 0, cpus=configuration.cpus or "")


def place_of(key: str) -> int:
    return compared_of(key).place


def compared_of(key: str) -> Compared:
    metric, _, column = key.rpartition(".")
    return next(compared for compared in compared_columns(metric) if compared.column == column)


def _differences(
    a: Result | None, b: Result | None, raw_a: Raw, raw_b: Raw, noise: float, allow_mismatch: bool
) -> dict[str, Difference]:
    """By metric and column, all that is compared of two results; if one is None, of the other alone."""
    of = a or b
    assert of
    metric = of.job.metric
    if a and b and not allow_mismatch and (unlike := _unlike(a, b)):
        raise UsageError(
            f"compare: {Configuration.of(a)}, {metric}: {unlike}; --allow-mismatch compares them all the same"
        )
    per_image = is_per_image(of.job)  # else nothing that is compared needs the samples
    sides = (a, raw_a if per_image else None), (b, raw_b if per_image else None)
    before, after = (Summary(side, raw).values if side else {} for side, raw in sides)
    found = {}
    for compared in compared_columns(metric):
        first, second = before.get(compared.column), after.get(compared.column)
        difference = _difference(a, b, first, second, compared, noise, raw_a, raw_b)
        if a and b and a.runs == b.runs:
            told = f"{_SAME_RUNS}; {difference.reason}" if a.failure else _SAME_RUNS
            difference = dataclasses.replace(difference, word="tie", reason=told)
        if is_judged(metric, compared.column):
            found[f"{metric}.{compared.column}"] = difference
        elif first or second:
            found[f"{metric}.{compared.column}"] = dataclasses.replace(difference, word=None, reason="")
    return found


def _difference(
    a: Result | None,
    b: Result | None,
    first: Value | None,
    second: Value | None,
    compared: Compared,
    noise: float,
    raw_a: Raw,
    raw_b: Raw,
) -> Difference:
    if unmeasured := _unmeasured(a, b):
        return Difference(a=first, b=second, word=unmeasured[0], reason=unmeasured[1])
    if a and b and is_timed(a.job) and (emulated := [r for r in (a, b) if r.job.machine.emulated]):
        if len(emulated) == 2:
            return Difference(a=None, b=None, word="emulated", reason="such times are not those of a real processor")
        side = "A" if a in emulated else "B"
        return Difference(a=first, b=second, word="undecided", reason=f"the processor of {side} is emulated")
    if not a or not b or not first or not second:
        return Difference(a=first, b=second, word="undecided", reason="it is not known on both sides")
    if is_timed(a.job):
        return _timed(a, b, compared.column, first, second, noise)
    if is_per_image(a.job):
        return _by_image(a, b, first, second, raw_a, raw_b)
    return _once(first, second, METRICS[a.job.metric].better, compared.tie)


def is_judged(metric: str, column: str) -> bool:
    """Whether something is claimed of a column. How far two values of the others differ by chance was not looked at."""
    plugin = as_runtime_metric(metric)
    return not plugin or column == plugin.compared_by


def _unmeasured(a: Result | None, b: Result | None) -> tuple[Word, str] | None:
    """Why there is nothing to compare, if one of the two is missing or failed."""
    if not b:
        return "missing", "is not in B"
    if not a:
        return "new", "is not in A"
    failures = [f"in {side} {r.failure.kind}: {r.failure.reason}" for side, r in (("A", a), ("B", b)) if r.failure]
    return ("failed", "; ".join(failures)) if failures else None


def column_of(key: str) -> Column:
    """The column of a key of `Pair.differences`."""
    metric, _, name = key.rpartition(".")
    return METRICS[metric].columns[name]


def slower(pairs: Iterable[Pair], limit: float) -> list[Pair]:
    """Those of which it cannot be said that B is not slower by more than `limit` (0.05: 5 %).

    That is what is slower by more, and by more than a tie, and what is undecided, has failed or is missing: a gate that
    a crash can pass is none. What is no speed, whether labels are right say, is another question.
    """
    return [pair for pair in pairs if any(True for _ in too_slow(pair, limit))]


def too_slow(pair: Pair, limit: float) -> Iterator[tuple[str, Difference]]:
    """The speeds of a pair that do not pass."""
    for key, difference in pair.differences.items():
        metric = as_runtime_metric(key.rpartition(".")[0])
        if metric and metric.is_speed:
            is_more = difference.word == "slower" and difference.ratio and 1 / difference.ratio.value > 1 + limit
            if is_more or difference.word in ("undecided", "failed", "missing"):
                yield key, difference


def _noises(results: Sequence[Result]) -> Iterator[float]:
    controls = [result for result in results if result.control and result.session]  # damaged ones may be of none
    newest = max(controls, key=lambda result: result.began).session if controls else None
    of_newest = [result for result in results if result.session == newest]
    for metric in {result.job.metric for result in controls}:
        if ratios := against_itself(of_newest, metric):
            yield statistics.noise(ratios)


def _filter_compared(results: Sequence[Result]) -> list[Result]:
    """Those that a comparison is about."""
    return [
        result
        for result in results
        if compared_columns(result.job.metric)
        and not (result.control or not result.job.is_ordinary or isinstance(result.job.artifact.origin, Baseline))
    ]


def _names(results: Iterable[Result]) -> list[str]:
    return list(dict.fromkeys(result.job.artifact.name for result in results))


def _by_settings(
    results: Iterable[Result], side: str, paired: Mapping[str, str]
) -> dict[_Key, dict[_Settings | None, list[Result]]]:
    """By threads, batch size and CPUs, the newest last; `paired` holds the names in A by those of this side."""
    found: dict[_Key, dict[_Settings | None, list[Result]]] = {}
    for result in results:
        job = result.job
        name, format, input, backend, device = Configuration.of(result)[:5]
        whose = ("", paired[name]) if name in paired else (side, name)
        settings = found.setdefault(_Key(*whose, format, input, backend, device, job.metric), {})
        of_these = settings.pop(_settings(job), [])  # so that the order is that of the newest
        settings[_settings(job)] = [*of_these, result]
    return found


def _settings(job: Job) -> _Settings | None:
    """None where they change nothing: of what an earlier stage recorded."""
    return None if isinstance(METRICS[job.metric], RecordedMetric) else (job.threads, job.batch_size, job.cpus or "")


def _most_alike(first: Sequence[Result], second: Sequence[Result]) -> tuple[Result, Result]:
    """The newest pair of the same question; if there is none, the newest of each."""
    for a in reversed(first):
        for b in reversed(second):
            if not _unlike(a, b):
                return a, b
    return first[-1], second[-1]


def _unlike(a: Result, b: Result) -> str | None:
    """In what two results do not answer the same question. Seconds and rounds are only how well they answer it."""
    first, second = a.job, b.job
    if first.protocol != second.protocol:
        return f"measured under protocol {first.protocol} and {second.protocol}"
    if not is_same_input(a, b):
        return f"of other data ({_fed(first)}; {_fed(second)})"
    if bool(first.artifact.training_mode.switched) != bool(second.artifact.training_mode.switched):
        return "one ran in training mode, the other in evaluation mode"
    if isinstance(METRICS[first.metric], RecordedMetric):
        return None
    if first.cpus != second.cpus:
        return f"CPUs {first.cpus or 'unpinned'} and {second.cpus or 'unpinned'}"
    for name in ("batch_size", "threads"):
        if getattr(first, name) != getattr(second, name):
            return f"{name.replace('_', ' ')} {getattr(first, name)} and {getattr(second, name)}"
    if first.limit_test != second.limit_test:
        of = " and ".join(str(job.limit_test or "all") for job in (first, second))
        return f"tested on {of} images (--limit-test)"
    return None


def _fed(job: Job) -> str:
    """The source of the images, or the arrays that an external model takes."""
    data = job.artifact.data
    return data.source if data else ", ".join(map(str, job.artifact.takes))


def _timed(a: Result, b: Result, column: str, before: Value, after: Value, noise: float) -> Difference:
    metric = as_runtime_metric(a.job.metric)
    assert metric
    ours, theirs = (list(result.rounds(column).values()) for result in (a, b))
    if min(*ours, *theirs) <= 0:
        return Difference(a=before, b=after, word="undecided", reason="there is no ratio to nothing")
    ratio = (
        statistics.unpaired_ratio(ours, theirs) if metric.better == "lower" else statistics.unpaired_ratio(theirs, ours)
    )
    word: Word = "tie"
    reason = ""
    if ratio.kind == "range":
        word, reason = "undecided", f"it takes {statistics.ROUNDS_FOR_AN_INTERVAL} rounds of each"
    elif statistics.differs(ratio, noise):
        good, bad = _SPEED_WORDS if metric.is_speed else _OTHER_WORDS
        word = good if ratio.value > 1 else bad
    elif not ratio.low <= 1 <= ratio.high:
        reason = f"inside the noise of ±{noise:.1%}"
    return Difference(a=before, b=after, ratio=ratio, word=word, reason=reason)


def _by_image(a: Result, b: Result, before: Value, after: Value, raw_a: Raw, raw_b: Raw) -> Difference:
    found = agreement(a, b, raw_a, raw_b)
    if not found:
        reason = "the labels of the single images are not there, or of other images"
        return Difference(a=before, b=after, word="undecided", reason=reason)
    return Difference(
        a=before,
        b=after,
        change=Change(
            difference=Estimate(value=found.difference, low=found.low, high=found.high, kind="interval"),
            negative_flips=found.worse,
            positive_flips=found.better,
            p=found.p,
        ),
        word="tie" if not found.distinguishable else "better" if found.difference > 0 else "worse",
    )


def _once(before: Value, after: Value, better: Literal["higher", "lower"], tie: float) -> Difference:
    """Of two numbers that were measured once: their ratio, without an interval."""
    less, more = sorted((before.number, after.number))
    word: Word = "tie" if more <= less * (1 + tie) else "smaller" if after.number == less else "larger"
    ratio = None
    if less > 0:
        times = before.number / after.number if better == "lower" else after.number / before.number
        ratio = Estimate(value=times, low=times, high=times, kind="range", rounds=1)
    return Difference(a=before, b=after, ratio=ratio, word=word)
