"""Results -> Table. It reads results and what lies behind them, nothing else: whatever it shows can be made again."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.choice import answer
from cifar_deploy.choice.candidates import Field, field_of
from cifar_deploy.choice.choose import Choice, Constraints
from cifar_deploy.choice.choose import choose as choose_among
from cifar_deploy.core import files, image_cache
from cifar_deploy.core.charts import Chart
from cifar_deploy.core.errors import Corrupt, UsageError, few
from cifar_deploy.core.journal import grouped
from cifar_deploy.core.profile import Profile
from cifar_deploy.core.progress import counted
from cifar_deploy.core.records import Baseline, Checkpoint, Data, External, Result, Session
from cifar_deploy.core.samples import Samples
from cifar_deploy.core.store import Store
from cifar_deploy.core.table import Overview, Record, Section, Table, Value
from cifar_deploy.metrics import METRICS
from cifar_deploy.metrics.summary import EMULATED, Configuration, Raw, Summary
from cifar_deploy.reports import REPORTS
from cifar_deploy.reports.frame import frame as as_frame
from cifar_deploy.sections import (
    accuracy,
    deployment,
    devices,
    external,
    flips,
    glossary,
    health,
    instructions,
    latencies,
    memory,
    pixels,
    precision,
    reproduce,
    start,
    sustained,
    tradeoff,
    training,
)
from cifar_deploy.sections.common import Configurations, by_settings, doubted
from cifar_deploy.stages import prepare
from cifar_deploy.stages.machines import OfMachine, measured, restricted
from cifar_deploy.stages.plan import Planned
from cifar_deploy.stages.results import fault

if TYPE_CHECKING:
    import pandas as pd


def report(
    store: Store, planned: Iterable[Planned] | None = None, machines: Sequence[str] = ()
) -> tuple[Table, list[Path]]:
    """The table of the results so far, or of what is planned alone, and the files that it was written to.

    `machines` are the names of those that it is about; none: all.
    """
    table = _table(store, planned, machines)
    paths = []
    for name in REPORTS:
        path = store.reports / REPORTS[name].filename
        files.write_text(path, REPORTS[name].render(table))
        paths.append(path)
    return table, paths


def frame(store: Store, planned: Iterable[Planned] | None = None, machines: Sequence[str] = ()) -> pd.DataFrame:
    """The results so far, or what is planned alone, as a pandas DataFrame: the columns and rows of report.csv.

    A row is one value (`value_name`, `value`, `unit`) of one configuration, with its interval, or the reason why there is
    none. Where several devices were measured, `machine_name` says on which. No file is written.
    """
    return as_frame(_table(store, planned, machines).records)


def read(store: Store, planned: Iterable[Planned] | None = None) -> tuple[list[Result], Samples, tuple[str, ...]]:
    """The results so far, or those of what is planned; where their samples lie; what could not be read, a line for each reason."""
    lines, samples = store.lines(fault), Samples(store.reports)
    if lines.left_out and not lines.runs:
        raise Corrupt(f"{store.results_path}: {lines.told()[0]}; run `cifar-deploy evaluate` again")
    if not lines.runs:
        raise UsageError(
            f"{store.results_path}: no results yet; run `cifar-deploy evaluate` first, or give another --out"
        )
    results = grouped(lines.runs)
    if planned is not None:
        places = {item.job.key: place for place, item in enumerate(planned)}
        results = [result for result in results if result.job.key in places]
        results.sort(key=lambda result: places[result.job.key])
    return results, samples, tuple(lines.told())


def _table(store: Store, planned: Iterable[Planned] | None, machines: Sequence[str]) -> Table:
    results, samples, told = read(store, planned)
    table = build(results, samples, profiles=store.profiles(), images=_test_images, machines=machines)
    # Without the folder's own place, so that the same results are the same bytes wherever they lie.
    here = f"{store.root}{os.sep}"
    return dataclasses.replace(table, lost=tuple(line.replace(here, "") for line in (*told, *samples.told())))


def _test_images(data: Data) -> NDArray[np.uint8] | None:
    folder = prepare.find(data.fingerprint)
    return image_cache.load_array(folder, "test_images") if folder else None


def build(
    results: Sequence[Result],
    raw: Raw,
    *,
    profiles: Sequence[Profile] = (),
    images: flips.Images = lambda data: None,
    machines: Sequence[str] = (),
) -> Table:
    """The report of the newest results of each device: those of each training's latest weights.

    Args:
        images: The test images of a data set, if they are here.
        machines: The names of the devices to report of; none: all.

    Raises:
        UsageError: There is nothing to report, or no such machine.
    """
    found = measured(results)
    shown = restricted(found, machines)
    chosen = [Chosen.of(each.results, raw) for each in shown]
    first, *others = [
        _of_one(each.results, one, raw, profiles, images) for each, one in zip(shown, chosen, strict=True)
    ]
    first = dataclasses.replace(first, facts={**first.facts, **_left_out(results, shown)})
    if len(found) == 1:
        return first
    tables = [_named(table, each) for table, each in zip([first, *others], shown, strict=True)]
    return _together(tables, devices.overview(list(map(_device, shown, chosen)), raw)) if others else tables[0]


def _named(table: Table, on: OfMachine) -> Table:
    """With the device's name, where there are others."""
    told = str(dataclasses.replace(on.machine, name=None))
    answer = table.answer and dataclasses.replace(table.answer, headline=f"{on.title}: {table.answer.headline}")
    return dataclasses.replace(table, device=on.title, machine=told, answer=answer)


def _device(on: OfMachine, chosen: Chosen) -> devices.Device:
    choice = chosen.choice
    return devices.Device(
        title=on.title,
        machine=on.machine,
        configurations=chosen.current.configurations,
        winner=choice.winner.configuration if choice.winner else None,
        picks=frozenset(pick.candidate.configuration for pick in choice.picks),
        front=frozenset(candidate.configuration for candidate in choice.front),
    )


def _together(tables: Sequence[Table], overview: Overview) -> Table:
    """The tables of several devices as one. What is the same of all of them stands with the first."""
    first, *others = tables
    sections = [overview.section, *(section for table in tables for section in table.sections)]
    return dataclasses.replace(
        first,
        about=(f"{len(tables)} devices", *first.about[1:]),
        overview=overview,
        others=tuple(_further(table, first) for table in others),
        glossary=glossary.glossary(sections),
        records=tuple(
            Record(fields={"machine_name": table.device, **record.fields})
            for table in tables
            for record in table.records
        ),
    )


def _further(table: Table, first: Table) -> Table:
    """The table of a further device, without what the first one's says of both."""
    return dataclasses.replace(
        table,
        sections=tuple(section for section in table.sections if section.part != "training"),
        charts=tuple(chart for chart in table.charts if chart.part != "training"),
        thumbnails=None,
        commands={command: what for command, what in table.commands.items() if command not in first.commands},
        facts={name: values for name, values in table.facts.items() if values != first.facts.get(name)},
        glossary={},
        records=(),
    )


class Chosen(NamedTuple):
    """The newest results of one device, and what to ship of them."""

    current: Current
    field: Field
    choice: Choice

    @classmethod
    def of(cls, results: Sequence[Result], raw: Raw, constraints: Constraints = Constraints()) -> Chosen:
        current = current_of(results, raw)
        field = field_of(current.configurations, current.controls, raw)
        return cls(current, field, choose_among(field, constraints))


def _of_one(
    results: Sequence[Result], chosen: Chosen, raw: Raw, profiles: Sequence[Profile], images: flips.Images
) -> Table:
    """The table of one device."""
    (current, summaries, configurations, overheads, controls), field, choice = chosen
    places, control = latencies.ranks(by_settings(configurations), controls)
    named = {each: answer.short_name(each) for each in (pick.candidate.configuration for pick in choice.picks)}
    checkpoints = checkpoints_of(configurations)
    sections: list[Section | None]
    charts: list[Chart | None] = [
        tradeoff.accuracy_against_latency(configurations, named, [each.configuration for each in choice.front]),
        latencies.forest(configurations, places),
        memory.bars(configurations),
        start.size_and_load(configurations, choice.winner.configuration.name if choice.winner else None),
        start.throughput(configurations),
    ]
    is_external = isinstance(current[-1].job.artifact.origin, External)  # a store holds nothing else then
    by_class = accuracy.by_class(configurations, raw)
    flipped = flips.thumbnails(configurations, raw, images, choice.winner.configuration if choice.winner else None)
    if is_external:
        facts = {
            "files": _each(_described(result) for result in current if result.job.artifact.files),
            **_images([result.job.artifact.data for result in current if result.job.artifact.data]),
        }
        parts = memory.parts(configurations)
        sections = [
            external.files(configurations, controls),
            accuracy.against_reference(configurations, raw),
            parts and dataclasses.replace(parts, on_screen=False),
            *by_class,
            accuracy.changed(configurations, raw),
        ]
    else:
        facts = _origins(current, checkpoints)
        sections = [
            deployment.deployment(configurations, overheads, controls, answer.roles(choice)),
            precision.not_faster(configurations, profiles),
            pixels.in_the_graph(configurations),
            accuracy.against_reference(configurations, raw),
            instructions.under_older(results, configurations, raw),
            memory.parts(configurations),
            memory.under_limits(results, configurations),
            sustained.sustained(results, configurations),
            training.cost(configurations),
            training.original_report(configurations, checkpoints),
            training.claims(configurations, checkpoints),
            *by_class,
            accuracy.changed(configurations, raw),
        ]
        charts += [
            precision.quantisation(configurations, raw),
            instructions.heat(results, configurations),
            training.curves(checkpoints),
            *accuracy.confusion_matrices(by_class),
        ]
    shown = tuple(section for section in sections if section)
    return Table(
        title="cifar-deploy: " + ", ".join(dict.fromkeys(configuration.name for configuration in configurations)),
        about=_about(current, checkpoints),
        answer=answer.told(choice, field, places, accuracy.against_first_file(configurations, raw)),
        health=health.health(configurations, overheads, control),
        charts=tuple(chart for chart in charts if chart),
        thumbnails=flipped,
        commands=reproduce.commands(checkpoints, current, results),
        facts={**facts, **_circumstances(current)},
        sections=shown,
        failures=_failures(configurations),
        failures_by_reason=_failures_by_reason(configurations),
        warnings=_warnings({**configurations, **overheads}),
        glossary=glossary.glossary(shown),
        records=tuple(record for summary in summaries for record in records_of(summary)),
    )


def checkpoints_of(configurations: Configurations) -> dict[str, Checkpoint]:
    """Of each network its training, by name."""
    checkpoints: dict[str, Checkpoint] = {}
    for configuration, of_one in configurations.items():
        # The same weights may have been trained twice: what the second training says of itself counts.
        for checkpoint in filter(None, (summary.result.job.artifact.checkpoint for summary in of_one.values())):
            if configuration.name not in checkpoints or checkpoint.finished > checkpoints[configuration.name].finished:
                checkpoints[configuration.name] = checkpoint
    return checkpoints


def _about(results: Sequence[Result], checkpoints: Mapping[str, Checkpoint]) -> tuple[str, ...]:
    """The device, the data and the day, for the head of a page."""
    days = sorted({run.started[:10] for result in results for run in result.runs})
    sources = _each(checkpoint.training.data.source for checkpoint in checkpoints.values())
    return (results[-1].job.machine.processor, *sources, " to ".join(dict.fromkeys([days[0], days[-1]])))


class Current(NamedTuple):
    """The newest results that belong together, as the sections and the choice take them."""

    results: Sequence[Result]
    summaries: Sequence[Summary]  # of those that are no control
    configurations: Configurations
    overheads: Configurations  # of the no-op models
    controls: Sequence[Result]


def current_of(results: Sequence[Result], raw: Raw) -> Current:
    """Of one device, those of each training's latest weights."""
    current = _current(results)
    configurations: Configurations = {}
    overheads: Configurations = {}
    summaries = [Summary(result, raw) for result in current if not result.control]
    for summary in summaries:
        configuration = Configuration.of(summary.result)
        is_baseline = isinstance(summary.result.job.artifact.origin, Baseline)
        (overheads if is_baseline else configurations).setdefault(configuration, {})[summary.result.job.metric] = (
            summary
        )
    return Current(current, summaries, configurations, overheads, [result for result in current if result.control])


def _current(results: Sequence[Result]) -> list[Result]:
    """The newest result of each configuration and metric, without those that no longer belong together.

    Left out are results of before the device was upgraded, weights that were replaced, and, within a configuration, artifacts and
    versions other than the newest: a row never mixes two of them. Baselines and controls stay with the session that they belong to.
    """
    machine = next(result.job.machine for result in reversed(results) if result.job.is_ordinary)
    here = [result for result in results if result.job.machine == machine]
    weights = {result.job.artifact.name: result.job.artifact.weights_sha256 for result in here}
    made_of = {Configuration.of(result): (result.job.artifact.files, result.job.versions) for result in here}
    newest: dict[tuple[Configuration, str, bool], Result] = {}
    for result in here:
        if not result.job.is_ordinary:
            continue
        configuration, artifact = Configuration.of(result), result.job.artifact
        if (
            artifact.weights_sha256 == weights[configuration.name]
            and (artifact.files, result.job.versions) == made_of[configuration]
        ):
            newest[configuration, result.job.metric, result.control] = result
    # As they were planned, not in the order of the last runs.
    places = {
        session: {key: place for place, key in enumerate(session.jobs)}
        for session in {result.session for result in here if result.session}
    }
    planned = sorted(here, key=lambda result: _place(result, places))
    order = {configuration: index for index, configuration in enumerate(dict.fromkeys(map(Configuration.of, planned)))}
    metrics = list(METRICS)
    return sorted(
        newest.values(),
        key=lambda result: (
            order[Configuration.of(result)],
            metrics.index(result.job.metric) if result.job.metric in metrics else 99,
        ),
    )


def _place(result: Result, places: Mapping[Session, Mapping[str, int]]) -> int:
    """In the plan of the session. What is not of one comes first, as it was measured: in the order of the plan, too."""
    return 1 + places[result.session][result.job.key] if result.session else 0


def _each(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _described(result: Result) -> str:
    return ", ".join(f"{file.name} (sha256 {file.sha256})" for file in result.job.artifact.files)


def _origins(results: Sequence[Result], checkpoints: dict[str, Checkpoint]) -> dict[str, tuple[str, ...]]:
    """Where the networks come from."""
    sources = [measurement.stand_in for result in results for measurement in result.measurements.values()]
    sources += [parity.stand_in for result in results for parity in result.job.artifact.parity]
    stood_in = _each(f"{source}: the networks' own images were not here" for source in sources if source)
    doubts = _each(f"{name}: {warning}" for name, c in checkpoints.items() for warning in c.warnings)
    return {
        **_images([checkpoint.training.data for checkpoint in checkpoints.values()]),
        **({"network warnings": doubts} if doubts else {}),
        **({"measured or compared on": stood_in} if stood_in else {}),
        "recipe": _each(str(c.recipe or c.training) for c in checkpoints.values()),
        "trained on": _each(
            f"{c.device} ({c.device_name}), {f'{c.ranks} processes of ' if c.ranks > 1 else ''}{counted(c.threads, 'thread')}"
            for c in checkpoints.values()
            if c.recipe
        ),
    }


def _images(data: Iterable[Data]) -> dict[str, tuple[str, ...]]:
    """The data sets, and what a reader should know of them."""
    data = list(dict.fromkeys(data))
    warnings = _each(f"{one.source}: {warning}" for one in data for warning in one.warnings or ())
    told = {
        "data": _each(f"{one} (fingerprint {one.fingerprint[:16]})" for one in data),
        "preprocessing": _each(f"{one.source}: {one.preprocessing}" for one in data if one.preprocessing),
        "data warnings": warnings,
    }
    return {name: lines for name, lines in told.items() if lines}


def _circumstances(results: Sequence[Result]) -> dict[str, tuple[str, ...]]:
    """Under what the numbers were measured."""
    return {
        "machine": _each(str(result.job.machine) for result in results),
        "versions": _each(
            f"{package} {version}" for result in results for package, version in result.job.versions.items()
        ),
        "commit": _each(run.commit or "not from a checkout" for result in results for run in result.runs),
        **({"pinned to CPUs": pinned} if (pinned := _each(filter(None, (each.job.cpus for each in results)))) else {}),
        **({"heat and power": conditions} if (conditions := _conditions(results)) else {}),
        **_options(results),
        **_imported(results),
        "measured": (
            f"{min(b.started for r in results for b in r.runs)} to {max(b.started for r in results for b in r.runs)}",
        ),
    }


def _conditions(results: Sequence[Result]) -> tuple[str, ...]:
    """What the system said of the processor's heat and power during the timed runs."""
    runs = [run for result in results for run in result.runs]
    gauges = [run.measurement.disturbance for run in runs if run.measurement and run.measurement.disturbance]
    told: list[str] = []
    if heat := [c for gauge in gauges for c in (gauge.temperature_before_c, gauge.temperature_c) if c is not None]:
        told.append(f"{min(heat):.0f} to {max(heat):.0f} °C")
    coolings = {(run.session, run.round): run.cooling for run in runs if run.cooling}
    if late := [cooling for cooling in coolings.values() if not cooling.reached]:
        hottest = max(cooling.after_c for cooling in late)
        told.append(f"{len(late)} of {counted(len(coolings), 'round')} began too warm, at up to {hottest:.0f} °C")
    told += _each(f"governor {name}" for gauge in gauges for name in gauge.governors)
    told += _each(f"power: {gauge.power}" for gauge in gauges if gauge.power)
    told += _each(f"power mode: {gauge.power_mode}" for gauge in gauges if gauge.power_mode)
    told += _each(f"slowed by the system: {name}" for gauge in gauges for name in gauge.throttled)
    return tuple(told)


def _options(results: Sequence[Result]) -> dict[str, tuple[str, ...]]:
    """The files of options that measurements were made with, if there are any."""
    found = [run.config_file for result in results for run in result.runs]
    return {"options": _each(f"from {one}" if one else "from the command line" for one in found)} if any(found) else {}


def _imported(results: Sequence[Result]) -> dict[str, tuple[str, ...]]:
    """Results that came from another folder, and those of them whose artifacts were not known."""
    found = [result for result in results if result.runs[-1].imported]
    told = _each(f"as reported by {result.job.machine.title}" for result in found)
    if foreign := [result.job.artifact.title for result in found if result.runs[-1].foreign]:
        told += (f"artifacts that were not made here: {few(_each(foreign))}",)
    return {"imported": told} if told else {}


def _left_out(results: Sequence[Result], shown: Sequence[OfMachine]) -> dict[str, tuple[str, ...]]:
    """The machines whose results are there, and not in this report."""
    here = {each.machine for each in shown}
    others = {str(result.job.machine) for result in results if result.job.machine not in here}
    return (
        {"left out": tuple(f"results of another machine or system: {other}" for other in sorted(others))}
        if others
        else {}
    )


def _failures(configurations: Configurations) -> tuple[str, ...]:
    """A line a reason; the metrics that share it stand together."""
    lines: dict[tuple[Configuration, str, str], list[str]] = {}
    for configuration, of_one in configurations.items():
        for metric, summary in of_one.items():
            if summary.failure:
                lines.setdefault((configuration, summary.failure.kind, summary.failure.reason), []).append(metric)
    return tuple(
        f"{configuration}, {', '.join(metrics)}: {kind}: {reason}"
        for (configuration, kind, reason), metrics in lines.items()
    )


def _failures_by_reason(configurations: Configurations) -> dict[str, tuple[str, ...]]:
    """Who shares a reason, the most frequent reason first."""
    found: dict[str, dict[str, None]] = {}
    for configuration, of_one in configurations.items():
        for metric, summary in of_one.items():
            if summary.failure:
                reason = f"{summary.failure.kind}: {summary.failure.reason}"
                found.setdefault(reason, {})[f"{configuration}, {metric}"] = None
    return {reason: tuple(found[reason]) for reason in sorted(found, key=lambda each: -len(found[each]))}


def _warnings(configurations: Configurations) -> tuple[str, ...]:
    """Every number that is not stable, and why."""
    return _each(f"{whose}: {verdict.word}: {'; '.join(verdict.reasons)}" for whose, verdict in doubted(configurations))


def records_of(summary: Summary) -> Iterable[Record]:
    """Its values as lines of the CSV, or its failure."""
    result = summary.result
    job, artifact = result.job, result.job.artifact
    data, checkpoint = artifact.data, artifact.checkpoint
    common: dict[str, str | int | float | None] = {
        "name": job.artifact.name,
        "network": None if isinstance(artifact.origin, External) else artifact.origin.network,
        "format": artifact.variant or None,
        "backend": job.backend,
        "device": job.device,
        "threads": job.threads,
        "cpus": job.cpus,
        "batch_size": job.batch_size if data else None,  # else the inputs say how large they are
        "metric": job.metric,
    }
    trace: dict[str, str | int | float | None] = {
        "seconds": job.seconds,
        "limit_test": job.limit_test,
        "backend_options": json.dumps(dict(job.backend_options)),
        "choices": json.dumps(dict(job.artifact.choices)),
        "inputs": ", ".join(map(str, artifact.takes)) or None,
        "session": result.session.started if result.session else None,
        "recipe": str(checkpoint.recipe) if checkpoint and checkpoint.recipe else None,
        "dataset": data.dataset if data else None,
        "source": data.source if data else "random arrays",
        "data_fingerprint": data.fingerprint if data else None,
        "weights_sha256": artifact.weights_sha256,
        "artifact_sha256": " ".join(file.sha256 for file in job.artifact.files),
        "machine": str(job.machine),
        "versions": " ".join(f"{package}={version}" for package, version in job.versions.items()),
        "protocol": job.protocol,
        "commit": result.runs[-1].commit,
        "started": result.runs[0].started,
        "raw": " ".join(measurement.raw for measurement in result.measurements.values() if measurement.raw) or None,
    }

    def record(key: str | None, value: Value | None, status: str, reason: str | None) -> Record:
        estimate = value.estimate if value else None
        return Record(
            fields={
                **common,
                "value_name": key,
                "value": value.number if value else None,
                "low": estimate.low if estimate else None,
                "high": estimate.high if estimate else None,
                "interval_kind": estimate.kind if estimate else None,
                "rounds": estimate.rounds if estimate else None,
                "unit": METRICS[job.metric].columns[key].stored_unit if key else None,
                "verdict": summary.verdict.word if summary.verdict else None,
                "status": status,
                "reason": reason,
                **trace,
            }
        )

    if summary.failure:
        yield record(None, None, summary.failure.kind, summary.failure.reason)
    if EMULATED in summary.words.values():
        yield record(None, None, EMULATED, "its times are not those of a real processor")
    doubt = "; ".join(summary.verdict.reasons) if summary.verdict else ""
    for key, value in summary.values.items():
        yield record(key, value, "ok", doubt or None)
