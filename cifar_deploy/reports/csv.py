"""CSV: a line a value, in the unit and the precision in which it was measured, with all that it depends on."""

from cifar_deploy.core.table import Table
from cifar_deploy.reports import Report


def render(table: Table) -> str:
    import pandas as pd

    frame = pd.DataFrame([record.fields for record in table.records])
    text: str = frame.to_csv(index=False, lineterminator="\n")
    return text


REPORT = Report(summary="a line a value, full precision, for pandas or R", suffix="csv", render=render)
