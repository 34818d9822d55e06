"""Accuracy against latency: every configuration as a point."""

import math
from collections.abc import Mapping, Sequence

from cifar_deploy.core.charts import Axis, Between, Point, Scatter
from cifar_deploy.core.table import Value
from cifar_deploy.metrics import METRICS
from cifar_deploy.metrics.summary import Configuration, Summary
from cifar_deploy.sections.common import Configurations, by_settings, is_int8, median_s, runtime_title

# More points hide each other, and make a page slow.
_MOST = 400


def accuracy_against_latency(
    configurations: Configurations, named: Mapping[Configuration, str], front: Sequence[Configuration]
) -> Scatter | None:
    """All that have both numbers; None if nothing has. `named` are ringed, and `front` is the Pareto set."""
    rows = {
        configuration: of_one
        for configuration, of_one in by_settings(configurations).items()
        if median_s(of_one) < math.inf and "accuracy" in of_one and of_one["accuracy"].values
    }
    if not rows:
        return None
    first = [configuration for configuration in (*named, *front) if configuration in rows]
    order = sorted(rows, key=lambda configuration: median_s(rows[configuration]))
    shown = set(list(dict.fromkeys([*first, *order]))[:_MOST])
    latency, accuracy = METRICS["latency"].columns["p50"], METRICS["accuracy"].columns["accuracy"]
    notes = [
        "Filled: INT8. Hollow: floating point. Dashed: the Pareto set. Ringed: the picks. Bars: 95 % intervals.",
        *([f"The {len(shown)} fastest of {len(rows):,} configurations."] if len(shown) < len(rows) else []),
    ]
    return Scatter(
        part="trade-off",
        title="Accuracy against latency",
        x=Axis(title=f"{latency.title}, ms (logarithmic)", log=True),
        y=Axis(title="top-1 accuracy, %"),
        # As planned, so that a colour is a network's in every chart; the picks last, above all others.
        points=tuple(
            _point(configuration, rows[configuration], named.get(configuration))
            for configuration in sorted(rows, key=lambda each: each in named)
            if configuration in shown
        ),
        front=tuple(
            (median_s(rows[each]) * latency.scale, rows[each]["accuracy"].values["accuracy"].number * accuracy.scale)
            for each in front
            if each in rows
        ),
        notes=tuple(notes),
    )


def _point(configuration: Configuration, of_one: dict[str, Summary], name: str | None) -> Point:
    columns = METRICS["latency"].columns["p50"], METRICS["accuracy"].columns["accuracy"]
    values = of_one["latency"].values["p50"], of_one["accuracy"].values["accuracy"]
    said = ", ".join(value.text(column, unit=True) for value, column in zip(values, columns, strict=True))
    (x, y), (x_between, y_between) = (
        [value.number * column.scale for value, column in zip(values, columns, strict=True)],
        [_between(value, column.scale) for value, column in zip(values, columns, strict=True)],
    )
    return Point(
        label=f"{configuration}: {said}",
        x=x,
        y=y,
        x_between=x_between,
        y_between=y_between,
        series=configuration.name,
        shape=runtime_title(configuration),
        filled=is_int8(configuration),
        name=name,
    )


def _between(value: Value, scale: float) -> Between | None:
    return (value.estimate.low * scale, value.estimate.high * scale) if value.estimate else None
