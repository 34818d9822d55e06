"""Which configuration runs next: a session's rounds, their order, when a configuration may stop, and what fits into a budget.

In each round every timed configuration runs once, in a fresh random order, so that whatever slows the machine for a while
slows them all alike; and for each metric one configuration runs twice, so that it is known how much a number differs from
itself.
"""

import math
import random
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import machine
from cifar_deploy.core.defaults import COOL_WAIT_S, ROUNDS
from cifar_deploy.core.errors import DeployError
from cifar_deploy.core.progress import counted
from cifar_deploy.core.records import Baseline, Job, Run, Session
from cifar_deploy.core.statistics import estimate
from cifar_deploy.metrics import as_runtime_metric
from cifar_deploy.metrics.summary import compared_by, is_timed

# Long enough that the processor is hardly ever idle between two runs.
SUSTAINED_RUN_S = 5.0

# After so many rounds a configuration may stop at its target interval; fixed beforehand, since an interval looked at after every round
# would too often be caught when it happens to be narrow. How much the looks cost in coverage: benchmarks/coverage.py.
LOOKS = (6, 9, 13, 18, 25, 35, 50)

# What a run costs before anything is known: a Python with PyTorch in it.
_START_S = 4.0


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How many rounds: at most so many, fewer where an interval is within ±`target_interval` (0.02: 2 %) or the budget is spent."""

    rounds: int = ROUNDS
    target_interval: float | None = None
    budget_s: float | None = None
    cool_to_c: float | None = (
        None  # before each round the processor cools down to this, or to what the session began with
    )
    cool_wait_s: float = COOL_WAIT_S  # but no longer than this


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One process to start: a job, and whether it is the control, which runs its configuration a second time."""

    job: Job
    control: bool

    @property
    def key(self) -> str:
        return slot_key(self.job, self.control)


def slot_key(job: Job, control: bool) -> str:
    return f"control:{job.key}" if control else job.key


def open_session(jobs: Sequence[Job], runs: Iterable[Run], controls: bool, force: bool) -> tuple[Session, list[Slot]]:
    """The newest session that holds all these configurations, to go on with or to use again, else a new one; and its slots.

    The controls are the session's own, those of them whose configurations are among the jobs.
    """
    needed = {job.key for job in jobs}
    earlier = {run.session: run for run in runs if run.session and needed <= set(run.session.jobs)}
    if earlier and not force:
        session = max(earlier, key=lambda session: earlier[session].began)
        found = [Slot(job=job, control=control) for control in (False, True) for job in jobs]
        return session, [slot for slot in found if slot.key in session.jobs]
    found = [Slot(job=job, control=False) for job in jobs]
    if controls:
        found += [Slot(job=job, control=True) for job in _controls(jobs)]
    keys = tuple(slot.key for slot in found)
    return Session(started=machine.now(), seed=secrets.randbits(31), jobs=keys), found


def _controls(jobs: Sequence[Job]) -> list[Job]:
    """For each metric the last configuration that is a trained network on a runtime that starts fast, if there is one."""
    chosen: dict[str, Job] = {}
    for job in sorted(jobs, key=_suits_as_control):
        chosen[job.metric] = job
    return list(chosen.values())


def _suits_as_control(job: Job) -> tuple[bool, bool]:
    return not isinstance(job.artifact.origin, Baseline), "torch" not in BACKENDS[job.backend].requires


def in_order(session: Session, number: int, wanted: Sequence[Slot]) -> list[Slot]:
    """The slots of a round, in the order that belongs to it."""
    places = list(session.jobs)
    random.Random(f"{session.seed} {number}").shuffle(places)
    return sorted(wanted, key=lambda slot: places.index(slot.key))


def may_stop(medians: Sequence[float], target_interval: float | None) -> bool:
    """Whether a configuration is as precise as it was asked to be, if it may be asked after so many rounds."""
    return target_interval is not None and len(medians) in LOOKS and estimate(medians).half_width <= target_interval


class Costs:
    """What a run will take: as long as before, or as the same runtime at least took to start and load something."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self._run_s: dict[str, float] = {}
        self._starts: dict[tuple[str, str], float] = {}
        for run in runs:
            self.add(run)

    def add(self, run: Run) -> None:
        if run.measurement and is_timed(run.job):
            self._run_s[run.job.key] = run.seconds
        elif run.measurement and as_runtime_metric(run.job.metric):
            runtime = (run.job.backend, run.job.artifact.variant)
            self._starts[runtime] = min(run.seconds, self._starts.get(runtime, math.inf))

    def seconds(self, job: Job) -> float:
        if job.key in self._run_s:
            return self._run_s[job.key]
        start_s = self._starts.get((job.backend, job.artifact.variant), _START_S)
        metric = as_runtime_metric(job.metric)
        return start_s + (metric.blocks_s(job.seconds or 0) if metric else 0)


def check_budget(sampling: Sampling, round_s: float, count: int) -> None:
    """Raises DeployError, saying what is needed, if not even one round fits into the budget."""
    if sampling.budget_s is not None and sampling.budget_s < round_s:
        raise DeployError(
            f"--budget: {sampling.budget_s:g} s is too little for one round of {counted(count, 'configuration')}, about {round_s:.0f} s; "
            "give more, fewer configurations or less --seconds"
        )


def fit(sampling: Sampling, round_s: float, spent_s: float) -> bool:
    """Whether another round ends within the budget."""
    return sampling.budget_s is None or spent_s + round_s <= sampling.budget_s


def medians_of(runs: Iterable[Run]) -> list[float]:
    """The round medians of a timed configuration."""
    return [run.measurement.values[compared_by(run.job.metric)] for run in runs if run.measurement]
