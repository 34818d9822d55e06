"""Which stored results may be used. A folder may be somebody else's, or damaged: what a line says is looked at first."""

from collections.abc import Callable

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core.errors import DeployError
from cifar_deploy.core.records import External, Run
from cifar_deploy.devices import DEVICES
from cifar_deploy.formats import FORMATS
from cifar_deploy.metrics import METRICS, out_of_range
from cifar_deploy.metrics.summary import is_timed


def fault(run: Run) -> str | None:
    """Why a run cannot be shown or compared here, or None. Nothing is imported that only a record names."""
    try:
        return next(filter(None, (look(run) for look in _LOOKS)), None)
    except DeployError as error:  # a name that is unknown here, or is code that nobody asked for
        return str(error)


def _names(run: Run) -> str | None:
    job = run.job
    METRICS[job.metric]
    BACKENDS[job.backend]
    DEVICES[job.device]
    if job.artifact.format:
        FORMATS[job.artifact.format]
    if (job.artifact.format is None) != isinstance(job.artifact.origin, External):
        return "its artifact has a format and is an external model, or neither"
    return None


def _session(run: Run) -> str | None:
    if is_timed(run.job) and run.measurement and not run.session:
        return "it was timed, and is of no session"
    if run.session and run.job.key not in run.session.jobs:
        return "its session does not list it"
    return None


def _values(run: Run) -> str | None:
    if bool(run.measurement) == bool(run.failure):
        return "it has neither or both of a measurement and a failure"
    return out_of_range(run.job.metric, run.measurement.values) if run.measurement else None


_LOOKS: tuple[Callable[[Run], str | None], ...] = (_names, _session, _values)
