"""Job -> Measurement, in a process of its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_deploy import devices
from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import feeding, files, trust, untrusted
from cifar_deploy.core.arrays import Pixels, mapped, random_arrays
from cifar_deploy.core.errors import Corrupt, WrongOutput, loading
from cifar_deploy.core.records import External, Job, Measurement
from cifar_deploy.core.store import Store
from cifar_deploy.formats import format_of, main_file
from cifar_deploy.metrics import METRICS, RecordedMetric, TestImages, Workbench, out_of_range


def measure(
    job: Job, root: Path, data_folder: Path | None, stand_in: str | None, raw_name: str, trusted: bool
) -> Measurement:
    """Run the job's metric; its samples or predictions go to reports/raw before the measurement is returned.

    `data_folder` holds the images, if the artifact takes images. Its hash is checked before any parser sees it, and a
    program that this user did not export is not run unless `trusted`. Raises Corrupt, Untrusted, LoadError, or whatever
    the runtime raises while it runs.
    """
    metric, backend = METRICS[job.metric], BACKENDS[job.backend]
    assert not isinstance(metric, RecordedMetric)
    store = Store(root)
    with store.view(job.artifact) as paths:
        if _is_program(job) and not trusted:
            trust.check_files(paths, job.artifact.files)

        def import_runtime() -> None:
            backend.import_runtime()
            devices.check(job.device, backend.requires)

        def load() -> Callable[[Any], Any]:
            import_runtime()
            return _loaded(job, paths)

        images = None
        if data_folder:
            chosen = data_folder / "chosen.npy"  # beside a choice of them: see core.packs
            images = TestImages(
                pixels=mapped(data_folder / "test_images.npy"),
                labels=np.load(data_folder / "test_labels.npy"),
                prepare=_prepared(job),
                places=np.load(chosen) if chosen.exists() else None,
            )
        bench = Workbench(
            job=job, batches=_batches(job, images), images=images, import_runtime=import_runtime, load=load
        )
        found = metric.measure(bench)
    if fault := out_of_range(job.metric, found.values):
        raise WrongOutput(f"{job.artifact.title} on {job.backend}: {fault}")
    measurement = Measurement(
        values=found.values,
        disturbance=found.disturbance,
        stand_in=stand_in,
        restored=any(inputs.restored for inputs in bench.used),
    )
    if not found.arrays:
        return measurement
    path = store.raw_path(raw_name)
    with files.atomic_write(path) as part, open(part, "wb") as output:
        np.savez_compressed(output, **dict(found.arrays))  # type: ignore[arg-type]
    return replace(measurement, raw=raw_name, raw_sha256=untrusted.sha256(path))


def _is_program(job: Job) -> bool:
    if not isinstance(job.artifact.origin, External):
        return format_of(job.artifact).is_program
    opener = BACKENDS[job.backend].opens
    return opener is not None and opener.is_program


def _prepared(job: Job) -> Callable[[Pixels], NDArray[Any]]:
    """Stored pixels as what `_loaded` returns takes them: an external model is fed there."""
    return (lambda pixels: pixels) if job.artifact.feed else format_of(job.artifact).prepare


def _loaded(job: Job, paths: Mapping[str, Path]) -> Callable[[Any], Any]:
    """`paths` are the verified files, by the names that the artifact's record gives them: nothing else is opened."""
    backend, artifact = BACKENDS[job.backend], job.artifact
    target = backend.targets[job.device]
    if not isinstance(artifact.origin, External):
        main = main_file(artifact, paths)
        with loading(artifact.title, job.backend):
            return backend.load(main, artifact, target, job.threads)
    name = next(iter(paths), "")
    if not name:
        raise Corrupt(f"{artifact.title}: its record does not list a file; give the file again")
    assert backend.opens
    with loading(name, job.backend):
        run = backend.opens.open(paths[name], target, job.threads).run
    feed = artifact.feed
    return feeding.predicting(run, feed, f"{artifact.title} on {job.backend}") if feed else run


def _batches(job: Job, images: TestImages | None) -> Callable[[int, int], Sequence[Any]]:
    if images:
        return lambda count, size: list(images.batches(images.repeated(count * size), size))
    return lambda count, size: random_arrays(job.artifact.takes, count)
