"""How long `cifar-deploy --help` takes, against a program that only imports typer, with rich, and prints a help: in turns.

    python benchmarks/startup.py [ROUNDS]

About half a second a round. Prints the median of each in ms, and the median and range of the ratio.
"""

import statistics
import subprocess
import sys
import time

_TYPER = """
import typer
app = typer.Typer()
@app.command()
def command(option: int = 1) -> None:
    "A command."
app(["--help"])
"""
_OURS = [sys.executable, "-m", "cifar_deploy", "--help"]
_THEIRS = [sys.executable, "-c", _TYPER]


def _milliseconds(command: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return 1000 * (time.perf_counter() - begun)


def main(rounds: int) -> None:
    _milliseconds(_OURS), _milliseconds(_THEIRS)  # compiles what is not compiled yet
    pairs = [(_milliseconds(_OURS), _milliseconds(_THEIRS)) for _ in range(rounds)]
    ours, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratios = [mine / other for mine, other in pairs]
    print(f"cifar-deploy --help {ours:.0f} ms, typer alone {theirs:.0f} ms, {rounds} rounds")
    print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
