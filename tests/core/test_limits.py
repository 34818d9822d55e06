"""A worker that takes more than it may is stopped, and called out of memory; one that does not, runs."""

import pytest

from cifar_deploy.core import isolate, limits
from cifar_deploy.core.errors import WorkerFailed

_MIB = 2**20


@pytest.fixture(params=["the strictest", "RLIMIT_DATA"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As this process may, and as it is where no cgroup may be made."""
    if request.param == "RLIMIT_DATA":

        def refuse(limit_bytes: int) -> None:
            raise PermissionError

        monkeypatch.setattr(limits, "_version_2", refuse)
        monkeypatch.setattr(limits, "_version_1", refuse)
    return str(request.param)


def test_a_worker_under_its_limit_runs_and_one_above_it_does_not(kind: str) -> None:
    with limits.memory(400 * _MIB) as enough:
        assert isolate.call("tests.probes:hold", int, limit=enough, mebibytes=200) == 200 * _MIB
        counted = limits.counted_peak(enough)
        assert counted is None or 200 * _MIB < counted < 300 * _MIB
    with limits.memory(100 * _MIB) as too_little, pytest.raises(WorkerFailed) as caught:
        isolate.call("tests.probes:hold", int, limit=too_little, mebibytes=200)
    assert caught.value.kind == "out of memory"
    if kind == "RLIMIT_DATA":
        assert (enough.kind, too_little.kind) == (kind, kind)
    assert not too_little.folder or not too_little.folder.exists()


def test_an_error_under_a_limit_passes_through_and_leaves_no_group() -> None:
    with pytest.raises(OSError, match="elsewhere"), limits.memory(100 * _MIB) as limit:
        raise OSError("elsewhere")
    assert not limit.folder or not limit.folder.exists()
