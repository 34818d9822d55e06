"""The tables as each report shows them: `python -m tests.reports.golden` writes tests/golden anew, to be read as a diff."""

import re
from collections.abc import Mapping
from pathlib import Path

from cifar_deploy.core.table import Table
from cifar_deploy.reports import REPORTS
from tests.reports.tables import SMALL, THREE

FOLDER = Path(__file__).parents[1] / "golden"
# By the folder below, "" is itself.
TABLES: Mapping[str, Table] = {"": SMALL, "devices": THREE}


def path(name: str, of: str = "") -> Path:
    return FOLDER / of / REPORTS[name].filename


def rendered(name: str, of: str = "") -> str:
    """Without style sheet, script and their hashes, which say nothing of what is shown."""
    text = re.sub(r"<(style|script)>.*?</\1>", r"<\1></\1>", REPORTS[name].render(TABLES[of]), flags=re.S)
    return re.sub(r"sha256-[\w+/=]+", "sha256-…", text)


if __name__ == "__main__":
    for of in TABLES:
        for name in REPORTS:
            path(name, of).parent.mkdir(exist_ok=True)
            path(name, of).write_text(rendered(name, of))
