"""The choice in words: which network to ship, and why."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from cifar_deploy.backends import with_example
from cifar_deploy.choice.candidates import Candidate, Field
from cifar_deploy.choice.choose import Choice, Kept, NearMiss, Price
from cifar_deploy.core.errors import one_line
from cifar_deploy.core.progress import counted
from cifar_deploy.core.records import Artifact, External, Trained
from cifar_deploy.core.store import EXAMPLE, place_of
from cifar_deploy.core.table import Answer, Column, Example, Excerpt, Pick, Row, Section
from cifar_deploy.metrics import METRICS
from cifar_deploy.metrics.summary import Configuration
from cifar_deploy.sections.common import (
    filled,
    label_titles,
    labels_of,
    precision_of,
    runtime_title,
    short_labels,
)
from cifar_deploy.sections.latencies import RANK, SPEED_UP

# The columns of every table of candidates.
_VALUES = (("accuracy", "accuracy"), ("latency", "p50"), ("memory", "peak"), ("file_size", "bytes"))
_PRECISIONS = {"float32": "float32", "float16": "FP16", "int8": "INT8"}
_LONGEST_DOUBT = 160
# Of a row of the best few, where there is no room for words.
WINNER, PICK = "*", "+"
# Of each network, beside the Pareto set, and of so many networks.
_FEW = 3
_NETWORKS = 8


def named(configuration: Configuration) -> str:
    """For people: mobilenet as INT8 (onnx_int8) on ONNX Runtime."""
    where = runtime_title(configuration)
    if configuration.device != "cpu":
        where += f" ({configuration.device})"
    if configuration.threads != 1:
        where += f" with {counted(configuration.threads, 'thread')}"
    if configuration.cpus:
        where += f" on CPUs {configuration.cpus}"
    if not configuration.format:
        return f"{configuration.name} on {where}"
    if not (precision := precision_of(configuration)):
        return f"{configuration.name} as {configuration.variant} on {where}"
    return f"{configuration.name} as {_PRECISIONS[precision]} ({configuration.variant}) on {where}"


def short_name(configuration: Configuration) -> str:
    """For a card or a chart: mobilenet onnx_int8 on ONNX Runtime."""
    return " ".join(filter(None, [configuration.name, configuration.variant, "on", runtime_title(configuration)]))


def lines(choice: Choice) -> tuple[str, ...]:
    """The answer in at most three lines: what to ship, why, and what to mind."""
    if not choice.winner:
        return tuple(_nothing(choice))
    return (f"{_headline(choice.winner)}: {_numbers(choice.winner)}", *_reasons(choice, choice.winner))


def _headline(winner: Candidate) -> str:
    return f"Ship {named(winner.configuration)}"


def _reasons(choice: Choice, winner: Candidate) -> Iterator[str]:
    yield _why(choice)
    if doubts := list(winner.doubts):
        yield f"Mind: {_short(doubts)}."


def _short(doubts: list[str]) -> str:
    """The doubts in a line: where that is too long, without their details, the first ones first."""
    shown = list(doubts)
    for place, doubt in enumerate(doubts):
        if len("; ".join(shown)) > _LONGEST_DOUBT:
            shown[place] = doubt.partition(" (")[0]
    return one_line("; ".join(shown), _LONGEST_DOUBT)


def _numbers(candidate: Candidate) -> str:
    words = []
    for (metric, key), unit in zip(_VALUES, ("%", "ms", "MiB RAM", "MiB file"), strict=True):
        if value := candidate.value(metric, key):
            number, *others = value.text(METRICS[metric].columns[key]).split(" ", 1)
            interval = others if metric == "latency" else []
            source = ["recorded in training"] if metric == "accuracy" and candidate.recorded else []
            words.append(" ".join([f"{number} {unit}", *interval, *source]))
    text = ", ".join(words)
    if candidate.speed_up:
        reference = "PyTorch eager" if candidate.configuration.format else "the first file"
        text += f"; {candidate.speed_up.number:.3g}× faster than {reference}"
    return text


def _why(choice: Choice) -> str:
    pick = next(pick for pick in choice.picks if pick.role == "best trade-off")
    if choice.best_accuracy is None:
        reason = f"It is the fastest of {counted(choice.qualified, 'configuration')}"
    else:
        reason = (
            f"It is the fastest within {choice.constraints.within * 100:g} points of the best accuracy "
            f"({choice.best_accuracy:.2%}) among {counted(choice.qualified, 'configuration')}"
        )
    if pick.ties:
        reason += f"; {counted(len(pick.ties), 'other')} as fast, with more memory or a larger file"
    kept = "; ".join(map(_kept, choice.kept))
    return f"{reason}. {f'It keeps {kept}.' if kept else ''}".rstrip()


def _kept(kept: Kept) -> str:
    of = f" at p{kept.limit.percentile}" if kept.limit.percentile != 50 else ""
    if kept.confidence is None:
        return f"{kept.limit.text()}{of}"
    sure = "more than 99.9%" if kept.confidence > 0.999 else f"{kept.confidence:.1%}"
    return f"{kept.limit.text()}{of} with {sure} confidence"


def _nothing(choice: Choice) -> Iterator[str]:
    asked = ", ".join(limit.text() for limit in choice.constraints.limits)
    among = counted(choice.considered, "configuration")
    if choice.is_emulated:
        yield "Nothing is picked: the processor is emulated, so its times are not those of a real one."
        return
    yield f"Nothing qualifies: none of {among} keeps {asked}." if asked else f"Nothing qualifies of {among}."
    for limit in choice.unmeasured:
        yield f"Nothing here says {limit.value} of {limit.kind.metric}: {_way_to_a_number(choice, limit)}."
    if choice.near_misses:
        yield f"Nearest: {_near_miss(choice.near_misses[0])}."


def _way_to_a_number(choice: Choice, limit: Any) -> str:
    if limit.percentile != 50:
        return "a percentile needs the samples of at least 6 rounds; run `cifar-deploy evaluate --force`, or leave out --percentile"
    return f"run `cifar-deploy evaluate --metric {limit.kind.metric}`"


def _near_miss(miss: NearMiss) -> str:
    relaxed = " ".join(limit.text(number) for limit, number in miss.relaxed.items())
    return f"{named(miss.candidate.configuration)} would qualify with {relaxed}"


def _price(price: Price) -> str:
    costs = [
        f"{scaled:+.3g} {unit}"
        for scaled, unit in (
            (price.latency_s * 1e3, "ms"),
            (price.memory_bytes / 2**20, "MiB RAM"),
            (price.size_bytes / 2**20, "MiB file"),
            (price.training_s / 60, "minutes of training"),
        )
        if math.isfinite(scaled)
    ]
    return (
        f"{named(price.candidate.configuration)} has {price.points:+.2f} points. Each point costs {', '.join(costs)}."
    )


def sections(choice: Choice) -> Iterator[Section]:
    """The tables below the answer: the picks, and the Pareto set where it holds others."""
    if choice.best_accuracy is None:
        return
    picked_as = roles(choice)
    candidates = {candidate.configuration: candidate for candidate in (*_picked(choice), *choice.front)}
    titles = label_titles(candidates)
    picks = [_row(candidates[configuration], titles, those) for configuration, those in picked_as.items()]
    yield filled("Picks", ("pick", *titles), _columns(), picks)
    if any(candidate.configuration not in picked_as for candidate in choice.front):
        notes = ("Each is distinguishably more accurate than all that are faster.",)
        yield filled("Pareto set", titles, _columns(), [_row(candidate, titles) for candidate in choice.front], notes)


def roles(choice: Choice) -> dict[Configuration, str]:
    """What each picked configuration is picked as: one may be several."""
    roles: dict[Configuration, list[str]] = {}
    for pick in choice.picks:
        roles.setdefault(pick.candidate.configuration, []).append(pick.role)
    return {configuration: ", ".join(those) for configuration, those in roles.items()}


def _picked(choice: Choice) -> list[Candidate]:
    return [pick.candidate for pick in choice.picks]


def told(
    choice: Choice,
    field: Field,
    groups: Mapping[Configuration, str] = MappingProxyType({}),
    compared: Sequence[str] = (),
) -> Answer:
    """The choice as the report shows it.

    Args:
        groups: The ranks of latencies, by configuration.
        compared: Sentences on the answers of external models (see sections.accuracy).
    """
    if not choice.winner:
        headline, *reasons = lines(choice)
        if not choice.is_emulated:
            reasons += [f"Never picked: {line}." for line in _by_reason(choice.never)][:_FEW]
        return Answer(headline=headline, reasons=(*reasons, *compared), columns=_columns(), remarks=remarks(choice))
    columns = _columns()
    if choice.best_accuracy is None:
        columns.pop("accuracy.accuracy")
    picked = {candidate.configuration: candidate for candidate in _picked(choice)}
    return Answer(
        headline=_headline(choice.winner),
        reasons=(f"{_numbers(choice.winner)}.", *_reasons(choice, choice.winner), *compared),
        columns=columns,
        picks=tuple(
            Pick(
                role=role,
                title=short_name(configuration),
                row=_row(picked[configuration], label_titles([configuration])),
                paths=_paths(picked[configuration].artifact),
                example=_example(picked[configuration]),
                is_winner=picked[configuration] is choice.winner,
            )
            for configuration, role in roles(choice).items()
        ),
        best=_best(choice, field, groups),
        remarks=remarks(choice),
    )


def _paths(artifact: Artifact) -> tuple[str, ...]:
    """Of its files, from the output folder; of an external model, as its record names them."""
    if isinstance(artifact.origin, External):
        return tuple(file.name for file in artifact.files)
    return tuple((place_of(artifact) / file.name).as_posix() for file in artifact.files)


def _example(candidate: Candidate) -> Example | None:
    """The artifact's example.py (see stages.app), from the output folder; None if it has none."""
    artifact = candidate.artifact
    runtime = with_example(str(artifact.format))
    if not runtime or not isinstance(artifact.origin, Trained):
        return None
    is_own = runtime.title == runtime_title(candidate.configuration)
    return Example(path=(place_of(artifact) / EXAMPLE).as_posix(), runtime=None if is_own else runtime.title)


def _best(choice: Choice, field: Field, groups: Mapping[Configuration, str]) -> Excerpt:
    """The picks, the Pareto set and the fastest few of each network, the fastest first."""
    picked_as = roles(choice)
    marks = {candidate.configuration: "Pareto set" for candidate in choice.front} | picked_as
    seen: dict[str, int] = {}
    shown = []
    for candidate in sorted(field.candidates, key=lambda each: each.latency_s):
        name = candidate.configuration.name
        seen[name] = seen.get(name, 0) + 1
        if candidate.configuration in marks or (seen[name] <= _FEW and len(seen) <= _NETWORKS):
            shown.append(candidate)
    titles = label_titles(candidate.configuration for candidate in shown)
    everyone = [*(candidate.configuration for candidate in field.candidates), *field.never]
    short = short_labels(everyone)
    notes = []
    if any(candidate.recorded for candidate in shown):
        notes.append("top-1 is the accuracy recorded in training: the test images are not here.")
    rows = []
    for candidate in shown:
        row = _row(candidate, titles, marks.get(candidate.configuration, "–"))
        group = groups.get(candidate.configuration)
        mark = WINNER if candidate is choice.winner else PICK if candidate.configuration in picked_as else ""
        name = f"{candidate.configuration.name} {short[candidate.configuration]}"
        rows.append(replace(row, words={"rank": group} if group else {}, mark=mark, name=name))
    columns = {**_columns(), "rank": replace(RANK, title="group")}
    columns["accuracy.accuracy"] = replace(columns["accuracy.accuracy"], title="top-1")
    best = filled("The best few", ("pick", *titles), columns, rows, tuple(notes))
    return Excerpt(
        **vars(best),
        marks={WINNER: "is the one to ship", PICK: "is another pick"},
        intervals=("latency.p50",),
        spared=("rank", "file_size.bytes", "memory.peak", "speed_up"),
        more=len(everyone) - len(shown),
    )


def remarks(choice: Choice) -> Mapping[str, tuple[str, ...]]:
    """Lists of lines that stand below, by their titles."""
    lists: dict[str, tuple[str, ...]] = {
        "Near misses": tuple(f"{_near_miss(miss)} ({_numbers(miss.candidate)})" for miss in choice.near_misses),
        "The next point of accuracy": (_price(choice.price),) if choice.price else (),
        "Never picked": tuple(_by_reason(choice.never)),
    }
    return {title: those for title, those in lists.items() if those}


def _by_reason(never: Mapping[Configuration, str]) -> Iterator[str]:
    reasons: dict[str, list[Configuration]] = {}
    for configuration, reason in never.items():
        reasons.setdefault(reason, []).append(configuration)
    for reason, those in reasons.items():
        more = f" and {len(those) - 1} more" if len(those) > 1 else ""
        yield f"{those[0]}{more}: {reason}"


def _columns() -> dict[str, Column]:
    return {**{f"{metric}.{key}": METRICS[metric].columns[key] for metric, key in _VALUES}, "speed_up": SPEED_UP}


def _row(candidate: Candidate, titles: Iterable[str], role: str | None = None) -> Row:
    values = {f"{metric}.{key}": value for metric, key in _VALUES if (value := candidate.value(metric, key))}
    if candidate.speed_up:
        values["speed_up"] = candidate.speed_up
    labels = labels_of(candidate.configuration, titles)
    return Row(labels=(role, *labels) if role else labels, values=values)
