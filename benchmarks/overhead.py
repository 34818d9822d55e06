"""What `evaluate` costs beyond measuring: python benchmarks/overhead.py OUT NAME, with an output folder and a training.

The wall time of one session of latencies over what no such session can do without: for each visit the start of a Python
with numpy (measured here, beside it), the import of the runtime, the load, the first inference, and the timed calls with
their warm-up. The rest is ours: planning, verifying hashes, the worker's modules, calibration, samples written to disk.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from cifar_deploy import pipeline
from cifar_deploy.core.store import Store


def python_start_s(times: int = 7) -> float:
    """The median of a few Pythons that import numpy and end."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import numpy"], check=True)
        taken.append(time.perf_counter() - begun)
    return float(np.median(taken))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("name")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each timed block; evaluate's default")
    arguments = parser.parse_args()
    start_s = python_start_s()
    with Store(arguments.out) as store:
        conditions = pipeline.Conditions(seconds=arguments.seconds)
        begun = time.perf_counter()
        planned = pipeline.plan(store, [arguments.name], metrics=["latency"], conditions=conditions)
        list(pipeline.evaluate(store, planned, force=True))
        wall_s = time.perf_counter() - begun
        last = max((run.session for run in store.runs() if run.session), key=lambda session: session.started)
        runs = [run for run in store.runs() if run.session == last]
    needed_s = 0.0
    for run in runs:
        assert run.measurement and run.measurement.disturbance
        values = run.measurement.values
        needed_s += start_s + run.measurement.disturbance.seconds
        needed_s += sum(values[part] for part in ("import", "load", "first"))
    print(f"{len(runs)} visits of {arguments.seconds:g} s a run: {wall_s:.1f} s, of which {needed_s:.1f} s are needed")
    print(f"wall time over what is needed: {wall_s / needed_s:.3f}")
    print(
        f"ours, a visit: {(wall_s - needed_s) / len(runs) * 1000:.0f} ms (a Python with numpy: {start_s * 1000:.0f} ms)"
    )


if __name__ == "__main__":
    main()
