"""From a table to text. A new report is one file here and one line below: a pure function."""

from collections.abc import Callable
from dataclasses import dataclass

from cifar_deploy.core.registry import Registry
from cifar_deploy.core.table import Table


@dataclass(frozen=True, kw_only=True)
class Report:
    summary: str
    suffix: str  # the file is report.<suffix>
    render: Callable[[Table], str]
    stem: str = "report"

    @property
    def filename(self) -> str:
        return f"{self.stem}.{self.suffix}"


REPORTS: Registry[Report] = Registry(
    "report",
    __name__,
    {
        "csv": "csv:REPORT",
        "csv_wide": "csv_wide:REPORT",
        "markdown": "markdown:REPORT",
        "svg": "svg:REPORT",
        "html": "html:REPORT",
    },
)
