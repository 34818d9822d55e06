"""Jobs -> Results, the parent's side: which worker starts when, what is used again, and every run stored as it ends."""

import contextlib
import dataclasses
import secrets
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import cooling, limits, machine, packs
from cifar_deploy.core.defaults import TIMEOUT_S
from cifar_deploy.core.errors import DeployError, UsageError
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.outcome import Outcome, failure_of
from cifar_deploy.core.progress import OnProgress, Progress, counted, duration, within
from cifar_deploy.core.records import (
    ConfigFile,
    Cooling,
    Failure,
    Isa,
    Job,
    Measurement,
    Result,
    Run,
    Session,
    Sustained,
    UnderIsa,
    UnderLimit,
)
from cifar_deploy.core.registry import interpreter_for
from cifar_deploy.core.samples import Samples
from cifar_deploy.core.store import Store
from cifar_deploy.metrics import METRICS, RecordedMetric, as_runtime_metric, measured_where
from cifar_deploy.metrics.summary import Summary, asked_batch_size, is_per_image, is_timed
from cifar_deploy.stages import export, plan, prepare, results, rounds
from cifar_deploy.stages.plan import Planned
from cifar_deploy.stages.rounds import Sampling
from cifar_deploy.workers import measure


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How to evaluate, apart from what is measured and under which conditions."""

    sampling: Sampling = Sampling()
    controls: bool = True  # a second run of one configuration of each metric, in every round
    overhead: bool = True  # a no-op model on each runtime besides
    verify_memory: bool = False  # every memory job again, under limits around its peak
    isa: tuple[Isa, ...] = ()  # every accuracy of an INT8 format again, with the runtime held to older instructions
    soak_s: float | None = None  # instead of rounds: the timed jobs in rotation for so long
    trusted: bool = False  # programs that this user did not export are run
    timeout_s: float = TIMEOUT_S
    config_file: ConfigFile | None = None  # where some of this came from, for the record


def evaluate(
    store: Store,
    planned: Iterable[Planned],
    settings: EvaluationSettings = EvaluationSettings(),
    *,
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> Iterator[Outcome[Result]]:
    """Each job's result, measured now or found from before; every run is stored as it ends.

    First what is measured once, in the order of the plan; then the timed jobs, in rounds (see stages.rounds), their
    results at the end of the last one. Raises DeployError if the budget is too small for one round, UsageError if the
    settings ask for what is not planned.
    """
    planned = list(planned)
    timed = [item for item in planned if is_timed(item.job) and not item.failure]
    once = [item for item in planned if item not in timed]
    if settings.verify_memory and not any(peaks_of(item.job) for item in planned):
        names = " or ".join(measured_where(lambda metric: metric.peaks))
        raise UsageError(f"--verify-memory: {names} is not among the metrics; add --metric {names}")
    if settings.soak_s is not None and not timed:
        names = " or ".join(measured_where(lambda metric: metric.timed))
        raise UsageError(f"--soak: nothing that is timed is among the metrics; add --metric {names}")
    if settings.isa:
        once += plan.under_isa(once, settings.isa)
    evaluation = _Evaluation(store, settings, force, on_progress)
    yield from evaluation.once(once)
    if settings.verify_memory:
        yield from evaluation.under_limits([item for item in once if peaks_of(item.job) and not item.failure])
    if timed and settings.soak_s is not None:
        yield from evaluation.sustained(timed, settings.soak_s)
    elif timed:
        baselines: list[Job] = []
        if settings.overhead:
            baselines = export.baselines(store, [item.job for item in timed])
        yield from evaluation.in_rounds([item.job for item in timed], baselines)


class _Evaluation:
    """What all the runs of one `evaluate` share."""

    def __init__(self, store: Store, settings: EvaluationSettings, force: bool, on_progress: OnProgress | None) -> None:
        self._store = store
        self._settings = settings
        self._force = force
        self._show = on_progress or (lambda latest: None)

    def once(self, planned: Sequence[Planned]) -> Iterator[Outcome[Result]]:
        """What needs no rounds. What training and export have found is read anew each time, and stored if it changed."""
        known = {result.job.key: result for result in self._results() if not result.session}
        for done, item in enumerate(planned):
            earlier = known.get(item.job.key)
            if earlier and not self._force and self._still_valid(earlier, item):
                self._warn_of_labels(earlier)
                yield Outcome(value=earlier, reused=True, tried=not item.failure)
                continue
            shown = Progress(done=done, total=len(planned), message=_title(item.job))
            self._show(shown)
            run = self._measured(item.job, item.failure, on_progress=within(shown, self._show))
            result = Result(job=item.job, runs=(run,))
            self._warn_of_labels(result)
            yield Outcome(value=result, reused=False, tried=not item.failure)

    def _warn_of_labels(self, result: Result) -> None:
        """Warn of an accuracy that is not above chance."""
        if is_per_image(result.job) and (verdict := Summary(result, Samples(self._store.reports)).verdict):
            warnings.warn(f"{_title(result.job)}: {verdict.word}: {'; '.join(verdict.reasons)}")

    def in_rounds(self, jobs: Sequence[Job], baselines: Sequence[Job]) -> Iterator[Outcome[Result]]:
        """The results of `jobs`. The baselines are measured beside them."""
        sampling, controls = self._settings.sampling, self._settings.controls
        runs = self._store.runs(results.fault)
        session, slots = rounds.open_session([*jobs, *baselines], runs, controls, self._force)
        known: dict[str, dict[int, Run]] = {slot.key: {} for slot in slots}
        for run in runs:
            if run.session == session and (key := rounds.slot_key(run.job, run.control)) in known:
                known[key][run.round] = run
        costs = rounds.Costs(runs)
        spent_s = sum(run.seconds for of_slot in known.values() for run in of_slot.values())
        measured: set[str] = set()
        failed: set[str] = set()  # now: what failed in an earlier run is tried again
        coolings = {run.round: run.cooling for of_slot in known.values() for run in of_slot.values() if run.cooling}
        first_c = coolings[min(coolings)].after_c if coolings else None
        spent_s += sum(cooled.seconds for cooled in coolings.values())
        plan: tuple[str, ...] = ()
        keys = {job.key for job in jobs}
        wanted = [slot for slot in slots if slot.job.key in keys and not slot.control]
        for number in range(sampling.rounds):
            if all(slot.key in failed for slot in wanted):
                break  # baselines and controls alone tell nothing
            due = [
                slot
                for slot in rounds.in_order(session, number, slots)
                if slot.key not in failed
                and not self._stands(known[slot.key].get(number))
                and not rounds.may_stop(rounds.medians_of(known[slot.key].values()), sampling.target_interval)
            ]
            if not due:
                continue
            round_s = sum(costs.seconds(slot.job) for slot in due)
            if not measured:
                plan = (self._plan(sampling, number, len(due), round_s, spent_s),)
            if not rounds.fit(sampling, round_s, spent_s):
                plan += (f"{counted(number, 'round')} of {sampling.rounds}: another does not fit into the budget",)
                self._show(Progress(done=1, total=1, milestones=plan))
                break
            done, total = number * len(slots), sampling.rounds * len(slots)
            cooled = self._cooled(first_c, number, Progress(done=done, total=total, milestones=plan))
            if cooled:
                first_c = cooled.after_c if first_c is None else first_c
                spent_s += cooled.seconds
            for place, slot in enumerate(due, start=done):
                self._show(
                    Progress(
                        done=place,
                        total=total,
                        message=f"round {number + 1}/{sampling.rounds}  {_title(slot.job)}",
                        milestones=plan,
                    )
                )
                run = self._measured(slot.job, None, session, number, slot.control, cooled=cooled)
                costs.add(run)
                known[slot.key][number] = run
                measured.add(slot.key)
                spent_s += run.seconds
                if run.failure:
                    failed.add(slot.key)
        for slot in wanted:
            if of_slot := known[slot.key]:
                result = Result(job=slot.job, runs=tuple(of_slot[index] for index in sorted(of_slot)))
                yield Outcome(value=result, reused=slot.key not in measured)

    def _cooled(self, first_c: float | None, number: int, shown: Progress) -> Cooling | None:
        """What came of the wait before a round (see core.cooling)."""
        sampling = self._settings.sampling

        def show(now_c: float, ceiling_c: float) -> None:
            message = f"round {number + 1}/{sampling.rounds}  cooling down: {now_c:.0f} °C, until {ceiling_c:.0f} °C"
            self._show(dataclasses.replace(shown, message=message))

        return cooling.cool_down(first_c, sampling.cool_to_c, sampling.cool_wait_s, show)

    def _plan(self, sampling: Sampling, number: int, configurations: int, round_s: float, spent_s: float) -> str:
        """How long it will take, for people. Raises DeployError if the budget is too small for the first round."""
        left = sampling.rounds - number
        plan = (
            f"{counted(configurations, 'configuration')} × {counted(left, 'round')}, about {duration(round_s * left)}"
        )
        if sampling.budget_s is None:
            return plan
        if not spent_s:
            rounds.check_budget(sampling, round_s, configurations)
            return f"{plan}, of which as many rounds as fit into {duration(sampling.budget_s)}"
        left_s = max(0.0, sampling.budget_s - spent_s)
        return f"{plan}, of which as many rounds as fit into the {duration(left_s)} that are left of {duration(sampling.budget_s)}"

    def under_limits(self, planned: Sequence[Planned]) -> Iterator[Outcome[Result]]:
        """Each of these again under a limit just above its claimed peak, just below it, and below what was counted.

        The first has to run: else the claim is too small. The last has to fail, where a cgroup counts: else there would
        be no limit at all. What lies between is memory that is resident but shared with others. Each is a job of its own.
        """
        known = {result.job.key: result for result in self._results()}
        for done, item in enumerate(planned):
            measured = known.get(item.job.key)
            values = measured.measurement.values if measured and measured.measurement else {}
            if not (peaks := [values[peak] for peak in peaks_of(item.job) if peak in values]):
                continue
            self._show(Progress(done=done, total=len(planned), message=f"{_title(item.job)} under a limit"))
            claim = max(peaks)
            enough = self._limited(item.job, int(claim * limits.ABOVE), "runs", known)
            yield enough
            yield self._limited(item.job, int(claim * limits.BELOW), "either", known)
            if enough.value.measurement and (counted_bytes := enough.value.measurement.values.get("counted")):
                yield self._limited(item.job, int(counted_bytes * limits.BELOW), "runs out", known)

    def _limited(
        self,
        job: Job,
        limit_bytes: int,
        expected: Literal["runs", "either", "runs out"],
        known: Mapping[str, Result],
    ) -> Outcome[Result]:
        with limits.memory(limit_bytes) as limit:
            trial = UnderLimit(limit_bytes=limit_bytes, limited_by=limit.kind, expected=expected)
            limited = dataclasses.replace(job, trial=trial)
            earlier = known.get(limited.key)
            if earlier and not self._force and (earlier.measurement or is_expected(earlier)):
                return Outcome(value=earlier, reused=True)
            run = self._measured(limited, None, limit=limit)
        return Outcome(value=Result(job=limited, runs=(run,)), reused=False)

    def sustained(self, planned: Sequence[Planned], seconds: float) -> Iterator[Outcome[Result]]:
        """The timed jobs in rotation until the time is over: what the first minute gives, and what the last."""
        jobs = [dataclasses.replace(item.job, trial=Sustained(seconds=seconds)) for item in planned]
        session, slots = rounds.open_session(jobs, (), controls=False, force=True)
        runs: dict[str, list[Run]] = {slot.key: [] for slot in slots}
        begun, number = time.monotonic(), 0
        while (elapsed := time.monotonic() - begun) < seconds:
            for slot in rounds.in_order(session, number, slots):
                self._show(
                    Progress(
                        done=round(min(elapsed, seconds)),
                        total=round(seconds),
                        message=_title(slot.job),
                        milestones=(f"{counted(len(slots), 'configuration')} in rotation for {duration(seconds)}",),
                    )
                )
                runs[slot.key].append(self._measured(slot.job, None, session, number))
                elapsed = time.monotonic() - begun
            number += 1
        for slot in slots:
            yield Outcome(value=Result(job=slot.job, runs=tuple(runs[slot.key])), reused=False)

    def _still_valid(self, earlier: Result, item: Planned) -> bool:
        """A measurement whose samples are there; of the failures, and of what is only read, that which is the same again."""
        if item.failure:
            return earlier.failure == item.failure
        if not is_measured(item.job):
            with contextlib.suppress(DeployError):
                return earlier.job == item.job and earlier.measurement == copy(item.job)
            return False
        return self._stands(earlier.runs[-1])

    def _stands(self, run: Run | None) -> bool:
        """Not what failed, or has lost its samples: that is measured again."""
        if not run or not run.measurement:
            return False
        return run.measurement.raw is None or self._store.has_samples(run.measurement)

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
        cooled: Cooling | None = None,
        on_progress: OnProgress | None = None,
    ) -> Run:
        started, begun = machine.now(), time.monotonic()
        measurement: Measurement | None = None
        if not failure:
            try:
                measurement = _read(self._store, job, started, self._settings, limit, on_progress)
            except DeployError as error:
                failure = failure_of(error)
        run = Run(
            job=job,
            session=session,
            round=number,
            control=control,
            measurement=measurement,
            failure=failure,
            started=started,
            seconds=time.monotonic() - begun,
            commit=machine.commit(),
            cooling=cooled,
            config_file=self._settings.config_file,
            pack=pack.id if (pack := packs.here()) else None,
        )
        self._store.append(run)
        return run


def _title(job: Job) -> str:
    threads = counted(job.threads, "thread") if job.threads != 1 else ""
    cpus = f"CPUs {job.cpus}" if job.cpus else ""
    batch = f"batch {size}" if (size := asked_batch_size(job)) else ""
    return " ".join(filter(None, (job.artifact.title, job.backend, job.metric, threads, cpus, batch, str(job.trial))))


def _read(
    store: Store,
    job: Job,
    started: str,
    settings: EvaluationSettings,
    limit: limits.Limit | None,
    on_progress: OnProgress | None,
) -> Measurement:
    metric, backend = METRICS[job.metric], BACKENDS[job.backend]
    if isinstance(metric, RecordedMetric):
        return copy(job)
    images, stand_in = None, None
    if data := job.artifact.data:
        images = prepare.folder_of(data) if metric.needs_labels else prepare.images_for(data)
        stand_in = prepare.stand_in_of(images, data)
    worker = Worker(
        what=job.metric,
        pool_threads=job.threads,
        cpus=job.cpus,
        # Nothing is reported while a run is timed.
        timeout_s=settings.timeout_s + metric.blocks_s(job.seconds or 0),
        limit=limit,
        interpreter=interpreter_for(backend),
        variables=backend.isa[job.trial.isa] if isinstance(job.trial, UnderIsa) else {},
        on_progress=on_progress,
    )
    measurement = worker.call(
        measure.measure,
        job=job,
        root=store.root,
        data_folder=images,
        stand_in=stand_in,
        raw_name=f"{job.key}-{started.replace(':', '').replace('+0000', 'Z')}-{secrets.token_hex(2)}",
        trusted=settings.trusted,
    )
    if limit and (counted := limits.counted_peak(limit)):
        return dataclasses.replace(measurement, values={**measurement.values, "counted": counted})
    return measurement


def is_expected(result: Result) -> bool:
    """True if running out of memory was this job's purpose, or may have been: a limit set below the claimed peak."""
    trial = result.job.trial
    may_run_out = isinstance(trial, UnderLimit) and trial.expected != "runs"
    return may_run_out and result.failure is not None and result.failure.kind == "out of memory"


def is_measured(job: Job) -> bool:
    """Whether a job needs a process of its own, rather than a look into a record."""
    return as_runtime_metric(job.metric) is not None


def peaks_of(job: Job) -> tuple[str, ...]:
    """The values of which the largest is the memory that the job claims to take; none if it claims nothing."""
    metric = as_runtime_metric(job.metric)
    return metric.peaks if metric else ()


def copy(job: Job) -> Measurement:
    """What training or export has found already. Raises Unavailable if it did not."""
    metric = METRICS[job.metric]
    assert isinstance(metric, RecordedMetric)
    return Measurement(values=metric.read(job))
