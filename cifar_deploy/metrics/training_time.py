"""Training time: seconds inside training steps, and wall seconds beside it.

Evaluation and checkpoints are outside the first and inside the second. It is the sum over all epochs, also of a training
that was interrupted.
"""

from cifar_deploy.core.table import Column
from cifar_deploy.metrics import Copied

METRIC = Copied(
    stage="train",
    summary="seconds inside training steps, and wall seconds beside it",
    better="lower",
    columns={
        "seconds": Column(title="training", unit="s", stored_unit="s", digits=1),
        "wall_seconds": Column(title="training, wall", unit="s", stored_unit="s", digits=1, headline=False),
    },
    read=lambda job: {
        "seconds": job.artifact.checkpoint.seconds,
        "wall_seconds": job.artifact.checkpoint.wall_seconds,
    },
)
