"""How long a report of many configurations takes, and how that grows with their number:

    python benchmarks/report_rows.py RESULTS [ROWS ...]

RESULTS is a results.jsonl. Its trainings are copied under other names until there are so many rows (default: as many as
there are, ten times as many, and 5,000), all of them measured in the same sessions. A row of this table that takes much
longer than its number of rows says is quadratic: "a row" should stay the same. Seconds are of the processor. Samples
and predictions are not read.

Of the shipped results at 4,968 rows, on one busy 2-core machine: 65.7 s (38.9 s of it the table, 22.2 s the CSV) before
names, medians and printable texts were looked up only once, 28.0 s (14.1 s, 10.1 s) after that: 2.3 times faster.
"""

import argparse
import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from cifar_deploy.core.errors import Corrupt
from cifar_deploy.core.journal import grouped, read_lines
from cifar_deploy.core.records import Artifact, Job, Measurement, Result, Run, Session, Trained
from cifar_deploy.metrics.summary import Configuration
from cifar_deploy.reports import REPORTS
from cifar_deploy.stages.report import build

_ROWS = 5000

T = TypeVar("T")


def no_samples(measurement: Measurement) -> dict[str, object]:
    raise Corrupt("no samples")


def timed(call: Callable[[], T]) -> tuple[T, float]:
    begun = time.process_time()
    return call(), time.process_time() - begun


def copied(runs: Sequence[Run], times: int) -> list[Run]:
    """The runs, and as many copies of their trainings under other names, in the same sessions."""
    jobs: dict[tuple[str, int], Job] = {}
    artifacts: dict[tuple[int, int], Artifact] = {}
    for run, copy in itertools.product(runs, range(times)):
        if (run.job.key, copy) not in jobs:
            artifact = artifacts.setdefault((id(run.job.artifact), copy), renamed(run.job.artifact, copy))
            jobs[run.job.key, copy] = dataclasses.replace(run.job, artifact=artifact)
    sessions: dict[Session, Session] = {}
    for session in {run.session for run in runs if run.session}:
        keys = [jobs[key, copy].key for copy in range(times) for key in session.jobs if (key, copy) in jobs]
        sessions[session] = dataclasses.replace(session, jobs=tuple(dict.fromkeys(keys)))
    return [
        dataclasses.replace(run, job=jobs[run.job.key, copy], session=run.session and sessions[run.session])
        for copy in range(times)
        for run in runs
    ]


def renamed(artifact: Artifact, copy: int) -> Artifact:
    """An artifact of a training of another name."""
    origin = artifact.origin
    if not isinstance(origin, Trained) or not copy:
        return artifact
    training = dataclasses.replace(origin.checkpoint.training, name=f"{origin.name}-{copy}")
    return dataclasses.replace(
        artifact, origin=Trained(checkpoint=dataclasses.replace(origin.checkpoint, training=training))
    )


def rows_of(results: Sequence[Result]) -> int:
    return len({Configuration.of(result) for result in results if isinstance(result.job.artifact.origin, Trained)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("rows", type=int, nargs="*")
    arguments = parser.parse_args()
    runs = read_lines(arguments.results).runs
    at_once = rows_of(grouped(runs))
    names = ("table", *REPORTS)
    print(f"| rows | {' | '.join(f'{name}, s' for name in names)} | whole, s | a row, ms | HTML, MB |")
    print("|---:" * (len(names) + 4) + "|")
    for wanted in arguments.rows or (at_once, 10 * at_once, _ROWS):
        results = grouped(copied(runs, max(1, round(wanted / at_once))))
        table, table_s = timed(lambda results=results: build(results, no_samples))
        texts = {name: timed(lambda name=name, table=table: REPORTS[name].render(table)) for name in REPORTS}
        seconds = [table_s, *(spent_s for _, spent_s in texts.values())]
        rows, page = rows_of(results), texts["html"][0]
        told = " | ".join(f"{spent_s:.2f}" for spent_s in (*seconds, sum(seconds)))
        print(f"| {rows:,} | {told} | {1000 * sum(seconds) / rows:.2f} | {len(page.encode()) / 1e6:.1f} |", flush=True)


if __name__ == "__main__":
    main()
