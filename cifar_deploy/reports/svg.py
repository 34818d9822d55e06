"""SVG: the main chart as a file of its own, for a README or a pull request. It follows the reader's light or dark colours."""

from cifar_deploy.core.charts import Forest, Scatter
from cifar_deploy.core.table import Table
from cifar_deploy.reports import Report, charts

_WIDTH, _HEIGHT = 900, 420


def render(table: Table) -> str:
    match charts.main_of(table):
        case Scatter() as chart:
            return charts.alone(charts.scatter(chart, _WIDTH, _HEIGHT))
        case Forest() as chart:
            return charts.alone(charts.forest(chart.panels[0], _WIDTH))
        case _:
            return charts.alone(charts.said("No chart: no latency was measured.", _WIDTH))


REPORT = Report(summary="the main chart", suffix="svg", render=render)
