"""The scene's fields, joined from tiles while they come, and given back by rows as soon as no tile can change them.

Axes: F fields, h w rows and columns at the field stride.
"""

from __future__ import annotations

from typing import Protocol

import torch
from infdehaze.smoothing import settle, smooth_look, smoothing_reach
from infdehaze.tiling import TileGrid, feather
from torch import Tensor

from infdehaze_cli.geometry import Window


class OtherLook(Protocol):
    """Something else that was seen of the scene."""

    def mixed(self, fine_Fhw: Tensor, rows: slice, cols: slice) -> Tensor:
        """Mix it into a look (F + 1, h, w) at these cells."""
        ...


class FieldCanvas:
    """Feathered sum of tiles' fields over a band of the scene.

    Parameters
    ----------
    grid : TileGrid
        The tiles of the scene.
    fields : int
        Number of fields; others that tiles have after these are left out.
    stride : int
        Pixels between values.
    sigma, airlight_sigma : float
        Standard deviations, in cells, of the Gaussians that smooth the sum; see
        :func:`infdehaze.smoothing.smooth_look`.
    thin_haze : tuple of float
        See :func:`infdehaze.smoothing.leave_clear`.
    coarse : OtherLook, optional
        What is mixed in.
    texture : float
        See :func:`infdehaze.smoothing.smooth_look`; the last of the fields is the dark channel then.
    """

    def __init__(
        self,
        grid: TileGrid,
        fields: int,
        stride: int,
        sigma: float = 0.0,
        airlight_sigma: float | None = None,
        thin_haze: tuple[float, float] = (0.0, 0.0),
        coarse: OtherLook | None = None,
        texture: float = 0.0,
    ) -> None:
        self._grid, self._stride = grid, stride
        self._side, self._step, self._overlap = (
            grid.tile // stride,
            grid.step // stride,
            grid.overlap // stride,
        )
        self._height = grid.padded_height // stride
        self._base = 0
        self._sigmas = (sigma, sigma if airlight_sigma is None else airlight_sigma)
        self._thin_haze, self._coarse, self._texture = thin_haze, coarse, texture
        # cells around a window that its values depend on: the smoothing, and the next cell for enlarging
        self._halo = smoothing_reach(*self._sigmas, texture) + 1
        # one plane more: the weight of the tiles with data
        self._band_Fhw = torch.zeros(fields + 1, self._side, grid.padded_width // stride)
        self._tiles_done = 0

    @property
    def finished_pixels(self) -> int:
        """Pixel rows of the scene whose fields are final, with all that smoothing and enlarging need below them."""
        rows = self._tiles_done // self._grid.cols
        if rows == self._grid.rows:
            return self._grid.padded_height
        return max(0, rows * self._step - self._halo) * self._stride

    def add(self, index: int, fields_Fhw: Tensor | None, weight: float = 1.0) -> None:
        """Add the next tile in row-major order, with its ``weight``; None for one without data, whose fields are 0."""
        assert index == self._tiles_done, "tiles come in order, so that sums have one order"
        i, j = divmod(index, self._grid.cols)
        if fields_Fhw is not None:
            top, left = i * self._step - self._base, j * self._step
            self._reserve(top + self._side)
            weight_h = feather(self._side, self._overlap, i == 0, i == self._grid.rows - 1)
            weight_w = feather(self._side, self._overlap, j == 0, j == self._grid.cols - 1)
            fields_Fhw = fields_Fhw[: len(self._band_Fhw) - 1]
            with_weight = torch.cat([fields_Fhw, torch.ones(1, self._side, self._side)]) * weight
            patch = with_weight * weight_h[:, None] * weight_w
            self._band_Fhw[:, top : top + self._side, left : left + self._side] += patch
        self._tiles_done += 1

    def _reserve(self, rows: int) -> None:
        missing = rows - self._band_Fhw.shape[1]
        if missing > 0:
            self._band_Fhw = torch.nn.functional.pad(self._band_Fhw, (0, 0, 0, missing))

    def cut(self, window: Window) -> tuple[Tensor, tuple[int, int]]:
        """Cut out the smoothed fields that a window of pixels needs, with a cell of halo where the scene goes on.

        Returns
        -------
        tuple
            Fields (F, h, w), and the offset of the window's first row and column in them, in pixels after enlarging.
        """
        s = self._stride
        rows = self._cells(window.row, window.row_end, self._height)
        cols = self._cells(window.col, window.col_end, self._band_Fhw.shape[2])
        look_Fhw = self.look(rows, cols)
        if self._coarse is not None:
            look_Fhw = self._coarse.mixed(look_Fhw, rows, cols)
        fields = settle(look_Fhw[None], self._thin_haze, self._texture)[0]
        return fields, (window.row - rows.start * s, window.col - cols.start * s)

    def look(self, rows: slice, cols: slice) -> Tensor:
        """Return the look at some cells, (F + 1, h, w): none is mixed in or left; see `smooth_look`."""
        reach = self._halo - 1
        above, left = max(0, rows.start - reach), max(0, cols.start - reach)
        below, right = min(self._height, rows.stop + reach), min(self._band_Fhw.shape[2], cols.stop + reach)
        self._reserve(below - self._base)
        seen = self._band_Fhw[None, :, above - self._base : below - self._base, left:right]
        if not seen[:, -1:].any():
            # no tile with data near: most of many mosaics
            return seen.new_zeros(seen.shape[1], rows.stop - rows.start, cols.stop - cols.start)
        look_Fhw = smooth_look(seen[:, :-1], seen[:, -1:], *self._sigmas, self._texture)[0]
        return look_Fhw[:, rows.start - above : rows.stop - above, cols.start - left : cols.stop - left]

    def _cells(self, start: int, stop: int, size: int) -> slice:
        """Return the cells along one axis that pixels ``start`` to ``stop`` need."""
        return slice(max(0, start // self._stride - 1), min(size, -(-stop // self._stride) + 1))

    def drop_above(self, row: int) -> None:
        """Forget what windows at or below a pixel row do not need."""
        base = max(self._base, row // self._stride - self._halo)
        # a copy, so that the memory of the rows above is given back
        self._band_Fhw = self._band_Fhw[:, base - self._base :].clone()
        self._base = base
