"""The outcome of a stage's work on one artifact, result or training."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from cifar_deploy.core.errors import DeployError, one_line
from cifar_deploy.core.records import Failure

T = TypeVar("T")

_LONGEST_REASON = 1000


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[T]):
    """A stage's product. `reused`: an earlier one is still valid. Not `tried`: it cannot be made on this machine."""

    value: T
    reused: bool
    tried: bool = True


def failure_of(error: DeployError) -> Failure:
    """The error as a record: the reason in one line, the whole text in the log if it is longer."""
    reason = one_line(str(error), _LONGEST_REASON)
    whole = str(error) if reason != str(error) else ""
    log = "\n".join(filter(None, [whole, getattr(error, "log", "")]))
    # A name of a file may hold what is no UTF-8.
    return Failure(kind=error.kind, reason=reason, log=log.encode("utf-8", "backslashreplace").decode())
