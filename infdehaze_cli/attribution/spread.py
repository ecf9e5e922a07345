"""How far from its window an attribution lies: two figures, gathered while the map comes in bands."""

from __future__ import annotations

import math

import numpy as np
from infdehaze.tiling import TileGrid
from numpy.typing import NDArray

from infdehaze_cli.geometry import Window, split_windows

_ROWS = 64
"""Rows at a time, whose distances are all in memory."""


class Spread:
    """Adds up the weight of pixels, the absolute attribution of their bands together, by where they lie.

    Parameters
    ----------
    grid : TileGrid
        Tiles of the scene.
    window : Window
        What was attributed.
    """

    def __init__(self, grid: TileGrid, window: Window) -> None:
        self._window, self._own = window, own_tiles(grid, window)
        self._by_distance = np.zeros(math.ceil(math.hypot(grid.height, grid.width)) + 1)
        self._outside = 0.0
        self.outside_area = 1 - self._own.pixels / (grid.height * grid.width)
        """Share of the scene's pixels outside of the window's tiles, 0..1."""
        self.total = 0.0
        """All attributions with their signs, in units of the objective."""

    def add(self, window: Window, values: NDArray[np.float32]) -> None:
        """Add a part of the map, (3, rows, cols), 0 where there is no data."""
        for part in split_windows(window.height, window.width, _ROWS, window.width):
            whole = Window(window.row + part.row, window.col, part.height, window.width)
            self._add(whole, values[:, part.row : part.row_end])

    def _add(self, window: Window, values: NDArray[np.float32]) -> None:
        signed = values.sum(0, dtype=np.float64)
        self.total += float(signed.sum())
        weight = np.abs(signed)
        inside = self._own.intersect(window)
        own = 0.0 if inside is None else float(weight[inside.relative_to(window)].sum())
        self._outside += float(weight.sum()) - own
        rows = _beyond(window.row, window.row_end, self._window.row, self._window.row_end)
        cols = _beyond(window.col, window.col_end, self._window.col, self._window.col_end)
        distance = np.ceil(np.hypot(rows[:, None], cols)).astype(np.intp)
        self._by_distance += np.bincount(distance.ravel(), weight.ravel(), self._by_distance.size)

    @property
    def outside_share(self) -> float:
        """Share of the weight outside of the tiles that the window touches, 0..1; 0 where nothing is attributed."""
        total = float(self._by_distance.sum())
        return max(0.0, self._outside) / total if total > 0 else 0.0

    @property
    def median_distance(self) -> int:
        """Distance from the window, in whole pixels rounded up, within which half of the weight lies."""
        sums = np.cumsum(self._by_distance)
        return int(np.searchsorted(sums, sums[-1] / 2))


def own_tiles(grid: TileGrid, window: Window) -> Window:
    """Return the part of the scene that the tiles cover which a window touches."""

    def span(start: int, stop: int, count: int, size: int) -> tuple[int, int]:
        touched = [i for i in range(count) if i * grid.step < stop and i * grid.step + grid.tile > start]
        return touched[0] * grid.step, min(size, touched[-1] * grid.step + grid.tile)

    top, bottom = span(window.row, window.row_end, grid.rows, grid.height)
    left, right = span(window.col, window.col_end, grid.cols, grid.width)
    return Window(top, left, bottom - top, right - left)


def _beyond(start: int, stop: int, first: int, end: int) -> NDArray[np.float64]:
    """Return by how many pixels each position lies before ``first`` or after the last before ``end``."""
    place = np.arange(start, stop, dtype=np.float64)
    return np.maximum(0.0, np.maximum(first - place, place - (end - 1)))
