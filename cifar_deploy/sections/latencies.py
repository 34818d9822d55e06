"""Latencies side by side: their ranks and speed-ups, and how they were measured."""

from collections.abc import Sequence

from cifar_deploy.core import statistics
from cifar_deploy.core.progress import counted
from cifar_deploy.core.records import Result
from cifar_deploy.core.table import Column, Value
from cifar_deploy.metrics.summary import Configuration, Summary, against_itself, compared_by
from cifar_deploy.sections.common import Configurations, paired_ratio

RANK = Column(title="rank", unit="", stored_unit="")
SPEED_UP = Column(title="speed-up", unit="×", stored_unit="1", interval=True)


def ranks(configurations: Configurations, controls: Sequence[Result]) -> tuple[dict[Configuration, str], list[float]]:
    """Places by latency among the configurations of the newest session, and how far its control lies from its configuration.

    Those of different batch sizes have places of their own.
    """
    timed = {
        configuration: of["latency"].result
        for configuration, of in configurations.items()
        if "latency" in of and of["latency"].values
    }
    sessions = [result.session for result in timed.values() if result.session]
    if not sessions:
        return {}, []
    session = max(sessions, key=lambda session: session.started)
    together = {configuration: result for configuration, result in timed.items() if result.session == session}
    control = against_itself([*together.values(), *(c for c in controls if c.session == session)], "latency")
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
    """How many times faster a configuration is than the reference: the median of the ratios in the rounds that both have."""
    ours = of_one.get("latency")
    ratio = paired_ratio(reference.get("latency") if reference else None, ours, compared_by("latency"))
    return Value(number=ratio.value, estimate=ratio, verdict=ours.verdict) if ours and ratio else None


def where_measured(configurations: Configurations) -> str:
    """The devices and numbers of threads of all the rows."""
    devices = sorted({configuration.device for configuration in configurations})
    threads = sorted({configuration.threads for configuration in configurations})
    return f"On {', '.join(devices)}, {' and '.join(map(str, threads))} thread{'s' if threads != [1] else ''}."


def how_measured(configurations: Configurations, control: Sequence[float]) -> list[str]:
    """How the latencies were measured, and what is a tie among them."""
    latencies = [of["latency"].result for of in configurations.values() if "latency" in of and of["latency"].values]
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
