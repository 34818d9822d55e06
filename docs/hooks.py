"""What the site holds beside the text of docs/: facts that the program says itself, and files from outside of docs/.

A comment in a page becomes a fact of the program, so none of these can be out of date:

- `<!-- options of COMMAND -->`: how the command is written, and its options;
- `<!-- choices of FOLDER -->`: what is listed in cifar_deploy/FOLDER, and what each is;
- `<!-- commands -->`: every command, and what it does; `<!-- documents -->`: the JSON Schema of each.

A notebook becomes a page. A link to a file outside of docs/ leads to its copy in the site. At the end no page may ask another
host for anything.
"""

import importlib
import json
import logging
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from cifar_deploy.cli import app

ROOT = Path(__file__).parents[1]

# Files outside of docs/, and where the site has them.
OUTSIDE = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "reports/report.html": "reports/report.html",
    "reports/report.csv": "reports/report.csv",
}

_FACT = re.compile(r"^<!-- (options|choices|commands|documents)(?: of ([\w -]+))? -->$", re.M)

log = logging.getLogger("mkdocs.hooks")  # a warning here fails a strict build


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, inside in OUTSIDE.items():
        if (ROOT / name).exists():
            files.append(File.generated(config, inside, abs_src_path=str(ROOT / name)))
    for path in sorted(Path(config.docs_dir).rglob("*.ipynb")):
        inside = path.relative_to(config.docs_dir).with_suffix(".md").as_posix()
        files.append(File.generated(config, inside, content=_notebook(json.loads(path.read_text()))))
    return files


def _notebook(notebook: dict[str, Any]) -> str:
    parts = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if picture := data.get("image/png"):
                parts.append(f"![What the cell draws](data:image/png;base64,{''.join(picture.split())})")
            elif printed := "".join(output.get("text", data.get("text/plain", ""))).rstrip():
                parts.append(f"```text\n{printed}\n```")
    return "\n\n".join(parts) + "\n"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    outside = {inside: name for name, inside in OUTSIDE.items()}
    source = Path(outside.get(page.file.src_uri, f"docs/{page.file.src_uri}"))
    markdown = re.sub(r"(?<=\]\()[^)\s]+", lambda link: _link(link[0], source, page.file.src_uri), markdown)
    return _FACT.sub(lambda comment: _fact(comment, page.file.src_uri), markdown)


def _link(link: str, source: Path, page: str) -> str:
    """A link as it stands in a file of the repository, as the page of the site needs it."""
    parts = urlsplit(link)
    if parts.scheme or not parts.path:
        return link
    target = Path(os.path.normpath(source.parent / parts.path)).as_posix()
    inside = target.removeprefix("docs/") if target.startswith("docs/") else OUTSIDE.get(target)
    if inside is None:
        return link
    if inside.endswith(".ipynb"):
        inside = inside.removesuffix("ipynb") + "md"
    return parts._replace(path=Path(os.path.relpath(inside, Path(page).parent)).as_posix()).geturl()


def _fact(comment: re.Match[str], page: str) -> str:
    writers = {"options": _options, "choices": _choices, "commands": _commands, "documents": _documents}
    try:
        return writers[comment[1]](comment[2] or "")
    except (KeyError, ImportError):
        log.warning("%s: the program has no %s", page, comment[0])
        return ""


def _command(words: str) -> tuple[Any, Any]:
    """A command or group, and its context."""
    command: Any = typer.main.get_command(app)
    context = typer.Context(command, info_name="cifar-deploy")
    for word in words.split():
        command = command.commands[word]
        context = typer.Context(command, info_name=word, parent=context)
    return command, context


def _options(name: str) -> str:
    command, context = _command(name)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    tables = [
        _table(title[:-1].lower(), [(f"`{written}`", text) for written, text in rows])
        for title, rows in command.explained(context).items()
        if rows
    ]
    return "\n\n".join([f"```text\n{usage}\n```", *tables])


def _choices(folder: str) -> str:
    """The registry of a folder: formats/__init__.py has FORMATS."""
    registry = getattr(importlib.import_module(f"cifar_deploy.{folder}"), folder.upper())
    return _table(registry.kind, [(f"`{name}`", _summary(registry[name])) for name in registry])


def _summary(plugin: Any) -> str:
    """As `cifar-deploy list` shows it."""
    return str(getattr(plugin, "summary", plugin))


def _commands(_: str) -> str:
    found: list[tuple[str, str]] = []
    for name, one in _command("")[0].commands.items():
        for sub, which in getattr(one, "commands", {"": one}).items():
            found.append((f"[`{f'{name} {sub}'.strip()}`]({name}.md)", which.get_short_help_str(10_000)))
    return _table("command", found)


def _documents(_: str) -> str:
    rows = []
    for path in sorted((ROOT / "docs" / "schemas").glob("*.json")):
        properties = json.loads(path.read_text())["properties"]
        rows.append((f"[`{path.name}`](../schemas/{path.name})", str(properties["version"].get("const", ""))))
    return _table("schema", rows, "version")


def _table(title: str, rows: list[tuple[str, str]], second: str = "meaning") -> str:
    lines = ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
    return "\n".join([f"| {title} | {second} |", "|---|---|", *lines])


def _cell(text: str) -> str:
    """Markdown's own characters are shown, but for those of code and links, which this file writes."""
    if text.startswith("["):
        return text
    parts = text.split("`")  # every second one is code
    shown = [part if place % 2 else re.sub(r"[*_<|]", _shown, part) for place, part in enumerate(parts)]
    return "`".join(shown)


def _shown(found: re.Match[str]) -> str:
    return f"&#{ord(found[0])};"


def on_post_build(config: MkDocsConfig) -> None:
    for path in sorted(Path(config.site_dir).rglob("*")):
        if path.suffix in (".html", ".css"):
            for address in requested(path.read_text(), path.suffix):
                log.warning("%s asks another host for %s", path.relative_to(config.site_dir), address)


def requested(text: str, suffix: str) -> list[str]:
    """Addresses of other hosts that a browser would fetch by itself; a link that a reader follows is none."""
    found = re.findall(r"(?:url\(|@import )\s*[\"']?((?:https?:)?//[^\"')\s]+)", text)
    if suffix == ".html":
        parser = _Requests()
        parser.feed(text)
        found += parser.found
    return found


class _Requests(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            fetches = name in ("src", "srcset", "poster", "data") or (tag == "link" and name == "href")
            if fetches and value and re.match(r"(https?:)?//", value):
                self.found.append(value)
