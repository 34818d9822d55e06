"""The README and CONTRIBUTING name what there is, and only that; every command and option has its help."""

import re
import typing
from pathlib import Path

import pytest
import typer

from cifar_deploy import pipeline
from cifar_deploy.backends import BACKENDS
from cifar_deploy.cli import app
from cifar_deploy.core.registry import Registry
from cifar_deploy.datasets import DATASETS
from cifar_deploy.devices import DEVICES
from cifar_deploy.environments import ENVIRONMENTS
from cifar_deploy.formats import FORMATS
from cifar_deploy.metrics import METRICS
from cifar_deploy.networks import NETWORKS
from cifar_deploy.recipes import RECIPES
from cifar_deploy.reports import REPORTS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
_ALL: dict[str, typing.Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
# Those of a group under both names: `env create`.
COMMANDS = {
    f"{group} {name}".strip(): command
    for group, commands in {"": _ALL, **{name: getattr(_ALL[name], "commands", {}) for name in _ALL}}.items()
    for name, command in commands.items()
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_in_the_readme_and_explains_itself(name: str) -> None:
    assert re.search(rf"^\| `cifar-deploy {name}[` ]", README, re.M), f"{name} is not in the table of commands"
    command = COMMANDS[name]
    assert command.help
    for option in command.params:
        assert getattr(option, "help", None), f"{name} {option.name} has no help"


@pytest.mark.parametrize(
    "registry",
    [DATASETS, NETWORKS, RECIPES, FORMATS, BACKENDS, ENVIRONMENTS, DEVICES, METRICS, REPORTS],
    ids=lambda registry: registry.kind,
)
def test_every_choice_is_in_the_readme(registry: Registry[object]) -> None:
    for name in registry:
        assert f"`{name}`" in README, f"{registry.kind} {name}"


def test_every_path_of_the_tree_exists() -> None:
    tree = CONTRIBUTING.split("```text\n")[1].split("```")[0]
    folder: list[str] = []
    for line in tree.splitlines():
        match = re.match(r"([│├└─ ]*)([\w.-]+/?)", line)
        assert match, line
        depth = len(match[1]) // 4
        folder = [*folder[:depth], match[2]]
        assert (ROOT / Path(*folder)).exists(), "/".join(folder)


def test_every_file_of_the_package_is_in_the_tree() -> None:
    tree = CONTRIBUTING.split("```text\n")[1].split("```")[0]
    for path in (ROOT / "cifar_deploy").iterdir():
        if path.name != "__pycache__":
            assert path.name in tree, path.name


def test_every_public_function_of_the_pipeline_is_documented() -> None:
    for name in pipeline.__all__:
        assert getattr(pipeline, name).__doc__
        if name[0].islower():
            assert f"pipeline.{name}" in README
