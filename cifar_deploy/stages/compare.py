"""Two sets of results -> how they differ, cell by cell: two machines, two versions, before and after.

They share no round, so a ratio is of all rounds of one to all rounds of the other (see core.statistics), and no
difference is claimed below what the machines' own controls show, nor below 3 %.
"""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cifar_deploy.core import statistics, untrusted
from cifar_deploy.core.errors import Corrupt, UsageError
from cifar_deploy.core.records import Result
from cifar_deploy.core.statistics import Estimate
from cifar_deploy.core.store import Samples, grouped, is_floor, read_lines
from cifar_deploy.core.table import Column, Row, Section, Value
from cifar_deploy.metrics import METRICS, as_measured
from cifar_deploy.metrics.summary import (
    Cell,
    Raw,
    Summary,
    against_itself,
    agreement,
    compared_by,
    is_per_image,
    is_timed,
)
from cifar_deploy.stages.results import fault

_RATIO = Column(title="B / A", unit="", stored_unit="1", digits=3, interval=True)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One cell of both, or of one alone. `slowdown` is 1.1 where B takes a tenth more; 1 if it is not timed."""

    cell: Cell
    metric: str
    a: Value | None  # None if it failed or is missing
    b: Value | None
    ratio: Estimate | None
    word: Literal["tie", "faster", "slower", "better", "worse", "undecided", "failed", "missing", "new"]
    reason: str
    slowdown: float = 1.0


def compare(a: Path, b: Path, *, unlike: bool = False) -> list[Pair]:
    """How the results of `b` differ from those of `a`: output folders, or results.jsonl files with their raw/ beside them.

    Raises UsageError if there is nothing to compare, or, unless `unlike`, if the two answer different questions.
    """
    (results_a, raw_a), (results_b, raw_b) = _read_results(a), _read_results(b)
    return pairs_of(results_a, results_b, raw_a, raw_b, unlike=unlike)


def _read_results(path: Path) -> tuple[list[Result], Raw]:
    file = _results_file(path)
    lines = read_lines(file, fault)
    told = lines.told()
    if told and not lines.blocks:
        raise Corrupt(f"{file}: {told[0]}; give a results.jsonl that `cifar-deploy evaluate` wrote")
    for left_out in told:
        warnings.warn(f"{file}: {left_out}")
    return grouped(lines.blocks), Samples(file.parent)


def _results_file(path: Path) -> Path:
    untrusted.check_named(path, "give an output folder, or a results.jsonl")
    for candidate in (path, path / "results.jsonl", path / "reports" / "results.jsonl"):
        if os.path.lexists(candidate) and not candidate.is_dir():
            untrusted.check_named(candidate, "give another")
            untrusted.open_regular(candidate).close()
            return candidate
    raise UsageError(f"{path}: neither a results.jsonl nor a folder that holds reports/results.jsonl; give another")


def pairs_of(a: Sequence[Result], b: Sequence[Result], raw_a: Raw, raw_b: Raw, *, unlike: bool = False) -> list[Pair]:
    """Every timed cell, and every one whose images can be compared; what failed, or is in one of the two alone, is said to.

    Raises UsageError if the two have none in common, or if the two are not of the same question (protocol, data, batch, threads), unless
    `unlike` is asked for.
    """
    noise = max([statistics.NOISE_BETWEEN_SESSIONS, *_noises(a), *_noises(b)])
    newest_a, newest_b = _newest(a), _newest(b)
    if not newest_a.keys() & newest_b.keys():
        raise UsageError("compare: nothing that is timed or says each image's label is in both; nothing to compare")
    pairs = []
    for key in sorted({*newest_a, *newest_b}):
        if key not in newest_a or key not in newest_b:
            result = (newest_a.get(key) or newest_b[key])[-1]
            missing = key not in newest_b
            word: Literal["missing", "new"] = "missing" if missing else "new"
            pairs.append(_without_numbers(result, word, f"is not in {'B' if missing else 'A'}"))
            continue
        first, second = _most_alike(newest_a[key], newest_b[key])
        if not unlike and (difference := _unlike(first, second)):
            raise UsageError(f"compare: {Cell.of(first)}, {key[1]}: {difference}; --unlike compares them all the same")
        failures = [
            f"in {side} {r.failure.kind}: {r.failure.reason}" for side, r in (("A", first), ("B", second)) if r.failure
        ]
        if failures:
            pairs.append(_without_numbers(first, "failed", "; ".join(failures)))
        elif is_timed(first.job):
            pairs.append(_timed(first, second, noise))
        else:
            pairs.append(_by_image(first, second, raw_a, raw_b))
    return pairs


def _without_numbers(result: Result, word: Literal["failed", "missing", "new"], reason: str) -> Pair:
    return Pair(cell=Cell.of(result), metric=result.job.metric, a=None, b=None, ratio=None, word=word, reason=reason)


def section(pairs: Iterable[Pair]) -> Section:
    """As a table, the reasons below it."""
    columns = {
        "a": Column(title="A", unit="", stored_unit=""),
        "b": Column(title="B", unit="", stored_unit=""),
        "ratio": _RATIO,
        "word": Column(title="so B is", unit="", stored_unit=""),
    }
    rows, notes = [], []
    for pair in pairs:
        column = METRICS[pair.metric].columns[compared_by(pair.metric)]
        rows.append(
            Row(
                labels=(pair.cell.name, pair.cell.format, pair.cell.backend, pair.metric),
                values={"ratio": Value(number=pair.ratio.value, estimate=pair.ratio)} if pair.ratio else {},
                words={
                    **{key: value.text(column, unit=True) for key, value in (("a", pair.a), ("b", pair.b)) if value},
                    "word": pair.word,
                },
            )
        )
        if pair.reason:
            notes.append(f"{pair.cell}, {pair.metric}: {pair.word}: {pair.reason}")
    labels = ("network", "format", "backend", "metric")
    return Section(title="B against A", label_titles=labels, columns=columns, rows=tuple(rows), notes=tuple(notes))


def slower(pairs: Iterable[Pair], limit: float) -> list[Pair]:
    """Those of which it cannot be said that B is not slower by more than `limit` (0.05: 5 %).

    That is what is slower by more, and by more than a tie, and what is undecided, has failed or is missing: a gate that
    a crash can pass is none. What is no speed, whether labels are right say, is another question.
    """
    unknown = ("undecided", "failed", "missing")
    return [
        pair
        for pair in pairs
        if (metric := as_measured(pair.metric))
        and metric.is_speed
        and (pair.word in unknown or (pair.word == "slower" and pair.slowdown > 1 + limit))
    ]


def _noises(results: Sequence[Result]) -> Iterator[float]:
    for metric in {result.job.metric for result in results if result.control}:
        newest = max((r.session for r in results if r.control and r.session), key=lambda session: session.started)
        if ratios := against_itself([result for result in results if result.session == newest], metric):
            yield statistics.noise(ratios)


def _newest(results: Sequence[Result]) -> dict[tuple[tuple[str, ...], str], list[Result]]:
    """By network, format, backend, device and metric; of several threads or batch sizes all, the newest last."""
    found: dict[tuple[tuple[str, ...], str], list[Result]] = {}
    for result in results:
        compared = is_timed(result.job) or is_per_image(result.job)
        if compared and not (result.control or result.job.special or is_floor(result.job.artifact.name)):
            found.setdefault((Cell.of(result)[:4], result.job.metric), []).append(result)
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
    data = first.artifact.checkpoint.training.data, second.artifact.checkpoint.training.data
    if first.protocol != second.protocol:
        return f"measured under protocol {first.protocol} and {second.protocol}"
    if data[0].fingerprint != data[1].fingerprint:
        return f"of other data ({data[0].source}; {data[1].source})"
    for name in ("batch_size", "threads"):
        if getattr(first, name) != getattr(second, name):
            return f"{name.replace('_', ' ')} {getattr(first, name)} and {getattr(second, name)}"
    if first.options.get("limit_test") != second.options.get("limit_test"):
        return "tested on other images (--limit-test)"
    return None


def _timed(a: Result, b: Result, noise: float) -> Pair:
    metric = as_measured(a.job.metric)
    assert metric
    key = metric.compared_by
    before, after = Summary(a).values[key], Summary(b).values[key]
    ratio = statistics.unpaired_ratio(list(b.rounds(key).values()), list(a.rounds(key).values()))
    slowdown = ratio.value if metric.better == "lower" else 1 / ratio.value
    doubts = [
        f"{name} is {value.verdict.word}"
        for name, value in (("A", before), ("B", after))
        if value.verdict and value.verdict.word != "stable"
    ]
    word: Literal["tie", "slower", "faster", "worse", "better", "undecided"] = "tie"
    if ratio.kind == "range":
        word, doubts = "undecided", [f"it takes {statistics.ROUNDS_FOR_AN_INTERVAL} rounds of each", *doubts]
    elif statistics.differs(ratio, noise):
        word = ("slower" if slowdown > 1 else "faster") if metric.is_speed else "worse" if slowdown > 1 else "better"
    elif not ratio.low <= 1 <= ratio.high:
        doubts = [f"inside the noise of ±{noise:.1%}", *doubts]
    return Pair(
        cell=Cell.of(a),
        metric=a.job.metric,
        a=before,
        b=after,
        ratio=ratio,
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
            f"{found.worse} worse, {found.better} better, p {found.p:.3f}"
        )
    before, after = (Summary(result).values.get(compared_by(metric)) for result in (a, b))
    return Pair(cell=Cell.of(a), metric=metric, a=before, b=after, ratio=None, word=word, reason=reason)
