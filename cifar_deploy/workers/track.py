"""Runs -> MLflow. A run is logged whole or deleted, and one that was logged before is left as it is.

MLFLOW_TRACKING_URI names the store or server. Each run carries the tags KEY, which identifies all that it holds, and
NETWORK, the key of the network's run. A run is RUNNING while it is logged: one that still is was interrupted.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_deploy.core.errors import DeployError, one_line, printable
from cifar_deploy.core.progress import report

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment
    from mlflow.entities import Run as Logged

KEY = "cifar_deploy.key"
NETWORK = "cifar_deploy.network"
REPORT = "cifar_deploy.report"  # of the network's run: the sha256 of the report that lies among its artifacts

# MLflow's limits: https://mlflow.org/docs/latest/api_reference/rest-api.html ("Request Limits", "Log Batch").
_LONGEST_KEY = 250
_LONGEST_NAME = 250
_LONGEST_PARAM = 6_000
_LONGEST_TAG = 5_000
_PARAMS_AT_ONCE = 100
_METRICS_AT_ONCE = 1_000
_RUNS_AT_ONCE = 1_000


@dataclass(frozen=True, kw_only=True)
class Point:
    """A value of a metric, at a step."""

    name: str
    value: float
    step: int = 0
    at_ms: int  # since 1970, as all times here


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """What a run holds. Names and texts may be anything: they are made to fit here."""

    key: str
    name: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    points: tuple[Point, ...]
    started_ms: int
    ended_ms: int
    failed: bool = False


@dataclass(frozen=True, kw_only=True)
class TrackedNetwork:
    """A network's run, with one below it for each configuration."""

    run: TrackedRun
    configurations: tuple[TrackedRun, ...]

    @property
    def runs(self) -> tuple[TrackedRun, ...]:
        return (self.run, *self.configurations)


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """What was done: how many runs were logged, and how many had been before."""

    experiment: str
    experiment_id: str
    logged: int
    reused: int


def track(
    networks: tuple[TrackedNetwork, ...], experiment: str, files: tuple[Path, ...], report_sha256: str
) -> Tracked:
    """Log what the experiment lacks of these runs; `files` become artifacts of each network's run.

    Raises DeployError if the store or server refuses, after the run that was being logged is deleted.
    """
    with _refusals():
        from mlflow import MlflowClient

        client = MlflowClient()
        logging = _Logging(client, _experiment_id(client, experiment), sum(len(network.runs) for network in networks))
        for network in networks:
            logging.log(network, files, report_sha256)
    return Tracked(
        experiment=experiment, experiment_id=logging.experiment_id, logged=logging.logged, reused=logging.reused
    )


def discard_unfinished(keys: tuple[str, ...], experiment: str) -> None:
    """Delete what an interrupted call has left half logged, of the networks with these keys."""
    with _refusals():
        from mlflow import MlflowClient

        client = MlflowClient()
        found = client.get_experiment_by_name(experiment)
        if found:
            for key in keys:
                _finished(client, str(found.experiment_id), key)


class _Logging:
    def __init__(self, client: MlflowClient, experiment_id: str, total: int) -> None:
        self._client = client
        self.experiment_id = experiment_id
        self._total = total
        self.logged = 0
        self.reused = 0

    def log(self, network: TrackedNetwork, files: Sequence[Path], report_sha256: str) -> None:
        before = _finished(self._client, self.experiment_id, network.run.key)
        parent = self._run(network.run, network.run.key, None, before)
        for run in network.configurations:
            self._run(run, network.run.key, parent, before)
        known = before.get(network.run.key)
        if not known or known.data.tags.get(REPORT) != report_sha256:
            for file in files:
                self._client.log_artifact(parent, str(file), "report")
            self._client.set_tag(parent, REPORT, report_sha256)  # last: now they are all there

    def _run(self, run: TrackedRun, network: str, parent: str | None, before: Mapping[str, Logged]) -> str:
        """The id of the run, logged now or before."""
        report(self.logged + self.reused, self._total, printable(run.name))
        if known := before.get(run.key):
            self.reused += 1
            return str(known.info.run_id)
        tags = {KEY: run.key, NETWORK: network, "mlflow.source.name": "cifar-deploy report"}
        if parent:
            tags["mlflow.parentRunId"] = parent
        made = self._client.create_run(
            self.experiment_id,
            start_time=run.started_ms,
            tags={**_fitting(run.tags, _LONGEST_TAG), **tags},
            run_name=one_line(run.name, _LONGEST_NAME),
        ).info.run_id
        try:
            self._fill(made, run)
            self._client.set_terminated(made, "FAILED" if run.failed else "FINISHED", run.ended_ms)
        except BaseException:
            with contextlib.suppress(Exception):  # what it met first says more
                self._client.delete_run(made)
            raise
        self.logged += 1
        return str(made)

    def _fill(self, run_id: str, run: TrackedRun) -> None:
        from mlflow.entities import Metric, Param

        params = [Param(name, text) for name, text in _fitting(run.params, _LONGEST_PARAM).items()]
        names = _keys(point.name for point in run.points)
        points = [Metric(names[point.name], point.value, point.at_ms, point.step) for point in run.points]
        for start in range(0, len(params), _PARAMS_AT_ONCE):
            self._client.log_batch(run_id, params=params[start : start + _PARAMS_AT_ONCE])
        for start in range(0, len(points), _METRICS_AT_ONCE):
            self._client.log_batch(run_id, metrics=points[start : start + _METRICS_AT_ONCE])


def _experiment_id(client: MlflowClient, name: str) -> str:
    """Of the experiment, which is made if there is none. Raises DeployError if it was deleted."""
    report(0, 1, "reaching the tracking server")
    found: Experiment | None = client.get_experiment_by_name(name)
    if not found:
        return str(client.create_experiment(name))
    if found.lifecycle_stage != "active":
        raise DeployError(
            f"--mlflow-experiment: {name} was deleted there; restore it in MLflow, or give another --mlflow-experiment"
        )
    return str(found.experiment_id)


def _finished(client: MlflowClient, experiment_id: str, network: str) -> dict[str, Logged]:
    """The runs of a network by their keys. Those that were left half logged are deleted."""
    found: dict[str, Logged] = {}
    for run in list(_runs(client, experiment_id, f"tags.`{NETWORK}` = '{network}'")):
        if run.info.status == "RUNNING":
            client.delete_run(run.info.run_id)
        else:
            found[run.data.tags.get(KEY, "")] = run
    return found


def _runs(client: MlflowClient, experiment_id: str, filter: str) -> Iterator[Logged]:
    page: Any = None
    while True:
        found = client.search_runs([experiment_id], filter, max_results=_RUNS_AT_ONCE, page_token=page)
        yield from found
        page = found.token
        if not page:
            return


def _fitting(texts: Mapping[str, str], longest: int) -> dict[str, str]:
    """As MLflow takes them: keys of plain characters, values on one line and not too long."""
    keys = _keys(texts)
    return {keys[name]: one_line(text, longest) for name, text in texts.items()}


def _keys(names: Iterable[str]) -> dict[str, str]:
    """For each name a key of its own. A file store has a file for each, so a slash or a dot in front would lead elsewhere."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in dict.fromkeys(names):
        key = plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:_LONGEST_KEY].lstrip(".") or "_"
        number = 1
        while key in taken:
            number += 1
            key = f"{plain[: _LONGEST_KEY - 10]}_{number}"
        taken.add(key)
        found[name] = key
    return found


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Whatever MLflow and the store behind it raise in the block is raised as a DeployError with the cause in a few words."""
    try:
        yield
    except DeployError:
        raise
    except Exception as error:
        raise DeployError(_cause(error)) from None


def _cause(error: BaseException) -> str:
    """What the system said, where it is behind the error: of a refused connection MLflow's own words fill a paragraph."""
    if type(error).__name__.endswith("StoreURIException"):
        return "MLflow knows no store of this kind here"
    told = error
    each: BaseException | None = error
    while each is not None:
        if isinstance(each, OSError) and str(each):
            told = each
        each = each.__cause__ or each.__context__
    if isinstance(told, OSError) and told.strerror:
        return f"{told.filename}: {told.strerror}" if told.filename else told.strerror
    return " ".join(f"{type(told).__name__}: {told}".split())
