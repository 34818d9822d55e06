"""Charts as values: what a section says in a picture. A renderer draws them; numbers are in the unit of their axis."""

from collections.abc import Mapping
from dataclasses import dataclass

Between = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Axis:
    title: str  # with its unit
    log: bool = False


@dataclass(frozen=True, kw_only=True)
class Point:
    """One configuration of a scatter chart."""

    label: str  # with its numbers: for a pointer, and to be read out
    x: float
    y: float
    x_between: Between | None = None
    y_between: Between | None = None
    series: str  # has a colour
    shape: str  # has a shape
    filled: bool = False
    name: str | None = None  # written beside the point, which then has a ring


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """Points, and a line of steps along their front."""

    part: str
    title: str
    x: Axis
    y: Axis
    points: tuple[Point, ...]
    front: tuple[tuple[float, float], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Span:
    """A line of a forest chart: a number with its interval; a heading of the lines below it without one."""

    label: str
    text: str = ""  # the number, for people
    value: float | None = None
    between: Between | None = None
    dots: tuple[float, ...] = ()  # the single numbers behind it
    tick: float | None = None
    group: str = ""  # those next to each other that share one have one background
    filled: bool = False


@dataclass(frozen=True, kw_only=True)
class Panel:
    title: str
    x: Axis
    rows: tuple[Span, ...]
    reference: float | None = None  # a line through all rows


@dataclass(frozen=True, kw_only=True)
class Forest:
    part: str
    title: str
    panels: tuple[Panel, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Bar:
    label: str
    parts: tuple[float, ...]
    texts: tuple[str, ...]  # at its end


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Stacked bars, by panel."""

    part: str
    title: str
    parts: tuple[str, ...]  # what the parts of every bar are
    texts: tuple[str, ...]  # what stands at the end of every bar
    panels: Mapping[str, tuple[Bar, ...]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Curves over a common axis, by their names."""

    part: str
    title: str
    x: Axis
    y: Axis
    lines: Mapping[str, tuple[tuple[float, float], ...]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Heat:
    """A table whose numbers have a shade: of each column for itself, or of all."""

    part: str
    title: str
    corner: str  # the title of the rows' names
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[float | None, ...]]
    digits: int = 0
    by_column: bool = False
    log: bool = False
    notes: tuple[str, ...] = ()


Chart = Scatter | Forest | Bars | Lines | Heat
