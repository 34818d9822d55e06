"""A comparison as tables: every configuration in full, or the few that matter, for a screen.

Of each network first come those that are slower by more than the limit, or cannot be compared, then other regressions,
what failed or is missing, and the largest gains. Where all fit, all are shown.
"""

import dataclasses
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, get_args

from cifar_deploy.core.progress import counted
from cifar_deploy.core.table import Column, Excerpt, Row, Section, Value
from cifar_deploy.metrics import METRICS, RecordedMetric, as_runtime_metric
from cifar_deploy.metrics.summary import Configuration
from cifar_deploy.sections.accuracy import HOW_PAIRED, PAIRED
from cifar_deploy.sections.common import label_titles, labels_of, short_labels
from cifar_deploy.sections.latencies import SPEED_UP
from cifar_deploy.stages import pairing
from cifar_deploy.stages.compare import (
    Difference,
    Machines,
    Pair,
    Word,
    column_of,
    compared_of,
    is_judged,
    place_of,
    slower,
    too_slow,
)

_TITLE = "B against A"
# Named in a note; of more, their number.
_NAMED = 3

# Of an excerpt: so many configurations are all shown. Of more, so many lines, at least _FEWEST of each network.
_ALL_FIT = 24
_LINES = 32
_FEWEST = 3
_REASONS = 5

_TOO_SLOW = "!"
_WORD = "word"
# Of its columns, those that a narrow screen keeps: what B is, and the first ratio.
_KEPT = 2
# What a configuration is, of all that is said of it: the first of these.
_BY_WEIGHT: tuple[Word, ...] = (
    *(
        "slower",
        "worse",
        "failed",
        "missing",
        "faster",
        "better",
        "larger",
        "smaller",
        "undecided",
        "new",
        "emulated",
        "tie",
    ),
)
# Those that matter, by kind: regressions, gaps, gains. The others are counted, and a name of one side alone is told.
_KINDS: tuple[tuple[Word, ...], ...] = (
    ("slower", "worse", "larger"),
    ("failed", "missing"),
    ("faster", "better", "smaller"),
)


def counts(pairs: Sequence[Pair]) -> Iterator[str]:
    """How many configurations are what, a line for each number that is judged: "latency: 12 faster, 3 slower, 77 ties"."""
    yield f"{_TITLE}: {counted(len(pairs), 'configuration')}"
    for machines, those in _by_machines(pairs).items():
        if len(those) == len(pairs):
            yield from _counts(those)
        else:
            yield f"  {machines}: {counted(len(those), 'configuration')}"
            yield from (f"  {line}" for line in _counts(those))


def _by_machines(pairs: Sequence[Pair]) -> dict[Machines | None, list[Pair]]:
    found: dict[Machines | None, list[Pair]] = {}
    for pair in pairs:
        found.setdefault(pair.machines, []).append(pair)
    return found


def _counts(pairs: Iterable[Pair]) -> Iterator[str]:
    found: dict[str, dict[Word, int]] = {}
    for pair in pairs:
        for key, difference in pair.differences.items():
            if difference.word:
                of_key = found.setdefault(key, {})
                of_key[difference.word] = of_key.get(difference.word, 0) + 1
    for key in sorted(found, key=place_of):
        told = (_counted(word, found[key][word]) for word in get_args(Word) if word in found[key])
        yield f"  {column_of(key).title + ':':<12} {', '.join(told)}"


def _counted(word: Word, count: int) -> str:
    return counted(count, word) if word == "tie" else f"{count:,} {word}"


def excerpt(pairs: Sequence[Pair], limit: float | None = None) -> Excerpt:
    """The configurations that matter, in a table that fits a screen. Those that `limit` refuses are marked."""
    refused = {_whose(pair) for pair in slower(pairs, limit)} if limit is not None else set()
    groups = list(_by_machines(pairs))
    shown = sorted(_few(pairs, refused), key=lambda pair: groups.index(pair.machines))
    configurations = [pair.configuration for pair in pairs]
    titles, short = label_titles(configurations), short_labels(configurations)
    several = len(groups) > 1
    columns = _short_columns(pairs)
    notes = [
        "Every ratio is above 1 where B is better.",
        *_interleaved(pairs),
        *_paired(pairs),
        *_unpaired(pairs),
        *_first(_reasons(pairs)),
        *_doubts(pairs),
    ]
    return Excerpt(
        title=_TITLE,
        label_titles=_with_machine(several, "machine", titles),
        columns=columns,
        rows=tuple(
            _short_row(
                pair,
                columns,
                labels=_with_machine(several, str(pair.machines), labels_of(pair.configuration, titles)),
                name=f"{f'{pair.machines}: ' if several else ''}{pair.configuration.name} {short[pair.configuration]}".rstrip(),
                mark=_TOO_SLOW if _whose(pair) in refused else "",
            )
            for pair in shown
        ),
        notes=tuple(notes),
        marks={_TOO_SLOW: "fails --fail-if-slower"} if refused else {},
        intervals=tuple(key for key, column in columns.items() if column.interval),
        spared=tuple(key for key in reversed(columns) if key not in list(columns)[:_KEPT]),
        more=len(pairs) - len(shown),
    )


def _first(lines: Iterator[str]) -> list[str]:
    found = list(lines)
    more = [f"… {len(found) - _REASONS:,} more reasons"] if len(found) > _REASONS else []
    return found[:_REASONS] + more


def _with_machine(several: bool, text: str, labels: tuple[str, ...]) -> tuple[str, ...]:
    return (text, *labels) if several else labels


def _whose(pair: Pair) -> tuple[Machines | None, Configuration]:
    return pair.machines, pair.configuration


_Refused: TypeAlias = Container[tuple[Machines | None, Configuration]]


def _few(pairs: Sequence[Pair], refused: _Refused) -> list[Pair]:
    """Of each network those that matter, the worst first; the network with the worst of all first. All, where all fit."""
    order = sorted(pairs, key=lambda pair: _place(pair, _whose(pair) in refused))
    of_name: dict[tuple[Machines | None, str], list[Pair]] = {}
    for pair in order:
        of_name.setdefault((pair.machines, pair.configuration.name), []).append(pair)
    if len(pairs) <= _ALL_FIT:
        return [pair for of_one in of_name.values() for pair in of_one]
    room = max(_FEWEST, _LINES // len(of_name))
    return [
        pair for of_one in list(of_name.values())[: _LINES // _FEWEST] for pair in _of_network(of_one, room, refused)
    ]


def _of_network(order: Sequence[Pair], room: int, refused: _Refused) -> list[Pair]:
    """A few of each kind; what room they leave goes to the regressions, then to the gaps."""
    kinds: list[list[Pair]] = [[] for _ in _KINDS]
    for pair in order:
        kind = _place(pair, _whose(pair) in refused)[0]
        if kind < len(_KINDS):
            kinds[kind].append(pair)
    taken = [min(len(of_kind), max(1, room // 4)) for of_kind in kinds]
    for place, of_kind in enumerate(kinds):
        taken[place] = min(len(of_kind), taken[place] + room - sum(taken))
    return [pair for of_kind, count in zip(kinds, taken, strict=True) for pair in of_kind[:count]]


def _place(pair: Pair, is_refused: bool) -> tuple[int, bool, int, float]:
    """By kind. What is refused counts as a regression and comes first; then the worst regression, or the largest gain."""
    word = _word_of(pair)
    kind = next((kind for kind, words in enumerate(_KINDS) if word in words and pair.match), len(_KINDS))
    ratio = _ratio(next(difference for difference in pair.differences.values() if difference.word == word))
    return (
        0 if is_refused else kind,
        not is_refused,
        _BY_WEIGHT.index(word),
        ratio if kind == 0 or is_refused else -ratio,
    )


def _ratio(difference: Difference) -> float:
    """Above 1 where B is better."""
    if difference.change:
        return 1 + difference.change.difference.value
    return difference.ratio.value if difference.ratio else 1.0


def _word_of(pair: Pair) -> Word:
    words = _words(pair)
    return next(word for word in _BY_WEIGHT if word in words)


def _short_columns(pairs: Sequence[Pair]) -> dict[str, Column]:
    """What B is; the speed-up, or what is compared in its place; both numbers; then how much each other number changed."""
    keys = sorted({key for pair in pairs for key, each in pair.differences.items() if each.word}, key=place_of)
    columns: dict[str, Column] = {_WORD: Column(title="B is", unit="", stored_unit="")}
    for place, key in enumerate(keys):
        own, shown = column_of(key), _columns(key)
        if change := shown.get(f"{key}.change"):
            columns[f"{key}.change"] = dataclasses.replace(change, title=own.title, unit="points", interval=False)
            continue
        ratio = shown[f"{key}.ratio"]
        if place:
            unit = "× faster" if ratio.title == SPEED_UP.title else f"× {ratio.title}"
            columns[f"{key}.ratio"] = dataclasses.replace(ratio, title=own.title, unit=unit, interval=False)
        else:
            columns |= {f"{key}.ratio": ratio, key: shown[key]}
    return columns


def _short_row(pair: Pair, columns: Container[str], **fields: Any) -> Row:
    """As of `_row`. A tie is a word, but for the first number, whose two values are shown."""
    row = _row((), pair)
    values, words = dict(row.values), {**row.words, _WORD: _word_of(pair)}
    for key, difference in pair.differences.items():
        for shown in (f"{key}.ratio", f"{key}.change"):
            if difference.word and (shown not in values or (difference.word == "tie" and key not in columns)):
                values.pop(shown, None)
                words[shown] = difference.word
    return dataclasses.replace(row, values=values, words=words, **fields)


def section(pairs: Sequence[Pair]) -> Section:
    """A table with a row for each configuration. Its first columns are the latency, its speed-up and the verdict."""
    titles = label_titles(pair.configuration for pair in pairs)
    several = len(_by_machines(pairs)) > 1
    keys = dict.fromkeys(key for pair in pairs for key in pair.differences)
    columns: dict[str, Column] = {}
    for key in sorted(keys, key=place_of):
        columns |= _columns(key)
    return Section(
        title=_TITLE,
        label_titles=_with_machine(several, "machine", titles),
        columns=columns,
        rows=tuple(
            _row(_with_machine(several, str(pair.machines), labels_of(pair.configuration, titles)), pair)
            for pair in pairs
        ),
        notes=(
            *_meanings(keys),
            *_interleaved(pairs),
            *_paired(pairs),
            *_unpaired(pairs),
            *_reasons(pairs),
            *_doubts(pairs),
        ),
    )


def _columns(key: str) -> dict[str, Column]:
    """What is shown of a metric's column."""
    metric, _, name = key.rpartition(".")
    column, plugin = METRICS[metric].columns[name], as_runtime_metric(metric)
    word = {f"{key}.word": Column(title="B is", unit="", stored_unit="")}
    if plugin and plugin.per_image:
        change = dataclasses.replace(PAIRED["difference"], title=f"{column.title} change")
        return {f"{key}.change": change, f"{key}.flips": Column(title="flips", unit="−, +", stored_unit=""), **word}
    judged = is_judged(metric, name)
    both = {key: Column(title=column.title, unit=f"A → B, {column.unit}".rstrip(", "), stored_unit="")}
    ratio = dataclasses.replace(SPEED_UP, title=_ratio_title(key), interval=bool(plugin and plugin.timed and judged))
    return both | {f"{key}.ratio": ratio} | (word if plugin and plugin.timed and judged else {})


def _ratio_title(key: str) -> str:
    metric = METRICS[key.rpartition(".")[0]]
    if not isinstance(metric, RecordedMetric) and metric.is_speed:
        return SPEED_UP.title
    return "smaller" if metric.better == "lower" else "larger"


def _row(labels: tuple[str, ...], pair: Pair) -> Row:
    values: dict[str, Value] = {}
    words: dict[str, str] = {}
    for key, difference in pair.differences.items():
        column, shown = column_of(key), _columns(key)
        words[key] = " → ".join("–" if v is None else column.text(v.number) for v in (difference.a, difference.b))
        if difference.change:
            change = difference.change
            values[f"{key}.change"] = Value(number=change.difference.value, estimate=change.difference)
            words[f"{key}.flips"] = f"{change.negative_flips}, {change.positive_flips}"
        elif f"{key}.change" in shown and difference.a and difference.b:
            values[f"{key}.change"] = Value(number=difference.b.number - difference.a.number)
        if difference.word:
            words[f"{key}.word"] = difference.word
        if difference.word and f"{key}.word" not in shown and (not difference.ratio or difference.word == "tie"):
            words[f"{key}.ratio"] = difference.word
        elif difference.ratio:
            values[f"{key}.ratio"] = Value(number=difference.ratio.value, estimate=difference.ratio)
    return Row(labels=labels, values=values, words=words)


def _meanings(keys: Iterable[str]) -> Iterator[str]:
    """What the columns mean."""
    shown = list(keys)
    yield "Every ratio is above 1 where B is better: how many times faster or smaller than A it is."
    if any(f"{key}.change" in _columns(key) for key in shown):
        yield f"Flips are negative, then positive. {HOW_PAIRED}"
    for key in shown:
        if tie := compared_of(key).tie:
            yield f"The {column_of(key).title} is measured once. Two numbers that differ by at most {tie:.0%} are a tie."


def _interleaved(pairs: Sequence[Pair]) -> Iterator[str]:
    """Which devices are compared, where these are not one device alone."""
    for machines in filter(None, _by_machines(pairs)):
        if machines.a and machines.b and machines.a != machines.b:
            yield (
                f"A was measured on {machines.a} and B on {machines.b}. Not interleaved: what disturbed one device is in one "
                "number alone."
            )
        elif not machines.a or not machines.b:
            yield f"{machines} is in {'A' if machines.a else 'B'} alone."


def _paired(pairs: Iterable[Pair]) -> Iterator[str]:
    """What is compared with another name, and by which rule."""
    for match in dict.fromkeys(pair.match for pair in pairs):
        if match and match.rule != "name":
            yield f"{match.a} of A is compared with {match.b} of B: {pairing.REASONS[match.rule]}."


def _words(pair: Pair) -> set[Word | None]:
    return {difference.word for difference in pair.differences.values()}


def _unpaired(pairs: Sequence[Pair]) -> Iterator[str]:
    """The names that are compared with nothing."""
    in_a, in_b = (
        list(dict.fromkeys(pair.configuration.name for pair in pairs if not pair.match and word in _words(pair)))
        for word in ("missing", "new")
    )
    told = [f"{', '.join(names)} of {side}" for side, names in (("A", in_a), ("B", in_b)) if names]
    if told:
        remedy = f" --pair {in_a[0]}={in_b[0]} compares two of them." if in_a and in_b else ""
        yield f"Not paired: {'; '.join(told)}.{remedy}"


def _reasons(pairs: Sequence[Pair]) -> Iterator[str]:
    """Why B is what the table says, each reason once."""
    found: dict[tuple[Word | None, str], dict[str, list[Configuration]]] = {}
    for pair in pairs:
        for key, difference in pair.differences.items():
            if difference.reason:
                titles = found.setdefault((difference.word, difference.reason), {})
                titles.setdefault(column_of(key).title, []).append(pair.configuration)
    for (word, reason), by_title in found.items():
        alike: dict[tuple[Configuration, ...], list[str]] = {}
        for title, who in by_title.items():
            alike.setdefault(tuple(who), []).append(title)
        for named, same in alike.items():
            of = "; ".join(map(str, named)) if len(named) <= _NAMED else counted(len(named), "configuration")
            yield f"{', '.join(same)} of {of}: {word}: {reason}"


def _doubts(pairs: Sequence[Pair]) -> Iterator[str]:
    """Of how many numbers the verdict is not stable."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    for pair in pairs:
        for key, difference in pair.differences.items():
            for side, value in (("A", difference.a), ("B", difference.b)):
                if value and value.verdict and value.verdict.word != "stable":
                    sides = found.setdefault((column_of(key).title, value.verdict.word), {})
                    sides[side] = sides.get(side, 0) + 1
    for (title, word), sides in found.items():
        told = " and ".join(f"{count} of {side}" for side, count in sorted(sides.items()))
        yield f"{title}: {word} for {told} ({counted(len(pairs), 'configuration')})"


def refusal(pairs: Sequence[Pair], limit: float) -> str | None:
    """Why `--fail-if-slower` fails, with the slowest configuration; None if it passes."""
    slow = slower(pairs, limit)
    if not slow:
        return None
    found = [(pair, key, difference) for pair in slow for key, difference in too_slow(pair, limit)]
    pair, key, difference = min(found, key=lambda item: item[2].ratio.value if item[2].ratio else 1.0)
    told = f"{difference.word}, {difference.reason}"
    if difference.word == "slower" and difference.ratio:
        both = _row((), pair).words[key]
        told = f"{both} {column_of(key).unit}, speed-up {SPEED_UP.text(difference.ratio.value)}"
    return (
        f"--fail-if-slower: {len(slow)} of {counted(len(pairs), 'configuration')}: B is slower by more than {limit:.1%}, "
        f"or cannot be compared; {f'{pair.machines}: ' if pair.machines else ''}{pair.configuration}, {column_of(key).title}: {told}"
    )
