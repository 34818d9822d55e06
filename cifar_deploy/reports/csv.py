"""CSV: a line a value, in the unit and the precision in which it was measured, with all that it depends on.

Text is quoted and numbers are not. Text that a spreadsheet would take for a formula has an apostrophe before it, as OWASP
advises ("CSV injection").
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from cifar_deploy.core.table import Table
from cifar_deploy.reports import Report
from cifar_deploy.reports.frame import frame

if TYPE_CHECKING:
    import pandas as pd

# The fullwidth ones too, which a spreadsheet in Japanese takes for the same. Tabs and line ends are escaped anyway.
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


def render(table: Table) -> str:
    return written(frame(table.records))


def written(made: pd.DataFrame) -> str:
    """A table as CSV."""
    for name in made.select_dtypes("string"):
        made[name] = made[name].map(_shown, na_action="ignore")
    # Quoted, text stays in its field where a spreadsheet splits at semicolons.
    text: str = made.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    return text


def _shown(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


REPORT = Report(summary="a line a value, full precision, for pandas or R", suffix="csv", render=render)
