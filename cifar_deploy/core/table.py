"""The report as values: what a renderer turns into text. Numbers are raw; a renderer rounds them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cifar_deploy.core.charts import Chart
from cifar_deploy.core.records import NOT_NEGATIVE, Failure, Within
from cifar_deploy.core.statistics import Estimate
from cifar_deploy.core.verdict import Verdict

# The parts of a page in their order: a title, and a shorter one to find it by.
PARTS: Mapping[str, tuple[str, str]] = {
    "answer": ("The answer", "Answer"),
    "health": ("Measurement health", "Health"),
    "trade-off": ("Accuracy against latency", "Trade-off"),
    "speed": ("Latency of each network", "Latency"),
    "quantisation": ("What quantisation costs", "Quantisation"),
    "resident": ("Memory", "Memory"),
    "start": ("Size, load and first inference", "Load"),
    "batches": ("Throughput", "Throughput"),
    "training": ("Training", "Training"),
    "errors": ("Where it errs", "Errors"),
    "numbers": ("All numbers", "All numbers"),
    "reproduce": ("How to reproduce", "Reproduce"),
    "glossary": ("Glossary", "Glossary"),
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One value of a metric, kept in `stored_unit`; times `scale` it is in `unit`, shown with `digits` decimals."""

    title: str
    unit: str
    stored_unit: str
    scale: float = 1.0
    digits: int = 2
    is_power: bool = False  # of any size: shown as 2.9e-05
    headline: bool = True  # in the table; the others are in the CSV alone
    judged: bool = False  # the verdict on its metric is one on this number
    interval: bool = False  # shown beside the number, where it was measured in rounds
    absent: str | None = None  # what to show where a measurement has no such value
    meaning: str = ""  # for the glossary; a metric's columns have the metric's
    percentile: int | None = None  # of all samples of all rounds, rather than a value of each round
    within: Within = NOT_NEGATIVE  # what it can be at all, as stored
    share_of: str | None = None  # a share of so many, which another column counts: shown with Wilson's interval

    @property
    def heading(self) -> str:
        return f"{self.title} [{self.unit}]" if self.unit else self.title

    def text(self, value: float) -> str:
        return f"{value * self.scale:.1e}" if self.is_power else f"{value * self.scale:,.{self.digits}f}"


@dataclass(frozen=True, kw_only=True)
class Value:
    """A number with what is known of its trustworthiness: nothing, for one that was counted or copied."""

    number: float
    estimate: Estimate | None = None
    verdict: Verdict | None = None

    def plain(self, column: Column) -> str:
        """The number with its interval or its range, whatever the verdict."""
        return replace(self, verdict=None).text(column)

    def text(self, column: Column, *, unit: bool = False) -> str:
        """The number, its interval [ ] or its range ( ), the unit if asked for, and a verdict that is not "stable"."""
        words = [column.text(self.number)]
        if self.estimate and column.interval and self.estimate.rounds != 1:
            opening, closing = "[]" if self.estimate.kind == "interval" else "()"
            words.append(f"{opening}{column.text(self.estimate.low)}, {column.text(self.estimate.high)}{closing}")
        if unit and column.unit:
            words.append(column.unit)
        if self.verdict and self.verdict.word != "stable":
            words.append(self.verdict.word)
        return " ".join(words)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One configuration of the comparison: an artifact on a backend, with the value, the failure or the word of each column."""

    labels: tuple[str, ...]
    values: Mapping[str, Value]  # by the column's key
    failures: Mapping[str, Failure] = field(default_factory=dict)  # likewise
    words: Mapping[str, str] = field(default_factory=dict)  # likewise: a rank, or what is lacking for a number
    mark: str = ""  # what the answer says of it
    name: str = ""  # the labels in a few words, for a screen

    def text(self, key: str, column: Column) -> str:
        """As shown: the number, the kind of failure, a word, or a dash where nothing was asked."""
        if key in self.values:
            return self.values[key].text(column)
        return self.failures[key].kind if key in self.failures else self.words.get(key, "–")


@dataclass(frozen=True, kw_only=True)
class Section:
    """A titled table with remarks below it; in the files alone if it is too long for a screen."""

    title: str
    label_titles: tuple[str, ...]
    columns: Mapping[str, Column]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    on_screen: bool = True
    part: str = "numbers"  # of PARTS, where a page shows it
    main: tuple[str, ...] = ()  # the columns that a page shows at first; (): all


@dataclass(frozen=True, kw_only=True)
class Excerpt(Section):
    """A few rows of a longer table, for one screen."""

    marks: Mapping[str, str] = field(default_factory=dict)  # what a row's mark means; rows of the first are bold
    intervals: tuple[str, ...] = ()  # the columns whose intervals are worth their place
    spared: tuple[str, ...] = ()  # the columns that a narrow screen gives up, the first one first
    more: int = 0  # configurations that are left out


@dataclass(frozen=True, kw_only=True)
class Record:
    """One value or failure in full, as a line of the CSV."""

    fields: Mapping[str, str | int | float | None]


@dataclass(frozen=True, kw_only=True)
class Example:
    """A program that shows how an app runs an artifact."""

    path: str  # below the output folder
    runtime: str | None  # None: the pick's own


@dataclass(frozen=True, kw_only=True)
class Pick:
    """A configuration that the answer names, with the columns of the answer."""

    role: str
    title: str
    row: Row
    paths: tuple[str, ...]  # of its files, below the output folder
    example: Example | None = None
    is_winner: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Which configuration to ship, and why."""

    headline: str
    reasons: tuple[str, ...]
    columns: Mapping[str, Column]
    picks: tuple[Pick, ...] = ()
    best: Excerpt | None = None  # the Pareto set, and the fastest few of each network
    remarks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # lines, by their title


@dataclass(frozen=True, kw_only=True)
class Health:
    """How far the measurements may be believed: one line, and behind it every doubt by its cause."""

    line: str
    causes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    png: bytes
    image: int  # its place in the test set
    true: str
    reference: str  # the label by PyTorch eager
    label: str


@dataclass(frozen=True, kw_only=True)
class Thumbnails:
    """Test images that one configuration labels otherwise than the reference."""

    title: str
    images: tuple[Thumbnail, ...]


@dataclass(frozen=True, kw_only=True)
class Overview:
    """Several devices side by side: every configuration, and those that the answer of any device names."""

    section: Section
    few: Excerpt


@dataclass(frozen=True, kw_only=True)
class Table:
    """The whole report: of one device, or of the first of several."""

    title: str
    device: str = ""  # what its machine is called, if there are several
    machine: str = ""  # likewise: its description
    overview: Overview | None = None
    others: tuple["Table", ...] = ()  # of the further devices; the first one has the records and the glossary of all
    about: tuple[str, ...] = ()  # the device, the data and the date, in a few words
    answer: Answer | None = None
    health: Health | None = None
    charts: tuple[Chart, ...] = ()
    thumbnails: Thumbnails | None = None
    commands: Mapping[str, str] = field(default_factory=dict)  # those that make it again, and what each does
    facts: Mapping[str, tuple[str, ...]]  # data, machine, versions ...: what every number depends on
    sections: tuple[Section, ...]
    failures: tuple[str, ...]  # a line each, with the reason
    failures_by_reason: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # who shares it
    lost: tuple[str, ...] = ()  # what could not be read of the results and their samples, and why
    warnings: tuple[str, ...]  # a line for each number whose verdict is not "stable", with the reason
    glossary: Mapping[str, str] = field(default_factory=dict)  # what each column means, by its title
    records: tuple[Record, ...]

    @property
    def devices(self) -> "tuple[Table, ...]":
        """Of each device its own; () if there is just one."""
        return (self, *self.others) if self.others else ()

    @property
    def remarks(self) -> Mapping[str, tuple[str, ...]]:
        """Lists of lines that stand below the tables, by their titles; those that hold nothing are left out."""
        lists = {
            "What failed": self.failures,
            "What could not be read": self.lost,
            "Measurement warnings": self.warnings,
        }
        return {title: lines for title, lines in lists.items() if lines}
