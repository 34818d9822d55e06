"""Every training that docs/results.md compares, a line each, from its own record: python benchmarks/trainings.py

The records are checkpoint.json of the networks in exported/ and, of those that are not shipped, the files in
reports/trainings/. Accuracy is of the last epoch's weights, as they were trained and as they are stored.
"""

from pathlib import Path

from cifar_deploy.core import codec
from cifar_deploy.core.records import Checkpoint
from cifar_deploy.core.verdict import judge_training

ROOT = Path(__file__).parents[1]


def line(checkpoint: Checkpoint) -> str:
    training, last = checkpoint.training, checkpoint.curve[-1]
    seconds, verdict = judge_training(checkpoint)
    stored = "–" if checkpoint.rounded_accuracy is None else f"{checkpoint.rounded_accuracy:.2%}"
    said = "; ".join((verdict.word, *verdict.reasons)) if verdict else "not watched"
    return (
        f"| {training.name} | {training.recipe} | {last.accuracy:.2%} | {stored} | {seconds:,.0f} | {checkpoint.seconds:,.0f} "
        f"| {checkpoint.wall_seconds:,.0f} | {said} |"
    )


def main() -> None:
    paths = [*ROOT.glob("exported/*/checkpoint/checkpoint.json"), *ROOT.glob("reports/trainings/*.json")]
    checkpoints = [codec.load(Checkpoint, path, "restore it from git") for path in paths]
    checkpoints.sort(key=lambda found: (found.training.network, found.training.recipe.name, found.training.recipe.seed))
    print("| training | by | accuracy | as stored | seconds | as spent | wall | verdict on the seconds |")
    print("|---|---|---:|---:|---:|---:|---:|---|")
    print("\n".join(map(line, checkpoints)))


if __name__ == "__main__":
    main()
