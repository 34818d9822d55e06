"""Two sets of results -> how they differ, configuration by configuration: two machines, two versions, before and after.

They share no round, so a ratio is of all rounds of one to all rounds of the other (see core.statistics), and no
difference is claimed below what the machines' own controls show, nor below 3 %. stages.pairing says what is compared
with what where the names differ. A result that is on both sides is a tie with itself, however few its rounds.
"""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from cifar_deploy.core import statistics, untrusted
from cifar_deploy.core.errors import Corrupt, UsageError
from cifar_deploy.core.journal import grouped, read_lines
from cifar_deploy.core.records import Baseline, Job, Result
from cifar_deploy.core.samples import Samples
from cifar_deploy.core.statistics import Estimate
from cifar_deploy.core.table import Column, Row, Section, Value
from cifar_deploy.metrics import METRICS, as_runtime_metric
from cifar_deploy.metrics.summary import (
    Configuration,
    Raw,
    Summary,
    against_itself,
    agreement,
    compared_by,
    is_per_image,
    is_timed,
)
from cifar_deploy.sections.common import label_titles, labels_of
from cifar_deploy.stages import pairing
from cifar_deploy.stages.pairing import Match, is_same_input
from cifar_deploy.stages.results import fault

_SPEED_UP = Column(title="speed-up", unit="×", stored_unit="1", digits=3, interval=True)


_SAME_RUNS = "the same runs on both sides"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One configuration of both, or of one alone. `slowdown` is 1.1 where B takes a tenth more; 1 if it is not timed."""

    configuration: Configuration  # as A names it, if it is there
    match: Match | None  # the names on both sides; None if the name is in A or in B alone
    metric: str
    a: Value | None  # None if it failed or is missing
    b: Value | None
    speed_up: Estimate | None  # of B over A; of another metric than a speed, how many times better it is
    word: Literal["tie", "faster", "slower", "better", "worse", "undecided", "failed", "missing", "new"]
    reason: str
    slowdown: float = 1.0


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
    """Every timed configuration, and every one whose images can be compared; what failed, or is in one of the two alone, is said to.

    Raises UsageError if the two have none in common, or if the two are not of the same question (protocol, data, batch, threads), unless
    `allow_mismatch` is asked for.
    """
    noise = max([statistics.NOISE_BETWEEN_SESSIONS, *_noises(a), *_noises(b)])
    of_a, of_b = _filter_compared(a), _filter_compared(b)
    matches = pairing.matched(of_a, of_b, pairs, any_input=allow_mismatch)
    in_a = _by_settings(of_a, "A", {match.a: match.a for match in matches})
    in_b = _by_settings(of_b, "B", {match.b: match.a for match in matches})
    match_of = {match.a: match for match in matches}
    if not in_a.keys() & in_b.keys():
        raise UsageError(f"compare: {_nothing(of_a, of_b, matches)}")
    found: list[Pair] = []
    for key in sorted({*in_a, *in_b}):
        ours, theirs = in_a.get(key, {}), in_b.get(key, {})
        shared = sorted(ours.keys() & theirs.keys())
        if shared or not ours or not theirs:
            for settings in sorted({*ours, *theirs}):
                if settings in shared:
                    first, second = _most_alike(ours[settings], theirs[settings])
                    pair = _pair(first, second, raw_a, raw_b, noise, allow_mismatch)
                else:
                    pair = _of_one(ours.get(settings), theirs.get(settings))
                found.append(dataclasses.replace(pair, match=None if key.side else match_of[key.name]))
        else:  # other threads or batch sizes
            first, second = list(ours.values())[-1][-1], list(theirs.values())[-1][-1]
            pair = _pair(first, second, raw_a, raw_b, noise, allow_mismatch)
            found.append(dataclasses.replace(pair, match=None if key.side else match_of[key.name]))
    return found


class _Compared(NamedTuple):
    """What is compared with its like on the other side, apart from threads and batch size."""

    side: str  # "" if the name is paired
    name: str  # the one in A, if it is paired
    format: str
    input: str
    backend: str
    device: str
    metric: str


def _nothing(a: Sequence[Result], b: Sequence[Result], matches: Sequence[Match]) -> str:
    """Why there is nothing to compare, and what to do about it."""
    names_a, names_b = _names(a), _names(b)
    if not names_a or not names_b:
        return "nothing that is timed or says each image's label is in both; nothing to compare"
    if not matches:
        return (
            f"no name of A ({', '.join(names_a)}) is one of B ({', '.join(names_b)}); say which to compare, as in "
            f"--pair {names_a[0]}={names_b[0]}"
        )
    return f"no format, runtime, device and metric of {matches[0].a} is in both A and B; nothing to compare"


def _pair(first: Result, second: Result, raw_a: Raw, raw_b: Raw, noise: float, allow_mismatch: bool) -> Pair:
    if not allow_mismatch and (difference := _unlike(first, second)):
        raise UsageError(
            f"compare: {Configuration.of(first)}, {first.job.metric}: {difference}; --allow-mismatch compares them all the same"
        )
    failures = [
        f"in {side} {r.failure.kind}: {r.failure.reason}" for side, r in (("A", first), ("B", second)) if r.failure
    ]
    same_runs = first.runs == second.runs
    if failures:
        told = [_SAME_RUNS, failures[0]] if same_runs else failures
        return _without_numbers(first, "tie" if same_runs else "failed", "; ".join(told))
    pair = _timed(first, second, noise) if is_timed(first.job) else _by_image(first, second, raw_a, raw_b)
    return dataclasses.replace(pair, word="tie", reason=_SAME_RUNS) if same_runs else pair


def _of_one(ours: Sequence[Result] | None, theirs: Sequence[Result] | None) -> Pair:
    """A configuration that is in A or in B alone."""
    if ours:
        return _without_numbers(ours[-1], "missing", "is not in B")
    assert theirs
    return _without_numbers(theirs[-1], "new", "is not in A")


def _without_numbers(result: Result, word: Literal["tie", "failed", "missing", "new"], reason: str) -> Pair:
    return Pair(
        configuration=Configuration.of(result),
        match=None,
        metric=result.job.metric,
        a=None,
        b=None,
        speed_up=None,
        word=word,
        reason=reason,
    )


def section(pairs: Iterable[Pair]) -> Section:
    """As a table, the reasons below it."""
    columns = {
        "a": Column(title="A", unit="", stored_unit=""),
        "b": Column(title="B", unit="", stored_unit=""),
        "speed_up": _SPEED_UP,
        "word": Column(title="so B is", unit="", stored_unit=""),
    }
    pairs = list(pairs)
    titles = label_titles(pair.configuration for pair in pairs)
    rows: list[Row] = []
    notes = [*_paired(pairs), *_unpaired(pairs)]
    for pair in pairs:
        column = METRICS[pair.metric].columns[compared_by(pair.metric)]
        rows.append(
            Row(
                labels=(*labels_of(pair.configuration, titles), pair.metric),
                values={"speed_up": Value(number=pair.speed_up.value, estimate=pair.speed_up)} if pair.speed_up else {},
                words={
                    **{key: value.text(column, unit=True) for key, value in (("a", pair.a), ("b", pair.b)) if value},
                    "word": pair.word,
                },
            )
        )
        if pair.reason:
            notes.append(f"{pair.configuration}, {pair.metric}: {pair.word}: {pair.reason}")
    labels = (*titles, "metric")
    return Section(title="B against A", label_titles=labels, columns=columns, rows=tuple(rows), notes=tuple(notes))


def _paired(pairs: Iterable[Pair]) -> Iterator[str]:
    """What is compared with another name, and by which rule."""
    for match in dict.fromkeys(pair.match for pair in pairs):
        if match and match.rule != "name":
            yield f"{match.a} of A is compared with {match.b} of B: {pairing.REASONS[match.rule]}."


def _unpaired(pairs: Sequence[Pair]) -> Iterator[str]:
    """The names that are compared with nothing."""
    in_a, in_b = (
        list(dict.fromkeys(pair.configuration.name for pair in pairs if not pair.match and pair.word == word))
        for word in ("missing", "new")
    )
    told = [f"{', '.join(names)} of {side}" for side, names in (("A", in_a), ("B", in_b)) if names]
    if told:
        remedy = f" --pair {in_a[0]}={in_b[0]} compares two of them." if in_a and in_b else ""
        yield f"Not paired: {'; '.join(told)}.{remedy}"


def slower(pairs: Iterable[Pair], limit: float) -> list[Pair]:
    """Those of which it cannot be said that B is not slower by more than `limit` (0.05: 5 %).

    That is what is slower by more, and by more than a tie, and what is undecided, has failed or is missing: a gate that
    a crash can pass is none. What is no speed, whether labels are right say, is another question.
    """
    unknown = ("undecided", "failed", "missing")
    return [
        pair
        for pair in pairs
        if (metric := as_runtime_metric(pair.metric))
        and metric.is_speed
        and (pair.word in unknown or (pair.word == "slower" and pair.slowdown > 1 + limit))
    ]


def _noises(results: Sequence[Result]) -> Iterator[float]:
    for metric in {result.job.metric for result in results if result.control}:
        newest = max((r.session for r in results if r.control and r.session), key=lambda session: session.started)
        if ratios := against_itself([result for result in results if result.session == newest], metric):
            yield statistics.noise(ratios)


def _filter_compared(results: Sequence[Result]) -> list[Result]:
    """Those that a comparison is about: timed, or with the label of each image."""
    return [
        result
        for result in results
        if (is_timed(result.job) or is_per_image(result.job))
        and not (result.control or not result.job.is_ordinary or isinstance(result.job.artifact.origin, Baseline))
    ]


def _names(results: Iterable[Result]) -> list[str]:
    return list(dict.fromkeys(result.job.artifact.name for result in results))


def _by_settings(
    results: Iterable[Result], side: str, paired: Mapping[str, str]
) -> dict[_Compared, dict[tuple[int, int], list[Result]]]:
    """By threads and batch size, the newest last; `paired` holds the names in A by those of this side."""
    found: dict[_Compared, dict[tuple[int, int], list[Result]]] = {}
    for result in results:
        job = result.job
        name, format, input, backend, device = Configuration.of(result)[:5]
        whose = ("", paired[name]) if name in paired else (side, name)
        settings = found.setdefault(_Compared(*whose, format, input, backend, device, job.metric), {})
        of_these = settings.pop((job.threads, job.batch_size), [])  # so that the order is that of the newest
        settings[job.threads, job.batch_size] = [*of_these, result]
    return found


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


def _timed(a: Result, b: Result, noise: float) -> Pair:
    metric = as_runtime_metric(a.job.metric)
    assert metric
    key = metric.compared_by
    before, after = Summary(a).values[key], Summary(b).values[key]
    ours, theirs = (list(result.rounds(key).values()) for result in (a, b))
    speed_up = (
        statistics.unpaired_ratio(ours, theirs) if metric.better == "lower" else statistics.unpaired_ratio(theirs, ours)
    )
    slowdown = 1 / speed_up.value
    doubts = _doubts(before, after)
    word: Literal["tie", "slower", "faster", "worse", "better", "undecided"] = "tie"
    if speed_up.kind == "range":
        word, doubts = "undecided", [f"it takes {statistics.ROUNDS_FOR_AN_INTERVAL} rounds of each", *doubts]
    elif statistics.differs(speed_up, noise):
        word = ("slower" if slowdown > 1 else "faster") if metric.is_speed else "worse" if slowdown > 1 else "better"
    elif not speed_up.low <= 1 <= speed_up.high:
        doubts = [f"inside the noise of ±{noise:.1%}", *doubts]
    return Pair(
        configuration=Configuration.of(a),
        match=None,
        metric=a.job.metric,
        a=before,
        b=after,
        speed_up=speed_up,
        word=word,
        reason="; ".join(doubts),
        slowdown=slowdown,
    )


def _by_image(a: Result, b: Result, raw_a: Raw, raw_b: Raw) -> Pair:
    metric, found = a.job.metric, agreement(a, b, raw_a, raw_b)
    word: Literal["tie", "better", "worse", "undecided"] = "undecided"
    reason = "the labels of the single images are not there, or of other images"
    if found:
        word = "tie" if not found.distinguishable else "better" if found.difference > 0 else "worse"
        reason = (
            f"{found.difference * 100:+.2f} points [{found.low * 100:+.2f}, {found.high * 100:+.2f}], "
            f"{found.worse} negative flips, {found.better} positive flips, p {found.p:.3f}"
        )
    before, after = (Summary(result, raw).values.get(compared_by(metric)) for result, raw in ((a, raw_a), (b, raw_b)))
    return Pair(
        configuration=Configuration.of(a),
        match=None,
        metric=metric,
        a=before,
        b=after,
        speed_up=None,
        word=word,
        reason="; ".join([reason, *_doubts(before, after)]),
    )


def _doubts(before: Value | None, after: Value | None) -> list[str]:
    """Verdicts on the numbers of both sides, where they are not stable."""
    return [
        f"{name} is {value.verdict.word}"
        for name, value in (("A", before), ("B", after))
        if value and value.verdict and value.verdict.word != "stable"
    ]
