"""How the `fast` recipe was found: python benchmarks/tune.py --data-dir cifar10-jpeg75.zip [--network N] [TRIAL ...].

Each trial changes one recipe, START, in one or two things, and trains a small network for a few epochs on
nine tenths of the training images; the last tenth judges (see held_out.py). The test images are never read. What a trial
gave is a line of tune.jsonl beside this file, with the recipe in full; one that is there is not run again. Without TRIAL all are run; not all of them have been.
Its seconds are of a machine that did other things too. Three minutes a trial for mobilenet-0.5 on two cores, five for resnet20.
"""

import argparse
import dataclasses
import itertools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cifar_deploy import console, pipeline
from cifar_deploy.core.codec import from_json, to_json
from cifar_deploy.core.records import Recipe

HERE = Path(__file__).parent
LOG = HERE / "tune.jsonl"
EPOCHS = 6
NETWORKS = ("mobilenet-0.5", "resnet20")

START = Recipe(
    name="start",
    optimizer="sgd",
    learning_rate=0.2,
    epochs=EPOCHS,
    batch_size=128,
    seed=0,
    momentum=0.9,
    weight_decay=5e-4,
    label_smoothing=0.1,
    warmup=0.2,
    decay="linear",
    shift=4,
    flip="alternating",
    scales=(0.5, 0.75, 1.0),
)

FAST = {"shift": 2, "scales": (0.75, 1.0), "epochs": 10}

TRIALS: Mapping[str, Mapping[str, Any]] = {
    "start": {},
    "rate 0.1": {"learning_rate": 0.1},
    "rate 0.4": {"learning_rate": 0.4},
    "batch 64": {"batch_size": 64, "learning_rate": 0.1},
    "batch 64, rate 0.2": {"batch_size": 64},
    "shift 2": {"shift": 2},
    "shift 2, biases 4": {"shift": 2, "bias_rate": 4.0},
    "shift 2, biases 16": {"shift": 2, "bias_rate": 16.0},
    "shift 2, biases 16, decay 1e-3": {"shift": 2, "bias_rate": 16.0, "weight_decay": 1e-3},
    "random flip": {"flip": "random"},
    "no flip, no shift": {"flip": "none", "shift": 0},
    "decay 1e-3": {"weight_decay": 1e-3},
    "decay 2e-4": {"weight_decay": 2e-4},
    "no smoothing": {"label_smoothing": 0.0},
    "cosine": {"decay": "cosine"},
    "warm-up 0.1": {"warmup": 0.1},
    "warm-up 0.3": {"warmup": 0.3},
    "AdamW": {"optimizer": "adamw", "learning_rate": 0.004, "weight_decay": 0.05, "momentum": 0.0},
    # In as much time as six epochs of growing images take, or a little less.
    "full size, 4 epochs": {"scales": (1.0,), "epochs": 4},
    "two sizes, 5 epochs": {"scales": (0.75, 1.0), "epochs": 5},
    # What became the recipe, with several seeds: do the large steps of biases leave channels of a narrow network dead?
    "fast, biases 16": {**FAST, "bias_rate": 16.0},
    "fast, biases 4": {**FAST, "bias_rate": 4.0},
    "fast, biases 1": {**FAST, "bias_rate": 1.0},
    # A bias that decays brings a dead channel back.
    "fast, biases 16, decay 5e-4": {**FAST, "bias_rate": 16.0, "bias_decay": 5e-4},
    "fast, biases 16, decay 3e-5": {**FAST, "bias_rate": 16.0, "bias_decay": 3e-5},
    "fast, biases 4, decay 5e-4": {**FAST, "bias_rate": 4.0, "bias_decay": 5e-4},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trial", nargs="*", choices=[[], *TRIALS], metavar="TRIAL")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--network", action="append", help="may be repeated")
    parser.add_argument("--seed", action="append", type=int, help="may be repeated")
    parser.add_argument("--out", type=Path, default=Path("runs/tune"))
    arguments = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])  # for held_out
    prepared = pipeline.prepare("held_out:DATASET", arguments.data_dir)
    with pipeline.Store(arguments.out) as store:
        for network, seed in itertools.product(arguments.network or NETWORKS, arguments.seed or [START.seed]):
            for trial in arguments.trial or TRIALS:
                recipe = dataclasses.replace(START, name=trial, seed=seed, **TRIALS[trial])
                if not _is_done(network, recipe):
                    _log(network, recipe, _run(store, prepared, network, recipe))


def _run(store: pipeline.Store, prepared: pipeline.Prepared, network: str, recipe: Recipe) -> dict[str, Any]:
    name = f"{network}-{recipe.name}-seed{recipe.seed}".replace(" ", "-").replace(",", "")
    settings = pipeline.TrainingSettings(recipe=recipe)
    with console.following(name) as on_progress:
        done = pipeline.train(store, prepared, network, settings, name=name, on_progress=on_progress).value
    dead = None if done.dead_channels is None else sum(each.dead for each in done.dead_channels)
    found = {
        "accuracy": done.curve[-1].accuracy,
        "loss": done.curve[-1].loss,
        "seconds": round(done.seconds, 1),
        "dead": dead,
    }
    print(f"{network:<14} {recipe.name:<28} {found['accuracy']:.2%}  {found['seconds']:.0f} s  {dead} dead", flush=True)
    return found


def _log(network: str, recipe: Recipe, found: dict[str, Any]) -> None:
    with open(LOG, "a") as log:
        log.write(json.dumps({"network": network, **found, "recipe": to_json(recipe)}) + "\n")


def _is_done(network: str, recipe: Recipe) -> bool:
    lines = map(json.loads, LOG.read_text().splitlines() if LOG.exists() else [])
    return any((line["network"], from_json(Recipe, line["recipe"])) == (network, recipe) for line in lines)


if __name__ == "__main__":
    main()
