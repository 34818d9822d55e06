"""Jobs -> Results, the parent's side: which worker starts when, what is used again, and every block stored as it ends."""

import dataclasses
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from cifar_deploy.core import isolate, limits, machine
from cifar_deploy.core.errors import DeployError
from cifar_deploy.core.progress import OnProgress, Progress, counted, duration
from cifar_deploy.core.records import Block, Failure, Job, Reading, Result, Session
from cifar_deploy.core.store import Store, is_floor
from cifar_deploy.metrics import METRICS, Copied
from cifar_deploy.metrics.summary import is_timed
from cifar_deploy.stages import evaluate as evaluate_stage
from cifar_deploy.stages import prepare as prepare_stage
from cifar_deploy.stages import rounds
from cifar_deploy.stages.plan import Planned
from cifar_deploy.stages.rounds import Rigour

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[T]):
    """What a stage made, or found: `reused` if it was there and is still good."""

    value: T
    reused: bool


class Evaluation:
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
        known = {result.job.key: result for result in self._store.results() if not result.session}
        for done, item in enumerate(planned):
            earlier = known.get(item.job.key)
            if earlier and not self._again and self._still_valid(earlier, item):
                yield Outcome(value=earlier, reused=True)
                continue
            self._show(Progress(done=done, total=len(planned), message=_title(item.job)))
            block = self._measured(item.job, item.failure)
            yield Outcome(value=Result(job=item.job, blocks=(block,)), reused=False)

    def in_rounds(self, planned: Sequence[Planned], rigour: Rigour, controls: bool) -> Iterator[Outcome[Result]]:
        blocks = self._store.blocks()
        visits = rounds.visits([item.job for item in planned], controls)
        session = rounds.session_for(visits, blocks, self._again)
        known: dict[str, dict[int, Block]] = {visit.cell: {} for visit in visits}
        for block in blocks:
            if (
                block.session == session
                and self._stands(block)
                and (cell := rounds.cell(block.job, block.control)) in known
            ):
                known[cell][block.round] = block
        costs = rounds.Costs(blocks)
        spent_s = sum(block.seconds for of_cell in known.values() for block in of_cell.values())
        measured: set[str] = set()
        for number in range(rigour.rounds):
            due = [
                visit
                for visit in rounds.in_order(session, number, visits)
                if number not in (of_cell := known[visit.cell])
                and not any(block.failure for block in of_cell.values())
                and not rounds.may_stop(rounds.medians_of(of_cell.values()), rigour.precision)
            ]
            if not due:
                continue
            round_s = sum(costs.seconds(visit.job) for visit in due)
            if not measured:
                left = rigour.rounds - number
                plan = f"{counted(len(due), 'cell')} × {counted(left, 'round')}, about {duration(round_s * left)}"
                if rigour.budget_s is not None:
                    if not spent_s:
                        rounds.check_budget(rigour, round_s, len(due))
                    plan += f", of which as many rounds as fit into {duration(rigour.budget_s - spent_s)}"
            if not rounds.fit(rigour, round_s, spent_s):
                break
            for place, visit in enumerate(due):
                self._show(
                    Progress(
                        done=number * len(visits) + place,
                        total=rigour.rounds * len(visits),
                        message=f"round {number + 1}/{rigour.rounds}  {_title(visit.job)}",
                        milestones=(plan,),
                    )
                )
                block = self._measured(visit.job, None, session, number, visit.control)
                costs.add(block)
                known[visit.cell][number] = block
                measured.add(visit.cell)
                spent_s += block.seconds
        for visit in visits:
            if of_cell := known[visit.cell]:
                result = Result(job=visit.job, blocks=tuple(of_cell[index] for index in sorted(of_cell)))
                if not visit.control and not is_floor(visit.job.artifact.name):
                    yield Outcome(value=result, reused=visit.cell not in measured)

    def under_limits(self, planned: Sequence[Planned]) -> Iterator[Outcome[Result]]:
        """Each memory job again under a limit just above its claimed peak, and just below what was then counted.

        The first shows that the claim is enough, the second that it is not too much. Each is stored as a job of its own.
        """
        peaks = {
            result.job.key: result.reading.values
            for result in self._store.results()
            if result.job.metric == "memory" and result.reading
        }
        for done, item in enumerate(planned):
            if not (values := peaks.get(item.job.key)) or "peak" not in values:
                continue
            self._show(Progress(done=done, total=len(planned), message=f"{_title(item.job)} under a limit"))
            enough = self._limited(item.job, int(max(values["peak"], values["batch"]) * limits.ABOVE))
            yield enough
            counted = enough.value.reading.values.get("counted") if enough.value.reading else None
            if counted:
                yield self._limited(item.job, int(counted * limits.BELOW))

    def _limited(self, job: Job, limit_bytes: int) -> Outcome[Result]:
        with limits.memory(limit_bytes) as limit:
            options = {**job.options, "limit_bytes": limit_bytes, "limit_kind": limit.kind}
            limited = dataclasses.replace(job, options=options)
            earlier = next((result for result in self._store.results() if result.job.key == limited.key), None)
            if earlier and not self._again:
                return Outcome(value=earlier, reused=True)
            block = self._measured(limited, None, limit=limit)
        return Outcome(value=Result(job=limited, blocks=(block,)), reused=False)

    def sustained(self, planned: Sequence[Planned], seconds: float) -> Iterator[Outcome[Result]]:
        """The timed jobs in rotation until the time is over: what the first minute gives, and what the last."""
        jobs = [
            dataclasses.replace(item.job, options={**item.job.options, "sustain_s": seconds})
            for item in planned
            if is_timed(item.job) and not item.failure
        ]
        visits = rounds.visits(jobs, controls=False)
        session = rounds.session_for(visits, (), again=True)
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
        """A reading whose samples are there; of the failures, only that which would be the same again."""
        return self._stands(earlier.blocks[-1]) or (bool(item.failure) and earlier.failure == item.failure)

    def _stands(self, block: Block) -> bool:
        """Not what failed, or has lost its samples: that is measured again."""
        raw = block.reading.raw if block.reading else None
        return bool(block.reading) and (raw is None or self._store.raw_path(raw).exists())

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
    name = "floor" if is_floor(job.artifact.name) else job.artifact.name
    return f"{name} {job.artifact.format} {job.backend} {job.metric}"


def _read(store: Store, job: Job, started: str, trusted: bool, timeout_s: float, limit: limits.Limit | None) -> Reading:
    if not is_measured(job):
        return evaluate_stage.copy(job)
    reading = isolate.call(
        "cifar_deploy.stages.evaluate:measure",
        Reading,
        pool_threads=job.threads,
        timeout_s=timeout_s,
        limit=limit,
        job=job,
        root=store.root,
        data_folder=prepare_stage.folder_of(job.artifact.checkpoint),
        raw_name=f"{job.key}-{started.replace(':', '').replace('+0000', 'Z')}-{secrets.token_hex(2)}",
        trusted=trusted,
    )
    if limit and (counted := limits.counted_peak(limit)):
        return dataclasses.replace(reading, values={**reading.values, "counted": counted})
    return reading


def is_measured(job: Job) -> bool:
    """Whether a job needs a process of its own, rather than a look into a record."""
    return not isinstance(METRICS[job.metric], Copied)


def failure_of(error: DeployError) -> Failure:
    return Failure(kind=error.kind, reason=str(error), log=getattr(error, "log", ""))
