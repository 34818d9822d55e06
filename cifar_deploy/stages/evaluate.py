"""Job -> Reading, in a process of its own."""

from pathlib import Path

import numpy as np

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import files, trust
from cifar_deploy.core.arrays import Predict
from cifar_deploy.core.errors import DeployError, LoadError, is_out_of_memory
from cifar_deploy.core.records import Job, Reading
from cifar_deploy.core.store import Store
from cifar_deploy.devices import DEVICES
from cifar_deploy.formats import FORMATS
from cifar_deploy.metrics import METRICS, Copied, Workbench


def copy(job: Job) -> Reading:
    """What training or export has found already. Raises Unavailable if it did not."""
    metric = METRICS[job.metric]
    assert isinstance(metric, Copied)
    return Reading(values=metric.read(job))


def measure(job: Job, root: Path, data_folder: Path, stand_in: str | None, raw_name: str, trusted: bool) -> Reading:
    """Run the job's metric; its samples or predictions go to reports/raw before the reading is returned.

    The artifact's hash is checked before any parser sees it, and a program that this user did not export is not run
    unless `trusted`. Raises Corrupt, Untrusted, LoadError, or whatever the runtime raises while it runs.
    """
    metric, backend, format = METRICS[job.metric], BACKENDS[job.backend], FORMATS[job.artifact.format]
    assert not isinstance(metric, Copied)
    store = Store(root)
    paths = store.verified(job.artifact)
    if format.is_program and not trusted:
        for path, file in zip(paths, job.artifact.files, strict=True):
            trust.check(path, file.sha256)
    main = store.artifact_folder(job.artifact.name, job.artifact.format) / format.filename

    def import_runtime() -> None:
        for package in backend.requires:
            __import__(package)
        # Asking for a device takes PyTorch; another runtime says itself what it lacks.
        if job.device != "cpu" and "torch" in backend.requires:
            DEVICES[job.device].probe()

    def load() -> Predict:
        import_runtime()
        try:
            return backend.load(main, job.artifact, backend.targets[job.device], job.threads)
        except DeployError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise LoadError(f"{main}: {job.backend} cannot load it ({type(error).__name__}: {error})") from error

    bench = Workbench(
        job=job,
        pixels=np.load(data_folder / "test_images.npy", mmap_mode="r"),
        labels=np.load(data_folder / "test_labels.npy"),
        prepare=format.prepare,
        import_runtime=import_runtime,
        load=load,
    )
    measurement = metric.measure(bench)
    raw = None
    if measurement.arrays:
        with files.whole(store.raw_path(raw_name)) as part, open(part, "wb") as output:
            np.savez_compressed(output, **dict(measurement.arrays))  # type: ignore[arg-type]
        raw = raw_name
    return Reading(values=measurement.values, raw=raw, disturbance=measurement.disturbance, stand_in=stand_in)
