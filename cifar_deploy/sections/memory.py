"""Memory: what the peak is made of, and under how much a configuration really ran."""

import dataclasses
from collections.abc import Sequence

from cifar_deploy.core.charts import Bar, Bars
from cifar_deploy.core.limits import ABOVE, BELOW
from cifar_deploy.core.records import Result, UnderLimit
from cifar_deploy.core.table import Column, Row, Section, Value
from cifar_deploy.metrics import METRICS
from cifar_deploy.metrics.summary import Configuration
from cifar_deploy.sections.common import (
    Configurations,
    by_settings,
    fastest_by_runtime,
    filled,
    is_current,
    label_titles,
    labels_of,
    row_of,
    short_labels,
    with_metric,
)


def parts(configurations: Configurations) -> Section | None:
    """What the peak is made of."""
    columns = {
        f"memory.{key}": dataclasses.replace(column, title=column.title.removeprefix("memory: "), digits=1)
        for key, column in METRICS["memory"].columns.items()
    }
    measured = with_metric(configurations, "memory")
    titles = label_titles(measured)
    rows = [row_of(labels_of(configuration, titles), of_one, columns) for configuration, of_one in measured.items()]
    if not rows:
        return None
    return filled(
        "Peak RSS breakdown",
        titles,
        columns,
        rows,
        (
            "Resident memory of a process that does nothing else. Python + measurement overhead + runtime + model + first inference is what "
            "is resident then; the peaks are the most that ever was, at batch 1 and at the larger one.",
        ),
        part="resident",
    )


_PARTS = ("python", "harness", "runtime", "model", "first")
# Those that a device without Python needs: the weights as the runtime holds them, and what an inference allocates.
_WITHOUT_PYTHON = ("model", "first")
_MOST_PANELS = 8


def bars(configurations: Configurations) -> Bars | None:
    """What the peak is made of, of the fastest configuration of each network on each runtime; None if it was not measured."""
    rows = with_metric(by_settings(configurations), "memory")
    panels: dict[str, tuple[Bar, ...]] = {}
    for name, those in list(fastest_by_runtime(rows).items())[:_MOST_PANELS]:
        labels, bars = short_labels(those), []
        for configuration in those:
            values = rows[configuration]["memory"].values
            if all(key in values for key in _PARTS):
                mebibytes = {key: value.number / 2**20 for key, value in values.items()}
                whole = f"{mebibytes['peak']:,.0f}" if "peak" in mebibytes else "n/a"
                alone = sum(mebibytes[key] for key in _WITHOUT_PYTHON)
                parts = tuple(max(0.0, mebibytes[key]) for key in _PARTS)
                bars.append(Bar(label=labels[configuration], parts=parts, texts=(whole, f"{alone:,.1f}")))
        if bars:
            panels[name] = tuple(sorted(bars, key=lambda bar: sum(bar.parts)))
    if not panels:
        return None
    columns = METRICS["memory"].columns
    return Bars(
        part="resident",
        title="Peak resident memory, MiB",
        parts=tuple(columns[key].title.removeprefix("memory: ") for key in _PARTS),
        texts=("peak", "no Python"),
        panels=panels,
        notes=(
            "The fastest configuration on each runtime. No Python: the model and its first inference alone, which is "
            "what a device without Python needs beside the runtime's own library. Importing a runtime's Python binding "
            "can be most of the peak.",
        ),
    )


def under_limits(results: Sequence[Result], configurations: Configurations) -> Section | None:
    """Under how much memory each configuration ran, and under how much it did not."""
    bytes_ = {"unit": "MiB", "stored_unit": "bytes", "scale": 1 / 2**20, "digits": 1}
    columns = {
        "claim": Column(title="claimed peak", **bytes_),  # type: ignore[arg-type]
        "runs": Column(title=f"{ABOVE:.0%} of it", unit="", stored_unit=""),
        "either": Column(title=f"{BELOW:.0%} of it", unit="", stored_unit=""),
        "counted": Column(title="counted", **bytes_),  # type: ignore[arg-type]
        "runs out": Column(title=f"{BELOW:.0%} of that", unit="", stored_unit=""),
        "kind": Column(title="limited by", unit="", stored_unit=""),
    }
    values: dict[Configuration, dict[str, Value]] = {}
    words: dict[Configuration, dict[str, str]] = {}
    for result in results:
        configuration, trial = Configuration.of(result), result.job.trial
        if not isinstance(trial, UnderLimit) or not is_current(result, configurations):
            continue
        ended = "ran" if result.measurement else result.failure.kind if result.failure else ""
        words.setdefault(configuration, {})[trial.expected] = f"{ended} in {trial.limit_bytes / 2**20:,.1f} MiB"
        words[configuration]["kind"] = trial.limited_by
        of_one, memory = values.setdefault(configuration, {}), configurations[configuration].get("memory")
        if memory and "peak" in memory.values:
            peaks = [memory.values[key].number for key in ("peak", "batch") if key in memory.values]
            of_one["claim"] = Value(number=max(peaks))
        if trial.expected == "runs" and result.measurement and "counted" in result.measurement.values:
            of_one["counted"] = Value(number=result.measurement.values["counted"])
    titles = label_titles(values)
    rows = [
        Row(labels=labels_of(configuration, titles), values=values[configuration], words=words[configuration])
        for configuration in values
    ]
    if not rows:
        return None
    return filled(
        "Memory under a limit",
        titles,
        columns,
        rows,
        (
            "The claimed peak is resident memory (VmHWM), at batch 1 or at the larger batch. Counted is what the kernel "
            "charged to the process alone: pages of libraries that others had read before are resident, and not in it. "
            "Where those are shared a process runs in less than its claim; where it is alone it needs all of it.",
        ),
        part="resident",
    )
