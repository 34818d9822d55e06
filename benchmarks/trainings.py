"""The trainings that docs/results.md compares, from their own records: python benchmarks/trainings.py [--command NETWORK | FOLDER ...]

Without arguments it prints a line for each. The records are checkpoint.json of the networks in exported/ and, of those that are
not shipped, the files in reports/trainings/.
FOLDER is another output folder, whose trainings are printed instead.
--command prints the command that trains a shipped network again. The accuracy is that of the last epoch's weights, as they
were trained and as they are stored.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cifar_deploy.core import codec
from cifar_deploy.core.records import Checkpoint, Training
from cifar_deploy.core.verdict import judge_training
from cifar_deploy.sections.reproduce import training_command

ROOT = Path(__file__).parents[1]
CHECKPOINTS = "exported/*/checkpoint/checkpoint.json"


def line(name: str, checkpoint: Checkpoint) -> str:
    training, last = checkpoint.training, checkpoint.curve[-1]
    seconds, verdict = judge_training(checkpoint)
    stored = "–" if checkpoint.rounded_accuracy is None else f"{checkpoint.rounded_accuracy:.2%}"
    said = "; ".join((verdict.word, *verdict.reasons)) if verdict else "not watched"
    return (
        f"| {name} | {training.network} | {training.recipe} | {last.accuracy:.2%} | {stored} | {seconds:,.0f} "
        f"| {checkpoint.seconds:,.0f} | {checkpoint.wall_seconds:,.0f} | {(checkpoint.peak_bytes or 0) / 2**20:,.0f} "
        f"| {checkpoint.threads} of {checkpoint.machine.processor} | {said} |"
    )


def _name(path: Path) -> str:
    """Of a folder exported/NAME/checkpoint, or of a file NAME.json: there a record's own name may be another's, too."""
    return path.parents[1].name if path.name == "checkpoint.json" else path.stem


def table(paths: Sequence[Path]) -> None:
    checkpoints = [(_name(path), codec.load(Checkpoint, path, "restore it from git")) for path in paths]
    checkpoints.sort(
        key=lambda found: (found[1].training.network, found[1].training.recipe.name, found[1].training.recipe.seed)
    )
    print(
        "| training | network | by | accuracy | as stored | seconds | as spent | wall | peak MiB | threads "
        "| verdict on the seconds |"
    )
    print("|---|---|---|---:|---:|---:|---:|---:|---:|---|---|")
    print("\n".join(line(name, checkpoint) for name, checkpoint in checkpoints))


def command(network: str) -> str:
    path = ROOT / "exported" / network / "checkpoint" / "checkpoint.json"
    checkpoint = codec.load(Checkpoint, path, "name one of the folders in exported/")
    assert isinstance(checkpoint.training, Training)
    return training_command(checkpoint.training, checkpoint)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="*", type=Path)
    parser.add_argument("--command", metavar="NETWORK")
    arguments = parser.parse_args()
    if arguments.command:
        print(command(arguments.command))
    elif arguments.folder:
        table([path for folder in arguments.folder for path in folder.glob(CHECKPOINTS)])
    else:
        table([*ROOT.glob(CHECKPOINTS), *ROOT.glob("reports/trainings/*.json")])


if __name__ == "__main__":
    main()
