"""Job -> Reading, in a process of its own."""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import files, trust
from cifar_deploy.core.arrays import random_arrays
from cifar_deploy.core.errors import loading
from cifar_deploy.core.records import Job, Reading
from cifar_deploy.core.store import Store
from cifar_deploy.devices import DEVICES
from cifar_deploy.formats import FORMATS
from cifar_deploy.metrics import METRICS, Copied, TestImages, Workbench


def copy(job: Job) -> Reading:
    """What training or export has found already. Raises Unavailable if it did not."""
    metric = METRICS[job.metric]
    assert isinstance(metric, Copied)
    return Reading(values=metric.read(job))


def measure(
    job: Job, root: Path, data_folder: Path | None, stand_in: str | None, raw_name: str, trusted: bool
) -> Reading:
    """Run the job's metric; its samples or predictions go to reports/raw before the reading is returned.

    `data_folder` holds the images, if the artifact takes images. Its hash is checked before any parser sees it, and a
    program that this user did not export is not run unless `trusted`. Raises Corrupt, Untrusted, LoadError, or whatever
    the runtime raises while it runs.
    """
    metric, backend = METRICS[job.metric], BACKENDS[job.backend]
    assert not isinstance(metric, Copied)
    store = Store(root)
    paths = store.verified(job.artifact)
    if _is_program(job) and not trusted:
        for path, file in zip(paths, job.artifact.files, strict=True):
            trust.check(path, file.sha256)

    def import_runtime() -> None:
        for module in (*backend.requires, *backend.modules):
            importlib.import_module(module)
        # Asking for a device takes PyTorch; another runtime says itself what it lacks.
        if job.device != "cpu" and "torch" in backend.requires:
            DEVICES[job.device].probe()

    def load() -> Callable[[Any], Any]:
        import_runtime()
        return _loaded(job, store)

    images = None
    if data_folder:
        images = TestImages(
            pixels=np.load(data_folder / "test_images.npy", mmap_mode="r"),
            labels=np.load(data_folder / "test_labels.npy"),
            prepare=FORMATS[job.artifact.format].prepare,
        )
    bench = Workbench(job=job, batches=_batches(job, images), images=images, import_runtime=import_runtime, load=load)
    measurement = metric.measure(bench)
    raw = None
    if measurement.arrays:
        with files.whole(store.raw_path(raw_name)) as part, open(part, "wb") as output:
            np.savez_compressed(output, **dict(measurement.arrays))  # type: ignore[arg-type]
        raw = raw_name
    return Reading(values=measurement.values, raw=raw, disturbance=measurement.disturbance, stand_in=stand_in)


def _is_program(job: Job) -> bool:
    if job.artifact.takes is None:
        return FORMATS[job.artifact.format].is_program
    opener = BACKENDS[job.backend].opens
    return opener is not None and opener.is_program


def _loaded(job: Job, store: Store) -> Callable[[Any], Any]:
    backend, artifact = BACKENDS[job.backend], job.artifact
    target = backend.targets[job.device]
    if artifact.takes is None:
        main = store.artifact_folder(artifact.name, artifact.format) / FORMATS[artifact.format].filename
        with loading(str(main), job.backend):
            return backend.load(main, artifact, target, job.threads)
    assert backend.opens
    main = Path(artifact.files[0].name)
    with loading(str(main), job.backend):
        return backend.opens.open(main, target, job.threads).run


def _batches(job: Job, images: TestImages | None) -> Callable[[int, int], Sequence[Any]]:
    if images:
        return lambda count, size: list(images.batches(images.repeated(count * size), size))
    assert job.artifact.takes is not None
    takes = job.artifact.takes
    return lambda count, size: random_arrays(takes, count)
