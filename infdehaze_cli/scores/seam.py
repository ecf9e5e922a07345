"""The seam index: how much stronger a picture's correction jumps at tile borders than elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from infdehaze_cli.geometry import Window

PERIOD = 16
"""Pixels after which the blocks of JPEG and WebP, and the colours that they share, begin anew."""


def border_positions(size: int, tile: int, overlap: int) -> tuple[int, ...]:
    """Return the rows (or columns) of one axis at which a tile border could show.

    Tile ``i`` covers ``[i * stride, i * stride + tile)`` with ``stride = tile - overlap``, and the last tile
    is the first one that reaches the end. Across an overlap two tiles are blended linearly, so a border shows
    at its begin, its middle or its end.

    Parameters
    ----------
    size, tile, overlap : int
        Length of the axis, of a tile and of the overlap in pixels; ``0 <= overlap < tile``.

    Returns
    -------
    tuple of int
        Increasing positions ``p`` in 1..size-1; the border is between the pixels ``p - 1`` and ``p``.
    """
    if not 0 <= overlap < tile:
        raise ValueError("the overlap must be at least 0 and smaller than the tile")
    stride = tile - overlap
    found: set[int] = set()
    start = stride
    while start + overlap < size:
        found.update((start, start + overlap // 2, start + overlap))
        start += stride
    return tuple(sorted(found))


class SeamAccumulator:
    """Sums the steps of ``output - input`` at the given borders and elsewhere, window by window.

    Codecs leave steps of their own at the edges of their blocks, and tiles begin at such edges too. So borders are
    compared with lines that lie as they do: those a multiple of `PERIOD` away from one. Where the raster is too small
    to have any, they are compared with all other lines.

    Parameters
    ----------
    rows, cols : iterable of int
        Border positions down and across the raster, as from `border_positions`.
    """

    def __init__(self, rows: Iterable[int], cols: Iterable[int]) -> None:
        self._rows = np.array(sorted(set(rows)), dtype=np.int64)
        self._cols = np.array(sorted(set(cols)), dtype=np.int64)
        self._at_border, self._alike, self._elsewhere = ([0.0, 0] for _ in range(3))

    def add(self, window: Window, delta: NDArray[np.float32], valid: NDArray[np.bool_] | None = None) -> None:
        """Add the steps that end in a window: from the pixel on the left and from the pixel above.

        Parameters
        ----------
        window : Window
            Where in the raster; windows must not overlap.
        delta : ndarray, shape (3, h, w) or (3, h + top, w + left), float32
            Output minus input. With ``top`` and ``left`` of 0 or 1 it begins one row above or one column left
            of the window; without them the step into the window's first row or column is not counted.
        valid : ndarray, shape of a band of delta, bool, optional
            Steps between two valid pixels are counted; all by default.
        """
        shape = delta.shape[1:]
        top, left = shape[0] - window.height, shape[1] - window.width
        if top not in (0, 1) or left not in (0, 1):
            raise ValueError(f"delta of shape {delta.shape} does not fit {window}")
        good = np.ones(shape, dtype=np.bool_) if valid is None else valid
        delta = np.where(good, delta, np.float32(0))

        across = np.abs(np.diff(delta[:, top:], axis=2)).mean(axis=0, dtype=np.float64)
        cols = np.arange(window.col - left + 1, window.col_end)
        self._count(across, good[top:, 1:] & good[top:, :-1], cols, self._cols)

        down = np.abs(np.diff(delta[:, :, left:], axis=1)).mean(axis=0, dtype=np.float64)
        rows = np.arange(window.row - top + 1, window.row_end)
        self._count(down.T, (good[1:, left:] & good[:-1, left:]).T, rows, self._rows)

    def _count(
        self,
        steps: NDArray[np.float64],
        good: NDArray[np.bool_],
        lines: NDArray[np.int64],
        borders: NDArray[np.int64],
    ) -> None:
        """Add the steps of lines, which are the last axis."""
        at_border = np.isin(lines, borders)
        alike = np.isin(lines % PERIOD, borders % PERIOD) & ~at_border
        for sums, chosen in ((self._at_border, at_border), (self._alike, alike), (self._elsewhere, ~at_border)):
            sums[0] += float(np.sum(steps, where=good & chosen))
            sums[1] += int(np.count_nonzero(good & chosen))

    def result(self) -> float | None:
        """Return the mean step at borders over the mean step of lines that lie as they do.

        1 means that borders look like any other such line (also when nothing changes anywhere), inf that the
        picture is smooth but for its borders. None when there is no border, or nothing but borders.
        """
        (border, borders), (other, others) = self._at_border, self._alike if self._alike[1] else self._elsewhere
        if not borders or not others:
            return None
        if other == 0:
            return 1.0 if border == 0 else math.inf
        return (border / borders) / (other / others)


def seam_index(
    delta: NDArray[np.float32],
    rows: Iterable[int],
    cols: Iterable[int],
    valid: NDArray[np.bool_] | None = None,
) -> float | None:
    """Return the seam index of a whole picture held in memory.

    Parameters
    ----------
    delta : ndarray, shape (3, h, w), float32
        Output minus input.
    rows, cols : iterable of int
        Border positions, as from `border_positions`.
    valid : ndarray, shape (h, w), bool, optional
        Pixels to count; all by default.

    Returns
    -------
    float or None
        See `SeamAccumulator.result`.
    """
    accumulator = SeamAccumulator(rows, cols)
    accumulator.add(Window(0, 0, delta.shape[1], delta.shape[2]), delta, valid)
    return accumulator.result()
