"""The small table as each report shows it: `python -m tests.reports.golden` writes tests/golden anew, to be read as a diff."""

import re
from pathlib import Path

from cifar_deploy.reports import REPORTS
from tests.reports.tables import SMALL

FOLDER = Path(__file__).parents[1] / "golden"


def path(name: str) -> Path:
    return FOLDER / REPORTS[name].filename


def rendered(name: str) -> str:
    """Without the style sheet, which says nothing of what is shown."""
    return re.sub(r"<style>.*?</style>", "<style></style>", REPORTS[name].render(SMALL), flags=re.S)


if __name__ == "__main__":
    for name in REPORTS:
        path(name).write_text(rendered(name))
