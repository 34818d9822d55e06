"""The original report's comparison: which trainings repeat it, and in what they do not."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from cifar_deploy.core.records import File, Job, Preprocessing, Recipe, Teacher, Trained, Training
from cifar_deploy.core.table import Section, Table
from cifar_deploy.recipes import RECIPES
from tests.probes import a_job
from tests.sections.test_charts import built, labelled, once

ORIGINAL, FAST = RECIPES["original"], RECIPES["fast"]
TEACHER = Teacher(name="t", network="t", weights=File(name="w", bytes=1, sha256="0" * 64), temperature=4, weight=0.9)


def trained(name: str, network: str = "", recipe: Recipe = ORIGINAL, preprocessing: Preprocessing | None = None) -> Job:
    """Through PyTorch eager."""
    job = a_job()
    origin = job.artifact.origin
    assert isinstance(origin, Trained)
    data = replace(origin.checkpoint.training.data, preprocessing=preprocessing)
    training = Training(name=name, network=network or name, recipe=recipe, data=data)
    checkpoint = replace(origin.checkpoint, training=training)
    return replace(job, artifact=replace(job.artifact, origin=replace(origin, checkpoint=checkpoint)))


def report_of(jobs: Sequence[Job], correct: Sequence[int]) -> Table:
    return built([(job, 1.0) for job in jobs], *map(labelled, jobs, correct))


def section(table: Table, title: str) -> Section | None:
    return next((each for each in table.sections if each.title == title), None)


def claims_of(table: Table) -> Section | None:
    return section(table, "Claims of the original report")


def notes_of(*jobs: Job) -> str:
    found = section(report_of(jobs, [800] * len(jobs)), "The original report's comparison")
    assert found
    return "\n".join(found.notes)


@pytest.mark.parametrize(
    ("correct", "verdicts"),
    [
        ((842, 837), ["holds", "holds", "cannot be told"]),
        ((880, 900), ["higher here", "higher here", "cannot be told"]),
        ((700, 900), ["lower here", "higher here", "does not hold: the reverse"]),
        ((900, 700), ["higher here", "lower here", "holds"]),
    ],
)
def test_each_claim_of_the_original_report_has_a_verdict(correct: tuple[int, int], verdicts: list[str]) -> None:
    claims = claims_of(report_of([trained("mobilenet"), trained("resnet18")], correct))
    assert claims and [row.words["verdict"] for row in claims.rows] == verdicts
    assert [row.labels[0] for row in claims.rows][2] == "mobilenet is more accurate than resnet18"


def test_an_accuracy_without_its_count_of_correct_images_is_judged_by_its_share() -> None:
    jobs = [trained("mobilenet"), trained("resnet18")]
    claims = claims_of(
        built([(job, 1.0) for job in jobs], *(once(job, "accuracy", accuracy=0.9, images=1000) for job in jobs))
    )
    assert claims and [row.words["ours"] for row in claims.rows] == ["90.00%", "90.00%", "+0.00 points"]


def test_another_network_under_the_name_of_one_stands_for_neither() -> None:
    table = report_of([trained("mobilenet", "resnet8"), trained("resnet18", "resnet8")], [842, 837])
    assert claims_of(table) is None and section(table, "The original report's comparison") is None


def test_a_network_under_another_name_stands_for_its_own() -> None:
    claims = claims_of(report_of([trained("mine", "mobilenet"), trained("yours", "resnet18")], [900, 700]))
    assert claims and [row.labels[0] for row in claims.rows] == [
        "accuracy of mine",
        "accuracy of yours",
        "mine is more accurate than yours",
    ]


@pytest.mark.parametrize(
    ("resnet", "compared"),
    [(ORIGINAL, ["mobilenet-paper", "resnet18"]), (FAST, ["mobilenet", "resnet18"])],
    ids=["both by the original recipe", "one by the fast recipe alone"],
)
def test_trainings_by_the_reports_recipe_are_compared_where_each_network_has_one(
    resnet: Recipe, compared: list[str]
) -> None:
    jobs = [
        trained("mobilenet-paper", "mobilenet", ORIGINAL),
        trained("mobilenet", recipe=FAST),
        trained("resnet18", recipe=resnet),
        trained("taught", "resnet18", replace(ORIGINAL, teacher=TEACHER)),
    ]
    claims = claims_of(report_of(jobs, [700, 800, 850, 900]))
    assert claims and [row.labels[0] for row in claims.rows][:2] == [f"accuracy of {name}" for name in compared]


def test_the_repetition_of_one_network_is_compared_where_the_other_is_not_here() -> None:
    jobs = [trained("mobilenet", recipe=FAST), trained("mobilenet-paper", "mobilenet", ORIGINAL)]
    claims = claims_of(report_of(jobs, [870, 720]))
    assert claims and [row.labels[0] for row in claims.rows] == ["accuracy of mobilenet-paper"]


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 6},
        {"learning_rate": 0.01},
        {"bias_rate": 16.0},
        {"batch_size": 8},
        {"limit_train": 100},
        {"weight_decay": 0.1},
        {"flip": "random"},
        {"init": File(name="w.pt", bytes=1, sha256="1" * 64), "freeze": True},
    ],
    ids=str,
)
def test_what_is_no_repetition_of_the_report_is_told(changes: dict[str, object]) -> None:
    recipe = replace(ORIGINAL, **changes)  # type: ignore[arg-type]
    assert f"with Adam at 0.001; mobilenet was trained by {recipe}." in notes_of(trained("mobilenet", recipe=recipe))


def test_seed_stored_weights_and_ranks_make_no_other_recipe() -> None:
    recipe = replace(ORIGINAL, seed=3, weights="float16", batch_norm="per-rank")
    assert "was trained by" not in notes_of(trained("mobilenet", recipe=recipe))


def test_images_of_another_size_are_told() -> None:
    resized = trained("mobilenet", preprocessing=Preprocessing(resize=(64, 64)))
    assert "those of mobilenet were prepared so: resize to 64×64 (bilinear)." in notes_of(resized)
    assert "prepared so" not in notes_of(trained("mobilenet"))
