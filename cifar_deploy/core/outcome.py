"""How a stage's work on one thing ended: what it made or found, or why there is none."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from cifar_deploy.core.errors import DeployError, one_line
from cifar_deploy.core.records import Failure

T = TypeVar("T")

_LONGEST_REASON = 1000


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[T]):
    """What a stage made, or found: `reused` if it was there and is still good, not `tried` if it could not be, here."""

    value: T
    reused: bool
    tried: bool = True


def failure_of(error: DeployError) -> Failure:
    """As a record: the reason in a line, all of it in the log if it is longer."""
    reason = one_line(str(error), _LONGEST_REASON)
    whole = str(error) if reason != str(error) else ""
    log = "\n".join(filter(None, [whole, getattr(error, "log", "")]))
    # A name of a file may hold what is no UTF-8.
    return Failure(kind=error.kind, reason=reason, log=log.encode("utf-8", "backslashreplace").decode())
