"""One step of training: the loss, the optimizer, and its learning rate."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from cifar_deploy.core.records import Recipe
from cifar_deploy.training.arithmetic import computing_in
from cifar_deploy.training.batches import Batch


def loss_of(logits: Tensor, labels: Tensor, recipe: Recipe, taught: Tensor | None = None) -> Tensor:
    """Cross entropy, summed over the images.

    With the logits of a teacher (`taught`), the loss is the weighted mean of the cross entropy and of the Kullback-Leibler
    divergence from them. The divergence is multiplied by the squared temperature, which keeps the size of its gradients
    (Hinton, Vinyals and Dean 2015, section 2).
    """
    loss = functional.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing, reduction="sum")
    if taught is None:
        return loss
    assert recipe.teacher
    temperature, weight = recipe.teacher.temperature, recipe.teacher.weight
    mine, theirs = (functional.log_softmax(each / temperature, dim=1) for each in (logits, taught))
    divergence = functional.kl_div(mine, theirs, reduction="sum", log_target=True) * temperature**2
    return (1 - weight) * loss + weight * divergence


def optimizer_of(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer. Weights, biases and batch norm's scales have a weight decay and a rate of their own."""
    decaying, scales, biases = [], [], []
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            decaying.append(parameter)
        elif "bias" in name.rpartition(".")[2]:  # "in_proj_bias" of attention and "bias_ih_l0" of an LSTM, too
            biases.append(parameter)
        else:
            scales.append(parameter)
    groups = [
        {"params": decaying, "weight_decay": recipe.weight_decay, "multiple": 1.0},
        {"params": scales, "weight_decay": 0.0, "multiple": 1.0},
        {"params": biases, "weight_decay": recipe.bias_decay, "multiple": recipe.bias_rate},
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "adam":
        return torch.optim.Adam(groups, lr=recipe.learning_rate)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate)
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0)


def step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    batch: Batch,
    share: float,
    teacher: nn.Module | None = None,
) -> Tensor:
    """One update. The loss before it, summed over these images.

    `share` is how many images a rank has, in the mean of all ranks: the gradient is that of the mean loss of all images
    once it is averaged over the ranks. The teacher sees the images at their full size, which it knows, and computes in
    float32: its answers are the same whatever the arithmetic of its pupil.
    """
    images = batch.images
    optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        taught = None if teacher is None else teacher(batch.whole)
    with computing_in(recipe.arithmetic, images.device.type):
        logits = model(images)
    loss = loss_of(logits.to(images.dtype), batch.labels, recipe, taught)
    (loss / share).backward()
    optimizer.step()
    return loss.detach()


def set_learning_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, done: float) -> None:
    """For a step in whose middle `done` of the whole training, a share of 1, lies behind."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(recipe, done) * group["multiple"]


def learning_rate(recipe: Recipe, done: float) -> float:
    """It rises linearly to the recipe's during its warm-up, and then falls to zero as the recipe says."""
    if done < recipe.warmup:
        return recipe.learning_rate * done / recipe.warmup
    left = (1 - done) / (1 - recipe.warmup)
    shares = {"none": 1.0, "linear": left, "cosine": (1 - math.cos(math.pi * left)) / 2}
    return recipe.learning_rate * shares[recipe.decay]
