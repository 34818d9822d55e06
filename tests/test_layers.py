"""A file imports only from the layers to its right and from its own folder; the list is below.

Nor does it name a metric, if it is not the metric's own, a section of the report or part of the choice.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cifar_deploy.metrics import METRICS

PACKAGE = Path(__file__).parents[1] / "cifar_deploy"

# Left to right: each may import from those behind it, and no choice from its neighbours.
LAYERS = [
    {"head"},
    {"on_device"},
    {"__main__"},
    {"main"},
    {"cli"},
    {"steps"},
    {"options"},
    {"commands"},
    {"config"},
    {"console"},
    {"documents"},
    {"process"},
    {"selftest"},
    {"pipeline"},
    {"stages"},
    {"choice"},
    {"sections"},
    {"workers"},
    {"training"},
    {"datasets", "formats", "backends", "devices", "metrics", "reports", "recipes"},
    {"environments"},
    {"networks"},
    {"remote"},
    {"core"},
]
# What the parent of all workers imports: none of these may load a heavy library when it is imported.
HEAVY = {
    *("torch", "torchvision", "onnx", "onnxruntime", "openvino", "nncf", "litert_torch", "ai_edge_litert"),
    *(
        "ai_edge_quantizer",
        "ncnn",
        "pnnx",
        "executorch",
        "torchao",
        "sklearn",
        "pandas",
        "PIL",
        "safetensors",
        "mlflow",
        "timm",
    ),
}
# These run in workers alone, where torch is what is wanted.
TORCH_AT_THE_TOP = {
    *(
        f"training/{n}.py"
        for n in (
            "arithmetic",
            "batches",
            "clock",
            "forecast",
            "initial",
            "loop",
            "optimise",
            "randomness",
            "ranks",
            "state",
            "setup",
            "trial",
        )
    ),
    *(
        f"networks/{n}.py"
        for n in ("resnet", "mobilenet", "no_op", "complete", "answers", "counting", "dead", "diagnosis", "weights")
    ),
}

# In the order of the pipeline.
STAGES = (
    *("prepare", "app", "train", "add", "export", "plan", "results", "rounds", "pack", "evaluate", "feeding", "bench"),
    *(
        "profile",
        "predict",
        "machines",
        "report",
        "bundle",
        "importing",
        "devices",
        "track",
        "choose",
        "pairing",
        "compare",
    ),
    *("comparison", "environments", "doctor", "quickstart"),
)

# Where a metric may be named: in its own file, in a section whose setup it is, and where one limits the choice.
NAMES_METRICS = ("metrics/", "sections/", "choice/")
# What is named like a metric and is none.
NOT_A_METRIC = {
    "selftest.py": "checks what is known of single metrics, and is named for them",
    "core/cgroups.py": "the kernel's controller of memory",
    "core/version_2.py": "what version 2 called it",
    "core/limits.py": "the same",
    "core/units.py": "a kind of number, of whatever metric",
}

FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def _layer(name: str) -> int:
    return next(index for index, names in enumerate(LAYERS) if name in names)


def _imports(node: ast.AST) -> Iterator[str]:
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield from (f"{child.module}.{alias.name}" for alias in child.names)


@pytest.mark.parametrize("file", FILES)
def test_a_file_imports_only_from_its_right(file: str) -> None:
    own = file.split("/")[0].removesuffix(".py")
    if own == "__init__":
        return
    for name in _imports(ast.parse((PACKAGE / file).read_text())):
        parts = name.split(".")
        if parts[0] != "cifar_deploy" or len(parts) < 2 or parts[1] in (own, "__version__"):
            continue
        assert _layer(parts[1]) > _layer(own), f"{file} imports {name}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_only_stages_further_left(stage: str) -> None:
    left = STAGES[: STAGES.index(stage)]
    for name in _imports(ast.parse((PACKAGE / "stages" / f"{stage}.py").read_text())):
        if name.startswith("cifar_deploy.stages."):
            assert name.split(".")[2] in left, f"stages/{stage}.py imports {name}"


def test_every_stage_is_in_the_list_and_in_the_docstring() -> None:
    assert sorted(STAGES) == sorted(path.stem for path in (PACKAGE / "stages").glob("*.py") if path.stem != "__init__")
    assert ", ".join(STAGES) in " ".join((PACKAGE / "stages" / "__init__.py").read_text().split())


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("workers/") and "__init__" not in file])
def test_no_worker_imports_another(file: str) -> None:
    for name in _imports(ast.parse((PACKAGE / file).read_text())):
        assert not name.startswith("cifar_deploy.workers"), f"{file} imports {name}"


@pytest.mark.parametrize("file", [file for file in FILES if file not in TORCH_AT_THE_TOP])
def test_nothing_heavy_is_imported_at_the_top(file: str) -> None:
    for node in ast.parse((PACKAGE / file).read_text()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in _imports(node):
                assert name.split(".")[0] not in HEAVY, f"{file} imports {name}"


def _metrics_named(file: str) -> set[str]:
    """Strings that are a metric's name, a value of one (latency.p50), or tell a user to ask for one."""
    tree = ast.parse((PACKAGE / file).read_text())
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    named = re.compile(rf"(?:.*--metric )?({'|'.join(METRICS)})(?:\.\w+)?(?:;.*)?", re.S)
    return {text for text in texts if named.fullmatch(text)}


@pytest.mark.parametrize("file", [file for file in FILES if not file.startswith(NAMES_METRICS)])
def test_no_other_file_names_a_metric(file: str) -> None:
    assert bool(_metrics_named(file)) == (file in NOT_A_METRIC), (
        "a metric says itself how it is used: see RuntimeMetric"
    )


def test_the_search_for_metrics_finds_them() -> None:
    assert "latency" in _metrics_named("sections/latencies.py") and "latency.p50" in _metrics_named(
        "sections/external.py"
    )
