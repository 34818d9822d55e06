"""A report's records as a table to reckon with: tidy, a row a value, its unit in a column of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cifar_deploy.core.errors import printable
from cifar_deploy.core.table import Record

if TYPE_CHECKING:
    import pandas as pd

# Of the columns that hold numbers; all others hold text.
_NUMBERS = {
    "threads": "Int64",
    "batch_size": "Int64",
    "value": "float64",
    "low": "float64",
    "high": "float64",
    "rounds": "Int64",
    "seconds": "float64",
    "limit_test": "Int64",
    "protocol": "Int64",
}


def frame(records: Iterable[Record]) -> pd.DataFrame:
    """Each record as a row, in its order. Text is printable, and what a record lacks is missing (NA or NaN)."""
    import pandas as pd

    made = pd.DataFrame(
        {name: printable(value) if isinstance(value, str) else value for name, value in record.fields.items()}
        for record in records
    )
    return made.astype({name: _NUMBERS.get(name, "string") for name in made.columns})
