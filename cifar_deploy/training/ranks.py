"""Several processes that train one network, each on its share of every batch; one process alone is a group of itself.

The gradients of all are averaged by DistributedDataParallel, weighted so that the result is the one that a single process
has with the whole batch: gloo carries them between processors, nccl between GPUs. Batch norm takes its statistics from the whole
batch too, unless the recipe says that each rank keeps its own; then those of rank 0 are tested and saved.
"""

import contextlib
import datetime
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cifar_deploy.core import ranks
from cifar_deploy.core.errors import DeployError, Unavailable, UsageError

T = TypeVar("T")

_JOIN = datetime.timedelta(seconds=ranks.JOIN_S)
# Between two steps no rank is ever so late, unless it is gone.
_SILENCE = datetime.timedelta(minutes=2)


class Group:
    """All ranks of a training. Its methods must be called by all of them, in the same order."""

    def __init__(self, device: str, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count
        self._device = device
        self._group: Any = None  # dist.ProcessGroup; None for all that there are

    def join(self) -> None:
        """Wait for the others. Raises UsageError where another rank has another kind of device."""
        if self.count > 1:
            # In torch's documentation, but not in its types.
            store, _, _ = next(dist.rendezvous("env://", timeout=_JOIN))  # type: ignore[attr-defined]
            self._agree(store)
            dist.init_process_group(
                "nccl" if self._device == "cuda" else "gloo",
                store=dist.PrefixStore("group", store),  # type: ignore[attr-defined]
                rank=self.rank,
                world_size=self.count,
                timeout=_JOIN,
            )
            self._group = dist.new_group(timeout=_SILENCE)

    def _agree(self, store: Any) -> None:
        """nccl and gloo would wait for each other."""
        store.set(f"device/{self.rank}", self._device)
        for rank in range(self.count):
            if (other := store.get(f"device/{rank}").decode()) != self._device:
                raise UsageError(
                    f"rank {rank} trains on {other}, rank {self.rank} on {self._device}; give all the same --device"
                )

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0

    def from_first(self, value: T) -> T:
        """The first rank's value, on every rank."""
        if self.count == 1:
            return value
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0, group=self._group)
        return box[0]  # type: ignore[no-any-return]

    def share(self, values: Tensor) -> Tensor:
        """This rank's part of what all have, along its first dimension; the parts differ by one at most."""
        return values if self.count == 1 else values.tensor_split(self.count)[self.rank]

    def total(self, value: Tensor) -> Tensor:
        """The sum over all ranks, on every rank."""
        if self.count == 1:
            return value
        value = value.detach().clone()
        dist.all_reduce(value, group=self._group)
        return value

    def synchronised(self, network: nn.Module) -> nn.Module:
        """The network, its batch norms taking their statistics from all ranks."""
        if self.count == 1:
            return network
        if self._device == "cuda":
            return nn.SyncBatchNorm.convert_sync_batchnorm(network, self._group)  # type: ignore[no-any-return]
        network = _converted(network, self._group)
        for name, module in network.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and not isinstance(module, _BatchNorm2d):
                raise UsageError(
                    f"{name}: this {type(module).__name__} cannot take its statistics from all ranks on a processor; "
                    "give --batch-norm per-rank"
                )
        return network

    def parallel(self, network: nn.Module) -> nn.Module:
        """What to call in a training step: the gradients that it leaves are the means over the ranks."""
        return network if self.count == 1 else DistributedDataParallel(network, process_group=self._group)

    def settle(self, network: nn.Module) -> None:
        """Give every rank the first one's batch statistics."""
        if self.count > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, src=0, group=self._group)


@contextlib.contextmanager
def joined(device: str) -> Iterator[Group]:
    """The group that torchrun started this process in. Raises DeployError soon after another rank is gone."""
    if device == "cuda" and ranks.count() > 1:
        if ranks.local_rank() >= torch.cuda.device_count():
            raise Unavailable(
                f"device cuda: rank {ranks.rank()} has no GPU of its own ({torch.cuda.device_count()} here, "
                f"{ranks.local_count()} ranks); give torchrun a --nproc-per-node of so many at most"
            )
        torch.cuda.set_device(ranks.local_rank())
    try:
        group = Group(device, ranks.rank(), ranks.count())
        group.join()
        yield group
    except (dist.DistError, RuntimeError) as error:
        if ranks.count() == 1 or not _is_of_the_network(error):
            raise
        raise DeployError(
            f"another rank is gone, or was silent for {_SILENCE.total_seconds():.0f} s; its own message tells why, and "
            f"the same command goes on from the last state saved ({_last_words(error)})"
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _is_of_the_network(error: Exception) -> bool:
    words = ("gloo", "nccl", "connection", "timed out", "timeout", "peer", "store")
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in words)


def _last_words(error: Exception) -> str:
    """Of gloo or nccl, without the place in their source."""
    return str(error).splitlines()[0].rpartition("] ")[2].split(". ")[0]


class _Sum(torch.autograd.Function):
    """The sum over all ranks, in both directions."""

    @staticmethod
    def forward(context: Any, value: Tensor, group: dist.ProcessGroup) -> Tensor:
        context.group = group
        value = value.clone()
        dist.all_reduce(value, group=group)
        return value

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0].clone()
        dist.all_reduce(gradient, group=context.group)
        return gradient, None


class _BatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the batches of all ranks together (torch's SyncBatchNorm is for GPUs alone)."""

    group: dist.ProcessGroup

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            return super().forward(images)
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        kind = images.dtype
        if kind == torch.bfloat16:
            images = images.float()
        count = images.new_tensor([images.numel() // images.shape[1]])
        # One message for the count and the sums; a second one, since the squares of what is left are exact.
        sums = _Sum.apply(torch.cat([count, images.sum((0, 2, 3))]), self.group)
        whole, mean = sums[0].detach(), sums[1:] / sums[0].detach()
        centred = images - mean[:, None, None]
        variance = _Sum.apply(centred.square().sum((0, 2, 3)), self.group) / whole
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * whole / (whole - 1), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        scale = self.weight * (variance + self.eps).rsqrt()
        normalised: Tensor = centred * scale[:, None, None] + self.bias[:, None, None]
        return normalised.to(kind)


def _converted(module: nn.Module, group: dist.ProcessGroup | None) -> nn.Module:
    if type(module) is nn.BatchNorm2d and module.affine and module.track_running_stats and module.momentum is not None:
        other = _BatchNorm2d(module.num_features, module.eps, module.momentum)
        # The very same tensors: whoever shares them or this layer goes on to do so.
        other._parameters, other._buffers = module._parameters, module._buffers
        assert group is not None
        other.group = group
        return other
    for name, child in module._modules.items():  # named_children leaves out what has two names
        if child is not None:
            module._modules[name] = _converted(child, group)
    return module
