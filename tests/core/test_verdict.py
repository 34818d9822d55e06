"""A number is called noisy for a reason, and only then."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from cifar_deploy.core.records import Checkpoint, Epoch, Measurement
from cifar_deploy.core.verdict import cause, judge, judge_labels, judge_share, judge_training
from tests.probes import a_checkpoint, calm

COOL: dict[str, Any] = {"core_hz": 2.4e9, "temperature_c": 40.0}


def measurements(*values: float, disturbed: int = 0, samples: int = 50, **gauges: Any) -> dict[int, Measurement]:
    """Rounds of these medians, of which the first `disturbed` ones have these gauges."""
    return {
        index: Measurement(
            values={"p50": value, "samples": samples},
            disturbance=calm(**{**COOL, **gauges}) if index < disturbed else calm(**COOL),
        )
        for index, value in enumerate(values)
    }


def test_a_quiet_machine_is_stable() -> None:
    assert judge(measurements(1.0, 1.01, 0.99, 1.0, 1.0, 1.02, 1.0), "p50").word == "stable"


@pytest.mark.parametrize(
    ("gauges", "reason", "its_cause"),
    [
        ({"run_delay": 0.24}, "CPU contention: waited 24% of the time", "CPU contention (run-queue delay)"),
        ({"steal": 0.3}, "steal time (hypervisor)", "steal time (hypervisor)"),
        ({"calibration_before": 0.002}, "CPU slowed by 43%", "CPU slowed (calibration loop)"),
        ({"calibration_after": 0.003}, "CPU slowed by 100%", "CPU slowed (calibration loop)"),
        ({"clock_jump": -3600.0}, "the clock jumped", "the clock jumped"),
        ({"core_hz": 1.2e9}, "frequency fell by 50%", "the processor's frequency fell"),
        ({"core_hz": 1.2e9, "temperature_c": 71.0}, "by 50%, 31 K warmer than", "the processor's frequency fell"),
        ({"throttled": ("under-voltage",)}, "slowed by the system: under-voltage", "the processor was throttled"),
        ({"involuntary_switches": 400}, "interrupted 800 times a second", "interrupted by other processes"),
    ],
)
def test_each_gauge_makes_it_noisy(gauges: dict[str, Any], reason: str, its_cause: str) -> None:
    found = judge(measurements(*[1.0] * 7, disturbed=2, **gauges), "p50")
    assert found.word == "noisy" and reason in found.reasons[0] and found.reasons[0].startswith("2 of 7 rounds")
    assert cause(found.reasons[0]) == its_cause, "whatever its numbers"


def test_heat_alone_is_no_disturbance_nor_is_a_clock_that_wavers() -> None:
    warm = measurements(*[1.0] * 7, disturbed=3, temperature_c=75.0, core_hz=2.2e9)
    assert judge(warm, "p50").word == "stable"


def test_one_disturbed_round_of_seven_leaves_the_median_alone() -> None:
    assert judge(measurements(*[1.0] * 7, disturbed=1, run_delay=0.5), "p50").word == "stable"


def test_the_loops_before_and_after_a_block_are_not_compared_with_each_other() -> None:
    assert (
        judge(measurements(*[1.0] * 7, disturbed=7, calibration_before=0.0012, calibration_after=0.0016), "p50").word
        == "stable"
    )


def test_a_machine_that_hardly_let_us_run_is_invalid() -> None:
    found = judge(measurements(*[1.0] * 7, disturbed=7, run_delay=0.9), "p50")
    assert found.word == "invalid" and "90%" in found.reasons[0]


def test_what_eight_threads_waited_together_is_shared_out_among_them() -> None:
    rounds = measurements(*[1.0] * 7, disturbed=7, run_delay=0.08, involuntary_switches=300)
    assert judge(rounds, "p50", threads=8).word == "stable"
    assert judge(rounds, "p50", threads=1).word == "noisy"


def test_too_few_samples_are_invalid() -> None:
    found = judge(measurements(*[1.0] * 7, samples=4), "p50")
    assert found.word == "invalid" and "fewer than 5 samples" in found.reasons[0]
    assert cause(found.reasons[0]) == "too few samples in a round"


def test_a_trend_between_the_rounds_is_noisy() -> None:
    found = judge(measurements(1.0, 1.02, 1.05, 1.06, 1.09, 1.12, 1.15), "p50")
    assert found.word == "noisy" and "moved by" in found.reasons[0]


def test_blocks_that_drift_are_noisy() -> None:
    rounds = measurements(*[1.0] * 7)
    for index in (2, 5):
        values = {**rounds[index].values, "drift": -0.2}
        rounds[index] = Measurement(values=values, disturbance=calm())
    found = judge(rounds, "p50")
    assert found.word == "noisy" and "its second half -20% from its first" in found.reasons[0]
    assert cause(found.reasons[0]) == "the second half of a run differs from its first"


def test_one_slow_round_is_no_trend() -> None:
    assert judge(measurements(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0), "p50").word == "stable"


def test_gauges_that_the_system_does_not_have_say_nothing() -> None:
    absent = {index: Measurement(values={"p50": 1.0, "samples": 50}, disturbance=None) for index in range(7)}
    assert judge(absent, "p50").word == "stable"


def trained(*seconds: float, disturbed: tuple[int, ...] = (), scales: tuple[float, ...] = (1.0,)) -> Checkpoint:
    """A training whose epochs took so long; in some of them its thread waited for a third of the time."""
    checkpoint = a_checkpoint()
    recipe = dataclasses.replace(checkpoint.training.recipe, epochs=len(seconds), scales=scales)
    curve = [
        Epoch(
            loss=1.0,
            accuracy=0.5,
            seconds=second,
            wall_seconds=second,
            disturbances=(calm(), calm(run_delay=0.33)) if number in disturbed else (calm(),),
        )
        for number, second in enumerate(seconds)
    ]
    return dataclasses.replace(
        checkpoint, curve=tuple(curve), training=dataclasses.replace(checkpoint.training, recipe=recipe)
    )


def test_a_quiet_training_took_what_the_clock_said() -> None:
    seconds, verdict = judge_training(trained(10.0, 10.5, 11.0))
    assert seconds == 31.5 and verdict and verdict.word == "stable" and not verdict.reasons


def test_a_disturbed_epoch_counts_as_the_median_of_the_quiet_ones_of_its_size() -> None:
    seconds, verdict = judge_training(trained(3.0, 3.0, 70.0, 10.0, 90.0, 11.0, disturbed=(2, 4), scales=(0.5, 1.0)))
    assert seconds == 3 + 3 + 3 + 10 + 10.5 + 11
    assert verdict and verdict.word == "stable"
    assert "2 of 6 epochs disturbed, first 3: CPU contention: waited 33% of the time" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("disturbed", "scales", "expected"),
    [((0, 1, 2), (1.0,), 10 + 10.5 + 10.8 + 11), ((2, 3), (0.5, 1.0), 10 + 10.5 + 10.8 + 11)],
)
def test_without_enough_quiet_epochs_a_training_time_is_noisy(
    disturbed: tuple[int, ...], scales: tuple[float, ...], expected: float
) -> None:
    seconds, verdict = judge_training(trained(10.0, 10.5, 10.8, 11.0, disturbed=disturbed, scales=scales))
    assert verdict and verdict.word == "noisy"
    assert seconds == expected


def test_an_epoch_that_took_far_longer_than_its_like_is_disturbed_whatever_the_gauges_say() -> None:
    seconds, verdict = judge_training(trained(10.0, 10.5, 30.0, 11.0))
    assert seconds == 10 + 10.5 + 10.5 + 11
    assert verdict and "first 3: took 179% longer than the median of its size" in verdict.reasons[0]


def test_a_few_slow_milliseconds_beside_an_epoch_are_no_reason() -> None:
    checkpoint = trained(10.0, 10.0)
    slow = dataclasses.replace(checkpoint.curve[0], disturbances=(calm(calibration_after=0.01),))
    _, verdict = judge_training(dataclasses.replace(checkpoint, curve=(slow, checkpoint.curve[1])))
    assert verdict and not verdict.reasons


def test_the_time_of_a_training_that_went_on_with_other_threads_is_noisy() -> None:
    changes = ("from epoch 2, step 1 with threads 2, not 1",)
    seconds, verdict = judge_training(dataclasses.replace(trained(10.0, 5.0), changes=changes))
    assert seconds == 15.0 and verdict and (verdict.word, verdict.reasons) == ("noisy", changes)


def test_of_a_training_that_was_not_watched_there_is_no_verdict() -> None:
    assert judge_training(a_checkpoint()) == (2.0, None)


def word(images: int, right: int, *, counts: tuple[int, ...] = ()) -> str | None:
    """Of ten equally common classes, or of `counts` images of each class; what is wrong is the next class."""
    labels = np.repeat(np.arange(len(counts)), counts) if counts else np.arange(images) % 10
    order = np.random.default_rng(0).permutation(images)
    wrong = order[right:]
    predicted = labels.astype(np.int32)
    predicted[wrong] = (predicted[wrong] + 1) % (labels.max() + 1)
    found = judge_labels(labels, predicted)
    return found.word if found else None


@pytest.mark.parametrize(
    ("images", "right", "expected"),
    [
        (10_000, 1000, "at chance"),
        (10_000, 1050, "at chance"),
        (10_000, 1100, None),
        (10_000, 0, "at chance"),  # worse than chance
        (10_000, 8750, None),
        (360, 36, "at chance"),
        (360, 90, None),
        (100, 10, "at chance"),
        (10, 1, "too few images"),
        (10, 2, "too few images"),
        (10, 9, None),
        (1, 1, "too few images"),
        (1, 0, "too few images"),
    ],
)
def test_an_accuracy_is_at_chance_if_its_interval_reaches_the_commonest_class(
    images: int, right: int, expected: str | None
) -> None:
    assert word(images, right) == expected


def test_of_unbalanced_classes_the_commonest_one_is_chance() -> None:
    counts = (900, 50, 50)
    assert word(1000, 900, counts=counts) == word(1000, 600, counts=counts) == "at chance"
    assert word(1000, 950, counts=counts) is None
    assert judge_share(600, 1000, 1 / 3) is None, "of equally common classes it would be far above"


@pytest.mark.parametrize(
    ("labels", "expected", "reason"),
    [
        (
            [0] * 98 + [1] * 2,
            "too few images",
            "98 of 100 right cannot be told from 98.0%, the share of the commonest class",
        ),
        ([0] * 95 + [1] * 5, "at chance", "each of the 100 images got the same label, and 5 are of other classes"),
        (list(range(10)), "at chance", "each of the 10 images got the same label, and 9 are of other classes"),
        ([1] * 100, "at chance", "each of the 100 images got the same label"),
        ([0] * 100, "at chance", "all 100 images are of one class"),
        ([0], "too few images", "1 of 1 right cannot be told from 100.0%"),
        ([0, 1], "too few images", "1 of 2 right cannot be told from 50.0%"),
    ],
)
def test_one_label_for_every_image_is_at_chance(labels: list[int], expected: str, reason: str) -> None:
    found = judge_labels(np.array(labels), np.zeros(len(labels), np.int32))
    assert found and found.word == expected and found.reasons[0].startswith(reason)
