"""What is installed: what its metadata says, what it holds, and that it needs nothing of a clone."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator, Sequence
from email.message import Message
from email.parser import Parser
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import cifar_deploy
from cifar_deploy.core.environment import own_packages, python_in
from cifar_deploy.core.interpreter import package_folders
from cifar_deploy.environments import ENVIRONMENTS
from tests.conftest import FEW_BACKENDS, FEW_FORMATS, QUICK, ROOT, TINY

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
REQUIREMENTS = [
    requirement
    for written in (PROJECT["project"]["dependencies"], *EXTRAS.values())
    for requirement in map(Requirement, written)
    if requirement.name != "cifar-deploy"
]
PINS = {
    canonicalize_name(name): Version(version)
    for name, _, version in (line.partition("==") for line in (ROOT / "constraints.txt").read_text().split())
}
# Whose module has another name.
PACKAGES = {"PIL": "pillow", "google": "protobuf", "mlflow": "mlflow-skinny", "sklearn": "scikit-learn"}
# Python's files are all installed; these are asked for.
DATA = {
    path.relative_to(ROOT): None
    for path in (ROOT / "cifar_deploy").rglob("*")
    if path.is_file() and path.suffix not in (".py", ".pyc")
}


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_a_requirement_has_a_lower_bound_and_a_pin_above_it(requirement: Requirement) -> None:
    assert [bound.operator for bound in requirement.specifier] == [">="], requirement
    assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)]), requirement


def test_what_the_program_imports_is_required() -> None:
    declared = {canonicalize_name(requirement.name) for requirement in REQUIREMENTS}
    elsewhere = {module for environment in ENVIRONMENTS.values() for module in environment.brings}
    for path in (ROOT / "cifar_deploy").rglob("*.py"):
        modules = {name.partition(".")[0] for name in imported(ast.parse(path.read_text()))}
        for module in modules - set(sys.stdlib_module_names) - elsewhere - {"cifar_deploy"}:
            assert canonicalize_name(PACKAGES.get(module, module)) in declared, f"{path}: {module}"


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_every_file_that_is_read_beside_the_code_is_installed() -> None:
    patterns: dict[str, list[str]] = PROJECT["tool"]["setuptools"]["package-data"]
    wanted = [f"{package.replace('.', '/')}/{pattern}" for package, names in patterns.items() for pattern in names]
    missing = [str(path) for path in DATA if not any(fnmatch(str(path), pattern) for pattern in wanted)]
    assert not missing and Path("cifar_deploy/py.typed") in DATA


def test_the_version_is_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    changes = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert citation["version"] == cifar_deploy.__version__ == next(name for name in changes if name != "Unreleased")
    assert "version" in PROJECT["project"]["dynamic"]


def test_the_citation_has_what_its_format_requires() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"] == PROJECT["project"]["authors"]
    assert citation["license"] == PROJECT["project"]["license"]
    assert citation["title"] == PROJECT["project"]["name"] and citation["message"]


def test_the_changelog_keeps_to_its_form() -> None:
    """Keep a Changelog 1.1: versions with dates, newest first, their changes under six headings."""
    text = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## (.+)", text, re.M)
    assert headings and all(
        re.fullmatch(r"\[Unreleased\]|\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", line) for line in headings
    )
    kinds = set(re.findall(r"^### (.+)", text, re.M))
    assert kinds and kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


# What is built


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution of what git knows, and the wheel that is built from that."""
    folder = tmp_path_factory.mktemp("built")
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("needs a clone")
    for name in filter(None, listed.stdout.split("\0")):
        if not name.startswith("reports/") and (ROOT / name).exists():
            (folder / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "clone" / name, follow_symlinks=False)  # shipped/ has links to exported/
    build("sdist", folder / "clone", folder)
    (source,) = folder.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    build("wheel", unpacked, folder)
    return folder


def build(kind: str, source: Path, folder: Path) -> None:
    """By the backend that pyproject.toml names."""
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(folder)!r})"
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Deprecat" not in done.stderr, done.stderr


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_source_distribution_has_all_but_the_tests_and_results(built: Path) -> None:
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {str(Path(*Path(name).parts[1:])) for name in archive.getnames()}
    assert names >= {"CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md", "SECURITY.md", "constraints.txt"}
    assert names >= set(map(str, DATA))
    assert not [name for name in names if name.startswith(("tests", "exported", "reports"))]
    assert source.stat().st_size < 4 * 2**20


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {Path(name) for name in archive.namelist() if ".dist-info/" not in name}
    code = {path.relative_to(ROOT) for path in (ROOT / "cifar_deploy").rglob("*.py")}
    networks = [link.relative_to(ROOT) for link in (ROOT / "cifar_deploy" / "shipped").iterdir()]
    shipped = {folder / name for folder in networks for name in ("checkpoint.json", "weights.safetensors")}
    assert len(networks) == 2
    assert names == code | DATA.keys() | shipped
    assert wheel.stat().st_size < 2 * 2**20


@pytest.mark.slow
def test_the_wheels_metadata_is_what_the_project_says(wheel: Path) -> None:
    found = wheel_metadata(wheel)
    assert found["Name"] == "cifar-deploy" and found["Version"] == cifar_deploy.__version__
    assert found["Author"] == "cifar-deploy contributors"
    assert found["License-Expression"] == "MIT" and found.get_all("License-File") == ["LICENSE"]
    assert found["Requires-Python"] == ">=3.11"
    assert found["Description-Content-Type"] == "text/markdown"
    assert found["Keywords"].split(",") == PROJECT["project"]["keywords"]
    assert found.get_all("Classifier") == PROJECT["project"]["classifiers"]
    assert "Typing :: Typed" in PROJECT["project"]["classifiers"]
    assert set(found.get_all("Provides-Extra", [])) == EXTRAS.keys()
    assert found["Project-URL"] is None and found["Home-page"] is None, "no address is made up"
    plain = [Requirement(text) for text in found.get_all("Requires-Dist", []) if "extra ==" not in text]
    assert {str(requirement) for requirement in plain} == {
        str(Requirement(text)) for text in PROJECT["project"]["dependencies"]
    }


def wheel_metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def install(wheel: Path, folder: Path) -> Path:
    """Where a virtual environment has the wheel, and nothing that it requires."""
    venv.create(folder, symlinks=True)
    own = own_packages(folder)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(own)
    return own


def outside(
    command: Sequence[object], cwd: Path, timeout_s: float = 600, **variables: str
) -> subprocess.CompletedProcess[str]:
    """A command that finds no clone, neither by its folder nor by PYTHONPATH."""
    environment = {**os.environ, **variables}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout_s
    )


@pytest.mark.slow
def test_an_installed_program_needs_no_clone(wheel: Path, tmp_path: Path) -> None:
    python = python_in(tmp_path / "venv")
    own = install(wheel, tmp_path / "venv")
    # What it requires is here. The .pth files in there are not read: one leads to the clone.
    (own / "parent.pth").write_text("".join(f"{place}\n" for place in package_folders()))
    where = outside([python, "-c", "import cifar_deploy; print(cifar_deploy.__file__)"], tmp_path)
    assert Path(where.stdout.strip()).is_relative_to(own), where
    program = [python, "-m", "cifar_deploy"]
    assert outside([*program, "--version"], tmp_path).stdout == f"cifar-deploy {cifar_deploy.__version__}\n"
    few = [*TINY, "--network", "resnet8", *FEW_FORMATS, *FEW_BACKENDS, *QUICK]
    done = outside([*program, "run", *few], tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "reports").iterdir()} >= {"report.html", "report.svg", "report.csv"}
    for command in ("list", "doctor"):
        assert outside([*program, command], tmp_path).returncode == 0
    assert outside([python, "-m", "cifar_deploy.documents", "schemas"], tmp_path).returncode == 0
    assert {path.name for path in (tmp_path / "schemas").iterdir()} == {
        path.name for path in (ROOT / "docs" / "schemas").iterdir()
    }


@pytest.mark.slow
def test_a_type_checker_sees_the_types_of_what_is_installed(wheel: Path, tmp_path: Path) -> None:
    install(wheel, tmp_path / "venv")
    (tmp_path / "consumer.py").write_text(
        "from cifar_deploy import pipeline\n"
        "\n"
        "sampling = pipeline.Sampling(rounds=6)\n"
        "reveal_type(sampling.rounds)\n"
        "pipeline.Sampling(rounds='six')\n"
    )
    mypy = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--python-executable",
        python_in(tmp_path / "venv"),
        "consumer.py",
    ]
    found = outside(mypy, tmp_path)
    assert 'consumer.py:4: note: Revealed type is "int"' in found.stdout, found.stdout + found.stderr
    assert re.search(r'consumer\.py:5: error: .*"rounds".*"str".*"int"', found.stdout), found.stdout
    assert found.stdout.splitlines()[-1].startswith("Found 1 error in 1 file"), found.stdout


# The oldest versions


@pytest.mark.slow
def test_the_pipeline_runs_with_the_lowest_versions_that_are_allowed(wheel: Path, tmp_path: Path) -> None:
    """With CUDA libraries a download of 3 GB and 6 GB on the disk, which are gone at the end; uv keeps its cache."""
    uv = shutil.which("uv")
    if not uv:
        pytest.skip("needs uv, which alone installs the lowest versions")
    place = tmp_path / "lowest"
    python = python_in(place)
    try:
        made = outside([uv, "venv", "--quiet", "--python", sys.executable, place], tmp_path)
        assert made.returncode == 0, made.stderr
        install = (uv, "pip", "install", "--python", python)
        if (asked := outside([*install, "--dry-run", "--refresh-package", "jinja2", "jinja2"], tmp_path)).returncode:
            pytest.skip(f"uv reaches no packages: {asked.stderr.strip().splitlines()[-1]}")
        # Named one by one, since uv takes the lowest versions only of what is named.
        named = PROJECT["project"]["dependencies"]
        done = outside([*install, "--resolution", "lowest-direct", *named, wheel], tmp_path, 3600)
        assert done.returncode == 0, done.stderr
        versions = {
            canonicalize_name(each.name): Version(each.version)
            for each in metadata.distributions(path=[str(own_packages(place))])
        }
        for requirement in map(Requirement, named):
            if requirement.marker is None or requirement.marker.evaluate():
                (bound,) = requirement.specifier
                assert versions[canonicalize_name(requirement.name)] == Version(bound.version), requirement
        few = [*TINY, "--network", "resnet8", *FEW_FORMATS, "--format", "onnx_int8", *FEW_BACKENDS, *QUICK]
        ran = outside([python, "-m", "cifar_deploy", "run", *few], tmp_path, 1800)
        assert ran.returncode == 0, ran.stderr + ran.stdout
        choices = json.loads((tmp_path / "exported" / "resnet8" / "onnx" / "artifact.json").read_text())["choices"]
        assert choices == {"exporter": "dynamo", "opset": 20}, "the exporter of choice works, and not its substitute"
    finally:
        shutil.rmtree(place, ignore_errors=True)


def test_no_test_image_is_in_the_shipped_report() -> None:
    """Where the images are at hand, the page shows those that INT8 labels otherwise. CIFAR-10 is not ours to ship."""
    page = (ROOT / "reports" / "report.html").read_text()
    assert "<table" in page and "data:image/" not in page
