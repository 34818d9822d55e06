"""Multiply-adds: the right number, or none and the reason. What is expected here is counted by hand."""

import dataclasses

import pytest
import torch
from torch import nn

from cifar_deploy.core.errors import Unavailable
from cifar_deploy.core.records import Trained
from cifar_deploy.metrics import METRICS, RecordedMetric
from cifar_deploy.networks.counting import macs
from tests import own_networks
from tests.own_networks import Of
from tests.probes import a_job

IMAGE = torch.zeros(1, 3, 32, 32)
PIXELS = 32 * 32


def of_rows(layer: nn.Module) -> nn.Module:
    """A recurrent layer over an image's 32 rows, each of 96 numbers."""
    return Of(lambda self, images: self.layer(images.permute(0, 2, 1, 3).flatten(2))[0], layer=layer)


def of_means(layer: nn.Module, call) -> nn.Module:  # type: ignore[no-untyped-def]
    """`call(layer, the image's mean colour (3,))`."""
    return Of(lambda self, images: call(self.layer, images.mean((0, 2, 3))), layer=layer)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (own_networks.recurrent(10), 32 * 4 * 32 * (96 + 32) + 32 * 10),
        (of_rows(nn.LSTM(96, 16, 2, bidirectional=True)), 32 * 4 * 16 * 2 * ((96 + 16) + (32 + 16))),
        (of_rows(nn.LSTM(96, 16, proj_size=8)), 32 * (4 * 16 * (96 + 8) + 16 * 8)),
        (of_rows(nn.GRU(96, 16)), 32 * 3 * 16 * (96 + 16)),
        (of_rows(nn.RNN(96, 16)), 32 * 16 * (96 + 16)),
        # Queries, keys and values, both products of attention, its output, and the two layers behind it; the head.
        (own_networks.attentive(10), 16 * 3 * 9 + 2 * 16 * 16 * 3 + 16 * 3 * 3 + 2 * 16 * 3 * 8 + 48 * 10),
        (nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.PReLU(4)), PIXELS * 3 * 9 * 4),
        (nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, groups=3), nn.GroupNorm(2, 6)), PIXELS * 9 * 6),
        (nn.ConvTranspose2d(3, 4, 2, stride=2), PIXELS * 3 * 4 * 4),
        (of_means(nn.Linear(3, 5), lambda layer, colour: torch.einsum("oi,i->o", layer.weight, colour)), 15),
        (of_means(nn.Linear(3, 5), lambda layer, colour: layer.weight @ colour), 15),
        (of_means(nn.Linear(3, 5), lambda layer, colour: torch.addmv(layer.bias, layer.weight, colour)), 15),
        (of_means(nn.Linear(3, 5), lambda layer, colour: torch.dot(layer.weight[0], colour)), 3),
        (nn.Sequential(nn.MaxPool2d(2), nn.Softmax(1), nn.InstanceNorm2d(3), nn.Upsample(scale_factor=2)), 0),
    ],
)
def test_it_is_what_counting_by_hand_gives(network: nn.Module, expected: int) -> None:
    assert macs(network, IMAGE) == (expected, None)


@torch.library.custom_op("own_networks::times_two", mutates_args=())
def times_two(images: torch.Tensor) -> torch.Tensor:
    return images * 2


@pytest.mark.parametrize(
    ("network", "operation"),
    [
        (own_networks.bilinear(10), "aten._trilinear"),
        (
            of_means(nn.Linear(3, 5), lambda layer, colour: torch.cdist(layer.weight, colour[None])),
            "aten._cdist_forward",
        ),
        (
            of_means(nn.Linear(3, 5), lambda layer, colour: torch.zeros(1, 5).addmm_(colour[None], layer.weight.T)),
            "aten.addmm_",
        ),
        (Of(lambda self, images: times_two(images)), "own_networks.times_two"),
    ],
)
def test_an_operation_that_nobody_counts_is_named_in_place_of_a_number(network: nn.Module, operation: str) -> None:
    assert macs(network, IMAGE) == (None, f"no formula for {operation}")


def test_a_counter_that_fails_gives_no_number() -> None:
    def fail(self: nn.Module, images: torch.Tensor) -> torch.Tensor:
        raise ValueError("not for one image")

    assert macs(Of(fail), IMAGE) == (None, "ValueError: not for one image")


def test_counting_leaves_torch_as_it_was() -> None:
    def settings() -> tuple[bool, ...]:
        return (
            torch.backends.mha.get_fastpath_enabled(),
            torch.backends.mkldnn.is_available() and torch._C._get_mkldnn_enabled(),
            torch.backends.cuda.flash_sdp_enabled(),
            torch.is_grad_enabled(),
        )

    before = settings()
    macs(own_networks.attentive(10), IMAGE)
    assert settings() == before


def test_without_a_number_the_metric_says_why() -> None:
    metric, job = METRICS["macs"], a_job("macs")
    assert isinstance(metric, RecordedMetric) and metric.read(job) == {"macs": 20}
    checkpoint = dataclasses.replace(job.artifact.checkpoint, macs=None, uncounted="no formula for aten.x")
    job = dataclasses.replace(job, artifact=dataclasses.replace(job.artifact, origin=Trained(checkpoint=checkpoint)))
    with pytest.raises(Unavailable, match=r"no formula for aten\.x"):
        metric.read(job)
