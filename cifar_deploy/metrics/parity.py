"""Parity: the largest absolute difference of a logit from the eager network's, and the share of labels that agree.

Found by the output validation of every export, on 256 real test images; the checkpoint itself is what is compared with.
"""

from cifar_deploy.core.errors import Unavailable
from cifar_deploy.core.records import Job
from cifar_deploy.core.table import Column
from cifar_deploy.metrics import RecordedMetric


def read(job: Job) -> dict[str, float]:
    if reason := job.artifact.unvalidated.get(job.backend):
        raise Unavailable(reason)
    return next(
        (
            {"difference": parity.largest_difference, "agreement": parity.agreement, "images": parity.images}
            for parity in job.artifact.parity
            if parity.backend == job.backend
        ),
        {},
    )


METRIC = RecordedMetric(
    stage="export",
    summary="largest logit difference from the eager network, and agreement of labels, on real images",
    better="lower",
    columns={
        "difference": Column(title="max abs logit difference", unit="", stored_unit="1", is_power=True),
        "agreement": Column(title="top-1 agreement", unit="%", stored_unit="1", scale=100, headline=False),
        "images": Column(title="compared", unit="images", stored_unit="images", digits=0, headline=False),
    },
    read=read,
)
