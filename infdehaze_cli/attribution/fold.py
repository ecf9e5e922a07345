"""From tiles back to the scene: values at mirrored and overlapping pixels are added to the pixels they came from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from infdehaze.tiling import TileGrid
from numpy.typing import NDArray

from infdehaze_cli.geometry import Window, mirror_index

BAND_ROWS = 512
"""Rows that are handed on at a time: whole blocks of the map."""


class FoldedBands:
    """Adds up tiles in row-major order, and hands bands of the scene on as soon as no tile can change them.

    Parameters
    ----------
    grid : TileGrid
        Tiles of the scene.
    take : callable
        Is given each band from top to bottom: its window, and float32 (3, rows, width).
    rows : int
        Rows of a band, but for the last one.
    """

    def __init__(
        self, grid: TileGrid, take: Callable[[Window, NDArray[np.float32]], None], rows: int = BAND_ROWS
    ) -> None:
        self._grid, self._take, self._rows = grid, take, rows
        self._base = self._row = 0
        self._band = np.zeros((3, 0, grid.width), np.float32)

    def add(self, index: int, values: NDArray[np.float32]) -> None:
        """Add what a tile (3, T, T) says of its pixels; tiles without data may be left out."""
        grid = self._grid
        self.go_to(index // grid.cols)
        top, left = grid.origin(index)
        rows = mirror_index(top, top + grid.tile, grid.height)
        cols = mirror_index(left, left + grid.tile, grid.width)
        self._reserve(int(rows.max()) + 1)
        rows -= self._base
        if rows[-1] - rows[0] == cols[-1] - cols[0] == grid.tile - 1:
            self._band[:, rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1] += values
        else:
            np.add.at(self._band, np.ix_(np.arange(3), rows, cols), values)

    def go_to(self, tile_row: int) -> None:
        """Say that all tiles above a row of tiles are there."""
        while self._row < tile_row:
            self._row += 1
            # tiles of the last row are mirrored at the lower edge, by less than a step
            done = min(self._row * self._grid.step, self._grid.height - self._grid.step)
            if self._row == self._grid.rows:
                done = self._grid.height
            self._hand_on(done)

    def finish(self) -> None:
        """Say that all tiles are there."""
        self.go_to(self._grid.rows)

    def _reserve(self, bottom: int) -> None:
        missing = bottom - self._base - self._band.shape[1]
        if missing > 0:
            self._band = np.pad(self._band, ((0, 0), (0, missing), (0, 0)))

    def _hand_on(self, done: int) -> None:
        self._reserve(done)
        last = done == self._grid.height
        while self._base + self._rows <= done or (last and self._base < done):
            rows = min(self._rows, done - self._base)
            self._take(Window(self._base, 0, rows, self._grid.width), self._band[:, :rows])
            self._band = self._band[:, rows:].copy()
            self._base += rows
