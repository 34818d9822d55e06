"""Which stored results may be used. A folder may be somebody else's, or damaged: what a line says is looked at first."""

from collections.abc import Callable

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core.errors import DeployError
from cifar_deploy.core.records import Block, External
from cifar_deploy.devices import DEVICES
from cifar_deploy.formats import FORMATS
from cifar_deploy.metrics import METRICS, out_of_range
from cifar_deploy.metrics.summary import is_timed


def fault(block: Block) -> str | None:
    """Why a block cannot be shown or compared here, or None. Nothing is imported that only a record names."""
    try:
        return next(filter(None, (look(block) for look in _LOOKS)), None)
    except DeployError as error:  # a name that is unknown here, or is code that nobody asked for
        return str(error)


def _names(block: Block) -> str | None:
    job = block.job
    METRICS[job.metric]
    BACKENDS[job.backend]
    DEVICES[job.device]
    if job.artifact.format:
        FORMATS[job.artifact.format]
    if (job.artifact.format is None) != isinstance(job.artifact.origin, External):
        return "its artifact has a format and is an external model, or neither"
    return None


def _session(block: Block) -> str | None:
    if is_timed(block.job) and block.reading and not block.session:
        return "it was timed, and is of no session"
    if block.session and block.job.key not in block.session.cells:
        return "its session does not list it"
    return None


def _values(block: Block) -> str | None:
    if bool(block.reading) == bool(block.failure):
        return "it has neither or both of a reading and a failure"
    return out_of_range(block.job.metric, block.reading.values) if block.reading else None


_LOOKS: tuple[Callable[[Block], str | None], ...] = (_names, _session, _values)
