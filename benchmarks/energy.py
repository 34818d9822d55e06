"""What the counters of energy say here, and how often they move: python benchmarks/energy.py [--device cuda].

For each part: the power of an idle stretch and of a busy one, the joules counted, and the time between two moves of the
counter. Busy is a loop on one processor, or products of large matrices on the GPU (needs PyTorch). `energy` rests on a
processor's counters moving every millisecond or so, and a GPU's at least every 100 ms.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from cifar_deploy.core import energy
from cifar_deploy.core.energy import Counter, Meter
from cifar_deploy.core.errors import Unavailable


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each stretch")
    arguments = parser.parse_args()
    try:
        counters = [energy.gpu()] if arguments.device == "cuda" else energy.packages()
    except Unavailable as error:
        parser.exit(1, f"{error}\n")
    for title, work in (("idle", lambda: time.sleep(0.01)), ("busy", _work(arguments.device))):
        meter = Meter(counters)
        begun = time.perf_counter()
        while time.perf_counter() < begun + arguments.seconds:
            work()
        joules, seconds = meter.read(), time.perf_counter() - begun
        for part, counted in joules.items():
            print(f"{title}: {part} {counted:.3f} J in {seconds:.3f} s, {counted / seconds:.2f} W")
    for counter in counters:
        moves_ms = _moves_ms(counter, arguments.seconds)
        if len(moves_ms):
            print(
                f"{counter.part} moves every {np.median(moves_ms):.2f} ms (the longest wait: {moves_ms.max():.2f} ms)"
            )
        else:
            print(f"{counter.part} did not move in {arguments.seconds:g} s")


def _work(device: str) -> Callable[[], object]:
    if device == "cpu":
        return lambda: sum(range(100_000))
    import torch

    print(torch.cuda.get_device_name(), torch.__version__)
    matrix = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)

    def multiply() -> object:
        product = matrix @ matrix
        torch.cuda.synchronize()
        return product

    return multiply


def _moves_ms(counter: Counter, seconds: float) -> np.ndarray:
    """Times between two moves of a counter that is read without a pause."""
    moments, last, end = [], counter.read(), time.perf_counter() + seconds
    while (now := time.perf_counter()) < end:
        if (found := counter.read()) != last:
            moments.append(now)
            last = found
    return np.diff(moments) * 1000


if __name__ == "__main__":
    main()
