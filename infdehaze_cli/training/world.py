"""One process or several: what differs for a run under ``torchrun`` (environment RANK, WORLD_SIZE, LOCAL_RANK)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from infdehaze_cli.errors import UsageError


def leads() -> bool:
    """Whether this process is the one that prints and writes."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a run; each draws crops of its own, and all take the same steps."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return a network whose backward pass averages the gradients of all processes."""
        if self.size == 1:
            return model
        return DistributedDataParallel(model, device_ids=[self.device.index] if self.device.type == "cuda" else None)

    def wait(self) -> None:
        """Wait until every process is here."""
        self.mean([0.0])

    def mean(self, values: list[float]) -> list[float]:
        """Return the mean over the processes of each number."""
        if self.size == 1:
            return values
        shared = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(shared)
        means: list[float] = (shared / self.size).tolist()
        return means

    @torch.no_grad()
    def average(self, tensors: list[Tensor]) -> None:
        """Put the mean over the processes in the place of each tensor."""
        if self.size == 1 or not tensors:
            return
        shared = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(shared)
        for tensor, mean in zip(tensors, (shared / self.size).split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def generator(self, seed: int, step: int) -> torch.Generator:
        """Make the random stream of one step of this process, on its device."""
        mixed = np.random.SeedSequence([seed, self.rank, step, 1])
        return torch.Generator(self.device).manual_seed(int(mixed.generate_state(1, np.uint64)[0] >> np.uint64(1)))


@contextmanager
def join_world(device: str) -> Iterator[World]:
    """Join the other processes that ``torchrun`` started, or be alone.

    Parameters
    ----------
    device : str
        ``cpu`` or ``cuda``; under ``torchrun`` each process takes the GPU of its LOCAL_RANK.

    Raises
    ------
    UsageError
        When there are more processes than GPUs on this machine.
    """
    size = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    if size == 1:
        yield World(torch.device(device))
        return
    rank, place = int(os.environ["RANK"]), torch.device(device)
    if gpu := place.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", rank))
        if local >= torch.cuda.device_count():
            raise UsageError(
                f"Process {local} has no GPU of its own here. Start {torch.cuda.device_count()} processes."
            )
        place = torch.device("cuda", local)
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if gpu else "gloo", device_id=place if gpu else None)
    try:
        with warnings.catch_warnings():
            # kernels of depth-wise convolutions have an axis of one, whose stride means nothing
            warnings.filterwarnings("ignore", message="Grad strides do not match")
            yield World(place, rank, size)
    finally:
        dist.destroy_process_group()
