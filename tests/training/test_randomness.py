import io
import random

import numpy as np
import pytest
import torch

from cifar_deploy.training import randomness


def drawn() -> tuple[object, ...]:
    return torch.rand(3).tolist(), np.random.normal(size=3).tolist(), random.gauss(0, 1)


def test_random_numbers_go_on_from_a_state_that_went_through_a_file() -> None:
    drawn()  # of normal numbers each second one is kept for the next call
    file = io.BytesIO()
    torch.save(randomness.state(), file)
    expected = drawn()
    file.seek(0)
    randomness.restore(torch.load(file, weights_only=True, map_location="cpu"))
    assert drawn() == expected


def test_a_state_of_an_earlier_version_has_those_of_torch_alone() -> None:
    saved = randomness.state()
    expected = torch.rand(3)
    randomness.restore({name: saved[name] for name in ("random", "random_cuda")})
    assert torch.equal(torch.rand(3), expected)


def test_a_seed_gives_the_same_numbers_again_and_another_one_others() -> None:
    randomness.seed_all(7)
    first = drawn()
    randomness.seed_all(7)
    assert drawn() == first
    randomness.seed_all(8)
    assert not any(mine == theirs for mine, theirs in zip(first, drawn(), strict=True))


def test_each_rank_and_step_draws_numbers_of_its_own() -> None:
    places = [(seed, rank, step) for seed in (0, 1, 1_000_003) for rank in (0, 1, 2) for step in (0, 1, 5000)]
    found = []
    for place in places:
        randomness.seed_all(randomness.mixed(*place))
        found.append(drawn())
    for kind in zip(*found, strict=True):
        assert len({str(numbers) for numbers in kind}) == len(places)
    assert randomness.mixed(5, 0, 0) == 5


def test_what_is_kept_is_restored_after_an_error_too() -> None:
    randomness.seed_all(3)
    expected = drawn()
    randomness.seed_all(3)
    with pytest.raises(ValueError, match="any"), randomness.kept():
        drawn()
        raise ValueError("any")
    assert drawn() == expected
