"""The networks are those of DESIGN's table: parameters and multiply-adds."""

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cifar_deploy.core.store import WEIGHTS, Store, as_artifact
from cifar_deploy.networks import NETWORKS, complete
from cifar_deploy.networks.complete import Normalise

SIZES = {
    "resnet18": (11_173_962, 555_422_720),
    "resnet20": (272_474, 40_813_184),
    "resnet8": (78_042, 12_501_632),
    "mobilenet": (3_217_226, 46_354_432),
    "mobilenet-0.5": (823_722, 12_167_168),
    "mobilenet-0.25": (215_642, 3_331_072),
    "mobilenet-s8": (3_217_226, 175_556_608),
    "mobilenet-s8-0.5": (823_722, 45_310_976),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_has_its_size(name: str) -> None:
    network = NETWORKS[name].build(10).eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    parameters = sum(weight.numel() for weight in network.parameters())
    assert (parameters, counter.get_total_flops() // 2) == SIZES[name]


def test_normalise_takes_the_mean_away_and_divides() -> None:
    images = torch.rand(64, 3, 4, 4)
    mean, std = images.mean((0, 2, 3)), images.std((0, 2, 3))
    out = Normalise(mean.tolist(), std.tolist())(images)
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std((0, 2, 3)), torch.ones(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["resnet20", "mobilenet-0.25", "mobilenet-s8-0.5", "mobilenet", "resnet18"])
def test_the_shipped_weights_are_those_of_the_network(name: str) -> None:
    """A tensor that is called otherwise would make everybody's weights unreadable."""
    store = Store(Path(__file__).parents[2])
    checkpoint = store.checkpoint(name)
    assert checkpoint
    weights = store.verified(as_artifact(checkpoint))[WEIGHTS]
    network = complete.load(checkpoint.training.network, checkpoint.training.data, weights)
    assert sum(weight.numel() for weight in network.parameters()) == checkpoint.parameters
