"""CSV: a line a value, in the unit and the precision in which it was measured, with all that it depends on.

Text is quoted and numbers are not. Text that a spreadsheet would take for a formula has an apostrophe before it, as OWASP
advises ("CSV injection").
"""

import csv

from cifar_deploy.core.errors import printable
from cifar_deploy.core.table import Table
from cifar_deploy.reports import Report

# The fullwidth ones too, which a spreadsheet in Japanese takes for the same. Tabs and line ends are escaped anyway.
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


def render(table: Table) -> str:
    import pandas as pd

    frame = pd.DataFrame([{name: _shown(value) for name, value in record.fields.items()} for record in table.records])
    # Quoted, text stays in its field where a spreadsheet splits at semicolons.
    text: str = frame.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    return text


def _shown(value: str | int | float | None) -> str | int | float | None:
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


REPORT = Report(summary="a line a value, full precision, for pandas or R", suffix="csv", render=render)
