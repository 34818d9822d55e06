"""What is ready here is said first, and each gap comes with the command that mends it."""

import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cifar_deploy import pipeline
from cifar_deploy.backends import BACKENDS
from cifar_deploy.core.records import Failure
from cifar_deploy.core.store import Store
from cifar_deploy.environments import ENVIRONMENTS
from cifar_deploy.formats import FORMATS
from cifar_deploy.metrics import default_metrics
from cifar_deploy.networks import DEFAULT_NETWORKS
from cifar_deploy.recipes import RECIPES
from tests.in_process import run_here, workers_here
from tests.probes import a_job, a_run


@pytest.fixture
def nothing_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No environment is made, and no compiler is there."""
    monkeypatch.setenv("CIFAR_DEPLOY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with workers_here():
        yield


def of_kind(entries: list[pipeline.Entry], kind: str) -> list[pipeline.Entry]:
    return [entry for entry in entries if entry.kind == kind]


def test_what_is_ready_is_counted(nothing_made: None) -> None:
    found = pipeline.Ready.of(pipeline.catalogue())
    assert set(FORMATS) - set(found.formats) >= {"litert", "executorch", "aoti"}
    assert set(BACKENDS) - set(found.backends) >= {"executorch", "pytorch_compile"}
    assert found.devices[0] == "cpu"
    some = f"{len(found.formats)} formats × {len(found.backends)} runtimes ready on cpu"
    assert str(found).startswith(some) and str(found).endswith(f", of {len(FORMATS)} × {len(BACKENDS)}")
    whole = replace(found, formats=tuple(FORMATS), backends=tuple(BACKENDS), devices=("cpu", "cuda"))
    assert str(whole) == f"{len(FORMATS)} formats × {len(BACKENDS)} runtimes ready on cpu, cuda"


def test_each_gap_of_a_plugin_has_the_command_that_mends_it(nothing_made: None, tmp_path: Path) -> None:
    gaps = pipeline.diagnose(Store(tmp_path)).gaps
    of_format = {name: gap for gap in gaps for name in gap.names}
    for name in ENVIRONMENTS:
        gap = of_format[f"format {name}"]
        assert gap.command == f"cifar-deploy env create {name}"
        assert {f"format {name}_int8", f"backend {name}"} <= set(gap.names), "one command for all that need it"
    assert str(of_format["format aoti"].command).endswith(("install g++", "--install"))
    for gap in gaps:
        assert str(gap.command) not in gap.reason, "the command stands alone, to be copied"


def test_what_is_marked_is_what_is_taken_where_none_is_named(nothing_made: None) -> None:
    entries = pipeline.catalogue()
    marked = {
        kind: [entry.name for entry in of_kind(entries, kind) if entry.is_default]
        for kind in dict.fromkeys(entry.kind for entry in entries)
    }
    assert marked["network"] == list(DEFAULT_NETWORKS)
    assert marked["metric"] == default_metrics()
    assert marked["recipe"] == [pipeline.TrainingSettings().recipe.name]
    assert marked["data set"] == ["cifar10"] and marked["device"] == ["cpu"] and marked["environment"] == []
    assert marked["format"] == list(FORMATS) and marked["backend"] == list(BACKENDS)


def test_the_list_fits_80_columns_and_puts_first_what_is_ready(nothing_made: None) -> None:
    lines = run_here("list").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "formats × " in lines[0]
    formats = lines[lines.index("formats") + 1 : lines.index("backends") - 1]
    names = [line.split()[1] for line in formats if line.startswith("* ")]
    unready = [name for name in names if name.startswith(("litert", "executorch", "aoti"))]
    assert names[-len(unready) :] == unready
    assert formats.count(f"{'':19}$ cifar-deploy env create litert") == 2
    assert max(map(len, run_here("doctor", "--out", Path.cwd()).stdout.splitlines())) <= 80


def test_a_recipe_is_described_by_what_it_does() -> None:
    assert RECIPES["original"].summary == "Adam at 0.001, 20 epochs, batch 128, no augmentation"
    told = RECIPES["fast"].summary
    assert all(words in told for words in ("SGD at 0.2", "linear decay", "random crop", "flip", "progressive resizing"))
    assert "no augmentation" not in told
    assert "±1 pixel," in replace(RECIPES["fast"], shift=1).summary


def test_results_that_failed_for_one_reason_are_tried_again_by_one_command(nothing_made: None, tmp_path: Path) -> None:
    out = tmp_path / "out of it"
    with Store(out) as store:
        for metric in ("latency", "memory"):
            job = replace(a_job(), metric=metric, backend="onnxruntime")
            store.append(replace(a_run(job=job), measurement=None, failure=Failure(kind="crashed", reason="signal 9")))
    (gap,) = [gap for gap in pipeline.diagnose(Store(out)).gaps if gap.reason == "crashed: signal 9"]
    words = shlex.split(str(gap.command))
    assert words[:2] == ["cifar-deploy", "evaluate"] and words[-2:] == ["--out", str(out)]
    assert words.count("--metric") == 2 and words.count("--backend") == 1
    done = run_here(*words[1:])
    assert done.returncode == 2 and "no trained network" in done.stderr, "each word of it is understood"
