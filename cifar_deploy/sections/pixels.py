"""uint8 images for the input: what it costs, or saves, that the graph itself converts them."""

from dataclasses import replace

from cifar_deploy.core.table import Row, Section, Value
from cifar_deploy.metrics import METRICS
from cifar_deploy.sections.common import Configurations, label_titles, labels_of, paired_ratio
from cifar_deploy.sections.latencies import SPEED_UP

_KEY = "end_to_end"
_COLUMNS = {
    "float32": replace(METRICS["latency"].columns[_KEY], title="float32 in"),
    "uint8": replace(METRICS["latency"].columns[_KEY], title="uint8 in"),
    "ratio": SPEED_UP,
}


def in_the_graph(configurations: Configurations) -> Section | None:
    """A row for each configuration that was measured with both inputs in one session; None if there is none."""
    titles, rows = label_titles(configurations), []
    for configuration, of_one in configurations.items():
        if configuration.input == "uint8":
            continue
        ours = configurations.get(configuration._replace(input="uint8"), {}).get("latency")
        theirs = of_one.get("latency")
        ratio = paired_ratio(theirs, ours, _KEY)
        if ours and theirs and ratio:
            values = {
                "float32": theirs.values[_KEY],
                "uint8": ours.values[_KEY],
                "ratio": Value(number=ratio.value, estimate=ratio),
            }
            rows.append(Row(labels=labels_of(configuration, titles), values=values))
    if not rows:
        return None
    return Section(
        title="uint8 input",
        label_titles=titles,
        columns=_COLUMNS,
        rows=tuple(rows),
        notes=(
            "End to end, from a uint8 image in memory: before a float32 input numpy converts it, behind a uint8 input the graph does.",
        ),
        part="start",
    )
