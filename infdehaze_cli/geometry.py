"""Pixel windows and the mirror rule by which a scene is padded: integers only, no files and no tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels: ``row`` and ``col`` of its upper-left corner, ``height`` and ``width``."""

    row: int
    col: int
    height: int
    width: int

    @property
    def row_end(self) -> int:
        """First row below the window."""
        return self.row + self.height

    @property
    def col_end(self) -> int:
        """First column right of the window."""
        return self.col + self.width

    @property
    def pixels(self) -> int:
        """Number of pixels inside."""
        return self.height * self.width

    def intersect(self, other: Window) -> Window | None:
        """Return the common part of two windows, or None when they share no pixel."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        height = min(self.row_end, other.row_end) - row
        width = min(self.col_end, other.col_end) - col
        return Window(row, col, height, width) if height > 0 and width > 0 else None

    def relative_to(self, other: Window) -> tuple[slice, slice]:
        """Return the slices that cut this window out of an array that covers ``other``."""
        row, col = self.row - other.row, self.col - other.col
        return slice(row, row + self.height), slice(col, col + self.width)


def split_windows(height: int, width: int, block_height: int, block_width: int) -> Iterator[Window]:
    """Yield the windows of a regular grid in row-major order; those at the right and lower edge are cut."""
    for row in range(0, height, block_height):
        for col in range(0, width, block_width):
            yield Window(row, col, min(block_height, height - row), min(block_width, width - col))


def mirror_index(start: int, stop: int, size: int) -> NDArray[np.intp]:
    """Map the positions ``start..stop`` into ``0..size`` by mirroring at both edges (the edge pixel is repeated).

    Any distance beyond the edge is allowed: the mirrored axis repeats with period ``2 * size``, as numpy's
    ``pad(mode="symmetric")`` does.
    """
    if size < 1:
        raise ValueError("size must be at least 1")
    index = np.arange(start, stop, dtype=np.intp) % (2 * size)
    return np.where(index < size, index, 2 * size - 1 - index)
