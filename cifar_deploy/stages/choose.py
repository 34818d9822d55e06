"""Results -> the choice of what to ship. It reads results and what lies behind them, nothing else."""

from collections.abc import Iterable

from cifar_deploy.choice.candidates import field_of
from cifar_deploy.choice.choose import Choice, Constraints
from cifar_deploy.choice.choose import choose as choose_among
from cifar_deploy.core.store import Store
from cifar_deploy.stages.plan import Planned
from cifar_deploy.stages.report import current_of, read


def choose(store: Store, constraints: Constraints = Constraints(), planned: Iterable[Planned] | None = None) -> Choice:
    """What to ship of the results so far, or of what is planned alone. Raises UsageError if there are no results."""
    results, samples, _ = read(store, planned)
    current = current_of(results, samples)
    return choose_among(field_of(current.configurations, current.controls, samples), constraints)
