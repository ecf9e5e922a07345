"""Gradients of a window's objective in parts, for scenes whose activations do not fit memory all at once.

:class:`FieldWindow` takes them from the window to the tiles that its fields are smoothed from, and
:class:`BottleneckPullback` through the bottleneck, whose layers it computes again one by one.

Axes: B scenes, M tiles, F fields, C channels, h w rows and columns of the latent grid or of cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from .bottleneck import Bottleneck, BottleneckLayer, attend_scene
from .lmmoe import HALO
from .presets import Preset
from .tiling import TileGrid, enlarge, feather, smooth_fields, smoothing_radius


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
        reach = smoothing_radius(max(self.preset.field_sigmas))
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

    def fields(self, fields_MFhw: Tensor, tiles: tuple[int, ...]) -> Tensor:
        """Join, smooth and enlarge the fields of tiles, as :meth:`InfDehaze.forward` does for the whole scene.

        Parameters
        ----------
        fields_MFhw : Tensor
            What the decoder says of ``tiles``.
        tiles : tuple of int
            Those of :attr:`tiles` that hold data.

        Returns
        -------
        Tensor
            (1, F, height, width).
        """
        stride = self.preset.field_stride
        (need_h, seen_h), (need_w, seen_w) = self.rows, self.cols
        step, overlap, side = self.grid.step // stride, self.grid.overlap // stride, fields_MFhw.shape[-1]
        shape = fields_MFhw.shape[1] + 1, seen_h.stop - seen_h.start, seen_w.stop - seen_w.start
        canvas_Fhw = fields_MFhw.new_zeros(shape)
        for patch_Fhw, index in zip(fields_MFhw, tiles, strict=True):
            i, j = divmod(index, self.grid.cols)
            weight_h = feather(side, overlap, i == 0, i == self.grid.rows - 1, patch_Fhw.device)
            weight_w = feather(side, overlap, j == 0, j == self.grid.cols - 1, patch_Fhw.device)
            patch = torch.cat([patch_Fhw, torch.ones_like(patch_Fhw[:1])]) * weight_h[:, None] * weight_w
            top, left = i * step - seen_h.start, j * step - seen_w.start
            bottom, right = min(top + side, shape[1]), min(left + side, shape[2])
            inside = patch[:, max(0, -top) : bottom - top, max(0, -left) : right - left]
            canvas_Fhw[:, max(0, top) : bottom, max(0, left) : right] += inside
        preset = self.preset
        smooth = smooth_fields(canvas_Fhw[None, :-1], canvas_Fhw[None, -1:], *preset.field_sigmas, preset.thin_haze)
        inner_h = slice(need_h.start - seen_h.start, need_h.stop - seen_h.start)
        inner_w = slice(need_w.start - seen_w.start, need_w.stop - seen_w.start)
        full = enlarge(smooth[..., inner_h, inner_w].contiguous(), stride)
        top, left = self.row - need_h.start * stride, self.col - need_w.start * stride
        return full[..., top : top + self.height, left : left + self.width]


class BottleneckPullback:
    """The bottleneck on a scene in memory, and the gradient at its input from that at its output.

    Only the inputs of its layers are kept; a layer is computed again when its gradient is due: its attention as a
    whole, its experts in pieces of whole windows with their halo.

    Parameters
    ----------
    bottleneck : Bottleneck
        In evaluation mode.
    piece_tokens : int
        Tokens whose experts are computed at a time, about.
    """

    def __init__(self, bottleneck: Bottleneck, piece_tokens: int) -> None:
        self._layers = [layer for layer in bottleneck.layers if isinstance(layer, BottleneckLayer)]
        self._piece_tokens = piece_tokens
        self._inputs: list[tuple[Tensor, Tensor]] = []
        self._valid_Bhw = torch.empty(0)

    @torch.no_grad()
    def forward(self, x_BhwC: Tensor, valid_Bhw: Tensor) -> Tensor:
        """Do what :meth:`Bottleneck.forward` does, and keep what :meth:`backward` needs."""
        self._inputs, self._valid_Bhw = [], valid_Bhw
        x_BhwC = x_BhwC * valid_Bhw[..., None]
        for layer in self._layers:
            before = x_BhwC
            if layer.attention is not None:
                x_BhwC = x_BhwC + attend_scene(layer, x_BhwC, valid_Bhw)
            self._inputs.append((before, x_BhwC))
            mixed = torch.empty_like(x_BhwC)
            for inner, (x_piece, valid_piece) in self._pieces(layer, x_BhwC):
                mixed[inner] = _mix(layer, x_piece, valid_piece)
            x_BhwC = x_BhwC + mixed
        return x_BhwC

    def backward(self, grad_BhwC: Tensor) -> Tensor:
        """Return the gradient at the input of the last :meth:`forward`, which it forgets."""
        for layer in reversed(self._layers):
            before, between = self._inputs.pop()
            around = F.pad(torch.zeros_like(grad_BhwC), (0, 0, HALO, HALO, HALO, HALO))
            for inner, (x_piece, valid_piece) in self._pieces(layer, between):
                leaf = x_piece.clone().requires_grad_()
                with torch.enable_grad():
                    y = _mix(layer, leaf, valid_piece)
                rows, cols = inner[1], inner[2]
                halo = slice(rows.start, rows.stop + 2 * HALO), slice(cols.start, cols.stop + 2 * HALO)
                around[:, halo[0], halo[1]] += torch.autograd.grad(y, leaf, grad_BhwC[inner])[0]
            grad_BhwC = grad_BhwC + around[:, HALO:-HALO, HALO:-HALO]
            if layer.attention is not None:
                leaf = before.clone().requires_grad_()
                with torch.enable_grad():
                    y = attend_scene(layer, leaf, self._valid_Bhw)
                grad_BhwC = grad_BhwC + torch.autograd.grad(y, leaf, grad_BhwC)[0]
        return grad_BhwC * self._valid_Bhw[..., None]

    def _pieces(
        self, layer: BottleneckLayer, x_BhwC: Tensor
    ) -> list[tuple[tuple[slice, slice, slice], tuple[Tensor, Tensor]]]:
        """Cut a map into pieces of whole windows, each with its halo; nothing is valid beyond the scene."""
        window = layer.moe.window
        h, w = x_BhwC.shape[1:3]
        cols = max(1, min(-(-w // window), self._piece_tokens // window**2)) * window
        rows = max(1, self._piece_tokens // (cols * window)) * window
        padded = F.pad(x_BhwC, (0, 0, HALO, HALO, HALO, HALO))
        valid = F.pad(self._valid_Bhw, (HALO, HALO, HALO, HALO))
        pieces = []
        for i in range(0, h, rows):
            for j in range(0, w, cols):
                bottom, right = min(i + rows, h), min(j + cols, w)
                halo = slice(i, bottom + 2 * HALO), slice(j, right + 2 * HALO)
                inner = slice(None), slice(i, bottom), slice(j, right)
                pieces.append((inner, (padded[:, halo[0], halo[1]], valid[:, halo[0], halo[1]])))
        return pieces


def _mix(layer: BottleneckLayer, x_BhwC: Tensor, valid_Bhw: Tensor) -> Tensor:
    """Return what the experts add inside of a piece with its halo."""
    normed = layer.norm2(x_BhwC) * valid_Bhw[..., None]
    y_BhwC = layer.moe.sparse(normed, (HALO,) * 4)
    return y_BhwC * valid_Bhw[:, HALO:-HALO, HALO:-HALO, None]
