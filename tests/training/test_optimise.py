import dataclasses

import pytest
import torch
from torch import Tensor, nn

from cifar_deploy.core.records import File, Recipe, Teacher
from cifar_deploy.training.batches import Batch
from cifar_deploy.training.optimise import learning_rate, loss_of, optimizer_of, set_learning_rate, step

PLAIN = Recipe(name="plain", optimizer="sgd", learning_rate=0.2, epochs=4, batch_size=16, seed=0)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [0.2, 0.2, 0.2, 0.2, 0.2]),
        ({"decay": "linear"}, [0.2, 0.15, 0.1, 0.05, 0.0]),
        ({"decay": "cosine"}, [0.2, 0.1 + 0.1 * 2**-0.5, 0.1, 0.1 - 0.1 * 2**-0.5, 0.0]),
        ({"warmup": 0.5, "decay": "linear"}, [0.0, 0.1, 0.2, 0.1, 0.0]),
        ({"warmup": 0.5}, [0.0, 0.1, 0.2, 0.2, 0.2]),
    ],
)
def test_the_learning_rate_rises_and_falls_as_the_recipe_says(
    changes: dict[str, object], expected: list[float]
) -> None:
    recipe = dataclasses.replace(PLAIN, **changes)  # type: ignore[arg-type]
    assert [learning_rate(recipe, done) for done in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx(expected)


@pytest.mark.parametrize("bias_decay", [0.0, 0.03])
def test_weights_and_biases_decay_as_the_recipe_says_and_nothing_else_does(bias_decay: float) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    recipe = dataclasses.replace(PLAIN, weight_decay=0.01, bias_decay=bias_decay, momentum=0.9)
    optimizer = optimizer_of(network, recipe)
    decays = {parameter: group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    assert {name: decays[parameter] for name, parameter in network.named_parameters()} == {
        "0.weight": 0.01,
        "0.bias": bias_decay,
        "1.weight": 0.0,
        "1.bias": bias_decay,
        "3.weight": 0.01,
        "3.bias": bias_decay,
    }
    assert all(group["nesterov"] for group in optimizer.param_groups)


def test_biases_have_a_rate_of_their_own() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    recipe = dataclasses.replace(PLAIN, bias_rate=16.0, decay="linear")
    optimizer = optimizer_of(network, recipe)
    set_learning_rate(optimizer, recipe, 0.5)
    rates = {parameter: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert {name: rates[parameter] for name, parameter in network.named_parameters()} == {
        name: pytest.approx(1.6 if name.endswith("bias") else 0.1) for name, _ in network.named_parameters()
    }


def test_biases_of_attention_and_lstm_are_biases() -> None:
    network = nn.ModuleDict({"attention": nn.MultiheadAttention(4, 2), "lstm": nn.LSTM(4, 4)})
    optimizer = optimizer_of(network, dataclasses.replace(PLAIN, bias_rate=16.0))
    multiples = {parameter: group["multiple"] for group in optimizer.param_groups for parameter in group["params"]}
    fast = {name for name, parameter in network.named_parameters() if multiples[parameter] == 16.0}
    assert fast == {
        "attention.in_proj_bias",
        "attention.out_proj.bias",
        "lstm.bias_ih_l0",
        "lstm.bias_hh_l0",
    }


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_the_optimizer_is_the_one_that_the_recipe_names(name: str, kind: type) -> None:
    recipe = dataclasses.replace(PLAIN, optimizer=name)  # type: ignore[arg-type]
    assert type(optimizer_of(nn.Linear(2, 2), recipe)) is kind


def test_the_loss_is_summed_and_smoothed() -> None:
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    share = torch.log_softmax(logits, 1)
    plain = -(share[0, 0] + share[1, 1])
    assert loss_of(logits, labels, PLAIN).item() == pytest.approx(plain.item())
    smooth = 0.9 * plain - 0.1 * share.mean(1).sum()
    found = loss_of(logits, labels, dataclasses.replace(PLAIN, label_smoothing=0.1))
    assert found.item() == pytest.approx(smooth.item())


TEACHER = Teacher(
    name="large", network="large", weights=File(name="w", bytes=1, sha256="0" * 64), temperature=2.0, weight=0.75
)


def test_a_teacher_has_its_share_of_the_loss() -> None:
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    taught = torch.tensor([[1.0, 0.5], [3.0, 1.0]])
    recipe = dataclasses.replace(PLAIN, teacher=TEACHER)
    mine, theirs = torch.softmax(logits / 2, 1), torch.softmax(taught / 2, 1)
    divergence = (theirs * (theirs / mine).log()).sum()
    expected = 0.25 * loss_of(logits, labels, PLAIN) + 0.75 * 2**2 * divergence
    assert loss_of(logits, labels, recipe, taught).item() == pytest.approx(expected.item())
    alone = dataclasses.replace(PLAIN, teacher=dataclasses.replace(TEACHER, weight=1.0))
    assert loss_of(taught, labels, alone, taught).item() == pytest.approx(0, abs=1e-6)


def test_a_pupil_comes_to_answer_as_its_teacher_does_whatever_the_labels_say() -> None:
    torch.manual_seed(0)
    teacher, pupil = (nn.Sequential(nn.Flatten(), nn.Linear(12, 4)) for _ in range(2))
    before = {name: weight.clone() for name, weight in teacher.state_dict().items()}
    recipe = dataclasses.replace(PLAIN, teacher=dataclasses.replace(TEACHER, weight=1.0), learning_rate=1.0)
    optimizer, images = optimizer_of(pupil, recipe), torch.rand(64, 3, 2, 2)
    wrong = (teacher(images).argmax(1) + 1) % 4
    losses = [step(pupil, optimizer, recipe, Batch(images, wrong, images), 64, teacher).item() for _ in range(300)]
    assert losses[-1] < losses[0] / 100
    assert (pupil(images).argmax(1) == teacher(images).argmax(1)).float().mean() > 0.95
    assert all(torch.equal(weight, before[name]) for name, weight in teacher.state_dict().items())
    assert all(weight.grad is None for weight in teacher.parameters())


def test_a_teacher_computes_in_float32_whatever_its_pupil_does() -> None:
    class Noted(nn.Linear):
        def forward(self, images: Tensor) -> Tensor:
            found = super().forward(images.flatten(1))
            types.append(found.dtype)
            return found

    types: list[torch.dtype] = []
    pupil, teacher = Noted(12, 4), Noted(12, 4)
    recipe = dataclasses.replace(PLAIN, teacher=TEACHER, arithmetic="bfloat16")
    images = torch.rand(8, 3, 2, 2)
    step(pupil, optimizer_of(pupil, recipe), recipe, Batch(images, torch.arange(8) % 4, images), 8, teacher)
    assert sorted(map(str, types)) == ["torch.bfloat16", "torch.float32"]


def test_a_teacher_sees_the_images_at_their_full_size() -> None:
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 4))  # which takes no other size
    pupil = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    recipe = dataclasses.replace(PLAIN, teacher=TEACHER)
    batch = Batch(torch.rand(8, 3, 2, 2), torch.arange(8) % 4, torch.rand(8, 3, 4, 4))
    expected = loss_of(pupil(batch.images), batch.labels, recipe, teacher(batch.whole)).item()
    assert step(pupil, optimizer_of(pupil, recipe), recipe, batch, 8, teacher).item() == pytest.approx(expected)


def test_bfloat16_rounds_the_computation_and_leaves_the_weights_float32() -> None:
    losses = {}
    for arithmetic in ("float32", "bfloat16"):
        recipe = dataclasses.replace(PLAIN, arithmetic=arithmetic)
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
        images, labels = torch.rand(16, 3, 8, 8), torch.arange(16) % 10
        loss = step(network, optimizer_of(network, recipe), recipe, Batch(images, labels, images), 16)
        assert loss.dtype == torch.float32 and all(weight.dtype == torch.float32 for weight in network.parameters())
        losses[arithmetic] = loss.item()
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.01)
