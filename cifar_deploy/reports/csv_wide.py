"""CSV: a line a configuration, a column a value with its unit in its name. Text is quoted as in the tidy one."""

from cifar_deploy.core.table import Table
from cifar_deploy.reports import Report
from cifar_deploy.reports.csv import written
from cifar_deploy.reports.frame import wide


def render(table: Table) -> str:
    return written(wide(table.records))


REPORT = Report(
    summary="a line a configuration, a column a value, for a spreadsheet",
    suffix="csv",
    stem="report-wide",
    render=render,
)
