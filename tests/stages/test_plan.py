import os
from dataclasses import replace

import pytest

from cifar_deploy.core import machine
from cifar_deploy.core.errors import UsageError
from cifar_deploy.core.records import Artifact, Failure
from cifar_deploy.stages.plan import Conditions, jobs
from tests.probes import a_job


def why_unavailable(artifact: Artifact) -> Failure | None:
    (planned,) = jobs([artifact], ["onnxruntime"], ["cpu"], ["latency"], Conditions())
    return planned.failure


@pytest.mark.parametrize("changes", [{"processor": "another"}, {"instructions": ("avx2",)}])
def test_what_was_made_for_another_processor_is_unsupported_here(
    changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One name may stand for several kinds of processor."""
    here = replace(machine.machine(), processor="AMD EPYC", instructions=("avx2", "avx512_vnni"))
    monkeypatch.setattr(machine, "machine", lambda: here)
    there = replace(here, **changes)  # type: ignore[arg-type]
    artifact = a_job(format="onnx_ort").artifact
    assert why_unavailable(replace(artifact, choices={"processor": here.chip})) is None
    failure = why_unavailable(replace(artifact, choices={"processor": there.chip}))
    assert failure and failure.kind == "unsupported"
    assert there.chip in failure.reason and "run `cifar-deploy export` here" in failure.reason


def test_the_processors_are_those_of_this_machine_whoever_asks_for_them() -> None:
    first = min(os.sched_getaffinity(0))
    artifact = a_job(format="onnx").artifact
    pinned = Conditions(cpus=f"{first},{first}")
    assert {item.job.cpus for item in jobs([artifact], ["onnxruntime"], ["cpu"], ["latency", "file_size"], pinned)} == {
        str(first)
    }
    with pytest.raises(UsageError, match="--cpus: 60000 is not among the processors"):
        jobs([artifact], ["onnxruntime"], ["cpu"], ["latency"], Conditions(cpus="60000"))
