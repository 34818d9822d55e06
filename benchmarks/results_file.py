"""What a results file weighs and how long it takes to read, as it is and as this version writes it, in one run:

    python benchmarks/results_file.py FILE [NEW]

FILE is a results.jsonl of any version, or one packed by xz. NEW is where to keep it as this version writes it; lines that
cannot be read are named, and then it is not written. Of the shipped results as of version 2 (2,146 runs): 25.6 MB and
1.0 s as they were, 2.5 MB and 0.4 s as version 3, on an Intel Xeon of 2.5 GHz; the program before it took 6.9 s.
"""

import lzma
import sys
import time
from pathlib import Path

from cifar_deploy.core import files
from cifar_deploy.core.journal import Journal, Lines, read_lines

_TIMES = 3


def timed(path: Path) -> tuple[Lines, float]:
    """What it holds, and the processor seconds of the fastest of several measurements."""
    seconds = []
    for _ in range(_TIMES):
        begun = time.process_time()
        lines = read_lines(path)
        seconds.append(time.process_time() - begun)
    return lines, min(seconds)


def main(given: Path, kept: Path | None) -> None:
    if kept and kept.exists():
        sys.exit(f"{kept}: is there already; give another")
    with files.temporary_folder() as folder:
        old, new = folder / "old.jsonl", folder / "new.jsonl"
        old.write_bytes(lzma.decompress(given.read_bytes()) if given.suffix == ".xz" else given.read_bytes())
        before, before_s = timed(old)
        Journal(new).append(*before.runs)
        after, after_s = timed(new)
        assert list(after.runs) == list(before.runs)
        for told in before.told():
            print(f"{given}: {told}")
        print("| | bytes | a run | seconds to read |\n|---|---:|---:|---:|")
        for what, path, spent_s in (("as it is", old, before_s), ("as this version writes it", new, after_s)):
            size = path.stat().st_size
            print(f"| {what} | {size:,} | {size / max(1, len(before.runs)):,.0f} | {spent_s:.2f} |")
        print(f"| ratio | {old.stat().st_size / new.stat().st_size:.1f} | | {before_s / after_s:.1f} |")
        if kept and before.left_out:
            sys.exit(f"{kept}: is not written, since lines are left out")
        if kept:
            with files.atomic_write(kept) as part:
                part.write_bytes(new.read_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
