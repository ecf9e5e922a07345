"""The fields of a window from those of the tiles around it, for scenes whose activations do not fit memory all at once.

Axes: M tiles, F fields, h w rows and columns of cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .presets import Preset
from .smoothing import smooth_fields, smoothing_reach
from .tiling import TileGrid, enlarge, feather


@dataclass(frozen=True)
class FieldWindow:
    """The cells and tiles that the fields of a window of pixels are made of.

    Parameters
    ----------
    preset : Preset
        The network's sizes.
    grid : TileGrid
        Tiles of the scene.
    row, col, height, width : int
        The window in pixels, inside the scene.
    """

    preset: Preset
    grid: TileGrid
    row: int
    col: int
    height: int
    width: int

    def _cells(self, start: int, size: int, padded: int) -> tuple[slice, slice]:
        """Return the cells along an axis that the window's pixels are enlarged from, and those smoothed into them."""
        stride, most = self.preset.field_stride, padded // self.preset.field_stride
        first, last = max(0, start // stride - 1), min(most, -(-(start + size) // stride) + 1)
        reach = smoothing_reach(*self.preset.field_sigmas, self.preset.texture)
        return slice(first, last), slice(max(0, first - reach), min(most, last + reach))

    @cached_property
    def rows(self) -> tuple[slice, slice]:
        """Rows of cells that the window needs, and those that these are smoothed from."""
        return self._cells(self.row, self.height, self.grid.padded_height)

    @cached_property
    def cols(self) -> tuple[slice, slice]:
        """The same for columns."""
        return self._cells(self.col, self.width, self.grid.padded_width)

    @cached_property
    def cells(self) -> int:
        """Number of cells that the fields are smoothed from."""
        (_, rows), (_, cols) = self.rows, self.cols
        return len(range(rows.start, rows.stop)) * len(range(cols.start, cols.stop))

    @cached_property
    def tiles(self) -> tuple[int, ...]:
        """Tiles that reach into these cells, in row-major order."""
        side, step = (size // self.preset.field_stride for size in (self.grid.tile, self.grid.step))

        def touched(cells: slice, count: int) -> list[int]:
            return [i for i in range(count) if i * step < cells.stop and i * step + side > cells.start]

        rows, cols = touched(self.rows[1], self.grid.rows), touched(self.cols[1], self.grid.cols)
        return tuple(i * self.grid.cols + j for i in rows for j in cols)

    def fields(self, fields_MFhw: Tensor, tiles: tuple[int, ...], weight_M: Tensor) -> Tensor:
        """Join, smooth and enlarge the fields of tiles, as :meth:`InfDehaze.forward` does for a scene in one look.

        Parameters
        ----------
        fields_MFhw : Tensor
            What the decoder says of ``tiles``.
        tiles : tuple of int
            Those of :attr:`tiles` that hold data.
        weight_M : Tensor
            Of each of them; see :func:`infdehaze.filling.fill_and_weigh`.

        Returns
        -------
        Tensor
            (1, 9, height, width).
        """
        stride = self.preset.field_stride
        (need_h, seen_h), (need_w, seen_w) = self.rows, self.cols
        step, overlap, side = self.grid.step // stride, self.grid.overlap // stride, fields_MFhw.shape[-1]
        shape = fields_MFhw.shape[1] + 1, seen_h.stop - seen_h.start, seen_w.stop - seen_w.start
        canvas_Fhw = fields_MFhw.new_zeros(shape)
        for patch_Fhw, index, weight in zip(fields_MFhw, tiles, weight_M, strict=True):
            i, j = divmod(index, self.grid.cols)
            weight_h = feather(side, overlap, i == 0, i == self.grid.rows - 1, patch_Fhw.device)
            weight_w = feather(side, overlap, j == 0, j == self.grid.cols - 1, patch_Fhw.device)
            patch = torch.cat([patch_Fhw, torch.ones_like(patch_Fhw[:1])]) * weight * weight_h[:, None] * weight_w
            top, left = i * step - seen_h.start, j * step - seen_w.start
            bottom, right = min(top + side, shape[1]), min(left + side, shape[2])
            inside = patch[:, max(0, -top) : bottom - top, max(0, -left) : right - left]
            canvas_Fhw[:, max(0, top) : bottom, max(0, left) : right] += inside
        preset = self.preset
        joined, weight = canvas_Fhw[None, :-1], canvas_Fhw[None, -1:]
        smooth = smooth_fields(joined, weight, *preset.field_sigmas, preset.thin_haze, preset.texture)
        inner_h = slice(need_h.start - seen_h.start, need_h.stop - seen_h.start)
        inner_w = slice(need_w.start - seen_w.start, need_w.stop - seen_w.start)
        full = enlarge(smooth[..., inner_h, inner_w].contiguous(), stride)
        top, left = self.row - need_h.start * stride, self.col - need_w.start * stride
        return full[..., top : top + self.height, left : left + self.width]
