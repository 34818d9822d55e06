"""First weights from a file, for fine-tuning: the last layer begins fresh where the number of classes is another one.

A frozen network keeps all but its last layer: the weights get no gradient, and batch norm and dropout behave as when it
is tested.
"""

from pathlib import Path

from torch import nn

from cifar_deploy.core.errors import UsageError
from cifar_deploy.core.progress import report
from cifar_deploy.core.records import Training
from cifar_deploy.networks.weights import fit


def initialise(network: nn.Module, path: Path, training: Training) -> None:
    """Load the weights of a file into a complete network, on the CPU.

    Raises Corrupt if it is another file than the recipe says, or if its weights are not those of the network.
    """
    init, classes = training.recipe.init, len(training.data.classes)
    assert init
    head = head_of(network, classes)
    own = [] if head is None else [f"{head}.{name}" for name, _ in network.get_submodule(head).named_parameters()]
    found = fit(network, path, training.network, init, head=own)
    for note in found.notes:
        report(0, 1, milestone=f"{path}: {note}")
    if found.fresh:
        names = ", ".join(found.fresh)
        report(0, 1, milestone=f"{path}: has another number of classes; {names} begin fresh, for {classes:,} classes")


def head_of(network: nn.Module, classes: int) -> str | None:
    """The name of the last layer: of those with an output for each class, the last; None if there is none."""
    found = None
    for name, module in network.named_modules():
        weight = module._parameters.get("weight")
        if weight is not None and weight.ndim > 1 and len(weight) == classes:
            found = name
    return found


def freeze(network: nn.Module, training: Training) -> frozenset[str]:
    """Let no weight but the last layer's be trained. The names of the modules that stay as they are.

    Raises UsageError if no layer has an output for each class.
    """
    head = head_of(network, len(training.data.classes))
    if head is None:
        raise UsageError(
            f"--freeze: {training.network} has no layer with an output for each of {len(training.data.classes):,} classes; "
            "leave it out"
        )
    of_head = {id(weight) for weight in network.get_submodule(head).parameters()}
    for weight in network.parameters():
        weight.requires_grad_(id(weight) in of_head and weight.requires_grad)
    parts = head.split(".")
    above = {".".join(parts[:length]) for length in range(len(parts) + 1)}  # the head, and what it is in
    return frozenset(name for name, _ in network.named_modules() if name not in above)
