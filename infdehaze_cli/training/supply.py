"""Supplies each step with a batch: crops are cut by other processes, haze is put over them where training runs.

What a step learns from follows from the seed, the process and the step alone. So a run that is resumed, with however
many workers, sees the same batches, and no random state is saved.
"""

from __future__ import annotations

import itertools
import multiprocessing
import warnings
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from infdehaze_cli.errors import InputError, UsageError

from .config import TrainConfig
from .data import Batch, TrainingData
from .world import World

AHEAD = 4
"""Batches that each worker cuts in advance."""


@dataclass(frozen=True)
class StepCrops(Dataset[Tensor | InputError]):
    """The crops of any step, on the CPU; an error is handed over as it is, because a worker would garble it."""

    data: TrainingData
    crops: tuple[tuple[int, int, float], ...]
    seed: int
    rank: int

    def __getitem__(self, step: int) -> Tensor | InputError:
        """Choose a size of crops for a step, and cut them."""
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, self.rank, step]))
        share = np.array([share for *_, share in self.crops])
        side, batch, _ = self.crops[rng.choice(len(share), p=share / share.sum())]
        try:
            return self.data.cut(side, batch, rng)
        except InputError as error:
            return error


def can_fork() -> bool:
    """Whether processes can share what is in memory here."""
    return "fork" in multiprocessing.get_all_start_methods()


class Supply:
    """Gives the batches of a run in their order, the first one being that of ``step``.

    On a GPU the next batch is prepared on a stream of its own, while the step before it computes.

    Raises
    ------
    InputError
        When nothing can be read any more.
    UsageError
        When there are to be workers on a system that cannot fork.
    """

    def __init__(self, data: TrainingData, config: TrainConfig, world: World, step: int) -> None:
        self._data, self._seed, self._world, self._step = data, config.seed, world, step
        gpu = world.device.type == "cuda"
        if config.workers and not can_fork():
            raise UsageError("Workers share the pictures by fork, which this system has not. Give --workers 0.")
        with warnings.catch_warnings():
            # more workers than cores are the user's choice; and they never touch what threads may hold at a fork
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            warnings.filterwarnings("ignore", category=DeprecationWarning, message=r".*fork\(\)")
            loader = DataLoader(
                StepCrops(data, config.crops, config.seed, world.rank),
                batch_size=None,
                sampler=cast("range", itertools.count(step)),
                num_workers=config.workers,
                prefetch_factor=AHEAD if config.workers else None,
                # the pictures are shared with the workers, not sent to each of them
                multiprocessing_context="fork" if config.workers else None,
                pin_memory=gpu,
            )
            self._crops = iter(loader)
        self._stream = torch.cuda.Stream(world.device) if gpu else None
        self._ahead: Batch | None = None

    def take(self) -> Batch:
        """Return the batch of the next step."""
        batch, self._ahead = self._ahead or self._prepare(), None
        if self._stream is not None:
            now = torch.cuda.current_stream()
            now.wait_stream(self._stream)
            for tensor in (batch.clear_B3HW, batch.hazy_B3HW, batch.depth_B3HW, batch.airlight_B311):
                if tensor is not None:
                    tensor.record_stream(now)
        return batch

    def look_ahead(self) -> None:
        """Prepare the batch after that, where this goes on beside the computation."""
        if self._stream is not None and self._ahead is None:
            self._ahead = self._prepare()

    def _prepare(self) -> Batch:
        crops = next(self._crops)
        if isinstance(crops, InputError):
            raise crops
        generator = self._world.generator(self._seed, self._step)
        self._step += 1
        with torch.cuda.stream(self._stream):
            return self._data.prepare(crops.to(self._world.device, non_blocking=True), generator)
