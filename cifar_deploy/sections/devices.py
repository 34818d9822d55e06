"""Several devices side by side: accuracy once, and of each device latency, its ratio to the first one's, and memory.

Devices share no round, so a ratio between two of them is *not interleaved*: nothing that slowed one of them is in both
numbers. Times of an emulated processor are neither shown nor compared.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeAlias

from cifar_deploy.core import statistics
from cifar_deploy.core.progress import counted
from cifar_deploy.core.records import Job, Machine, Result
from cifar_deploy.core.statistics import Agreement
from cifar_deploy.core.table import Column, Excerpt, Overview, Row, Section, Value
from cifar_deploy.metrics import METRICS
from cifar_deploy.metrics.summary import Configuration, Raw, Summary, compared_by, shared_agreement
from cifar_deploy.sections.common import (
    Cells,
    Configurations,
    by_settings,
    is_int8,
    label_titles,
    labels_of,
    median_s,
    short_labels,
)

TITLE = "Devices"

_LATENCY, _PEAK, _ACCURACY = (
    METRICS[metric].columns[key] for metric, key in (("latency", "p50"), ("memory", "peak"), ("accuracy", "accuracy"))
)
_RATIO = Column(
    title="",
    unit="×",
    stored_unit="1",
    interval=True,
    meaning="how many times faster this device is than the first one; not interleaved: the devices share no round, so "
    "what disturbed one of them is in one number alone",
)
_LABELS = Column(
    title="labels",
    unit="",
    stored_unit="",
    meaning="whether the devices give the same test images the same labels, of the images that both classified",
)
_ON_ONE = "on this device"
# Of a screen: rows, and beside what the answers name the fastest few of each network.
_MOST, _FEW = 16, 3
_WINNER, _PICK = "*", "+"


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device, all that was measured on it, and what its answer names."""

    title: str
    machine: Machine
    configurations: Configurations
    winner: Configuration | None = None
    picks: frozenset[Configuration] = field(default=frozenset())
    front: frozenset[Configuration] = field(default=frozenset())


class _Key(NamedTuple):
    """What may be compared: the same configuration, and the same files."""

    configuration: Configuration
    files: tuple[str, ...]  # sha256


# Of each configuration, what was measured of it, by the device.
_Rows: TypeAlias = Mapping[_Key, Mapping[str, dict[str, Summary]]]


def overview(devices: Sequence[Device], raw: Raw) -> Overview:
    """Of at least two devices."""
    rows = _rows(devices)
    titles = label_titles(key.configuration for key in rows)
    several = _of_several_files(rows)
    reference = next((device for device in devices if not device.machine.emulated), devices[0])
    columns = _columns(devices, reference)
    short = short_labels(key.configuration for key in rows)
    agreements = {key: dict(_agreements(of_key, raw)) for key, of_key in rows.items()}
    made = {}
    winners = {device.winner for device in devices}
    for key, of_key in sorted(rows.items(), key=lambda item: item[0].configuration not in winners):
        ships = [device.title for device in devices if device.winner == key.configuration and device.title in of_key]
        picked = any(key.configuration in device.picks and device.title in of_key for device in devices)
        row = _row(of_key, devices, reference, agreements[key])
        file = [key.files[0][:8] if key.files else "–"] if several else []
        made[key] = replace(
            row,
            labels=(*labels_of(key.configuration, titles), *file),
            mark=f"ship on {', '.join(ships)}" if ships else "a pick" if picked else "",
            name=" ".join(filter(None, [key.configuration.name, short[key.configuration], *file])),
        )
    shown = {key: column for key, column in columns.items() if any(_holds(row, key) for row in made.values())}
    notes = (
        *_how(devices, reference),
        *_notes_on_labels(devices, rows, agreements),
        *_notes_on_files(several),
    )
    section = Section(
        title=TITLE,
        label_titles=(*titles, *(["sha256"] if several else [])),
        columns=shown,
        rows=tuple(made.values()),
        notes=notes,
    )
    return Overview(section=section, few=_few(section, made, devices, reference))


def _rows(devices: Sequence[Device]) -> dict[_Key, dict[str, dict[str, Summary]]]:
    """The networks in the order of the first device, of each the configurations from the fastest to the slowest there."""
    found: dict[_Key, dict[str, dict[str, Summary]]] = {}
    for device in devices:
        for configuration, of_one in by_settings(device.configurations).items():
            files = next(iter(of_one.values())).result.job.artifact.files
            key = _Key(configuration, tuple(file.sha256 for file in files))
            found.setdefault(key, {})[device.title] = of_one
    names = {name: place for place, name in enumerate(dict.fromkeys(key.configuration.name for key in found))}

    def place(key: _Key) -> tuple[int, float]:
        medians = (median_s(of_one) for of_one in found[key].values())
        return names[key.configuration.name], next((each for each in medians if each < math.inf), math.inf)

    return {key: found[key] for key in sorted(found, key=place)}


def _of_several_files(rows: _Rows) -> dict[Configuration, dict[_Key, None]]:
    """The configurations of which the devices have measured different files."""
    found: dict[Configuration, dict[_Key, None]] = {}
    for key in rows:
        found.setdefault(key.configuration, {})[key] = None
    return {configuration: keys for configuration, keys in found.items() if len(keys) > 1}


def _columns(devices: Sequence[Device], reference: Device) -> dict[str, Column]:
    """Accuracy, then what depends on the device."""
    columns = {"accuracy": replace(_ACCURACY, interval=True), "labels": _LABELS}
    for place, device in enumerate(devices):
        on = f"on {device.title}"
        columns[f"latency.{place}"] = replace(
            _LATENCY, title=f"latency {on}", meaning=f"median latency {_ON_ONE}: see latency"
        )
        if _has_ratio(device, reference):
            columns[f"ratio.{place}"] = replace(
                _RATIO, title=f"{device.title} against {reference.title}, not interleaved"
            )
    for place, device in enumerate(devices):
        columns[f"memory.{place}"] = replace(
            _PEAK, title=f"memory on {device.title}", meaning=f"peak resident memory {_ON_ONE}"
        )
    return columns


def _has_ratio(device: Device, reference: Device) -> bool:
    return device is not reference and not device.machine.emulated


def _holds(row: Row, key: str) -> bool:
    return key in row.values or key in row.failures or key in row.words


def _row(
    of_key: Mapping[str, dict[str, Summary]],
    devices: Sequence[Device],
    reference: Device,
    agreements: Mapping[str, Agreement | None],
) -> Row:
    cells = Cells()
    cells.take("accuracy", _accuracy_of(of_key), "accuracy")
    if told := _told(agreements):
        cells.words["labels"] = told
    for place, device in enumerate(devices):
        of_one = of_key.get(device.title, {})
        cells.take(f"latency.{place}", of_one.get("latency"), compared_by("latency"))
        cells.take(f"memory.{place}", of_one.get("memory"), "peak")
        if not _has_ratio(device, reference):
            continue
        ratio = _ratio(of_key.get(reference.title, {}).get("latency"), of_one.get("latency"))
        if isinstance(ratio, Value):
            cells.values[f"ratio.{place}"] = ratio
        elif ratio:
            cells.words[f"ratio.{place}"] = ratio
    return cells.row(())


def _ratio(first: Summary | None, this: Summary | None) -> Value | str | None:
    """How many times faster this one is, or why no number can say so; None where one of the two was not measured."""
    if not first or not this or first.failure or this.failure:
        return None
    if unlike := _unlike(first.result.job, this.result.job):
        return unlike
    ours, theirs = (list(each.result.rounds(compared_by("latency")).values()) for each in (this, first))
    if not ours or not theirs or min(*ours, *theirs) <= 0:
        return None
    ratio = statistics.unpaired_ratio(theirs, ours)
    doubted = [each.verdict for each in (this, first) if each.verdict and each.verdict.word != "stable"]
    return Value(number=ratio.value, estimate=ratio, verdict=doubted[0] if doubted else this.verdict)


def _unlike(first: Job, this: Job) -> str | None:
    """In what two latencies of one configuration are of different questions."""
    if first.protocol != this.protocol:
        return "other protocol"
    return "other batch size" if first.batch_size != this.batch_size else None


# Labels


def _accuracy_of(of_key: Mapping[str, dict[str, Summary]]) -> Summary | None:
    """Of the first device that classified the most images; one that failed, where none did not."""
    found = [of_one["accuracy"] for of_one in of_key.values() if "accuracy" in of_one]
    return max(found, key=lambda each: _images(each.result), default=None)


def _images(result: Result) -> float:
    return result.measurement.values.get("images", 0.0) if result.measurement else -1.0


def _agreements(of_key: Mapping[str, dict[str, Summary]], raw: Raw) -> Iterator[tuple[str, Agreement | None]]:
    """Of each further device that has an accuracy: its labels against those whose accuracy is shown; None if they are lost."""
    shown = _accuracy_of(of_key)
    for device, of_one in of_key.items():
        accuracy = of_one.get("accuracy")
        if shown and accuracy and accuracy is not shown and accuracy.values and shown.values:
            yield device, shared_agreement(shown.result, accuracy.result, raw)


def _told(agreements: Mapping[str, Agreement | None]) -> str:
    """What the labels of the devices are to each other."""
    known = {device: found for device, found in agreements.items() if found}
    differing = [
        f"{len(found.changed):,} of {found.images:,} differ on {device}"
        for device, found in known.items()
        if found.changed
    ]
    if differing:
        return ", ".join(differing)
    if not known or len(known) < len(agreements):
        return ""
    return f"same on {min(found.images for found in known.values()):,}"


def _notes_on_labels(
    devices: Sequence[Device], rows: _Rows, agreements: Mapping[_Key, Mapping[str, Agreement | None]]
) -> Iterator[str]:
    counts = {
        _images(summary.result)
        for of_key in rows.values()
        for of_one in of_key.values()
        if (summary := of_one.get("accuracy"))
    }
    if len(counts - {-1.0}) > 1:
        yield "The devices classified different numbers of images. Accuracy is of the most; labels are compared on those that both classified."
    if lost := [key for key in rows if None in agreements[key].values()]:
        yield (
            f"Labels are not compared for {counted(len(lost), 'configuration')}: the predictions are not here, or are of other images."
        )
    by_title = {device.title: device for device in devices}
    for title in by_title:
        differing = [key for key in rows if (found := agreements[key].get(title)) and found.changed]
        if differing:
            shown = {_device_shown(rows[key]) for key in differing}
            for first in (by_title[each] for each in by_title if each in shown):
                of_these = [key.configuration for key in differing if _device_shown(rows[key]) == first.title]
                yield _explained(first, by_title[title], of_these)


def _device_shown(of_key: Mapping[str, dict[str, Summary]]) -> str:
    """The device whose accuracy is shown."""
    shown = _accuracy_of(of_key)
    return next(device for device, of_one in of_key.items() if of_one.get("accuracy") is shown)


def _explained(first: Device, other: Device, differing: Sequence[Configuration]) -> str:
    """Which labels differ between two devices, and whether instructions for INT8 may be the reason."""
    told = f"Labels of {counted(len(differing), 'configuration')} differ between {first.title} and {other.title}."
    if not any(map(is_int8, differing)):
        return told
    has = {device.title: device.machine.has_int8_dot_products() for device in (first, other)}
    if unknown := [title for title, known in has.items() if known is None]:
        return f"{told} Whether {' and '.join(unknown)} has instructions for INT8 dot products is not known."
    if len(set(has.values())) == 1:
        both = "have" if has[first.title] else "lack"
        return f"{told} Both {both} instructions for INT8 dot products, so these do not explain it."
    owner, lacking = sorted(has, key=lambda title: not has[title])
    return (
        f"{told} {owner} has instructions for INT8 dot products and {lacking} has none: that may explain it for INT8."
    )


# Notes


def _how(devices: Sequence[Device], reference: Device) -> Iterator[str]:
    if any(_has_ratio(device, reference) for device in devices):
        yield (
            f"A ratio is how many times faster a device is than {reference.title}. Not interleaved: the devices share no round, "
            "so what disturbed one is in one number alone."
        )
    if emulated := [device.title for device in devices if device.machine.emulated]:
        yield (
            f"{' and '.join(emulated)}: emulated. Such times are not those of a real processor, so they are not shown, "
            "ranked, picked or compared. Memory includes the emulator's."
        )


def _notes_on_files(several: Mapping[Configuration, Iterable[_Key]]) -> Iterator[str]:
    if several:
        yield (
            f"Of {counted(len(several), 'configuration')} the devices measured different files; each file has a row, with "
            "the beginning of its sha256."
        )


# For a screen


def _few(section: Section, made: Mapping[_Key, Row], devices: Sequence[Device], reference: Device) -> Excerpt:
    """The rows that an answer names, in columns with short titles: devices by name, and what a number is by its unit."""
    winners = {device.winner for device in devices}
    picks = frozenset[Configuration]().union(*(device.picks for device in devices))
    front = frozenset[Configuration]().union(*(device.front for device in devices))
    seen: dict[str, int] = {}
    weights: dict[_Key, tuple[int, int]] = {}
    for key in made:
        of_answer = [each for each, those in enumerate((winners, picks, front)) if key.configuration in those]
        seen[key.configuration.name] = seen.get(key.configuration.name, 0) + 1
        if of_answer or seen[key.configuration.name] <= _FEW or len(made) <= _MOST:
            weights[key] = (min(of_answer, default=3), seen[key.configuration.name])
    kept = set(sorted(weights, key=lambda each: weights[each])[:_MOST])
    columns = {}
    for name, column in section.columns.items():
        kind, _, place = name.partition(".")
        title = devices[int(place)].title if place else column.title
        if kind == "ratio":
            column = replace(column, title=f"{title} / {reference.title}", unit="× not interleaved")
        elif place:
            column = replace(column, title=title if kind == "latency" else f"{title} {kind}")
        columns[name] = column
    return Excerpt(
        title=section.title,
        label_titles=section.label_titles,
        columns=columns,
        rows=tuple(
            replace(
                made[key],
                mark=_WINNER if key.configuration in winners else _PICK if key.configuration in picks else "",
            )
            for key in made
            if key in kept
        ),
        notes=section.notes,
        marks={_WINNER: "is the one to ship on a device", _PICK: "is a pick on a device"},
        intervals=tuple(name for name in columns if name.startswith("latency.")),
        spared=tuple(name for kind in ("memory.", "labels", "ratio.") for name in columns if name.startswith(kind)),
        more=len(made) - len(kept),
    )
