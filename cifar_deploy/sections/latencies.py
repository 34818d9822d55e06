"""Latencies side by side: their ranks and speed-ups, and how they were measured."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from cifar_deploy.core import statistics
from cifar_deploy.core.charts import Axis, Forest, Panel, Span
from cifar_deploy.core.progress import counted
from cifar_deploy.core.records import Result, Session
from cifar_deploy.core.table import Column, Value
from cifar_deploy.core.verdict import Verdict
from cifar_deploy.metrics import METRICS
from cifar_deploy.metrics.summary import Configuration, Summary, against_itself, compared_by
from cifar_deploy.sections.common import (
    Configurations,
    by_settings,
    is_eager,
    is_int8,
    median_s,
    paired_ratio,
    short_labels,
)

RANK = Column(
    title="rank",
    unit="",
    stored_unit="",
    meaning="place by latency; configurations that cannot be told apart share one, as T-3",
)
SPEED_UP = Column(
    title="speed-up",
    unit="×",
    stored_unit="1",
    interval=True,
    meaning="times faster than PyTorch eager with the same network, device and threads: the median of the ratios in each round",
)

# Of a network, so many lines fit beside the others'.
_MOST_ROWS = 24
_MOST_PANELS = 8

# Verdicts of a latency, the best first.
_BY_DOUBT = ("stable", "noisy", "invalid")


def timed_of(configurations: Configurations) -> Configurations:
    """Those of the configurations that have a latency."""
    return {
        configuration: of for configuration, of in configurations.items() if "latency" in of and of["latency"].values
    }


def control_of(session: Session, latencies: Iterable[Result], controls: Iterable[Result]) -> list[float]:
    """What the control of a session differs by from its configuration, which is among `latencies`, in each round."""
    return against_itself([result for result in (*latencies, *controls) if result.session == session], "latency")


def ranks(configurations: Configurations, controls: Sequence[Result]) -> tuple[dict[Configuration, str], list[float]]:
    """Places by latency among the configurations of the newest session, and how far its control lies from its configuration.

    Those of different batch sizes have places of their own.
    """
    timed = {configuration: of["latency"].result for configuration, of in timed_of(configurations).items()}
    of_sessions = [result for result in timed.values() if result.session]
    if not of_sessions:
        return {}, []
    session = max(of_sessions, key=lambda result: result.began).session
    assert session
    together = {configuration: result for configuration, result in timed.items() if result.session == session}
    control = control_of(session, together.values(), controls)
    noise = statistics.noise(control) if control else statistics.NOISE_BETWEEN_SESSIONS
    if min(len(result.measurements) for result in together.values()) < statistics.ROUNDS_FOR_AN_INTERVAL:
        return {}, control
    places: dict[Configuration, str] = {}
    for size in sorted({result.job.batch_size for result in together.values()}):
        alike = {configuration: result for configuration, result in together.items() if result.job.batch_size == size}
        medians = [result.rounds(compared_by("latency")) for result in alike.values()]
        places |= dict(zip(alike, statistics.ranks(medians, noise), strict=True))
    return places, control


def speed_up(of_one: dict[str, Summary], reference: dict[str, Summary] | None) -> Value | None:
    """How many times faster a configuration is than the reference: the median of the ratios in the rounds that both have.

    Its verdict is the worse one of the two latencies.
    """
    ours, theirs = of_one.get("latency"), reference.get("latency") if reference else None
    ratio = paired_ratio(theirs, ours, compared_by("latency"))
    if not ours or not theirs or not ratio:
        return None
    return Value(number=ratio.value, estimate=ratio, verdict=_worse(ours.verdict, theirs.verdict))


def _worse(ours: Verdict | None, reference: Verdict | None) -> Verdict | None:
    places = [_BY_DOUBT.index(verdict.word) if verdict else 0 for verdict in (ours, reference)]
    if reference and places[1] > places[0]:
        return replace(reference, reasons=tuple(f"of the reference: {reason}" for reason in reference.reasons))
    return ours


def where_measured(configurations: Configurations) -> str:
    """The devices and numbers of threads of all the rows."""
    devices = sorted({configuration.device for configuration in configurations})
    threads = sorted({configuration.threads for configuration in configurations})
    pinned = sorted({configuration.cpus for configuration in configurations if configuration.cpus})
    cpus = f", pinned to CPUs {' and '.join(pinned)}" if pinned else ""
    return f"On {', '.join(devices)}, {' and '.join(map(str, threads))} thread{'s' if threads != [1] else ''}{cpus}."


def how_measured(configurations: Configurations, control: Sequence[float]) -> list[str]:
    """How the latencies were measured, and what is a tie among them."""
    latencies = [of["latency"].result for of in timed_of(configurations).values()]
    notes = _rounds(latencies) if latencies else []
    if control:
        notes.append(
            f"The same configuration against itself: {statistics.estimate(control).value - 1:+.1%} (A/A); what lies inside {statistics.noise(control):.1%} "
            "or inside its own interval shares a rank (T-)."
        )
    return notes


def _rounds(latencies: Sequence[Result]) -> list[str]:
    notes = []
    rounds = sorted({len(result.measurements) for result in latencies})
    needed = statistics.ROUNDS_FOR_AN_INTERVAL
    if rounds[0] >= needed:
        meaning = "[ ] is the 95 % interval of their median, ( ) how far a percentile lay apart between rounds"
    elif rounds[-1] > 1:
        meaning = f"( ) is their range, {needed} rounds or more would give an interval and ranks (--rounds)"
    else:
        meaning = f"{needed} rounds or more would give an interval and ranks (--rounds)"
    few_to_many = " to ".join(([str(rounds[0])] if len(rounds) > 1 else []) + [counted(rounds[-1], "round")])
    notes.append(f"Latency is the median of {few_to_many}, a process each; {meaning}.")
    if len(rounds) > 1:
        few = [f"{Configuration.of(r)}: {len(r.measurements)}" for r in latencies if len(r.measurements) < rounds[-1]]
        notes.append(f"Fewer rounds, for their precision or for a failure: {', '.join(few)}.")
    if len({result.session for result in latencies}) > 1:
        notes.append("Not interleaved: these latencies are of several sessions, and only the newest one's are ranked.")
    return notes


def forest(configurations: Configurations, places: dict[Configuration, str]) -> Forest | None:
    """The latencies of each network, the fastest first, with their ranks; None if nothing was timed."""
    timed = {each: of for each, of in by_settings(configurations).items() if median_s(of) < math.inf}
    of_name: dict[str, list[Configuration]] = {}
    for configuration in sorted(timed, key=lambda each: median_s(timed[each])):
        of_name.setdefault(configuration.name, []).append(configuration)
    if not of_name:
        return None
    notes = [
        "Line: 95 % interval of the median, or the range of fewer than "
        f"{statistics.ROUNDS_FOR_AN_INTERVAL} rounds. Dots: the rounds. Filled: INT8.",
        *(["Dashed: PyTorch eager."] if any(map(is_eager, timed)) else []),
        *(["Tick: p90."] if any("p90" in of["latency"].values for of in timed.values()) else []),
        *(["Rows on one background cannot be told apart."] if places else []),
    ]
    shown = {name: those[:_MOST_ROWS] for name, those in list(of_name.items())[:_MOST_PANELS]}
    if (count := sum(map(len, shown.values()))) < len(timed):
        notes.append(f"The fastest {count} of {len(timed):,}; all of them stand under All numbers.")
    return Forest(
        part="speed",
        title="Latency of each network",
        panels=tuple(_panel(name, those, of_name[name], timed, places) for name, those in shown.items()),
        notes=(" ".join(notes),),
    )


def _panel(
    name: str,
    shown: Sequence[Configuration],
    of_name: Sequence[Configuration],
    timed: Configurations,
    places: dict[Configuration, str],
) -> Panel:
    column, labels = METRICS["latency"].columns["p50"], short_labels(of_name)
    eager = next((median_s(timed[each]) * column.scale for each in of_name if is_eager(each)), None)
    rows = []
    for configuration in shown:
        summary = timed[configuration]["latency"]
        value, p90 = summary.values["p50"], summary.values.get("p90")
        estimate = value.estimate if value.estimate and value.estimate.rounds != 1 else None
        rows.append(
            Span(
                label=labels[configuration],
                text=column.text(value.number),
                value=value.number * column.scale,
                between=(estimate.low * column.scale, estimate.high * column.scale) if estimate else None,
                dots=tuple(each * column.scale for each in summary.result.rounds("p50").values()),
                tick=p90.number * column.scale if p90 else None,
                group=places.get(configuration, ""),
                filled=is_int8(configuration),
            )
        )
    return Panel(title=name, x=Axis(title="ms", log=True), rows=tuple(rows), reference=eager)
