"""The documentation names what there is, and only that; every command and option has its help; the site is whole."""

import fnmatch
import importlib.util
import logging
import os
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import yaml

from cifar_deploy import cli, pipeline
from cifar_deploy.backends import BACKENDS
from cifar_deploy.core.registry import Registry
from cifar_deploy.datasets import DATASETS
from cifar_deploy.devices import DEVICES
from cifar_deploy.environments import ENVIRONMENTS
from cifar_deploy.formats import FORMATS
from cifar_deploy.metrics import METRICS
from cifar_deploy.networks import NETWORKS
from cifar_deploy.recipes import RECIPES
from cifar_deploy.reports import REPORTS
from tests import chromium

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
REFERENCE = {path.stem: path.read_text() for path in (DOCS / "reference").glob("*.md")}
_ALL: dict[str, typing.Any] = cli.tree().commands
# Those of a group under both names: `env create`.
COMMANDS = {
    f"{group} {name}".strip(): command
    for group, commands in {"": _ALL, **{name: getattr(_ALL[name], "commands", {}) for name in _ALL}}.items()
    for name, command in commands.items()
}

# By the folder of each.
REGISTRIES: dict[str, Registry[typing.Any]] = {
    "datasets": DATASETS,
    "networks": NETWORKS,
    "recipes": RECIPES,
    "formats": FORMATS,
    "backends": BACKENDS,
    "environments": ENVIRONMENTS,
    "devices": DEVICES,
    "metrics": METRICS,
    "reports": REPORTS,
}


@pytest.fixture(scope="module")
def hooks() -> typing.Any:
    specification = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it: what is wrong with it is an error."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    level = logging.getLogger("mkdocs").level
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder))
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    logging.getLogger("mkdocs").setLevel(level)
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_its_page_and_explains_itself(name: str) -> None:
    page = (DOCS / "commands" / f"{name.split()[0]}.md").read_text()
    assert f"<!-- options of {name} -->" in page or hasattr(COMMANDS[name], "commands")
    for heading in ("When to use it", "Options", "Example", "Pitfalls"):
        assert f"\n## {heading}\n" in page, heading
    assert re.search(rf"^\$ cifar-deploy {name}\b", page, re.M), "no example"
    command = COMMANDS[name]
    assert command.help
    for option in command.params:
        assert getattr(option, "help", None), f"{name} {option.name} has no help"


@pytest.mark.parametrize("folder", REGISTRIES)
def test_every_choice_is_in_the_docs(folder: str, hooks: typing.Any) -> None:
    assert f"<!-- choices of {folder} -->" in (DOCS / "commands" / "list.md").read_text()
    table = hooks._choices(folder)
    for name in REGISTRIES[folder]:
        assert f"| `{name}` | " in table


def test_the_options_on_the_site_are_those_of_the_program(site: Path) -> None:
    for name, command in COMMANDS.items():
        page = (site / "commands" / f"{name.split()[0]}.html").read_text()
        for option in command.params:
            if not option.hidden and option.param_type_name == "option":
                assert option.opts[0] in page, f"{name} {option.name}"


def test_text_of_the_program_is_shown_as_it_is_and_code_stays_code(hooks: typing.Any) -> None:
    assert hooks._cell("a_b of `c_d *e*`, f|g") == "a&#95;b of `c_d *e*`, f&#124;g"


def test_every_page_is_in_the_navigation(hooks: typing.Any) -> None:
    (nav,) = re.findall(r"^nav:\n.*", (ROOT / "mkdocs.yml").read_text(), re.M | re.S)
    listed = sorted(re.findall(r"[\w/-]+\.md", str(yaml.safe_load(nav))))
    pages = [path.relative_to(DOCS).with_suffix(".md").as_posix() for path in DOCS.rglob("*.*") if _is_page(path)]
    outside = [inside for name, inside in hooks.OUTSIDE.items() if (ROOT / name).exists() and inside.endswith(".md")]
    assert listed == sorted([*pages, *outside])


def _is_page(path: Path) -> bool:
    return path.suffix in (".md", ".ipynb")


def test_each_fault_of_a_page_fails_the_build_and_is_named(tmp_path: Path) -> None:
    """In a process of its own: what a build warns of depends on how the process has set up its logs."""
    faults = {
        "[a](no-such.md)": "a link 'no-such.md', but the target is not found",
        "[a](index.md#no-such)": "a link 'index.md#no-such', but there is no such anchor",
        "[a](../cifar_deploy/cli.py)": "a link '../cifar_deploy/cli.py', but the target is not found",
        "![a](https://example.com/a.png)": "index.html asks another host for https://example.com/a.png",
        "<!-- options of no-such -->": "index.md: the program has no <!-- options of no-such -->",
        "<!-- choices of no_such -->": "index.md: the program has no <!-- choices of no_such -->",
    }
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("\n\n".join(["# Home", *faults]))
    (tmp_path / "mkdocs.yml").write_text(
        f"INHERIT: {ROOT / 'mkdocs.yml'}\nhooks: [{DOCS / 'hooks.py'}]\nnav: [index.md]\nextra_css: []\n"
        f"docs_dir: {tmp_path / 'docs'}\nsite_dir: {tmp_path / 'site'}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build"], cwd=tmp_path, capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 1 and "strict mode" in done.stdout, done.stdout
    for fault, told in faults.items():
        assert told in done.stderr, f"{fault}:\n{done.stderr}"


@pytest.mark.parametrize(
    "text",
    [
        '<script src="//example.com/a.js"></script>',
        '<link rel="stylesheet" href="https://example.com/a.css">',
        '<img srcset="https://example.com/a.png 2x">',
        "<style>a { background: url(https://example.com/a.png) }</style>",
        '<style>@import "https://example.com/a.css";</style>',
    ],
)
def test_a_request_of_a_page_is_found(text: str, hooks: typing.Any) -> None:
    (found,) = hooks.requested(text, ".html")
    assert "//example.com/a." in found


def test_a_link_that_is_followed_is_no_request(hooks: typing.Any) -> None:
    text = '<a href="https://example.com">a</a> <img src="a.png"> <link rel="icon" href="assets/a.png">'
    assert not hooks.requested(text, ".html")


@pytest.mark.parametrize(
    ("link", "source", "page", "leads"),
    [
        ("../SECURITY.md#rules", "docs/index.md", "index.md", "project/security.md#rules"),
        ("../../reports/report.html", "docs/commands/report.md", "commands/report.md", "../reports/report.html"),
        ("docs/faq.md", "CONTRIBUTING.md", "project/contributing.md", "../faq.md"),
        ("quickstart.ipynb", "docs/index.md", "index.md", "quickstart.md"),
        ("https://example.com/a.md", "docs/index.md", "index.md", "https://example.com/a.md"),
        ("#here", "docs/index.md", "index.md", "#here"),
    ],
)
def test_a_link_leads_where_it_leads_in_the_repository(
    link: str, source: str, page: str, leads: str, hooks: typing.Any
) -> None:
    assert hooks._link(link, Path(source), page) == leads


def test_a_notebook_is_a_page_with_what_it_shows(hooks: typing.Any) -> None:
    outputs = [{"text": ["1\n"]}, {"data": {"image/png": "iVBO\nRw0="}}, {"data": {"text/plain": ["a table"]}}]
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n"]},
        {"cell_type": "code", "source": ["print(1)"], "outputs": outputs},
    ]
    page = hooks._notebook({"cells": cells})
    assert page.startswith("# Title\n") and "```python\nprint(1)\n```" in page
    assert "```text\n1\n```" in page and "(data:image/png;base64,iVBORw0=)" in page and "a table" in page


@pytest.mark.slow
@pytest.mark.skipif(bool(chromium.MISSING), reason=chromium.MISSING or "")
def test_no_page_asks_another_host_in_a_browser(site: Path) -> None:
    with chromium.browser() as page:
        for path in sorted(site.rglob("*.html")):
            page.open(path)
            names = page.run("return performance.getEntriesByType('resource').map(entry => entry.name)")
            assert all(name.startswith(("file:", "data:", "blob:")) for name in names), path
            if path.parent.name == "reports":  # not of this site: tests/reports/test_page.py looks at it
                continue
            wide = page.run("return document.documentElement.scrollWidth > document.documentElement.clientWidth")
            assert not wide, f"{path} is wider than its window"


def test_every_path_of_the_tree_exists() -> None:
    folder: list[str] = []
    for line in _tree().splitlines():
        match = re.match(r"([│├└─ ]*)([\w.-]+/?)", line)
        assert match, line
        depth = len(match[1]) // 4
        folder = [*folder[:depth], match[2]]
        assert (ROOT / Path(*folder)).exists(), "/".join(folder)


def test_every_file_of_the_package_is_in_the_tree() -> None:
    for path in (ROOT / "cifar_deploy").iterdir():
        if path.name != "__pycache__":
            assert path.name in _tree(), path.name


def _tree() -> str:
    (tree,) = (text for text in re.findall(r"```text\n(.*?)```", CONTRIBUTING, re.S) if "├──" in text)
    return str(tree)


def test_every_public_name_of_the_pipeline_is_documented() -> None:
    for name in pipeline.__all__:
        assert getattr(pipeline, name).__doc__
        assert f"`pipeline.{name}`" in REFERENCE["python"], name


def test_every_environment_variable_that_is_read_is_documented() -> None:
    read = {
        name
        for path in (ROOT / "cifar_deploy").rglob("*.py")
        for name in re.findall(r"\bCIFAR_DEPLOY_[A-Z_]+", path.read_text())
    }
    assert read == set(re.findall(r"^\| `(CIFAR_DEPLOY_[A-Z_]+)` \|", REFERENCE["environment-variables"], re.M))


def test_every_file_of_an_output_folder_is_documented(road: Path) -> None:
    patterns = [
        re.sub(r"[A-Z]{3,}", "*", name) for name in re.findall(r"^\| `(.*?)` \|", REFERENCE["output-folder"], re.M)
    ]
    for path in road.rglob("*"):
        if path.is_file():
            name = path.relative_to(road).as_posix()
            assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns), name
