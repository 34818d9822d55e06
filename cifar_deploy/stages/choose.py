"""Results -> the choice of what to ship. It reads results and what lies behind them, nothing else."""

from collections.abc import Iterable, Mapping, Sequence

from cifar_deploy.choice import answer
from cifar_deploy.choice.choose import Choice, Constraints
from cifar_deploy.core.store import Store
from cifar_deploy.stages.machines import measured, restricted
from cifar_deploy.stages.plan import Planned
from cifar_deploy.stages.report import Chosen, read


def choices(
    store: Store,
    constraints: Constraints = Constraints(),
    planned: Iterable[Planned] | None = None,
    machines: Sequence[str] = (),
) -> dict[str, Choice]:
    """What to ship on each device, by its name: of the results so far, or of what is planned alone.

    The limits are asked of each device. `machines` are the names of the devices; none: all.

    Raises UsageError if there are no results, or no such machine.
    """
    results, samples, _ = read(store, planned)
    shown = restricted(measured(results), machines)
    return {each.title: Chosen.of(each.results, samples, constraints).choice for each in shown}


def choose(
    store: Store,
    constraints: Constraints = Constraints(),
    planned: Iterable[Planned] | None = None,
    machine: str | None = None,
) -> Choice:
    """As `choices`, of one device: the named one, or the first."""
    return next(iter(choices(store, constraints, planned, [machine] if machine else []).values()))


def refusal(found: Mapping[str, Choice]) -> str | None:
    """Why there is no answer, with the device where there are several; None if every device has one.

    An emulated device never has one, which is no reason while another has.
    """
    lacking = {title: choice for title, choice in found.items() if not choice.winner}
    if len(lacking) < len(found):
        lacking = {title: choice for title, choice in lacking.items() if not choice.is_emulated}
    told = [
        f"{title}: {answer.lines(choice)[0]}" if len(found) > 1 else answer.lines(choice)[0]
        for title, choice in lacking.items()
    ]
    return " ".join(told) or None
