"""A network's trial before its training: what would else come to light after the last epoch, or never.

A network of the same name is built, trained for a few steps of two images, saved, loaded and counted, by the functions
that do so with the one that is trained. Then it is thrown away.
"""

import contextlib
import dataclasses
import io
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cifar_deploy.core import files
from cifar_deploy.core.errors import Corrupt, UsageError
from cifar_deploy.core.records import Layout, Training
from cifar_deploy.core.store import WEIGHTS
from cifar_deploy.formats.checkpoint import save_trained
from cifar_deploy.networks import answers, complete, counting
from cifar_deploy.networks.answers import fixed_images, listed, logits_of, refusing
from cifar_deploy.training import batches, randomness
from cifar_deploy.training.optimise import optimizer_of, step
from cifar_deploy.training.randomness import seed_all

# The faster one first.
_LAYOUTS: tuple[Layout, ...] = ("channels_last", "contiguous")

# Each size of images is trained on so often: what a network keeps of a step must not break the next one.
_ROUNDS = 2


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What was found out about a network that passed."""

    layout: Layout = "channels_last"  # the first one that it can be trained in
    macs: int | None = None
    uncounted: str | None = None  # as in Checkpoint


def try_out(training: Training, device: str, ranks: int) -> Trial:
    """Train, save, load and count a network of this name. Random states stay as they were.

    Raises UsageError, with the cause and the way out, if any of it fails in every layout.
    """
    with randomness.kept():
        for layout in _LAYOUTS[:-1]:
            with contextlib.suppress(UsageError):
                return _tried_out(training, device, ranks, layout)
        return _tried_out(training, device, ranks, _LAYOUTS[-1])


def _tried_out(training: Training, device: str, ranks: int, layout: Layout) -> Trial:
    name, data = training.network, training.data
    network, other = _built(training, 0), _built(training, 1)
    if {id(weight) for weight in network.parameters()} & {id(weight) for weight in other.parameters()}:
        raise UsageError(f"{name}: two calls returned the same weights; make all of them anew in each call")
    if not any(weight.requires_grad for weight in network.parameters()):
        raise UsageError(f"{name}: has nothing to train; give it a parameter that requires a gradient")
    with refusing(name, f"cannot be brought to {device}"):
        network = complete.on(device, network, layout)
    for height, width in batches.sizes(training.recipe, data.height, data.width):
        try:
            _check_calls(network, training, fixed_images(height, width))
        except UsageError as error:
            if (height, width) == (data.height, data.width):
                raise
            recipe = training.recipe.name
            raise UsageError(f"{error}; recipe {recipe} begins with such images, give --recipe original") from error
    _train(network, training, ranks, layout)
    _unsettle(network)
    rebuilt, expected = _saved_and_loaded(network, training)
    images, classes = fixed_images(data.height, data.width), len(data.classes)
    if reason := answers.unfit(name, rebuilt, images, classes):
        raise UsageError(f"{name}: {reason}")
    if not answers.are_of_one_network(logits_of(name, rebuilt, images, classes), expected):
        changing = listed(_changing(network, other)) or "something"
        raise UsageError(
            f"{name}: with the same weights it answers otherwise when it is built again; {changing} changes from build to "
            f"build and is not in its state_dict; {complete.REGISTER}"
        )
    macs, uncounted = counting.macs(rebuilt, images[:1])
    return Trial(layout=layout, macs=macs, uncounted=uncounted)


def _built(training: Training, seed: int) -> nn.Module:
    seed_all(seed)
    return complete.build(training.network, training.data)


def _check_calls(network: nn.Module, training: Training, images: Tensor) -> None:
    """Raises UsageError if the network returns no finite logits that need a gradient."""
    name, classes = training.network, len(training.data.classes)
    tested = logits_of(name, network, images, classes)
    network.train()
    with refusing(name, f"cannot take images of {images.shape[3]}×{images.shape[2]} in training"):
        logits = network(images.to(next(network.parameters()).device))
    trained = answers.as_logits(name, logits, images, classes, " in training")
    if not (tested.isfinite().all() and trained.isfinite().all()):
        raise UsageError(f"{name}: returned logits that are not finite before it is trained; check its first weights")
    if not trained.requires_grad:
        raise UsageError(f"{name}: its logits need no gradient in training; leave out detach() and no_grad()")


def _train(network: nn.Module, training: Training, ranks: int, layout: Layout) -> None:
    """A few small steps with each size of images, and a test between them as after an epoch."""
    name, data, classes = training.network, training.data, len(training.data.classes)
    recipe = dataclasses.replace(training.recipe, learning_rate=min(training.recipe.learning_rate, 1e-3))
    optimizer = optimizer_of(network, recipe)
    device = next(network.parameters()).device
    failed, arithmetic = "cannot be trained", recipe.arithmetic
    if arithmetic != "float32":
        failed += f" in {arithmetic}; give --arithmetic float32"
    for _ in range(_ROUNDS):
        for height, width in batches.sizes(recipe, data.height, data.width):
            pixels = (fixed_images(height, width) * 255).byte().permute(0, 2, 3, 1).contiguous()
            images, labels = batches.as_input(pixels.to(device), layout), torch.arange(2, device=device) % classes
            network.train()
            with refusing(name, failed):
                step(network, optimizer, recipe, batches.Batch(images, labels, whole=images), len(images))
        logits_of(name, network, fixed_images(data.height, data.width), classes)
    idle = [key for key, weight in network.named_parameters() if weight.requires_grad and weight.grad is None]
    if idle and ranks > 1:
        raise UsageError(f"{name}: {listed(idle)} get no gradient, which several ranks need; train it with one")
    with refusing(name, "an interrupted training of it cannot be saved"):
        state = io.BytesIO()
        torch.save({"network": _state(network, name), "optimizer": optimizer.state_dict()}, state)
        torch.load(io.BytesIO(state.getvalue()), weights_only=True, map_location="cpu")


def _state(network: nn.Module, name: str) -> dict[str, Tensor]:
    state = network.state_dict()
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise UsageError(
                f"{name}: its state_dict holds {key}, a {type(value).__name__}, and only tensors are saved; keep it as a buffer"
            )
    return state


def _unsettle(network: nn.Module) -> None:
    """Move all weights, as a long training does: a layer that begins as zero would hide what comes before it."""
    with torch.no_grad():
        for weight in network.parameters():
            if weight.is_floating_point():
                inputs = max(1, weight.numel() // max(1, len(weight))) if weight.ndim > 1 else 1
                weight.add_(torch.randn_like(weight), alpha=0.1 * inputs**-0.5)


def _saved_and_loaded(network: nn.Module, training: Training) -> tuple[nn.Module, Tensor]:
    """The network as a later command builds it again, and the logits that it should have."""
    name, data = training.network, training.data
    with files.temporary_folder() as folder:
        weights = folder / WEIGHTS
        with refusing(name, "cannot be saved"), files.errors_named(weights):
            save_trained(name, network, data, weights, half=training.recipe.weights == "float16")
        seed_all(2)
        try:
            with refusing(name, "cannot be loaded once it is saved"):
                rebuilt, expected = complete.read(name, data, weights)
        except Corrupt as error:
            raise UsageError(
                f"{name}: cannot be loaded once it is saved; make all parameters and buffers in __init__, each with a "
                f"memory of its own ({answers.said(error.__cause__ or error)})"
            ) from error
    assert expected is not None
    return rebuilt, expected


def _changing(network: nn.Module, other: nn.Module) -> list[str]:
    """What the `state_dict` lacks and two builds have not in common."""
    mine, theirs = answers.unsaved(network), answers.unsaved(other)
    return [name for name, value in mine.items() if not answers.are_equal(value, theirs.get(name))]
