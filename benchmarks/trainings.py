"""The trainings that docs/results.md compares, from their own records: python benchmarks/trainings.py [FOLDER ...]

It prints a line for each. The records are checkpoint.json of the networks in exported/ and, of those that are not shipped,
the files in reports/trainings/. FOLDER is another output folder, whose trainings are printed instead.
The accuracy is that of the last epoch's weights, as they were trained and as they are stored.

--command NETWORK [-- OPTION ...] prints the command that trains a shipped network again. Each OPTION replaces the record's.
--teacher-of NETWORK prints the name of its teacher, if it has one.
"""

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from cifar_deploy.core import codec
from cifar_deploy.core.records import Checkpoint, Training
from cifar_deploy.core.verdict import judge_training
from cifar_deploy.sections.reproduce import apart, training_command

ROOT = Path(__file__).parents[1]
CHECKPOINTS = "exported/*/checkpoint/checkpoint.json"


def line(name: str, training: Training, checkpoint: Checkpoint) -> str:
    last = checkpoint.curve[-1]
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
    trained = [(name, found.training, found) for name, found in checkpoints if isinstance(found.training, Training)]
    trained.sort(key=lambda found: (found[1].network, found[1].recipe.name, found[1].recipe.seed))
    print(
        "| training | network | by | accuracy | as stored | seconds | as spent | wall | peak MiB | threads "
        "| verdict on the seconds |"
    )
    print("|---|---|---|---:|---:|---:|---:|---:|---:|---|---|")
    print("\n".join(line(*found) for found in trained))


def command(training: Training, checkpoint: Checkpoint, options: Sequence[str]) -> str:
    """The record's command with these options in place of its own."""
    given = {word.partition("=")[0] for word in options if word.startswith("--")}
    kept = [
        word
        for group in _groups(shlex.split(training_command(training, checkpoint)))
        for word in group
        if group[0] not in given
    ]
    return shlex.join([*kept, *options])


def _groups(words: Sequence[str]) -> Iterator[list[str]]:
    """The words before the first option, then each option with its value."""
    group: list[str] = []
    for word in words:
        if word.startswith("--"):
            yield group
            group = []
        group.append(word)
    yield group


def _shipped(network: str) -> tuple[Training, Checkpoint]:
    path = ROOT / "exported" / network / "checkpoint" / "checkpoint.json"
    checkpoint = codec.load(Checkpoint, path, "name one of the folders in exported/")
    assert isinstance(checkpoint.training, Training)
    return checkpoint.training, checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rest", nargs="*", metavar="FOLDER", help="with --command: options")
    parser.add_argument("--command", metavar="NETWORK")
    parser.add_argument("--teacher-of", metavar="NETWORK")
    arguments = parser.parse_args()
    if arguments.command:
        training, checkpoint = _shipped(arguments.command)
        print(command(training, checkpoint, arguments.rest))
        if told := apart(checkpoint, {}):
            print(told.strip(), file=sys.stderr)
    elif arguments.teacher_of:
        if teacher := _shipped(arguments.teacher_of)[0].recipe.teacher:
            print(teacher.name)
    elif arguments.rest:
        table([path for folder in arguments.rest for path in Path(folder).glob(CHECKPOINTS)])
    else:
        table([*ROOT.glob(CHECKPOINTS), *ROOT.glob("reports/trainings/*.json")])


if __name__ == "__main__":
    main()
