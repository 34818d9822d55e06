"""Results -> the choice of what to ship. It reads results and what lies behind them, nothing else."""

import shlex
from collections.abc import Iterable, Mapping, Sequence

from cifar_deploy.choice import answer
from cifar_deploy.choice.choose import Choice, Constraints
from cifar_deploy.core.records import Artifact, External
from cifar_deploy.core.store import CHECKPOINT, Store
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


def is_here(store: Store, artifact: Artifact) -> bool:
    """Whether the files of an artifact are in the output folder. External models always count as here."""
    if isinstance(artifact.origin, External):
        return True
    return all((store.folder_of(artifact) / file.name).is_file() for file in artifact.files)


def absence(store: Store, choice: Choice) -> str | None:
    """A sentence that the files to ship are missing, with the command that makes them; None if they are there."""
    if not choice.winner or is_here(store, artifact := choice.winner.artifact):
        return None
    if artifact.format == CHECKPOINT:
        return f"Its weights are not here: bring {store.folder_of(artifact)} along."
    given = "" if artifact.input == "float32" else f" --input {artifact.input}"
    command = f"cifar-deploy export {shlex.quote(artifact.name)} --format {artifact.format}{given}"
    return f"Its files are not here: `{command}` makes them."


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
