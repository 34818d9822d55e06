"""The choice: what qualifies wins by the stated rule, a tie goes to the more frugal, and what is not to be trusted never wins."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from cifar_deploy import documents
from cifar_deploy.choice import answer
from cifar_deploy.choice.candidates import field_of
from cifar_deploy.choice.choose import Choice, Constraints, choose
from cifar_deploy.choice.limits import Limit
from cifar_deploy.core.errors import Corrupt
from cifar_deploy.core.journal import grouped
from cifar_deploy.core.records import Disturbance, Failure, Job, Measurement, Parity, Run, Trained
from cifar_deploy.core.statistics import confidence_in_rounds, confidence_in_share, difference
from cifar_deploy.core.store import Store
from cifar_deploy.stages.report import current_of
from tests.probes import a_checkpoint, a_job, a_run, a_session, calm

IMAGES = 10_000


def no_raw(measurement: Measurement) -> Mapping[str, Any]:
    raise Corrupt("no samples")


class Shelf:
    """Configurations with stated numbers, all timed in one session."""

    def __init__(self) -> None:
        self._jobs: list[tuple[Job, float, Disturbance | None, int]] = []
        self._runs: list[Run] = []

    def add(
        self,
        name: str,
        ms: float,
        accuracy: float | None,
        *,
        format: str = "checkpoint",
        backend: str = "pytorch",
        mib: float = 50,
        kib: float = 100,
        minutes: float | None = None,
        trained: Mapping[str, Any] = MappingProxyType({}),
        gauge: Disturbance | None = None,
        parity: tuple[Parity, ...] | None = None,
        rounds: int = 7,
        limit_test: int | None = None,
    ) -> "Shelf":
        job = replace(a_job(format=format), backend=backend)
        assert isinstance(job.artifact.origin, Trained)
        checkpoint = job.artifact.origin.checkpoint
        origin = Trained(checkpoint=replace(checkpoint, training=replace(checkpoint.training, name=name), **trained))
        if parity is None:
            parity = (Parity(backend=backend, images=256, largest_difference=0, largest_logit=1, agreement=1),)
        job = replace(job, artifact=replace(job.artifact, origin=origin, parity=parity))
        self._jobs.append((job, ms / 1e3, gauge, rounds))
        if accuracy is not None:
            correct = round(accuracy * IMAGES)
            self._once(
                replace(job, metric="accuracy", limit_test=limit_test),
                {"accuracy": correct / IMAGES, "correct": correct, "images": IMAGES},
            )
        self._once(replace(job, metric="memory"), {"peak": mib * 2**20})
        self._once(replace(job, metric="file_size"), {"bytes": kib * 2**10})
        if minutes is not None:
            self._once(replace(job, metric="training_time"), {"seconds": minutes * 60})
        return self

    def _once(self, job: Job, values: dict[str, float]) -> None:
        self._runs.append(replace(a_run(job=job), measurement=Measurement(values=values)))

    def fail(self, name: str, metric: str, failure: Failure) -> "Shelf":
        job = next(job for job, *_ in self._jobs if job.artifact.name == name)
        self._runs.append(a_run(job=replace(job, metric=metric), failure=failure))
        return self

    def choose(self, *limits: Limit, raw: Any = no_raw, **constraints: Any) -> Choice:
        session = a_session(*(job for job, *_ in self._jobs))
        timed = [
            a_run(job=job, session=session, round=index, value=seconds * (1 + 0.001 * (index - 3)), disturbance=gauge)
            for job, seconds, gauge, rounds in self._jobs
            for index in range(rounds)
        ]
        current = current_of(grouped([*self._runs, *timed]), raw)
        field = field_of(current.configurations, current.controls, raw)
        return choose(field, Constraints(limits=limits, **constraints))


def picked(choice: Choice) -> dict[str, str]:
    return {pick.role: pick.candidate.configuration.name for pick in choice.picks}


def three() -> Shelf:
    return (
        Shelf()
        .add("small", 1, 0.80, mib=40, kib=100, minutes=10)
        .add("middle", 2, 0.88, mib=50, kib=200, minutes=20)
        .add("large", 10, 0.892, mib=90, kib=900, minutes=80)
    )


def latency(ms: float, percentile: int = 50) -> Limit:
    return Limit(option="--max-latency", number=ms / 1e3, percentile=percentile)


def accuracy(share: float) -> Limit:
    return Limit(option="--min-accuracy", number=share)


def test_three_picks_and_the_best_trade_off_is_shipped() -> None:
    choice = three().choose()
    assert picked(choice) == {"fastest": "small", "best trade-off": "middle", "most accurate": "large"}
    assert choice.winner and choice.winner.configuration.name == "middle"
    assert [candidate.configuration.name for candidate in choice.front] == ["small", "middle", "large"]
    assert picked(three().choose(within=0.01))["best trade-off"] == "large"
    assert picked(three().choose(within=0.10))["best trade-off"] == "small"


def test_the_example_of_a_pick_names_its_runtime_only_if_that_is_another() -> None:
    shelf = three().add("other", 0.5, 0.70, format="onnx").add("own", 20, 0.95, format="onnx", backend="onnxruntime")
    picks = answer.told(shelf.choose(), field_of({}, {}, no_raw)).picks
    assert {pick.row.labels[0]: pick.example and pick.example.runtime for pick in picks} == {
        "other": "ONNX Runtime",
        "own": None,
    }
    assert picks[-1].example and picks[-1].example.path == "exported/own/onnx/example.py"


def test_limits_leave_out_what_does_not_keep_them() -> None:
    choice = three().choose(latency(5))
    assert choice.qualified == 2 and picked(choice)["most accurate"] == "middle"
    assert picked(three().choose(latency(1.5)))["best trade-off"] == "small"
    assert picked(three().choose(accuracy(0.89)))["fastest"] == "large"
    assert picked(three().choose(Limit(option="--max-memory", number=45 * 2**20)))["best trade-off"] == "small"
    assert picked(three().choose(Limit(option="--max-size", number=250 * 2**10)))["best trade-off"] == "middle"


def test_where_nothing_qualifies_the_nearest_is_named_with_what_would_admit_it() -> None:
    choice = three().choose(latency(0.9), accuracy(0.78))
    assert choice.winner is None and choice.picks == ()
    nearest = choice.near_misses[0]
    assert nearest.candidate.configuration.name == "small"
    text = " ".join(answer.lines(choice))
    assert text.startswith("Nothing qualifies: none of 3 configurations keeps --max-latency 0.9ms, --min-accuracy 78%.")
    assert "small as float32 (checkpoint) on PyTorch eager would qualify with --max-latency 1ms" in text


def test_a_near_miss_is_faster_or_more_accurate_and_near() -> None:
    (miss,) = three().choose(latency(8)).near_misses
    assert miss.candidate.configuration.name == "large"
    (relaxed,) = miss.relaxed.values()
    assert relaxed == pytest.approx(0.010)
    assert three().choose(latency(5)).near_misses == ()  # twice as slow is not near
    shelf = three().add("poor", 9, 0.5)
    names = [miss.candidate.configuration.name for miss in shelf.choose(accuracy(0.85), latency(8)).near_misses]
    assert sorted(names) == ["large", "small"]


def test_the_next_point_of_accuracy_has_a_price() -> None:
    price = three().choose().price
    assert price and price.candidate.configuration.name == "large"
    assert price.points == pytest.approx(1.2)
    assert price.latency_s == pytest.approx(0.008 / 1.2, rel=1e-3)
    assert price.memory_bytes == pytest.approx(40 * 2**20 / 1.2)
    assert price.size_bytes == pytest.approx(700 * 2**10 / 1.2)
    assert price.training_s == pytest.approx(3600 / 1.2)
    assert three().choose(within=0.01).price is None  # nothing is more accurate


def test_a_tie_in_latency_goes_to_the_least_memory_then_to_the_smallest_file() -> None:
    shelf = Shelf().add("a", 1.0, 0.88, mib=60).add("b", 1.0005, 0.88, mib=50, kib=200).add("c", 1.0, 0.88, mib=50)
    choice = shelf.choose()
    assert choice.winner and choice.winner.configuration.name == "c"
    assert "2 others as fast" in answer.lines(choice)[1]


def test_memory_that_differs_by_less_than_two_measurements_of_one_thing_is_a_tie() -> None:
    shelf = Shelf().add("float32", 1.0, 0.88, mib=68.9, kib=340).add("int8", 1.0005, 0.88, mib=69.4, kib=120)
    assert picked(shelf.choose())["best trade-off"] == "int8"
    shelf = Shelf().add("float32", 1.0, 0.88, mib=68.9, kib=340).add("int8", 1.0005, 0.88, mib=71, kib=120)
    assert picked(shelf.choose())["best trade-off"] == "float32"


def test_an_accuracy_that_cannot_be_told_from_the_best_does_not_cost_latency() -> None:
    shelf = Shelf().add("float", 10, 0.8915).add("int8", 3, 0.8904)
    choice = shelf.choose()
    assert picked(choice)["most accurate"] == "int8"
    assert [candidate.configuration.name for candidate in choice.front] == ["int8"]


def test_labels_of_single_images_tell_more_than_the_shares() -> None:
    labels = np.arange(IMAGES) % 3
    of_small = labels.copy()
    of_small[:1100] += 1
    of_large = of_small % 3
    of_large[:40] = labels[:40]
    shelf = Shelf().add("small", 1, 0.89).add("large", 10, 0.894)
    shelf._runs = [
        replace(run, measurement=replace(run.measurement, raw=run.job.artifact.name))
        for run in shelf._runs
        if run.measurement
    ]

    def raw(measurement: Measurement) -> Mapping[str, Any]:
        if "accuracy" not in measurement.values:
            raise Corrupt("no samples")
        predicted = of_small % 3 if measurement.raw == "small" else of_large
        return {"labels": labels, "chosen": np.arange(IMAGES), "predicted": predicted}

    assert picked(shelf.choose(raw=no_raw))["most accurate"] == "small"
    assert picked(shelf.choose(raw=raw))["most accurate"] == "large"


@pytest.mark.parametrize(
    ("shelf", "why"),
    [
        (three().add("fast", 0.1, 0.9, gauge=calm(run_delay=0.9)), "its latency is invalid"),
        (three().add("fast", 0.1, 0.333), "its accuracy is at chance"),
        (three().add("fast", 0.1, 0.9, format="onnx", parity=()), "was not validated on pytorch"),
        (
            three().add(
                "fast",
                0.1,
                0.9,
                format="onnx",
                parity=(
                    Parity(
                        backend="pytorch",
                        images=256,
                        largest_difference=0,
                        largest_logit=1,
                        agreement=1,
                        stand_in="handwritten digits",
                    ),
                ),
            ),
            "validated on handwritten digits, not on its own images",
        ),
        (three().add("fast", 0.1, None), "its accuracy was not measured"),
        (
            three().add("fast", 0.1, None).fail("fast", "accuracy", Failure(kind="crashed", reason="died of SIGSEGV")),
            "crashed: died of SIGSEGV",
        ),
    ],
    ids=["invalid", "at chance", "not validated", "validated on others", "no accuracy", "failed"],
)
def test_what_is_not_to_be_trusted_is_never_picked_and_says_why(shelf: Shelf, why: str) -> None:
    choice = shelf.choose()
    assert picked(choice)["fastest"] == "small"
    assert [configuration.name for configuration in choice.never] == ["fast"]
    assert why in answer.remarks(choice)["Never picked"][0]


NO_IMAGES = Failure(kind="unavailable", reason="data set image_folder: its images are not in the cache")
ON_DIGITS = Parity(
    backend="pytorch", images=256, largest_difference=0, largest_logit=1, agreement=1, stand_in="handwritten digits"
)


def without_images(*formats: str) -> Shelf:
    """A network in these formats, where its images are not; its record says 100 %, of two images."""
    shelf = Shelf()
    for ms, format in enumerate(formats, 1):
        shelf.add(format, ms, None, format=format, parity=(ON_DIGITS,)).fail(format, "accuracy", NO_IMAGES)
    return shelf


def test_without_the_images_the_accuracy_is_the_recorded_one_and_says_so() -> None:
    choice = without_images("onnx", "checkpoint").choose(accuracy(0.9))
    first, why, mind = answer.lines(choice)
    assert "Ship onnx as float32 (onnx) on PyTorch eager: 100.00 % recorded in training, 1.000 ms" in first
    assert "2 configurations" in why and "--min-accuracy 90% with" in why
    assert mind == "Mind: its accuracy is the one recorded in training, since its test images are not here."
    assert choice.kept[0].confidence == confidence_in_share(2, 2, 0.9)


def test_a_recorded_accuracy_stands_for_no_int8_artifact_and_for_no_other_failure() -> None:
    int8 = without_images("onnx_int8", "onnx").choose()
    assert [configuration.name for configuration in int8.never] == ["onnx_int8"]
    crashed = Shelf().add("only", 1, None).fail("only", "accuracy", Failure(kind="crashed", reason="SIGSEGV"))
    assert crashed.choose().winner is None


def test_a_measured_and_a_recorded_accuracy_are_compared_by_their_shares() -> None:
    shelf = Shelf().add("measured", 1, 0.8).add("recorded", 2, None).fail("recorded", "accuracy", NO_IMAGES)
    assert picked(shelf.choose())["fastest"] == "measured"
    assert picked(shelf.choose())["best trade-off"] == "recorded"


def test_a_noisy_winner_says_so() -> None:
    choice = Shelf().add("only", 1, 0.9, gauge=calm(run_delay=0.3)).choose()
    first, _, mind = answer.lines(choice)
    assert "noisy" in first and mind.startswith("Mind: its latency is noisy (7 of 7 rounds disturbed")


def test_a_line_that_would_be_too_long_loses_details_and_no_doubt() -> None:
    disturbed = calm(run_delay=0.3)
    choice = Shelf().add("only", 1, 0.9, gauge=disturbed, rounds=3, limit_test=500).choose()
    mind = answer.lines(choice)[2]
    assert "…" not in mind and "(" not in mind.partition(";")[0]
    for doubt in ("its latency is noisy", "fewer than 6 rounds", "over only 500 test images"):
        assert doubt in mind


def test_few_rounds_and_few_images_are_said() -> None:
    choice = Shelf().add("only", 1, 0.9, rounds=3, limit_test=500).choose()
    mind = answer.lines(choice)[2]
    assert "fewer than 6 rounds" in mind and "over only 500 test images" in mind


def test_few_rounds_still_tell_ten_times_apart() -> None:
    shelf = Shelf().add("slow", 10, 0.9, rounds=1, mib=1).add("fast", 1, 0.9, rounds=1)
    assert picked(shelf.choose())["fastest"] == "fast"


def test_names_say_among_which_to_look() -> None:
    choice = three().choose(formats=("onnx",))
    assert choice.considered == 0 and answer.lines(choice)[0] == "Nothing qualifies of 0 configurations."
    assert three().choose(backends=("pytorch",), devices=("cpu",), formats=("checkpoint",)).considered == 3


def test_confidence_is_the_sign_test_over_rounds() -> None:
    choice = three().choose(latency(5), accuracy(0.86))
    kept = {each.limit.option: each.confidence for each in choice.kept}
    assert kept["--max-latency"] == pytest.approx(1 - 0.5**7)
    assert kept["--min-accuracy"] == pytest.approx(1.0, abs=1e-6)
    assert "--max-latency 5ms with 99.2% confidence" in answer.lines(choice)[1]
    at_the_limit = three().choose(latency(2.0))
    assert at_the_limit.kept[0].confidence == pytest.approx(0.5)


def test_a_percentile_is_of_the_samples_and_needs_them() -> None:
    choice = three().choose(latency(5, percentile=95))
    assert choice.winner is None
    assert "p95 of latency" in " ".join(answer.lines(choice)) and "samples" in " ".join(answer.lines(choice))

    def raw(measurement: Measurement) -> Mapping[str, Any]:
        count = int(measurement.values["samples"])
        return {"samples_ns": np.full(count, round(measurement.values["p50"] * 1e9))}

    shelf = three()
    choice = shelf.choose(latency(5, percentile=50), raw=raw)
    assert choice.winner


def document(choice: Choice) -> Any:
    return json.loads(documents.text(documents.ChooseDocument.of_all(Store("out"), {"home": choice})))


def test_the_json_says_the_same() -> None:
    found = document(three().choose(latency(8)))
    assert found["version"] == 1 and found["winner"]["configuration"]["name"] == "middle"
    assert [pick["role"] for pick in found["picks"]] == ["fastest", "best trade-off", "most accurate"]
    assert found["kept"] == [
        {"option": "--max-latency", "number": 0.008, "percentile": 50, "confidence": pytest.approx(1 - 0.5**7)}
    ]
    assert found["near_misses"][0]["relaxed"] == [{"option": "--max-latency", "number": pytest.approx(0.010)}]
    assert found["winner"]["values"]["latency.p50"]["number"] == pytest.approx(0.002)
    assert found["next_point"]["a_point"]["training_s"] == pytest.approx(3000, rel=1e-3)
    assert document(three().choose(latency(0.1)))["winner"] is None


@pytest.mark.parametrize(
    ("trained", "is_known"),
    [
        ({}, True),
        ({"threads": 2}, False),
        ({"device": "cuda"}, False),
        ({"machine": replace(a_checkpoint().machine, instructions=("avx_vnni",))}, False),
        ({"changes": ("from epoch 2 with threads 2, not 1",)}, False),
        (
            {"curve": [replace(one, disturbances=(calm(seconds=60, run_delay=0.9),)) for one in a_checkpoint().curve]},
            False,
        ),
    ],
)
def test_a_training_costs_more_only_than_one_that_ran_alike(trained: dict[str, Any], is_known: bool) -> None:
    shelf = Shelf().add("small", 1, 0.80, minutes=10).add("large", 10, 0.892, minutes=80, trained=trained)
    price = shelf.choose(latency(2)).price
    assert price and math.isfinite(price.training_s) == is_known


@pytest.mark.parametrize(
    ("of_eager", "of_other", "word", "begins"),
    [
        (calm(), calm(), "stable", ""),
        (calm(run_delay=0.3), calm(), "noisy", "of the reference: "),
        (calm(), calm(run_delay=0.3), "noisy", "7 of 7 rounds disturbed: CPU contention"),
        (calm(run_delay=0.9), calm(run_delay=0.3), "invalid", "of the reference: "),
    ],
)
def test_a_speed_up_is_as_doubtful_as_the_latency_that_it_is_over(
    of_eager: Disturbance, of_other: Disturbance, word: str, begins: str
) -> None:
    shelf = Shelf().add("one", 2, 0.9, gauge=of_eager)
    winner = shelf.add("one", 1, 0.9, format="onnx", backend="onnxruntime", gauge=of_other).choose().winner
    assert winner and winner.speed_up and winner.speed_up.number == pytest.approx(2)
    verdict = winner.speed_up.verdict
    assert verdict and verdict.word == word and "".join(verdict.reasons[:1]).startswith(begins)


def test_a_price_that_is_not_known_is_null() -> None:
    shelf = Shelf().add("small", 1, 0.80).add("large", 10, 0.892)
    costs = document(shelf.choose(latency(2)))["next_point"]["a_point"]
    assert costs["training_s"] is None and costs["latency_s"] > 0


def test_the_confidences_are_the_binomial_distributions() -> None:
    from scipy import stats

    assert confidence_in_rounds([1, 1, 1, 1, 3, 3], 2, "most") == pytest.approx(stats.binom.cdf(3, 6, 0.5))
    assert confidence_in_rounds([1, 1, 1, 1, 3, 3], 2, "least") == pytest.approx(stats.binom.cdf(1, 6, 0.5))
    assert confidence_in_share(8734, 10_000, 0.87) == pytest.approx(stats.binom.cdf(8733, 10_000, 0.87))
    assert confidence_in_share(10, 10, 1.0) == 0.0


def test_the_difference_of_two_shares_is_that_of_newcombes_paper() -> None:
    # Newcombe 1998, Statistics in Medicine 17:873, table II, method 10: 56/70 and 48/80.
    assert difference(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=1e-4)
