"""Where a training stands, kept on disk so that it goes on from there.

training.json                      what is being trained
state.1.pt, state.2.pt, state.json the two newest states, see core.generations
metrics.jsonl                      a line an epoch, for whoever plots them
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cifar_deploy.core import files
from cifar_deploy.core.errors import Corrupt, one_line
from cifar_deploy.core.generations import Generations
from cifar_deploy.core.progress import report
from cifar_deploy.core.records import Disturbance, Epoch, Training, from_json, to_json


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


class State:
    """The folder of one training."""

    def __init__(self, folder: Path, training: Training) -> None:
        self.folder = folder
        self._generations = Generations(folder, "state", ".pt")
        files.write_json(folder / "training.json", to_json(training))

    def save(self, network: nn.Module, optimizer: torch.optim.Optimizer, at: Position) -> None:
        saved = {
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "position": to_json(at),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        }
        self._generations.write(lambda path: torch.save(saved, path))

    def newest(self) -> dict[str, Any] | None:
        """What `save` saved, of the newest state that is whole; None if there was none yet.

        Raises Corrupt if none of those that are there can be read.
        """

        def warn(damage: str) -> None:
            report(0, 1, milestone=f"warning: {damage}; going on from the state before it")

        for path in self._generations.read(warn):
            try:
                saved: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
                from_json(Position, saved["position"])
                return saved
            except Exception as error:  # whatever a state of another version makes torch raise
                warn(f"{path}: cannot be read ({type(error).__name__})")
        if self._generations.exist():
            raise Corrupt(f"{self._generations}: none of the saved states can be read; start over with --again")
        return None

    def remove(self) -> None:
        shutil.rmtree(self.folder)


def restored(saved: dict[str, Any], network: nn.Module, optimizer: torch.optim.Optimizer) -> Position:
    """Where the training stood; the network, the optimizer and torch's random state are again as they were there.

    Raises Corrupt if the state is of something else.
    """
    try:
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
    except (RuntimeError, ValueError) as error:
        raise Corrupt(
            f"the saved state is of another network or version ({one_line(str(error), 100)}); start over with --again"
        ) from error
    torch.set_rng_state(saved["random"])
    if saved["random_cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(saved["random_cuda"])
    return from_json(Position, saved["position"])
