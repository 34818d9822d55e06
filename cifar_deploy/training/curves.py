"""The curve of a training, for whoever plots it.

    metrics.jsonl    a line an epoch
    tensorboard/     the same as TensorBoard's events, where `tensorboard` is installed

Both are written anew after each epoch, so that a training that was interrupted leaves no epoch out and none twice.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from cifar_deploy.core import files, registry
from cifar_deploy.core.records import Epoch, to_json

_EVENTS = "tensorboard"


def write(folder: Path, curve: Sequence[Epoch]) -> None:
    """Raises Unwritable."""
    lines = [json.dumps({"epoch": number, **to_json(epoch)}) for number, epoch in enumerate(curve, start=1)]
    files.write_text(folder / "metrics.jsonl", "\n".join(lines) + "\n")
    if not registry.missing(["tensorboard"]):
        with files.naming(folder / _EVENTS):
            _write_events(folder / _EVENTS, curve)


def _write_events(folder: Path, curve: Sequence[Epoch]) -> None:
    from torch.utils.tensorboard import SummaryWriter

    shutil.rmtree(folder, ignore_errors=True)
    with SummaryWriter(str(folder)) as writer:
        spent = 0.0
        for number, epoch in enumerate(curve, start=1):
            spent += epoch.seconds
            for name, value in (
                ("loss/training", epoch.loss),
                ("accuracy/test", epoch.accuracy),
                ("seconds/epoch", epoch.seconds),
                ("seconds/all", spent),
            ):
                writer.add_scalar(name, value, global_step=number)
