"""What records say of themselves: which question a job asks, and in what two trainings differ."""

import dataclasses
import json
from typing import Any

import pytest

from cifar_deploy.core.codec import from_json, to_json
from cifar_deploy.core.errors import Corrupt
from cifar_deploy.core.records import File, Job, Teacher, UnderIsa
from tests.probes import a_checkpoint, a_job


def test_a_job_keeps_its_key() -> None:
    job = a_job()
    assert from_json(type(job), json.loads(json.dumps(to_json(job)))).key == job.key


@pytest.mark.parametrize(
    "change",
    [
        {"metric": "memory"},
        {"threads": 2},
        {"batch_size": 8},
        {"protocol": 2},
        {"seconds": 0.1},
        {"trial": UnderIsa(isa="avx2")},
        {"versions": {}},
        {"cpus": "4-7"},
    ],
)
def test_another_question_has_another_key(change: dict[str, Any]) -> None:
    job = a_job()
    assert dataclasses.replace(job, **change).key != job.key


@pytest.mark.parametrize("cpus", ["", "big", "0;1", "0-", "<b>", "4-7, 2", "1" * 9])
def test_what_is_no_list_of_processors_is_no_record(cpus: str) -> None:
    written = json.loads(json.dumps(to_json(dataclasses.replace(a_job(), cpus="4-7,2"))))
    assert from_json(Job, written).cpus == "4-7,2"
    with pytest.raises(Corrupt, match="is no list of processors"):
        from_json(Job, {**written, "cpus": cpus})


def test_a_machine_of_before_a_field_was_known_keeps_its_keys() -> None:
    """Sessions name their jobs by key, and these were written without the field."""
    job = a_job()
    written = to_json(job.machine)
    assert json.loads(json.dumps(job.machine.identity)) == {
        name: written[name]
        for name in ("host", "processor", "cores", "memory_bytes", "system", "architecture", "python", "instructions")
    }
    assert dataclasses.replace(job, machine=dataclasses.replace(job.machine, id="0123456789ab")).key != job.key


def test_the_differences_of_two_trainings_are_in_words() -> None:
    training = a_checkpoint().training
    more = dataclasses.replace(training, recipe=dataclasses.replace(training.recipe, batch_size=8))
    assert training.difference(training) is None
    assert more.difference(training) == "batch size 8, not 4"
    other = dataclasses.replace(training, recipe=dataclasses.replace(more.recipe, seed=7))
    assert other.difference(training) == "batch size 8, not 4 and seed 7, not 0"
    limited = dataclasses.replace(training, recipe=dataclasses.replace(training.recipe, limit_train=50_000))
    assert limited.difference(training) is None and training.difference(limited) is None, "it has four images"
    by_another = dataclasses.replace(training, recipe=dataclasses.replace(other.recipe, name="sgd"))
    assert by_another.difference(training) == "recipe sgd, not adam"


def test_the_same_first_weights_in_a_file_of_another_name_make_no_difference() -> None:
    training = a_checkpoint().training
    given, renamed, other = (
        dataclasses.replace(training, recipe=dataclasses.replace(training.recipe, init=init))
        for init in (
            File(name="a.pt", bytes=1, sha256="1" * 64),
            File(name="b.pt", bytes=1, sha256="1" * 64),
            File(name="a.pt", bytes=1, sha256="2" * 64),
        )
    )
    assert renamed.difference(given) is None
    assert other.difference(given) and training.difference(given) and given.difference(training)


def test_a_difference_never_looks_like_none() -> None:
    training = a_checkpoint().training
    weights = File(name="w", bytes=1, sha256="0" * 64)
    teacher = Teacher(name="t", network="t", weights=weights, temperature=4.0, weight=0.9)
    one, other = (
        dataclasses.replace(training, recipe=dataclasses.replace(training.recipe, teacher=each))
        for each in (teacher, dataclasses.replace(teacher, temperature=4.0000001))
    )
    assert one.difference(other) == (
        "teacher t (000000000000) at temperature 4 and weight 0.9, "
        "not t (000000000000) at temperature 4.0000001 and weight 0.9"
    )


def test_a_recipe_tells_the_learning_rate_of_biases_where_it_is_another() -> None:
    recipe = a_checkpoint().training.recipe
    plain = dataclasses.replace(recipe, learning_rate=0.2, bias_rate=1.0)
    assert "learning rate 0.2, 1 epoch," in str(dataclasses.replace(plain, epochs=1))
    assert "learning rate 0.2, of biases 0.8, 1 epoch," in str(dataclasses.replace(plain, epochs=1, bias_rate=4.0))
