"""The scene's fields, joined from tiles while they come, and given back by rows as soon as no tile can change them.

Axes: F fields, h w rows and columns at the field stride.
"""

from __future__ import annotations

import torch
from infdehaze.tiling import TileGrid, feather, normalise_fields
from torch import Tensor

from infdehaze_cli.geometry import Window


class FieldCanvas:
    """Feathered sum of tiles' fields over a band of the scene (design, section 3.4).

    Parameters
    ----------
    grid : TileGrid
        The tiles of the scene.
    fields : int
        Number of fields.
    stride : int
        Pixels between values.
    holes : bool
        Whether some tiles have no data; their neighbours are then weighted up where they overlap.
    """

    def __init__(self, grid: TileGrid, fields: int, stride: int, *, holes: bool = False) -> None:
        self._grid, self._stride = grid, stride
        self._side, self._step, self._overlap = (
            grid.tile // stride,
            grid.step // stride,
            grid.overlap // stride,
        )
        self._height = grid.padded_height // stride
        self._base = 0
        # with holes, one plane more: the weight of the tiles with data
        self._fields, self._holes = fields, holes
        self._band_Fhw = torch.zeros(fields + holes, self._side, grid.padded_width // stride)
        self._tiles_done = 0

    @property
    def finished_pixels(self) -> int:
        """Pixel rows of the scene whose fields, and the half cell below that enlarging needs, are final."""
        rows = self._tiles_done // self._grid.cols
        if rows == self._grid.rows:
            return self._grid.padded_height
        return max(0, rows * self._step - 1) * self._stride

    def add(self, index: int, fields_Fhw: Tensor | None) -> None:
        """Add the next tile in row-major order; None for a tile without data, whose fields are zero."""
        assert index == self._tiles_done, "tiles come in order, so that sums have one order"
        i, j = divmod(index, self._grid.cols)
        if fields_Fhw is not None:
            top, left = i * self._step - self._base, j * self._step
            self._reserve(top + self._side)
            weight_h = feather(self._side, self._overlap, i == 0, i == self._grid.rows - 1)
            weight_w = feather(self._side, self._overlap, j == 0, j == self._grid.cols - 1)
            if self._holes:
                fields_Fhw = torch.cat([fields_Fhw, torch.ones(1, self._side, self._side)])
            patch = fields_Fhw * weight_h[:, None] * weight_w
            self._band_Fhw[:, top : top + self._side, left : left + self._side] += patch
        self._tiles_done += 1

    def _reserve(self, rows: int) -> None:
        missing = rows - self._band_Fhw.shape[1]
        if missing > 0:
            self._band_Fhw = torch.nn.functional.pad(self._band_Fhw, (0, 0, 0, missing))

    def cut(self, window: Window) -> tuple[Tensor, tuple[int, int]]:
        """Cut out the fields that a window of pixels needs, with a cell of halo where the scene goes on.

        Returns
        -------
        tuple
            Fields (F, h, w), and the offset of the window's first row and column in them, in pixels after enlarging.
        """
        s = self._stride
        top, left = max(0, window.row // s - 1), max(0, window.col // s - 1)
        bottom = min(self._height, -(-window.row_end // s) + 1)
        right = min(self._band_Fhw.shape[2], -(-window.col_end // s) + 1)
        self._reserve(bottom - self._base)
        cut = self._band_Fhw[:, top - self._base : bottom - self._base, left:right]
        if self._holes:
            cut = normalise_fields(cut[: self._fields], cut[self._fields :])
        return cut, (window.row - top * s, window.col - left * s)

    def drop_above(self, row: int) -> None:
        """Forget what windows at or below a pixel row do not need."""
        base = max(self._base, row // self._stride - 1)
        # a copy, so that the memory of the rows above is given back
        self._band_Fhw = self._band_Fhw[:, base - self._base :].clone()
        self._base = base
