"""How the workers of a run share one model."""

from typing import Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vla.core.lookup import lookup
from vla.models.device import choose_device
from vla.models.model import Model
from vla.training.recipe import TrainConfig


@runtime_checkable
class Parallel(Protocol):
    """One of ``world`` processes that train one model."""

    rank: int
    world: int
    device: torch.device

    def wrap(self, model: nn.Module) -> nn.Module:
        """The module whose gradients are averaged over all workers."""

    def broadcast(self, values: Tensor) -> Tensor:
        """Rank 0's values, on every rank."""

    def sum(self, values: Tensor) -> Tensor:
        """The sum of every rank's values, on every rank."""


class Single:
    """One process."""

    rank, world = 0, 1

    def __init__(self, device: str) -> None:
        self.device = choose_device(device)

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model itself."""
        return model

    def broadcast(self, values: Tensor) -> Tensor:
        """The values themselves."""
        return values

    def sum(self, values: Tensor) -> Tensor:
        """The values themselves."""
        return values


class Ddp:
    """Every process has the whole model, gradients are averaged; the process group is there already."""

    def __init__(self, device: str) -> None:
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        local = self.rank % max(1, torch.cuda.device_count())  # of the GPUs that this process may see
        chosen = choose_device(device)
        self.device = torch.device("cuda", local) if chosen.type == "cuda" and chosen.index is None else chosen

    def wrap(self, model: nn.Module) -> nn.Module:
        """DistributedDataParallel; positions in memory that buckets share with gradients save a copy a step."""
        # Looking for what a loss did not reach takes time, and PyTorch complains where there is nothing to find.
        untaught = isinstance(model, Model) and not model.all_taught
        return nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True, find_unused_parameters=untaught)

    def broadcast(self, values: Tensor) -> Tensor:
        """See `Parallel.broadcast`."""
        moved = self._moved(values)
        dist.broadcast(moved, src=0)
        return moved.to(values.device)

    def sum(self, values: Tensor) -> Tensor:
        """See `Parallel.sum`."""
        moved = self._moved(values)
        dist.all_reduce(moved)
        return moved.to(values.device)

    def _moved(self, values: Tensor) -> Tensor:
        """A copy for the backend of the group: NCCL wants tensors of the GPU."""
        return values.to(self.device if dist.get_backend() == "nccl" else "cpu", copy=True)


PARALLEL: dict[str, type[Single] | type[Ddp]] = {"single": Single, "ddp": Ddp}


def join(config: TrainConfig) -> Parallel:
    """What this process is to the run: ``auto`` is ddp where the process group has several members."""
    several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    name = config.parallel if config.parallel != "auto" else "ddp" if several else "single"
    return lookup("kind of parallelism", name, PARALLEL)(config.device)
