"""Latency: host array in to logits out, for one image, in a process that does nothing else.

After a warm-up, single calls are timed for a stated time, each with the next of 64 real test images. Beside it: seconds
to import the runtime, to load the artifact, and the first inference. The artifact's file is in the system's cache when
it is loaded, since its hash has just been checked.
"""

import time

from cifar_deploy.core.arrays import batches
from cifar_deploy.core.table import Column
from cifar_deploy.metrics import Measured, Measurement, Session
from cifar_deploy.metrics.timing import in_turn, percentiles, timed

_IMAGES = 64


def measure(session: Session) -> Measurement:
    images = list(batches(session.pixels[: _IMAGES * session.job.batch_size], session.job.batch_size))
    begun = time.perf_counter()
    session.import_runtime()
    imported = time.perf_counter()
    predict = session.load()
    loaded = time.perf_counter()
    predict(images[0])
    first = time.perf_counter()
    samples = timed(in_turn(images, predict), float(session.job.options["seconds"] or 0))
    return Measurement(
        values={
            **percentiles(samples),
            "mean": float(samples.mean()) / 1e9,
            "least": float(samples.min()) / 1e9,
            "samples": len(samples),
            "import": imported - begun,
            "load": loaded - imported,
            "first": first - loaded,
        },
        arrays={"samples_ns": samples},
    )


def _milliseconds(title: str, *, headline: bool = True, digits: int = 3) -> Column:
    return Column(title=title, unit="ms", stored_unit="s", scale=1000, digits=digits, headline=headline)


METRIC = Measured(
    summary="host array in to logits out, one image; with import, load and first-inference time",
    better="lower",
    columns={
        "p50": _milliseconds("latency"),
        "p90": _milliseconds("p90"),
        "p95": _milliseconds("p95", headline=False),
        "p99": _milliseconds("p99", headline=False),
        "mean": _milliseconds("mean", headline=False),
        "least": _milliseconds("least", headline=False),
        "samples": Column(title="samples", unit="calls", stored_unit="calls", digits=0, headline=False),
        "import": _milliseconds("import", digits=0, headline=False),
        "load": _milliseconds("load", digits=0),
        "first": _milliseconds("first", digits=1),
    },
    batch_size=1,
    options=("seconds",),
    measure=measure,
)
