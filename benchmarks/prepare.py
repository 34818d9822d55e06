"""How long a data set of JPEGs takes to prepare, against Pillow's decoding and resizing alone on as many processes.

    python benchmarks/prepare.py --images 10000

The images are 500×375 of gradients and noise. They are brought to 224×224, as --size 224 does. `decoded and resized` is
what both have in common. `prepared` is the whole command's work: arrays on the disk, fingerprint, statistics and the
search for images that are there twice. The runs take turns, and each ratio is of two neighbours. That of the CPU seconds
holds on a busy machine, too.
"""

import argparse
import os
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from cifar_deploy import pipeline
from cifar_deploy.core.machine import allowed_threads
from cifar_deploy.core.records import Preprocessing
from cifar_deploy.datasets.preprocessing import preprocessed

PREPROCESSING = Preprocessing(resize=(224,), crop=(224, 224))
CLASSES = 10
WIDTH, HEIGHT = 500, 375


def save(path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    gradient = np.linspace(0, 200, WIDTH)[None, :, None] * random.random(3) + np.linspace(0, 40, HEIGHT)[:, None, None]
    noise = random.normal(0, 12, (HEIGHT, WIDTH, 3))
    Image.fromarray(np.clip(gradient + noise, 0, 255).astype(np.uint8)).save(path, quality=90)


def make(folder: Path, count: int) -> None:
    with ProcessPoolExecutor(allowed_threads()) as pool:
        paths = [folder / "test" / f"class{number % CLASSES}" / f"{number}.jpg" for number in range(count)]
        list(pool.map(save, paths, range(count), chunksize=16))


def decode(path: Path) -> int:
    with Image.open(path) as opened:
        return preprocessed(opened.convert("RGB"), PREPROCESSING).width


class Watch:
    """Seconds since the start: of the clock, and of all processors in processes that ended meanwhile."""

    def __init__(self) -> None:
        self._begun, self._cpu = time.perf_counter(), self._ended()

    @staticmethod
    def _ended() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    def read(self) -> np.ndarray:
        return np.array([time.perf_counter() - self._begun, self._ended() - self._cpu])


def decoded(folder: Path) -> np.ndarray:
    """What Pillow alone takes, the start of its processes included."""
    paths = sorted(folder.rglob("*.jpg"))
    watch = Watch()
    with ProcessPoolExecutor(allowed_threads()) as pool:
        assert set(pool.map(decode, paths, chunksize=32)) == {224}
    return watch.read()


def prepared(folder: Path) -> np.ndarray:
    """What the whole command's work takes, into a new cache."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as cache:
        os.environ["CIFAR_DEPLOY_CACHE"] = cache
        watch = Watch()
        pipeline.prepare("image_folder", folder, pipeline.Preparation(preprocessing=PREPROCESSING))
        return watch.read()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "images"
        make(folder, arguments.images)
        ratios = []
        for _ in range(arguments.rounds):
            alone, whole = decoded(folder), prepared(folder)
            ratios.append(whole / alone)
            for clock, *figures in zip(("wall", "CPU"), alone, whole, ratios[-1], strict=True):
                print("{}: decoded and resized {:.1f} s, prepared {:.1f} s, ratio {:.2f}".format(clock, *figures))
    wall, cpu = np.median(ratios, axis=0)
    print(f"{arguments.images:,} images, {allowed_threads()} cores: median ratio {wall:.2f} (wall), {cpu:.2f} (CPU)")


if __name__ == "__main__":
    main()
