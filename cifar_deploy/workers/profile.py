"""An artifact on a runtime -> the time of each operator, by the runtime's own profiler, and a trace of the first inferences.

The trace is a file of Chrome's format: chrome://tracing and Perfetto show it.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import cifar_deploy
from cifar_deploy import devices
from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import files, trust
from cifar_deploy.core.arrays import batched, mapped
from cifar_deploy.core.errors import LoadError, Unsupported, raised_as
from cifar_deploy.core.profile import Calls, Profiled, Span
from cifar_deploy.core.records import Artifact
from cifar_deploy.core.store import Store
from cifar_deploy.formats import format_of, main_file

_IMAGES = 64


def profile(
    artifact: Artifact, backend: str, threads: int, seconds: float, root: Path, data_folder: Path, trusted: bool
) -> Profiled:
    """Profile single images for `seconds`. The spans go to the trace file, and are not returned.

    The artifact's hash is checked before any parser sees it, and a program that this user did not export is not run
    unless `trusted`. Raises Corrupt, Untrusted, LoadError, Unsupported, or whatever the runtime raises while it runs.
    """
    plugin, format, store = BACKENDS[backend], format_of(artifact), Store(root)
    assert plugin.profile
    pixels = mapped(data_folder / "test_images.npy")[:_IMAGES]
    calls = Calls(batches=[format.prepare(np.array(image)) for image in batched(pixels, 1)], seconds=seconds)
    with store.view(artifact) as paths:
        if format.is_program and not trusted:
            trust.check_files(paths, artifact.files)
        main = main_file(artifact, paths)
        plugin.import_runtime()
        devices.check(plugin.validated_on, plugin.requires)
        with raised_as(lambda error: LoadError(f"{artifact.title}: {backend} fails ({type(error).__name__}: {error})")):
            found = plugin.profile(main, artifact, plugin.targets[plugin.validated_on], threads, calls)
    if not found.operators:
        raise Unsupported(f"{artifact.title}: the profiler of {backend} tells of no operator")
    title = f"{artifact.title} on {plugin.title or backend}"
    with files.atomic_write(store.trace_path(artifact.name, artifact.variant, backend)) as part:
        part.write_text(json.dumps(_trace(title, found)), encoding="utf-8")
    return replace(found, spans=())


def _trace(title: str, found: Profiled) -> Mapping[str, Any]:
    process = os.getpid()
    spans = sorted(found.spans, key=lambda span: (span.start_us, -span.duration_us))
    named = {"ph": "M", "name": "process_name", "pid": process, "tid": 0, "ts": 0, "args": {"name": title}}
    return {
        "displayTimeUnit": "ms",
        "otherData": {
            "made by": f"cifar-deploy {cifar_deploy.__version__}",
            "note": f"Times under a profiler are not comparable with a latency. {found.note}".strip(),
        },
        "traceEvents": [named, *(_event(span, process) for span in spans)],
    }


def _event(span: Span, process: int) -> Mapping[str, Any]:
    return {
        "ph": "X",
        "name": span.name,
        "cat": span.type,
        "ts": span.start_us,
        "dur": span.duration_us,
        "pid": process,
        "tid": span.thread,
        "args": dict(span.details),
    }
