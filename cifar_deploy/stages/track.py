"""Results -> runs of MLflow: an experiment a folder, a run a network, nested runs its configurations.

What a run holds comes from the records alone, so that the same results are the same runs: they are logged once. A result
that was measured again is a new run.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from cifar_deploy.choice.candidates import reference_of
from cifar_deploy.core import registry
from cifar_deploy.core.codec import to_json
from cifar_deploy.core.errors import DeployError, Unavailable, UsageError, WorkerFailed, printable
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.progress import OnProgress
from cifar_deploy.core.records import Checkpoint, Run
from cifar_deploy.core.store import Store
from cifar_deploy.metrics import METRICS, RecordedMetric
from cifar_deploy.metrics.summary import Configuration, Summary, is_batched
from cifar_deploy.reports import REPORTS
from cifar_deploy.reports.frame import numbers_of, remarks_of
from cifar_deploy.sections.common import Configurations, by_settings, is_of_training
from cifar_deploy.sections.latencies import speed_up
from cifar_deploy.stages.machines import measured, restricted
from cifar_deploy.stages.plan import Planned
from cifar_deploy.stages.report import checkpoints_of, current_of, read, records_of
from cifar_deploy.workers import track as worker
from cifar_deploy.workers.track import Point, Tracked, TrackedNetwork, TrackedRun

# MLflow's own limit.
_LONGEST_EXPERIMENT = 500

# MLflow tries again for four minutes by default. Whoever sets these variables has the say.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",  # seconds
}
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_TIDY_UP_S = 30.0

# Of a record, what is the same for all metrics of a configuration, or else stands there as a list.
_CIRCUMSTANCES = (
    *(
        "recipe",
        "dataset",
        "source",
        "data_fingerprint",
        "inputs",
        "choices",
        "backend_options",
        "seconds",
        "limit_test",
    ),
    *("weights_sha256", "artifact_sha256", "machine", "protocol", "commit"),
)


def track(
    store: Store,
    uri: str,
    *,
    experiment: str | None = None,
    planned: Iterable[Planned] | None = None,
    machines: Sequence[str] = (),
    on_progress: OnProgress | None = None,
) -> Tracked:
    """Log the results so far, or what is planned alone, to the MLflow store or server at `uri`, with the reports made of them.

    Args:
        uri: A folder or file: URI, sqlite: and other databases, or http(s): of a tracking server. Credentials in it are
            given to MLflow and never shown.
        experiment: Its name; by default "cifar-deploy/" and the name of the output folder.
        machines: The names of the devices to log the results of; none: all.

    Runs that are there already are left as they are. Raises UsageError or Unavailable as `check_tracking` does, UsageError
    if there are no results, and DeployError if the store or server refuses.
    """
    check_tracking(uri, experiment)
    results, samples, _ = read(store, planned)
    found = measured(results)
    networks = _of_devices(
        _networks(current_of(each.results, samples).configurations, None if each is found[0] else each.title)
        for each in restricted(found, machines)
    )
    name = printable(experiment or f"cifar-deploy/{store.root.resolve().name or 'results'}")
    files = tuple(path for each in REPORTS.values() if (path := store.reports / each.filename).is_file())
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    variables = _variables(uri)
    try:
        return Worker(what="logging", variables=variables, on_progress=on_progress).call(
            worker.track, networks=networks, experiment=name, files=files, report_sha256=digest
        )
    except DeployError as error:
        if isinstance(error, WorkerFailed):
            _discard(networks, name, variables)
        raise DeployError(f"--mlflow {shown(uri)}: {_masked(str(error), uri)}; {_way_out(uri, str(error))}") from None
    except BaseException:  # Ctrl-C has killed the worker
        _discard(networks, name, variables)
        raise


def _discard(networks: Sequence[TrackedNetwork], experiment: str, variables: Mapping[str, str]) -> None:
    """Delete the run that a killed worker was logging. What cannot be deleted now is the next call's to delete."""
    keys = tuple(network.run.key for network in networks)
    try:
        Worker(what="tidying up", variables=variables, timeout_s=_TIDY_UP_S).call(
            worker.discard_unfinished, keys=keys, experiment=experiment
        )
    except DeployError:
        return


def check_tracking(uri: str, experiment: str | None = None) -> None:
    """Raises UsageError if it cannot be a store's or server's URI, and Unavailable if a package that it needs is missing."""
    parts = _split(uri)
    if parts.scheme in ("http", "https") and not parts.hostname:
        raise UsageError(f"--mlflow: {shown(uri)} names no server; give http://HOST:PORT, or a folder")
    if experiment and len(experiment) > _LONGEST_EXPERIMENT:
        raise UsageError(
            f"--mlflow-experiment: is longer than MLflow takes ({_LONGEST_EXPERIMENT} characters); give a shorter name"
        )
    if registry.missing(["mlflow"]):
        raise Unavailable("--mlflow: needs mlflow; pip install 'cifar-deploy[mlflow]'")
    if parts.scheme.partition("+")[0] in _DATABASES and (lacking := registry.missing(["sqlalchemy", "alembic"])):
        raise Unavailable(
            f"--mlflow: a database needs {', '.join(lacking)}; pip install {' '.join(lacking)}, or give a folder"
        )


def shown(uri: str) -> str:
    """The URI for people: without its credentials, and without a query, which may hold some."""
    parts = _split(uri)
    query = "?***" if parts.query else ""
    if not parts.netloc:
        return f"{uri.partition('?')[0]}{query}"
    credentials, _, place = parts.netloc.rpartition("@")
    return f"{parts.scheme}://{'***@' if credentials else ''}{place}{parts.path}{query}"


def _masked(text: str, uri: str) -> str:
    """What MLflow said of the URI, without the credentials in it."""
    parts = _split(uri)
    text = text.replace(uri, shown(uri))
    secrets = (parts.netloc.rpartition("@")[0], parts.password, unquote(parts.password or ""), parts.query)
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return text


def _split(uri: str) -> SplitResult:
    try:
        parts = urlsplit(uri)
        _ = parts.port  # is read only now
    except ValueError as error:
        raise UsageError(f"--mlflow: is no URI ({error}); give http://HOST:PORT, or a folder") from None
    return parts


def _variables(uri: str) -> dict[str, str]:
    """What MLflow reads in the worker. Credentials go apart from the URI, which MLflow prints."""
    parts = _split(uri)
    told = {name: os.environ.get(name, value) for name, value in _PATIENCE.items()}
    # MLflow 3 refuses a file store without this variable. The user asked for one by naming a folder.
    told["MLFLOW_ALLOW_FILE_STORE"] = "true"
    if not parts.scheme and uri != "databricks":
        return {**told, "MLFLOW_TRACKING_URI": Path(uri).absolute().as_uri()}
    if parts.scheme in ("http", "https") and parts.username and parts.password:
        told["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
        told["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password)
        uri = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return {**told, "MLFLOW_TRACKING_URI": uri}


def _way_out(uri: str, cause: str) -> str:
    if _split(uri).scheme not in ("http", "https"):
        return "mend that or give another --mlflow, and run it again"
    if re.search(r"\b(401|403|PERMISSION_DENIED|UNAUTHENTICATED)\b", cause):
        return "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, and run it again"
    return "check the server and its address, and run it again"


def _of_devices(devices: Iterable[Iterable[TrackedNetwork]]) -> tuple[TrackedNetwork, ...]:
    """Each network once, with its configurations on every device."""
    found: dict[str, TrackedNetwork] = {}
    for network in itertools.chain.from_iterable(devices):
        before = found.get(network.run.key)
        configurations = (*(before.configurations if before else ()), *network.configurations)
        found[network.run.key] = TrackedNetwork(
            run=before.run if before else network.run, configurations=configurations
        )
    return tuple(found.values())


def _networks(configurations: Configurations, machine: str | None) -> Iterator[TrackedNetwork]:
    """`machine` is the name of a further device."""
    checkpoints = checkpoints_of(configurations)
    rows = by_settings(configurations)
    for name in dict.fromkeys(configuration.name for configuration in rows):
        of_name = {each: of_one for each, of_one in rows.items() if each.name == name}
        run = _network(name, checkpoints.get(name), of_name)
        yield TrackedNetwork(
            run=run,
            configurations=tuple(_configuration(each, of_one, rows, machine) for each, of_one in of_name.items()),
        )


def _network(name: str, checkpoint: Checkpoint | None, of_name: Configurations) -> TrackedRun:
    """The run of a network with its curve, or of an external model, of which only the file is known."""
    artifact = next(iter(next(iter(of_name.values())).values())).result.job.artifact
    if not checkpoint:
        runs = [run for of_one in of_name.values() for run in _runs(of_one)]
        params = {"name": name, "files_sha256": " ".join(file.sha256 for file in artifact.files)}
        # Whatever is measured of it later, it is the same file: its times are no part of its key.
        run = _keyed(name=name, params=params, kind="external model", started_ms=0, ended_ms=0)
        return dataclasses.replace(run, started_ms=min(map(_start_ms, runs)), ended_ms=max(map(_end_ms, runs)))
    training, ended_ms = checkpoint.training, _ms(checkpoint.finished)
    recipe = dict(vars(checkpoint.recipe)) if checkpoint.recipe else {}
    settings = {
        "name": name,
        "network": training.network,
        "recipe": recipe.pop("name", None),
        **recipe,
        "dataset": training.data.dataset,
        "source": training.data.source,
        "data_fingerprint": training.data.fingerprint,
        "train_images": training.data.train_images,
        "test_images": checkpoint.test_images,
        "classes": len(training.data.classes),
        "image_size": f"{training.data.width}x{training.data.height}",
        "device": checkpoint.device,
        "device_name": checkpoint.device_name,
        "threads": checkpoint.threads,
        "ranks": checkpoint.ranks,
        "weights_sha256": checkpoint.weights.sha256,
        "machine": checkpoint.machine,
        "commit": checkpoint.commit,
        **_versions(checkpoint.versions),
    }
    return _keyed(
        name=name,
        params=settings,
        kind="network",
        points=(*_curve(checkpoint, ended_ms), *_of_training(of_name, ended_ms)),
        started_ms=ended_ms - round(checkpoint.wall_seconds * 1000),
        ended_ms=ended_ms,
    )


def _curve(checkpoint: Checkpoint, ended_ms: int) -> Iterator[Point]:
    """A step an epoch, counted from 1. Its time is counted back from the end of the training."""
    left_s = checkpoint.wall_seconds
    for step, epoch in enumerate(checkpoint.curve, start=1):
        left_s -= epoch.wall_seconds
        for name, value in (
            ("training_loss", epoch.loss),
            ("test_accuracy", epoch.accuracy),
            ("epoch_seconds", epoch.seconds),
            ("epoch_wall_seconds", epoch.wall_seconds),
        ):
            yield Point(name=name, value=value, step=step, at_ms=ended_ms - round(left_s * 1000))


def _of_training(of_name: Configurations, at_ms: int) -> Iterator[Point]:
    """What the training found of the network, whether or not it was asked for as a metric of a configuration."""
    job = next(iter(next(iter(of_name.values())).values())).result.job
    for name, metric in METRICS.items():
        if isinstance(metric, RecordedMetric) and is_of_training(name):
            with contextlib.suppress(Unavailable):
                for key, value in metric.read(job).items():
                    fields = {
                        "metric": name,
                        "value_name": key,
                        "value": value,
                        "unit": metric.columns[key].stored_unit,
                    }
                    yield from _points(numbers_of(fields), at_ms)


def _configuration(
    configuration: Configuration, of_one: dict[str, Summary], rows: Configurations, machine: str | None
) -> TrackedRun:
    """Its numbers and remarks are named as the columns of report-wide.csv."""
    records = [record.fields for summary in of_one.values() for record in records_of(summary)]
    runs = list(_runs(of_one))
    ended_ms = max(map(_end_ms, runs))
    values: dict[str, float | None] = {}
    noted: dict[str, int | str] = {}
    for fields in records:
        values |= numbers_of(fields)
        noted |= remarks_of(fields)
    if faster := speed_up(of_one, reference_of(configuration, rows)):
        values["speed_up"] = faster.number
        if faster.estimate:
            values |= {"speed_up_low": faster.estimate.low, "speed_up_high": faster.estimate.high}
    job = runs[-1].job
    sizes = {f"{name}_batch_size": each.result.job.batch_size for name, each in of_one.items() if is_batched(name)}
    params = {
        "machine_name": machine,
        "name": configuration.name,
        "network": records[0]["network"],
        "format": configuration.variant,
        "backend": configuration.backend,
        "device": configuration.device,
        "threads": configuration.threads,
        **({"cpus": configuration.cpus} if configuration.cpus else {}),
        **sizes,
        **{name: _joined(records, name) for name in _CIRCUMSTANCES},
        **_versions(job.versions),
    }
    failures = [summary.failure for summary in of_one.values() if summary.failure]
    return _keyed(
        name=f"{machine}: {configuration}" if machine else str(configuration),
        params=params,
        kind="configuration",
        tags={name: text for name, text in noted.items() if isinstance(text, str)},
        points=tuple(_points(values, ended_ms)),
        started_ms=min(map(_start_ms, runs)),
        ended_ms=ended_ms,
        failed=any(failure.kind not in ("unsupported", "unavailable") for failure in failures),
    )


def _keyed(
    *,
    name: str,
    params: Mapping[str, object],
    kind: str,
    tags: Mapping[str, str] = MappingProxyType({}),
    points: tuple[Point, ...] = (),
    started_ms: int,
    ended_ms: int,
    failed: bool = False,
) -> TrackedRun:
    """The run with the key of all that it holds. What is unknown or empty is left out."""
    run = TrackedRun(
        key="",
        name=name,
        params={name: str(value) for name, value in params.items() if value not in (None, "", "{}")},
        tags={"cifar_deploy.kind": kind, **tags},
        points=points,
        started_ms=started_ms,
        ended_ms=ended_ms,
        failed=failed,
    )
    content = json.dumps(to_json(run), sort_keys=True).encode(errors="surrogatepass")
    return dataclasses.replace(run, key=hashlib.sha256(content).hexdigest()[:32])


def _points(values: Mapping[str, float | None], at_ms: int) -> Iterator[Point]:
    return (Point(name=name, value=value, at_ms=at_ms) for name, value in values.items() if value is not None)


def _joined(records: Sequence[Mapping[str, object]], name: str) -> str:
    """What the records of a configuration say under a name: mostly one thing."""
    return " ".join(dict.fromkeys(str(fields[name]) for fields in records if fields[name] is not None))


def _versions(versions: Mapping[str, str]) -> dict[str, str]:
    return {f"version.{package}": version for package, version in versions.items()}


def _runs(of_one: Mapping[str, Summary]) -> Iterator[Run]:
    return (run for summary in of_one.values() for run in summary.result.runs)


def _start_ms(run: Run) -> int:
    return _ms(run.started)


def _end_ms(run: Run) -> int:
    return _ms(run.started) + round(run.seconds * 1000)


def _ms(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)
