"""Where a training stands, kept on disk so that it goes on from there.

training.json                   what is being trained, see core.store
state.1.pt, state.1.json ...    the two newest states, see core.generations
metrics.jsonl                   a line an epoch, for whoever plots them
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cifar_deploy.core import files
from cifar_deploy.core.codec import from_json, to_json
from cifar_deploy.core.errors import Corrupt, DeployError, one_line
from cifar_deploy.core.generations import Generations
from cifar_deploy.core.progress import report
from cifar_deploy.core.records import Disturbance, Epoch
from cifar_deploy.training import randomness


@dataclass(kw_only=True)
class Position:
    """The finished epochs, and of the one that the training is in what has been done so far."""

    curve: list[Epoch]
    step: int = 0
    loss_sum: float = 0.0
    images: int = 0
    seconds: float = 0.0
    wall_seconds: float = 0.0
    disturbances: tuple[Disturbance, ...] = ()
    changes: tuple[str, ...] = ()  # of the setting, so far
    step_seconds: Mapping[str, float] = field(default_factory=dict)  # in each arithmetic, where they were compared


class State:
    """The folder of one training. `setting` is what else the weights and times depend on: threads, versions ..."""

    def __init__(self, folder: Path, setting: Mapping[str, str | int], test_images: int) -> None:
        self.folder = folder
        self._setting = dict(setting)
        self._test_images = test_images
        self._generations = Generations(folder, "state", ".pt")

    def save(self, network: nn.Module, optimizer: torch.optim.Optimizer, at: Position) -> None:
        """As the newest state; the one before it stays. Raises Unwritable if it cannot be written."""
        saved = {
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "position": to_json(at),
            "setting": self._setting,
            "test_images": self._test_images,
            **randomness.state(),
        }
        self._generations.write(lambda path: torch.save(saved, path))

    def newest(self) -> dict[str, Any] | None:
        """What `save` saved, of the newest state that is whole; None if there was none yet.

        If the setting is another one now, that is a warning, and kept. Raises Corrupt if none of the states that are
        there can be read, DeployError if the epochs so far were tested on other images.
        """

        def load(path: Path) -> tuple[dict[str, Any], Position, dict[str, str | int], int]:
            saved: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
            return saved, from_json(Position, saved["position"]), saved["setting"], saved["test_images"]

        def warn(damage: str) -> None:
            report(0, 1, milestone=f"warning: {damage}; it is passed over")

        found = self._generations.newest(load, warn)
        if found is None:
            return None
        saved, at, before, test_images = found
        if test_images != self._test_images:
            raise DeployError(
                f"{self.folder.name}: was begun with {test_images} test images, not {self._test_images}; give "
                f"--limit-test {test_images}, or --force to start over"
            )
        if changed := [
            f"{name} {now}, not {before.get(name)}" for name, now in self._setting.items() if now != before.get(name)
        ]:
            change = f"from epoch {len(at.curve) + 1}, step {at.step + 1} with {', '.join(changed)}"
            report(0, 1, milestone=f"warning: {change}: not bit for bit the weights of an uninterrupted training")
            saved["position"] = to_json(dataclasses.replace(at, changes=(*at.changes, change)))
        return saved

    def remove(self) -> None:
        files.discard(self.folder)


def restored(saved: dict[str, Any], network: nn.Module, optimizer: torch.optim.Optimizer) -> Position:
    """Where the training stood; the network, the optimizer and the random numbers are again as they were there.

    Raises Corrupt if the state is of something else.
    """
    try:
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
    except (RuntimeError, ValueError) as error:
        raise Corrupt(
            f"the saved state is of another network or version ({one_line(str(error), 100)}); start over with --force"
        ) from error
    randomness.restore(saved)
    return from_json(Position, saved["position"])
