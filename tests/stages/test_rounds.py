"""Which slot comes next: fresh orders, sessions that go on, looks, budgets."""

from dataclasses import replace

import pytest

from cifar_deploy.core.errors import DeployError
from cifar_deploy.core.records import Job
from cifar_deploy.stages import rounds
from cifar_deploy.stages.rounds import Costs, Sampling
from tests.probes import a_job, a_run


def jobs() -> list[Job]:
    fast, slow = replace(a_job(format="onnx"), backend="onnxruntime"), a_job()
    return [fast, slow, replace(fast, metric="throughput"), replace(slow, metric="throughput")]


def test_every_metric_has_a_control_on_a_runtime_that_starts_fast() -> None:
    session, slots = rounds.open_session(jobs(), [], controls=True, force=False)
    controls = [slot.job for slot in slots if slot.control]
    assert [(job.metric, job.backend) for job in controls] == [
        ("latency", "onnxruntime"),
        ("throughput", "onnxruntime"),
    ]
    assert len(set(session.jobs)) == 6 and session.jobs == tuple(slot.key for slot in slots)
    _, without = rounds.open_session(jobs(), [], controls=False, force=False)
    assert not any(slot.control for slot in without)


def test_each_round_has_an_order_of_its_own_and_always_the_same_one() -> None:
    session, slots = rounds.open_session(jobs(), [], controls=True, force=False)
    orders = [[slot.key for slot in rounds.in_order(session, number, slots)] for number in range(7)]
    assert all(sorted(order) == sorted(session.jobs) for order in orders)
    assert len({tuple(order) for order in orders}) > 3
    assert orders == [[slot.key for slot in rounds.in_order(session, number, slots)] for number in range(7)]
    # A configuration that has stopped leaves the others where they were.
    fewer = rounds.in_order(session, 0, [slot for slot in slots if slot.key != orders[0][2]])
    assert [slot.key for slot in fewer] == orders[0][:2] + orders[0][3:]


def test_a_session_goes_on_if_it_holds_all_that_is_wanted_in_whatever_order() -> None:
    session, slots = rounds.open_session(jobs(), [], controls=True, force=False)
    runs = [a_run(job=slots[0].job, session=session)]
    again, the_same = rounds.open_session(jobs()[::-1], runs, controls=True, force=False)
    assert again is session and {slot.key for slot in the_same} == set(session.jobs)
    # Of a part, the controls whose configurations are in it.
    fast, slow, *_ = jobs()
    again, part = rounds.open_session([fast], runs, controls=True, force=False)
    assert again is session and [slot.control for slot in part] == [False, True]
    again, part = rounds.open_session([slow], runs, controls=True, force=False)
    assert again is session and [slot.control for slot in part] == [False]


def test_a_session_is_new_if_a_cell_is_or_if_it_is_asked_for() -> None:
    session, slots = rounds.open_session(jobs(), [], controls=True, force=False)
    runs = [a_run(job=slots[0].job, session=session)]
    assert rounds.open_session(jobs(), runs, controls=True, force=True)[0] != session
    more = [*jobs(), replace(jobs()[0], threads=2)]
    assert rounds.open_session(more, runs, controls=True, force=False)[0] != session


def test_a_cell_stops_only_at_a_look_and_only_if_it_is_precise() -> None:
    same, wide = [1.0] * 6, [1.0, 1.1, 0.9, 1.2, 0.8, 1.0]
    assert rounds.may_stop(same, 0.02)
    assert not rounds.may_stop(wide, 0.02) and rounds.may_stop(wide, 0.25)
    assert not rounds.may_stop([*same, 1.0], 0.02) and not rounds.may_stop(same[:5], 0.02)
    assert not rounds.may_stop(same, None)


def test_a_visit_costs_what_it_did_before_or_the_start_of_its_runtime() -> None:
    fast, slow, *_ = jobs()
    costs = Costs([])
    assert costs.seconds(fast) == 4.0 + 2 * 0.5
    costs.add(replace(a_run(job=replace(fast, metric="memory")), seconds=0.75))
    assert costs.seconds(fast) == 0.75 + 2 * 0.5 and costs.seconds(slow) == 5.0
    costs.add(replace(a_run(job=slow), seconds=3.0))
    assert costs.seconds(slow) == 3.0


def test_a_board_on_which_a_runtime_starts_slowly_is_believed() -> None:
    fast, *_ = jobs()
    costs = Costs([replace(a_run(job=replace(fast, metric="memory")), seconds=20.0)])
    assert costs.seconds(fast) == 20.0 + 2 * 0.5


def test_a_budget_too_small_for_a_round_says_what_is_needed() -> None:
    with pytest.raises(DeployError, match="--budget: 5 s is too little for one round of 8 configurations, about 40 s"):
        rounds.check_budget(Sampling(budget_s=5), 40.0, 8)
    rounds.check_budget(Sampling(budget_s=41), 40.0, 8)
    assert rounds.fit(Sampling(budget_s=100), 40, 60) and not rounds.fit(Sampling(budget_s=100), 40, 61)
    assert rounds.fit(Sampling(), 40, 1e9)
