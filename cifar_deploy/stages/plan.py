"""Artifacts -> Jobs, and a reason for each pair that cannot run here."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cifar_deploy import formats as formats_module
from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import affinity, machine
from cifar_deploy.core.defaults import SECONDS
from cifar_deploy.core.errors import Unavailable, Unsupported, UsageError, WrongOutput
from cifar_deploy.core.records import Artifact, Failure, Isa, Job, UnderIsa
from cifar_deploy.core.registry import need
from cifar_deploy.core.store import Store
from cifar_deploy.devices import DEVICES
from cifar_deploy.formats import format_of
from cifar_deploy.metrics import METRICS, PROTOCOL, as_runtime_metric, default_metrics, measured_where
from cifar_deploy.metrics.summary import is_per_image
from cifar_deploy.networks import NETWORKS
from cifar_deploy.stages import train
from cifar_deploy.stages.export import is_for_other_processor, readers, versions_of


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Under what the jobs are measured: each at every number of threads, and if it is batched at every batch size."""

    threads: tuple[int, ...] = (1,)
    seconds: float = SECONDS
    batch_sizes: tuple[int, ...] = ()  # none: each metric's own
    limit_test: int | None = None
    cpus: str | None = None  # processors that workers are kept to: big, little or a list (see core.affinity)


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A job, and why it cannot run here if it cannot."""

    job: Job
    failure: Failure | None = None


def jobs(
    artifacts: Iterable[Artifact],
    backends: Sequence[str] | None,
    devices: Sequence[str],
    metrics: Sequence[str],
    conditions: Conditions,
) -> list[Planned]:
    """A job for each artifact, backend that reads it, device, metric, number of threads and batch size, in this order.

    Raises UsageError if a backend was asked for by name and reads none of the artifacts.
    """
    artifacts = list(artifacts)
    check_readers({str(artifact.format) for artifact in artifacts}, backends, "export one")
    return [
        item
        for artifact in artifacts
        for backend in readers(str(artifact.format), backends)
        for device in devices
        for metric in metrics
        for item in planned(artifact, backend, device, metric, conditions)
    ]


def under_isa(planned: Iterable[Planned], levels: Iterable[Isa]) -> list[Planned]:
    """Each INT8 job of a per-image metric again, with its runtime held to each level of instructions.

    Raises UsageError if there is none.
    """
    of_int8 = [item for item in planned if is_per_image(item.job) and format_of(item.job.artifact).precision == "int8"]
    if not of_int8:
        names = " or ".join(measured_where(lambda metric: metric.per_image))
        raise UsageError(
            f"--max-isa: there is no {names} of an INT8 format among these; run "
            f"`cifar-deploy export --format onnx_int8`, and measure --metric {names}"
        )
    return [_under(item, isa) for item in of_int8 for isa in levels]


def _under(item: Planned, isa: Isa) -> Planned:
    job = replace(item.job, trial=UnderIsa(isa=isa))
    if item.failure:
        return Planned(job=job, failure=item.failure)
    try:
        machine.check_isa(isa)
        if isa not in BACKENDS[job.backend].isa:
            raise Unsupported(
                f"backend {job.backend}: cannot be held to {isa}; measure on a processor that has no more than that"
            )
    except Unsupported as error:
        return Planned(job=job, failure=Failure(kind=error.kind, reason=str(error)))
    return Planned(job=job)


def planned(artifact: Artifact, backend: str, device: str, metric: str, conditions: Conditions) -> list[Planned]:
    """The jobs of one metric, each with why it cannot run here if it cannot."""
    plugin, measured = BACKENDS[backend], as_runtime_metric(metric)
    settings: dict[str, Any] = {}
    batch_sizes: tuple[int, ...] = (1,)
    threads = conditions.threads
    if not measured:
        threads = threads[:1]
    else:
        settings = {name: getattr(conditions, name) for name in measured.options}
        batch_sizes = (measured.batch_size,)
        if measured.batched and conditions.batch_sizes:
            batch_sizes = conditions.batch_sizes
    versions, here = versions_of(backend), machine.machine()
    cpus = affinity.chosen(conditions.cpus) if conditions.cpus else None
    jobs = [
        Job(
            artifact=artifact,
            backend=backend,
            device=device,
            metric=metric,
            threads=count,
            batch_size=batch_size,
            **settings,
            protocol=PROTOCOL,
            machine=here,
            versions=versions,
            backend_options=plugin.options,
            cpus=cpus,
        )
        for count in dict.fromkeys(threads)
        for batch_size in dict.fromkeys(batch_sizes)
    ]
    return [Planned(job=job, failure=why_unavailable(artifact, backend, device, versions)) for job in jobs]


def why_unavailable(artifact: Artifact, backend: str, device: str, versions: Mapping[str, str]) -> Failure | None:
    """Why the artifact cannot run there, on these versions of the backend's packages; None if it can."""
    plugin = BACKENDS[backend]
    if artifact.failure:
        return artifact.failure
    for mismatch in artifact.mismatches:
        if (mismatch.backend, mismatch.versions) == (backend, versions):
            return Failure(kind=WrongOutput.kind, reason=mismatch.reason)
    try:
        if device not in plugin.targets:
            raise Unsupported(f"backend {backend}: runs on {', '.join(plugin.targets)}, not on {device}")
        if is_for_other_processor(artifact):
            raise Unsupported(
                f"{artifact.title}: was made for another processor "
                f"({artifact.choices['processor']}); run `cifar-deploy export` here"
            )
        need("backend", backend, plugin)
    except (Unsupported, Unavailable) as error:
        return Failure(kind=error.kind, reason=str(error))
    return None


def plan(
    store: Store,
    names: Sequence[str] = (),
    *,
    formats: Sequence[str] | None = None,
    backends: Sequence[str] | None = None,
    devices: Sequence[str] = ("cpu",),
    metrics: Sequence[str] | None = None,
    conditions: Conditions = Conditions(),
) -> list[Planned]:
    """What `evaluate` will measure: every artifact of the trainings on every backend that reads it.

    Raises UnknownName or UsageError for a name that is nothing here.
    """
    check_names(formats=formats, backends=backends, devices=devices, metrics=metrics)
    artifacts = []
    for name in names or train.names(store):
        weights = train.checkpoint(store, name).weights
        for artifact in store.artifacts(name):
            # An export of weights that were since replaced would be compared with the wrong network.
            if artifact.weights_sha256 == weights.sha256 and artifact.variant in (formats or [artifact.variant]):
                artifacts.append(artifact)
    for artifact in artifacts:
        for stray in store.strays(artifact):
            path = store.folder_of(artifact) / stray
            warnings.warn(f"{path}: belongs to no export; it is neither counted nor opened")
    for format in formats or ():
        if not any(artifact.variant == format for artifact in artifacts):
            raise UsageError(
                f"--format: no {format} of {', '.join(names or train.names(store))} is exported; run `cifar-deploy export`"
            )
    wanted = [METRICS.given(metric) for metric in metrics] if metrics else default_metrics()
    return jobs(artifacts, backends, devices, wanted, conditions)


def check_names(
    networks: Iterable[str] | None = None,
    formats: Iterable[str] | None = None,
    backends: Iterable[str] | None = None,
    devices: Iterable[str] | None = None,
    metrics: Iterable[str] | None = None,
) -> None:
    """Names that the user gave: raises UnknownName for the first that is none, before any work is done."""
    for name in formats or ():
        formats_module.given(name)
    for registry_, names in ((NETWORKS, networks), (BACKENDS, backends), (DEVICES, devices), (METRICS, metrics)):
        for name in names or ():
            registry_.given(name)


def check_readers(formats: Iterable[str], backends: Iterable[str] | None, remedy: str) -> None:
    """Raises UsageError for the first of the backends that reads none of the formats; `remedy` adds one that it reads."""
    # Not as given: some are of records, whose code nobody has asked for.
    formats = sorted({formats_module.parted(format)[0] for format in formats})
    for backend in backends or ():
        if not any(backend in readers(format, [backend]) for format in formats):
            raise UsageError(
                f"--backend: {backend} reads {', '.join(BACKENDS[backend].reads)}, and there is no such artifact "
                f"among {', '.join(formats)}; {remedy}, or leave it out"
            )
