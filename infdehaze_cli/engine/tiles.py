"""Tiles of a scene read as batches: mirrored beyond the edges, with what is valid in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from infdehaze.tiling import TileGrid
from numpy.typing import NDArray

from infdehaze_cli.geometry import Window, mirror_index

from .protocols import SceneReader, SourceBlock


@dataclass(frozen=True, slots=True)
class TileBatch:
    """Consecutive tiles."""

    number: int
    indices: tuple[int, ...]
    """Tiles with data, in order; the others, and those of nothing but 0, are left out."""
    values: NDArray[np.float32]
    """(len(indices), channels, T, T); three channels of a picture."""
    valid: NDArray[np.bool_]
    """(len(indices), T, T)."""


def read_batch(
    scene: SceneReader[SourceBlock],
    grid: TileGrid,
    number: int,
    batch: int,
    holds_data: Callable[[Window], bool] | None = None,
) -> TileBatch:
    """Read the tiles of one batch, those in a row by one read, so that source blocks are decoded once.

    Parameters
    ----------
    scene : SceneReader
        The source.
    grid : TileGrid
        Its tiles.
    number, batch : int
        Which batch, and tiles of a full one.
    holds_data : callable, optional
        Whether a window of the scene may hold data; tiles without are not read.
    """
    first = number * batch
    members: Sequence[int] = range(first, min(first + batch, grid.count))
    if holds_data is not None:
        members = [index for index in members if holds_data(_read_window(scene, grid, index, index)[0])]
    return read_tiles(scene, grid, members, number)


def read_tiles(scene: SceneReader[SourceBlock], grid: TileGrid, members: Sequence[int], number: int = 0) -> TileBatch:
    """Read tiles as one batch.

    Parameters
    ----------
    scene : SceneReader
        The source; it may have any number of channels.
    grid : TileGrid
        Its tiles.
    members : sequence of int
        Which tiles, in order; those side by side are read together.
    number : int
        Of the batch.
    """
    channels = 3
    indices: list[int] = []
    values: list[NDArray[np.float32]] = []
    valid: list[NDArray[np.bool_]] = []
    for _, beside in groupby(enumerate(members), key=lambda pair: (pair[1] // grid.cols, pair[1] - pair[0])):
        run = [index for _, index in beside]
        strip_values, strip_valid = _read_mirrored(scene, grid, run[0], run[-1])
        channels = len(strip_values)
        for position, index in enumerate(run):
            part = slice(position * grid.step, position * grid.step + grid.tile)
            if _shows_ground(strip_values[:, :, part], strip_valid[:, part]):
                indices.append(index)
                values.append(strip_values[:, :, part])
                valid.append(strip_valid[:, part])
    # in PyTorch's memory, whose alignment is always the same: matrix products round differently by alignment
    shape = (len(indices), grid.tile, grid.tile)
    all_values, all_valid = (
        torch.empty(shape[0], channels, *shape[1:]).numpy(),
        torch.empty(shape, dtype=torch.bool).numpy(),
    )
    if indices:
        np.stack(values, out=all_values)
        np.stack(valid, out=all_valid)
    return TileBatch(number, tuple(indices), all_values, all_valid)


def _shows_ground(values: NDArray[np.float32], valid: NDArray[np.bool_]) -> bool:
    """Whether a tile has data, and not black alone: edges of which a file does not say that they are no data are 0."""
    if not valid.any():
        return False
    # mostly the first few pixels say so
    for step in (8, 1):
        few = (slice(None, None, step), slice(None, None, step))
        if (valid[few] & values[:, *few].any(axis=0)).any():
            return True
    return False


def _read_mirrored(
    scene: SceneReader[SourceBlock], grid: TileGrid, first: int, last: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Read tiles ``first`` to ``last`` of one tile row as a strip, mirrored where it leaves the scene."""
    window, rows, cols = _read_window(scene, grid, first, last)
    block = scene.read(window)
    if len(rows) == block.window.height and len(cols) == block.window.width:
        return block.values, block.valid
    take = np.ix_(rows - window.row, cols - window.col)
    return block.values[:, take[0], take[1]], block.valid[take]


def _read_window(
    scene: SceneReader[SourceBlock], grid: TileGrid, first: int, last: int
) -> tuple[Window, NDArray[np.intp], NDArray[np.intp]]:
    """Return the window of the scene that a strip of tiles is made of, and its rows and columns in their order."""
    (row, left), (_, right) = grid.origin(first), grid.origin(last)
    rows = mirror_index(row, row + grid.tile, scene.height)
    cols = mirror_index(left, right + grid.tile, scene.width)
    row0, col0 = int(rows.min()), int(cols.min())
    return Window(row0, col0, int(rows.max()) + 1 - row0, int(cols.max()) + 1 - col0), rows, cols
