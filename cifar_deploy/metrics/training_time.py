"""Training time: seconds inside training steps, and wall seconds beside it.

Evaluation and checkpoints are outside the first and inside the second. It is the sum over all epochs, also of a training
that was interrupted. In `seconds` an epoch that was disturbed counts as the median of the quiet ones whose images have
the same size, and the verdict says how many there were; `spent` is what the clock said.
"""

from cifar_deploy.core.errors import Unavailable
from cifar_deploy.core.records import Job
from cifar_deploy.core.table import Column
from cifar_deploy.core.verdict import judge_training
from cifar_deploy.metrics import RecordedMetric


def read(job: Job) -> dict[str, float]:
    checkpoint = job.artifact.checkpoint
    if not checkpoint:
        return {}
    if not checkpoint.recipe:
        raise Unavailable("training_time: the network was trained elsewhere")
    seconds, _ = judge_training(checkpoint)
    return {"seconds": seconds, "spent": checkpoint.seconds, "wall_seconds": checkpoint.wall_seconds}


METRIC = RecordedMetric(
    stage="train",
    summary="seconds inside training steps, disturbed epochs as long as quiet ones; as spent, and wall seconds, beside it",
    better="lower",
    columns={
        "seconds": Column(title="training", unit="s", stored_unit="s", digits=1, judged=True),
        "spent": Column(title="training, as spent", unit="s", stored_unit="s", digits=1, headline=False),
        "wall_seconds": Column(title="training, wall", unit="s", stored_unit="s", digits=1, headline=False),
    },
    read=read,
    judge=lambda job: judge_training(job.artifact.checkpoint)[1] if job.artifact.checkpoint else None,
)
