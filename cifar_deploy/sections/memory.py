"""Memory: what the peak is made of, and under how much a cell really ran."""

import dataclasses
from collections.abc import Sequence

from cifar_deploy.core.limits import BELOW
from cifar_deploy.core.records import Result
from cifar_deploy.core.table import Column, Row, Section, Value
from cifar_deploy.metrics import METRICS
from cifar_deploy.metrics.summary import Cell
from cifar_deploy.sections.common import LABELS, Cells, filled, is_current, row_of


def parts(cells: Cells) -> Section | None:
    """What the peak is made of."""
    columns = {
        f"memory.{key}": dataclasses.replace(column, title=column.title.removeprefix("memory: "), digits=1)
        for key, column in METRICS["memory"].columns.items()
    }
    rows = [
        row_of((cell.name, cell.format, cell.backend), of_cell, columns)
        for cell, of_cell in cells.items()
        if "memory" in of_cell
    ]
    if not rows:
        return None
    return filled(
        "Memory, part by part",
        LABELS,
        columns,
        rows,
        (
            "Resident memory of a process that does nothing else. Python + harness + runtime + model + first call is what "
            "is resident then; the peaks are the most that ever was, at batch 1 and at the larger one.",
        ),
    )


def under_limits(results: Sequence[Result], cells: Cells) -> Section | None:
    """Under how much memory each cell ran, and under how much it did not."""
    bytes_ = {"unit": "MiB", "stored_unit": "bytes", "scale": 1 / 2**20, "digits": 1}
    columns = {
        "peak": Column(title="claimed peak", **bytes_),  # type: ignore[arg-type]
        "ran": Column(title="ran under", **bytes_),  # type: ignore[arg-type]
        "counted": Column(title="counted", **bytes_),  # type: ignore[arg-type]
        "failed": Column(title="not under", **bytes_),  # type: ignore[arg-type]
        "also": Column(title="yet ran under", **bytes_),  # type: ignore[arg-type]
        "kind": Column(title="limited by", unit="", stored_unit=""),
    }
    found: dict[Cell, dict[str, float]] = {}
    words: dict[Cell, dict[str, str]] = {}
    for result in results:
        cell, options = Cell.of(result), result.job.options
        if "limit_bytes" not in options or not is_current(result, cells):
            continue
        limit = float(options["limit_bytes"] or 0)
        of_cell, memory = found.setdefault(cell, {}), cells[cell].get("memory")
        if memory and memory.values:
            of_cell["peak"] = max(memory.values[key].number for key in ("peak", "batch"))
        above = limit > of_cell.get("peak", 0.0)
        words[cell] = {"kind": str(options["limit_kind"])}
        if result.reading:
            of_cell["ran" if above else "also"] = limit
            of_cell |= (
                {"counted": result.reading.values["counted"]} if above and "counted" in result.reading.values else {}
            )
        elif result.failure:
            of_cell["failed"] = limit
            if result.failure.kind != "out of memory":
                words[cell]["kind"] += f" ({result.failure.kind})"
    rows = [
        Row(
            labels=(cell.name, cell.format, cell.backend),
            values={key: Value(number=number) for key, number in of_cell.items()},
            words=words[cell],
        )
        for cell, of_cell in found.items()
    ]
    if not rows:
        return None
    return filled(
        "Memory under a limit",
        LABELS,
        columns,
        rows,
        (
            "The claimed peak is resident memory (VmHWM), at batch 1 or at the larger batch. Counted is what the kernel "
            "charged to the process alone: pages of libraries that were in the system's cache before are not in it. The "
            f"lower limit is {BELOW:.0%} of that.",
        ),
    )
