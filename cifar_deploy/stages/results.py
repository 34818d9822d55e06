"""Which stored results may be used. A folder may be somebody else's, or damaged: what a line says is looked at first."""

from collections.abc import Callable, Mapping

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core.errors import DeployError
from cifar_deploy.core.records import Block
from cifar_deploy.devices import DEVICES
from cifar_deploy.formats import FORMATS
from cifar_deploy.metrics import METRICS, out_of_range
from cifar_deploy.metrics.summary import is_timed

# What a job's options hold, and of which type each is.
_OPTIONS: Mapping[str, tuple[type, ...]] = {
    "seconds": (float, int),
    "limit_test": (int, type(None)),
    "limit_bytes": (int,),
    "limit_kind": (str,),
    "limit": (str,),
    "isa": (str,),
    "sustain_s": (float, int),
}
_OF_A_LIMIT = {"limit_bytes", "limit_kind", "limit"}


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
    if job.artifact.takes is None:
        FORMATS[job.artifact.format]
    return None


def _options(block: Block) -> str | None:
    for name, value in block.job.options.items():
        if name in _OPTIONS and (isinstance(value, bool) or not isinstance(value, _OPTIONS[name])):
            return f"option {name} is {value!r}"
    if _OF_A_LIMIT & block.job.options.keys() and not block.job.options.keys() >= _OF_A_LIMIT:
        return "its limit is not said as a whole"
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


_LOOKS: tuple[Callable[[Block], str | None], ...] = (_names, _options, _session, _values)
