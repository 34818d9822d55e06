"""Jobs -> Results, the parent's side: which worker starts when, what is used again, and every block stored as it ends."""

import contextlib
import dataclasses
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import isolate, limits, machine
from cifar_deploy.core.errors import DeployError, UsageError
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.machine import Isa
from cifar_deploy.core.outcome import Outcome, failure_of
from cifar_deploy.core.progress import OnProgress, Progress, counted, duration
from cifar_deploy.core.records import Block, Failure, Job, Reading, Result, Session
from cifar_deploy.core.registry import interpreter_for
from cifar_deploy.core.store import Store, is_floor
from cifar_deploy.metrics import METRICS, Copied, as_measured, measured_where
from cifar_deploy.metrics.summary import is_timed
from cifar_deploy.stages import export, plan, prepare, results, rounds
from cifar_deploy.stages.plan import Planned
from cifar_deploy.stages.rounds import Rigour
from cifar_deploy.workers import measure

T = TypeVar("T")


def evaluate(
    store: Store,
    planned: Iterable[Planned],
    *,
    rigour: Rigour = Rigour(),
    controls: bool = True,
    floors: bool = True,
    verify_memory: bool = False,
    isa: Sequence[Isa] = (),
    sustain_s: float | None = None,
    again: bool = False,
    trusted: bool = False,
    timeout_s: float = isolate.TIMEOUT_S,
    on_progress: OnProgress | None = None,
) -> Iterator[Outcome[Result]]:
    """Each job's result, measured now or found from before; every block is stored as it ends.

    First what is measured once, in the order of the plan; then the timed jobs, in rounds (see stages.rounds), their
    results at the end of the last one. `floors` adds, for each runtime, a network that does next to nothing, `controls`
    a second visit to one cell of each metric. `verify_memory` runs again, under limits around its peak, what has one;
    `isa` classifies again with every 8-bit artifact under older instructions; `sustain_s` keeps the timed jobs under load
    for so long instead of measuring them in rounds. Raises DeployError if the budget is too small for one round.
    """
    planned = list(planned)
    timed = [item for item in planned if is_timed(item.job) and not item.failure]
    once = [item for item in planned if item not in timed]
    if verify_memory and not any(peaks_of(item.job) for item in planned):
        names = " or ".join(measured_where(lambda metric: metric.peaks))
        raise UsageError(f"--verify-memory: {names} is not among the metrics; add --metric {names}")
    if sustain_s is not None and not timed:
        names = " or ".join(measured_where(lambda metric: metric.timed))
        raise UsageError(f"--sustain: nothing that is timed is among the metrics; add --metric {names}")
    if isa:
        once += plan.under_isa(once, isa)
    evaluation = _Evaluation(store, again, trusted, timeout_s, on_progress)
    yield from evaluation.once(once)
    if verify_memory:
        yield from evaluation.under_limits([item for item in once if peaks_of(item.job) and not item.failure])
    if timed and sustain_s is not None:
        yield from evaluation.sustained(timed, sustain_s)
    elif timed:
        if floors:
            timed += [Planned(job=job) for job in export.floors(store, [item.job for item in timed])]
        yield from evaluation.in_rounds(timed, rigour, controls)


class _Evaluation:
    """What all the blocks of one `evaluate` share."""

    def __init__(
        self, store: Store, again: bool, trusted: bool, timeout_s: float, on_progress: OnProgress | None
    ) -> None:
        self._store = store
        self._again = again
        self._trusted = trusted
        self._timeout_s = timeout_s
        self._show = on_progress or (lambda latest: None)

    def once(self, planned: Sequence[Planned]) -> Iterator[Outcome[Result]]:
        """What needs no rounds. What training and export have found is read anew each time, and stored if it changed."""
        known = {result.job.key: result for result in self._results() if not result.session}
        for done, item in enumerate(planned):
            earlier = known.get(item.job.key)
            if earlier and not self._again and self._still_valid(earlier, item):
                yield Outcome(value=earlier, reused=True, tried=not item.failure)
                continue
            self._show(Progress(done=done, total=len(planned), message=_title(item.job)))
            block = self._measured(item.job, item.failure)
            yield Outcome(value=Result(job=item.job, blocks=(block,)), reused=False, tried=not item.failure)

    def in_rounds(self, planned: Sequence[Planned], rigour: Rigour, controls: bool) -> Iterator[Outcome[Result]]:
        blocks = self._store.blocks(results.fault)
        session, visits = rounds.open_session([item.job for item in planned], blocks, controls, self._again)
        known: dict[str, dict[int, Block]] = {visit.cell: {} for visit in visits}
        for block in blocks:
            if block.session == session and (cell := rounds.cell(block.job, block.control)) in known:
                known[cell][block.round] = block
        costs = rounds.Costs(blocks)
        spent_s = sum(block.seconds for of_cell in known.values() for block in of_cell.values())
        measured: set[str] = set()
        failed: set[str] = set()  # now: what failed in an earlier run is tried again
        plan: tuple[str, ...] = ()
        for number in range(rigour.rounds):
            due = [
                visit
                for visit in rounds.in_order(session, number, visits)
                if visit.cell not in failed
                and not self._stands(known[visit.cell].get(number))
                and not rounds.may_stop(rounds.medians_of(known[visit.cell].values()), rigour.precision)
            ]
            if not due:
                continue
            round_s = sum(costs.seconds(visit.job) for visit in due)
            if not measured:
                plan = (self._plan(rigour, number, len(due), round_s, spent_s),)
            if not rounds.fit(rigour, round_s, spent_s):
                plan += (f"{counted(number, 'round')} of {rigour.rounds}: another does not fit into the budget",)
                self._show(Progress(done=1, total=1, milestones=plan))
                break
            for place, visit in enumerate(due):
                self._show(
                    Progress(
                        done=number * len(visits) + place,
                        total=rigour.rounds * len(visits),
                        message=f"round {number + 1}/{rigour.rounds}  {_title(visit.job)}",
                        milestones=plan,
                    )
                )
                block = self._measured(visit.job, None, session, number, visit.control)
                costs.add(block)
                known[visit.cell][number] = block
                measured.add(visit.cell)
                spent_s += block.seconds
                if block.failure:
                    failed.add(visit.cell)
        for visit in visits:
            of_cell = known[visit.cell]
            if of_cell and not visit.control and not is_floor(visit.job.artifact.name):
                result = Result(job=visit.job, blocks=tuple(of_cell[index] for index in sorted(of_cell)))
                yield Outcome(value=result, reused=visit.cell not in measured)

    def _plan(self, rigour: Rigour, number: int, cells: int, round_s: float, spent_s: float) -> str:
        """How long it will take, for people. Raises DeployError if the budget is too small for the first round."""
        left = rigour.rounds - number
        plan = f"{counted(cells, 'cell')} × {counted(left, 'round')}, about {duration(round_s * left)}"
        if rigour.budget_s is None:
            return plan
        if not spent_s:
            rounds.check_budget(rigour, round_s, cells)
            return f"{plan}, of which as many rounds as fit into {duration(rigour.budget_s)}"
        left_s = max(0.0, rigour.budget_s - spent_s)
        return f"{plan}, of which as many rounds as fit into the {duration(left_s)} that are left of {duration(rigour.budget_s)}"

    def under_limits(self, planned: Sequence[Planned]) -> Iterator[Outcome[Result]]:
        """Each of these again under a limit just above its claimed peak, just below it, and below what was counted.

        The first has to run: else the claim is too small. The last has to fail, where a cgroup counts: else there would
        be no limit at all. What lies between is memory that is resident but shared with others. Each is a job of its own.
        """
        known = {result.job.key: result for result in self._results()}
        for done, item in enumerate(planned):
            measured = known.get(item.job.key)
            values = measured.reading.values if measured and measured.reading else {}
            if not (peaks := [values[peak] for peak in peaks_of(item.job) if peak in values]):
                continue
            self._show(Progress(done=done, total=len(planned), message=f"{_title(item.job)} under a limit"))
            claim = max(peaks)
            enough = self._limited(item.job, int(claim * limits.ABOVE), "above the claim", known)
            yield enough
            yield self._limited(item.job, int(claim * limits.BELOW), "below the claim", known)
            if enough.value.reading and (counted_bytes := enough.value.reading.values.get("counted")):
                yield self._limited(item.job, int(counted_bytes * limits.BELOW), "below what was counted", known)

    def _limited(self, job: Job, limit_bytes: int, where: str, known: Mapping[str, Result]) -> Outcome[Result]:
        with limits.memory(limit_bytes) as limit:
            options = {**job.options, "limit_bytes": limit_bytes, "limit_kind": limit.kind, "limit": where}
            limited = dataclasses.replace(job, options=options)
            earlier = known.get(limited.key)
            if earlier and not self._again and (earlier.reading or is_expected(earlier)):
                return Outcome(value=earlier, reused=True)
            block = self._measured(limited, None, limit=limit)
        return Outcome(value=Result(job=limited, blocks=(block,)), reused=False)

    def sustained(self, planned: Sequence[Planned], seconds: float) -> Iterator[Outcome[Result]]:
        """The timed jobs in rotation until the time is over: what the first minute gives, and what the last."""
        jobs = [dataclasses.replace(item.job, options={**item.job.options, "sustain_s": seconds}) for item in planned]
        session, visits = rounds.open_session(jobs, (), controls=False, again=True)
        blocks: dict[str, list[Block]] = {visit.cell: [] for visit in visits}
        begun, number = time.monotonic(), 0
        while (elapsed := time.monotonic() - begun) < seconds:
            for visit in rounds.in_order(session, number, visits):
                self._show(
                    Progress(
                        done=round(min(elapsed, seconds)),
                        total=round(seconds),
                        message=_title(visit.job),
                        milestones=(f"{counted(len(visits), 'cell')} in rotation for {duration(seconds)}",),
                    )
                )
                blocks[visit.cell].append(self._measured(visit.job, None, session, number))
                elapsed = time.monotonic() - begun
            number += 1
        for visit in visits:
            yield Outcome(value=Result(job=visit.job, blocks=tuple(blocks[visit.cell])), reused=False)

    def _still_valid(self, earlier: Result, item: Planned) -> bool:
        """A reading whose samples are there; of the failures, and of what is only read, that which is the same again."""
        if item.failure:
            return earlier.failure == item.failure
        if not is_measured(item.job):
            with contextlib.suppress(DeployError):
                return earlier.job == item.job and earlier.reading == copy(item.job)
            return False
        return self._stands(earlier.blocks[-1])

    def _stands(self, block: Block | None) -> bool:
        """Not what failed, or has lost its samples: that is measured again."""
        if not block or not block.reading:
            return False
        return block.reading.raw is None or self._store.has_samples(block.reading)

    def _results(self) -> list[Result]:
        return self._store.results(results.fault)

    def _measured(
        self,
        job: Job,
        failure: Failure | None,
        session: Session | None = None,
        number: int = 0,
        control: bool = False,
        limit: limits.Limit | None = None,
    ) -> Block:
        started, begun = machine.now(), time.monotonic()
        reading: Reading | None = None
        if not failure:
            try:
                reading = _read(self._store, job, started, self._trusted, self._timeout_s, limit)
            except DeployError as error:
                failure = failure_of(error)
        block = Block(
            job=job,
            session=session,
            round=number,
            control=control,
            reading=reading,
            failure=failure,
            started=started,
            seconds=time.monotonic() - begun,
            commit=machine.commit(),
        )
        self._store.append(block)
        return block


def _title(job: Job) -> str:
    title = f"floor {job.artifact.format}" if is_floor(job.artifact.name) else job.artifact.title
    under = f" under {isa}" if (isa := job.options.get("isa")) else ""
    return f"{title} {job.backend} {job.metric}{under}"


def _read(store: Store, job: Job, started: str, trusted: bool, timeout_s: float, limit: limits.Limit | None) -> Reading:
    metric, backend = METRICS[job.metric], BACKENDS[job.backend]
    if isinstance(metric, Copied):
        return copy(job)
    checkpoint, images, stand_in = job.artifact.checkpoint, None, None
    if job.artifact.takes is None:
        images = prepare.folder_of(checkpoint) if metric.needs_labels else prepare.images_for(checkpoint)
        stand_in = prepare.stand_in_of(images, checkpoint)
    worker = Worker(
        pool_threads=job.threads,
        # Nothing is reported while a block is timed.
        timeout_s=timeout_s + metric.blocks_s(float(job.options.get("seconds") or 0)),
        limit=limit,
        interpreter=interpreter_for(backend.requires, backend.environment),
        variables=backend.isa[isa] if (isa := job.options.get("isa")) else {},  # type: ignore[index]
    )
    reading = worker.call(
        measure.measure,
        job=job,
        root=store.root,
        data_folder=images,
        stand_in=stand_in,
        raw_name=f"{job.key}-{started.replace(':', '').replace('+0000', 'Z')}-{secrets.token_hex(2)}",
        trusted=trusted,
    )
    if limit and (counted := limits.counted_peak(limit)):
        return dataclasses.replace(reading, values={**reading.values, "counted": counted})
    return reading


def is_expected(result: Result) -> bool:
    """Whether it is no failure that this one failed: under a limit that is to show how much memory is needed."""
    below = str(result.job.options.get("limit", "")).startswith("below")
    return below and result.failure is not None and result.failure.kind == "out of memory"


def is_measured(job: Job) -> bool:
    """Whether a job needs a process of its own, rather than a look into a record."""
    return as_measured(job.metric) is not None


def peaks_of(job: Job) -> tuple[str, ...]:
    """The values of which the largest is the memory that the job claims to take; none if it claims nothing."""
    metric = as_measured(job.metric)
    return metric.peaks if metric else ()


def copy(job: Job) -> Reading:
    """What training or export has found already. Raises Unavailable if it did not."""
    metric = METRICS[job.metric]
    assert isinstance(metric, Copied)
    return Reading(values=metric.read(job))
