"""Block means of a run's haze, gathered while the output is written: a coarse map, 4 bytes a square and channel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from infdehaze_cli.engine.protocols import SceneWriter
from infdehaze_cli.geometry import Window
from infdehaze_cli.raster import Block

_BESIDE = 1e-6
"""Weight of pixels beside the centre."""


class BlockMeans:
    """Means over squares of ``factor`` pixels of a scene that comes in windows, which need not fit the squares.

    Parameters
    ----------
    channels, height, width
        Of the scene.
    factor
        Pixels of a square's side.
    centred
        Whether the valid pixels at the centre of a square stand for it, and others only where these are not: then
        what is bilinear between the centres comes out of them as it was.
    """

    def __init__(self, channels: int, height: int, width: int, factor: int, *, centred: bool = False) -> None:
        self.factor, self._centred = factor, centred
        shape = -(-height // factor), -(-width // factor)
        self._sums = np.zeros((channels, *shape), np.float32)
        self._counts = np.zeros(shape, np.float32)

    def add(self, window: Window, values: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        """Add the valid pixels of a window: values (channels, rows, cols), valid (rows, cols)."""
        rows, row_starts = self._cells(window.row, window.height)
        cols, col_starts = self._cells(window.col, window.width)

        def summed(plane: NDArray[np.float64]) -> NDArray[np.float64]:
            half: NDArray[np.float64] = np.add.reduceat(plane, row_starts, axis=-2)
            whole: NDArray[np.float64] = np.add.reduceat(half, col_starts, axis=-1)
            return whole

        weight = valid.astype(np.float64)
        if self._centred:
            is_row, is_col = self._is_centre(window.row, window.height), self._is_centre(window.col, window.width)
            weight *= np.where(is_row[:, None] & is_col, 1.0, _BESIDE)
        for total, channel in zip(self._sums, values, strict=True):
            total[rows, cols] += summed(np.where(valid, channel, 0.0) * weight).astype(np.float32)
        self._counts[rows, cols] += summed(weight).astype(np.float32)

    def _is_centre(self, start: int, length: int) -> NDArray[np.bool_]:
        """Return which of a range of pixels lie at the centre of their squares: two, or one where a side is odd."""
        place = np.arange(start, start + length) % self.factor
        is_centre: NDArray[np.bool_] = np.abs(place + 0.5 - self.factor / 2) < 1
        return is_centre

    def _cells(self, start: int, length: int) -> tuple[slice, NDArray[np.intp]]:
        """Return the squares that a range of pixels touches, and where in the range each begins."""
        cells = np.arange(start, start + length) // self.factor
        return slice(int(cells[0]), int(cells[-1]) + 1), np.flatnonzero(np.diff(cells, prepend=-1))

    def means(self, channels: slice = slice(None)) -> NDArray[np.float32]:
        """Return the means (channels, rows, cols) of some channels, NaN where no pixel was valid."""
        sums = self._sums[channels]
        means: NDArray[np.float32] = np.full_like(sums, np.nan)
        return np.divide(sums, self._counts, out=means, where=self._counts > 0)


class HazeMeans:
    """Hands windows on to the output's writer, and keeps means of the optical depth that was taken away.

    Parameters
    ----------
    output
        The writer of the restored scene.
    height, width
        Of the scene.
    factor
        Pixels of a square's side.
    """

    wants_haze = True

    def __init__(self, output: SceneWriter[Block], height: int, width: int, factor: int) -> None:
        self._output = output
        self.depth = BlockMeans(3, height, width, factor)

    def write(self, block: Block, restored: NDArray[np.float32], haze: NDArray[np.float32] | None = None) -> None:
        """Write a window, and count its haze."""
        if haze is None:
            raise ValueError("means of the haze need the haze of the window")
        self._output.write(block, restored, haze)
        self.depth.add(block.window, haze[:3], block.valid)
