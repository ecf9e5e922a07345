"""Draw many crops of clear pictures, and keep little of each, for tools that fit a part of a network alone."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from infdehaze_cli.training.clear import ClearFolder
from infdehaze_cli.training.data import Batch, draw_batch

BLOCK = 1024


def draw_rows(
    data: ClearFolder, side: int, crops: int, seconds: float, seed: int, keep: Callable[[Batch], list[Tensor]]
) -> list[Tensor]:
    """Draw crops of ``side`` px for so many seconds, so many at a time, and return what ``keep`` keeps of all of them.

    ``crops`` divides `BLOCK`.
    """
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    blocks: list[list[Tensor]] = []
    count, started = 0, time.monotonic()
    while time.monotonic() - started < seconds:
        parts = keep(draw_batch(data, side, crops, rng, generator))
        row = count % BLOCK
        if row == 0:
            # kept one by one, small parts lie in the way of each next batch, and memory grows by the size of batches
            blocks.append([part.new_empty(BLOCK, *part.shape[1:]) for part in parts])
        for column, part in zip(blocks[-1], parts, strict=True):
            column[row : row + len(part)] = part
        count += crops
    return [torch.cat(column)[:count] for column in zip(*blocks, strict=True)]


def leave_out(data: ClearFolder, names: list[str], parser: argparse.ArgumentParser) -> ClearFolder:
    """Take whole sources out of ``data``, and return them as they are: without other colours or ground."""
    if unknown := [name for name in names if name not in data.sources]:
        parser.error(f"there is no source {', '.join(unknown)} among the pictures")
    return ClearFolder({name: data.sources.pop(name) for name in names}, colours=0.0, mixed=False)
