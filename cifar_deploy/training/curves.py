"""The curve of a training, for whoever plots it.

metrics.jsonl    a line an epoch, written anew after each, so that an interruption leaves none out and none twice
tensorboard/     the same as TensorBoard's events, at the end, where `tensorboard` is installed
"""

import json
from collections.abc import Sequence
from pathlib import Path

from cifar_deploy.core import files, registry
from cifar_deploy.core.codec import to_json
from cifar_deploy.core.progress import report
from cifar_deploy.core.records import Epoch

_EVENTS = "tensorboard"


def write(folder: Path, curve: Sequence[Epoch]) -> None:
    """Raises Unwritable."""
    lines = [json.dumps({"epoch": number, **to_json(epoch)}) for number, epoch in enumerate(curve, start=1)]
    files.write_text(folder / "metrics.jsonl", "\n".join(lines) + "\n")


def write_events(folder: Path, curve: Sequence[Epoch]) -> None:
    """For TensorBoard. Whatever keeps it from being done is no reason to lose a training, and is only reported."""
    if registry.missing(["tensorboard"]):
        return
    try:
        with files.staging(folder / _EVENTS) as staged:
            _write_events(staged, curve)
            files.discard(folder / _EVENTS)
            staged.rename(folder / _EVENTS)
    except Exception as error:  # another package's: its imports can fail in any way
        report(1, 1, milestone=f"warning: no events for TensorBoard ({type(error).__name__}: {error})")


def _write_events(folder: Path, curve: Sequence[Epoch]) -> None:
    from torch.utils.tensorboard import SummaryWriter

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
