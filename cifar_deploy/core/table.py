"""The report as values: what a renderer turns into text. Numbers are raw; a renderer rounds them."""

from collections.abc import Mapping
from dataclasses import dataclass

from cifar_deploy.core.records import Failure


@dataclass(frozen=True, kw_only=True)
class Column:
    """One value of a metric, kept in `stored_unit`; times `scale` it is in `unit`, shown with `digits` decimals."""

    title: str
    unit: str
    stored_unit: str
    scale: float = 1.0
    digits: int = 2
    headline: bool = True  # in the table; the others are in the CSV alone

    @property
    def heading(self) -> str:
        return f"{self.title} [{self.unit}]" if self.unit else self.title

    def text(self, value: float) -> str:
        return f"{value * self.scale:,.{self.digits}f}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One cell of the comparison: an artifact on a backend, with the value or the failure of each column."""

    labels: tuple[str, ...]
    values: Mapping[str, float]  # by the column's key
    failures: Mapping[str, Failure]  # likewise

    def text(self, key: str, column: Column) -> str:
        """As shown: the number, the kind of failure, or a dash where nothing was asked."""
        if key in self.values:
            return column.text(self.values[key])
        return self.failures[key].kind if key in self.failures else "–"


@dataclass(frozen=True, kw_only=True)
class Section:
    """A titled table with remarks below it."""

    title: str
    label_titles: tuple[str, ...]
    columns: Mapping[str, Column]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Record:
    """One value or failure in full, as a line of the CSV."""

    fields: Mapping[str, str | int | float | None]


@dataclass(frozen=True, kw_only=True)
class Table:
    """The whole report."""

    title: str
    facts: Mapping[str, tuple[str, ...]]  # data, machine, versions ...: what every number depends on
    sections: tuple[Section, ...]
    failures: tuple[str, ...]  # a line each, with the reason
    definitions: Mapping[str, str]  # what each metric means
    records: tuple[Record, ...]
