"""What a state says of the training that it is of, and what is done where that is not the one that goes on."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from cifar_deploy.core.errors import Corrupt, DeployError
from cifar_deploy.training.state import Position, State, restored

SETTING: Mapping[str, str | int] = {"threads": 1, "torch": "2.14.1"}


def network_and_optimizer() -> tuple[nn.Module, torch.optim.Optimizer]:
    network = nn.Linear(3, 2)
    return network, torch.optim.SGD(network.parameters(), lr=0.1)


def state_in(folder: Path, setting: Mapping[str, str | int] = SETTING, test_images: int = 2) -> State:
    return State(folder, setting, test_images)


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    state_in(tmp_path).save(*network_and_optimizer(), Position(curve=[], step=4, images=32, loss_sum=1.5))
    return tmp_path


def test_a_training_goes_on_with_what_was_saved(begun: Path) -> None:
    saved = state_in(begun).newest()
    assert saved
    network, optimizer = network_and_optimizer()
    assert restored(saved, network, optimizer) == Position(curve=[], step=4, images=32, loss_sum=1.5)
    assert torch.equal(network.weight, saved["network"]["weight"])


def test_another_setting_is_kept_with_what_follows(begun: Path) -> None:
    state = state_in(begun, {**SETTING, "threads": 2})
    saved = state.newest()
    assert saved
    network, optimizer = network_and_optimizer()
    at = restored(saved, network, optimizer)
    assert at.changes == ("from epoch 1, step 5 with threads 2, not 1",)
    state.save(network, optimizer, at)
    saved = state_in(begun).newest()
    assert saved and restored(saved, network, optimizer).changes == (
        "from epoch 1, step 5 with threads 2, not 1",
        "from epoch 1, step 5 with threads 1, not 2",
    )


def test_other_test_images_are_refused(begun: Path) -> None:
    with pytest.raises(DeployError, match=r"2 test images, not 64; give --limit-test 2, or --force"):
        state_in(begun, test_images=64).newest()


def test_states_that_cannot_be_read_are_refused_and_stay(begun: Path) -> None:
    next(begun.glob("*.pt")).write_bytes(b"")
    for _ in range(2):
        with pytest.raises(Corrupt, match="none of the saved versions can be read; start over with --force"):
            state_in(begun).newest()
