"""A report's records as a table to reckon with: tidy, a row a value, or wide, a row a configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

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

    made = pd.DataFrame(_shown(record.fields) for record in records)
    return made.astype({name: _NUMBERS.get(name, "string") for name in made.columns})


# The device, where there are several.
_MACHINE = "machine_name"
# What tells one configuration from another, apart from the batch size.
_SETTINGS = ("name", "network", "format", "backend", "device", "threads", "cpus")

# Units as the names of values say them; a name that ends with its unit has it already.
_UNITS = {"1": "", "s": "seconds", "J": "joules", "images/s": "images_per_second"}


def wide(records: Iterable[Record]) -> pd.DataFrame:
    """Each configuration as a row, and each value as a column, named `metric_value_unit`, as in latency_p50_s.

    A column `cpus` is there only where something was pinned. Where a value has an interval, `_low` and `_high` stand before its unit. After the values of each metric come its
    batch size, if it is not always 1, its verdict, and why it failed. Where metrics were measured at several batch
    sizes, each size has a row; what was measured at one alone is in all of them.
    """
    import pandas as pd

    records = list(records)
    settings = [_MACHINE, *_SETTINGS] if any(_MACHINE in record.fields for record in records) else [*_SETTINGS]
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    numbers: dict[str, dict[str, str]] = {}  # by metric, the columns with their types
    remarks: dict[str, dict[str, str]] = {}
    for record in records:
        fields = record.fields
        groups.setdefault(tuple(fields.get(name) for name in settings), []).append(fields)
        numbers.setdefault(str(fields["metric"]), {}).update(dict.fromkeys(numbers_of(fields), "float64"))
        remarks.setdefault(str(fields["metric"]), {}).update({name: _type(name) for name in remarks_of(fields)})
    rows = [
        {**_shown(dict(zip(settings, told, strict=True))), **_cells(of_row)}
        for told, of_one in groups.items()
        for of_row in _by_batch_size(of_one)
    ]
    columns = dict.fromkeys(settings, "string") | {"threads": "Int64"}
    for metric, of_metric in numbers.items():
        columns |= of_metric | remarks[metric]
    made = pd.DataFrame(rows, columns=list(columns)).astype(columns)
    ones = [name for name in made if name.endswith(_BATCH_SIZE) and made[name].dropna().eq(1).all()]
    return made.drop(columns=[*ones, *(["cpus"] if made["cpus"].isna().all() else [])])


def _by_batch_size(of_one: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The records of one configuration for each of its rows."""
    sizes: dict[str, dict[int | None, None]] = {}
    for fields in of_one:
        sizes.setdefault(fields["metric"], {})[fields.get("batch_size")] = None
    several = sorted({size for those in sizes.values() if len(those) > 1 for size in those if size})
    return [
        [fields for fields in of_one if len(sizes[fields["metric"]]) == 1 or fields.get("batch_size") == size]
        for size in several or [0]  # any: no metric has two sizes
    ]


def _cells(of_row: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return _shown(
        {name: cell for fields in of_row for name, cell in {**numbers_of(fields), **remarks_of(fields)}.items()}
    )


def _shown(cells: Mapping[str, Any]) -> dict[str, Any]:
    """Text is printable."""
    return {name: printable(cell) if isinstance(cell, str) else cell for name, cell in cells.items()}


def numbers_of(fields: Mapping[str, Any]) -> dict[str, float | None]:
    """The number of a record and the ends of its interval, by the names of their columns."""
    metric, key, unit = fields["metric"], fields.get("value_name"), fields.get("unit") or "1"
    if key is None:
        return {}
    name = key if key == metric else f"{metric}_{key}"
    told = _UNITS.get(unit, unit)
    end = "" if key.endswith(told) else f"_{unit.replace('/', '_per_')}"
    ends = {f"{name}_{side}{end}": fields[side] for side in ("low", "high") if fields.get(side) is not None}
    return {f"{name}{end}": fields.get("value"), **ends}


_BATCH_SIZE = "_batch_size"


def remarks_of(fields: Mapping[str, Any]) -> dict[str, int | str]:
    """What a record says of all values of its metric, by the names of the columns."""
    failed = fields.get("status") not in (None, "ok")
    told = {
        _BATCH_SIZE: fields.get("batch_size"),
        "_verdict": fields.get("verdict"),
        "_failure": f"{fields['status']}: {fields.get('reason')}" if failed else None,
    }
    return {f"{fields['metric']}{name}": value for name, value in told.items() if value is not None}


def _type(name: str) -> str:
    return "Int64" if name.endswith(_BATCH_SIZE) else "string"
