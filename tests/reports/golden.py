"""The small table as each report shows it: `python -m tests.reports.golden` writes tests/golden anew, to be read as a diff."""

import re
from pathlib import Path

from cifar_deploy.reports import REPORTS
from tests.reports.tables import SMALL

FOLDER = Path(__file__).parents[1] / "golden"


def path(name: str) -> Path:
    return FOLDER / REPORTS[name].filename


def rendered(name: str) -> str:
    """Without style sheet, script and their hashes, which say nothing of what is shown."""
    text = re.sub(r"<(style|script)>.*?</\1>", r"<\1></\1>", REPORTS[name].render(SMALL), flags=re.S)
    return re.sub(r"sha256-[\w+/=]+", "sha256-…", text)


if __name__ == "__main__":
    for name in REPORTS:
        path(name).write_text(rendered(name))
