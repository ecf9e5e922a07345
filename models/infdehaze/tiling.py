"""Tiles of a scene, and the fields that are joined from them: the geometry that training and streaming share.

Axes: B scenes, M tiles of a scene in row-major order, F fields, C channels, H W rows and columns, T tile side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SMALL_OUTPUT = 128


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Tiles of side ``tile`` that overlap by ``overlap`` and cover ``height`` x ``width`` pixels from the upper left.

    Raises
    ------
    ValueError
        For sizes below 1, or an overlap that is negative or above half a tile.
    """

    height: int
    width: int
    tile: int = 256
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError("a scene has at least one row and one column")
        if self.tile < 1:
            raise ValueError("a tile has at least one pixel")
        if not 0 <= self.overlap <= self.tile // 2:
            raise ValueError("overlap must be between 0 and half a tile")

    @property
    def step(self) -> int:
        """Pixels from one tile to the next."""
        return self.tile - self.overlap

    @property
    def rows(self) -> int:
        """Tiles from top to bottom."""
        return max(1, -(-(self.height - self.overlap) // self.step))

    @property
    def cols(self) -> int:
        """Tiles from left to right."""
        return max(1, -(-(self.width - self.overlap) // self.step))

    @property
    def count(self) -> int:
        """Number of tiles."""
        return self.rows * self.cols

    @property
    def padded_height(self) -> int:
        """Rows that the tiles cover together."""
        return (self.rows - 1) * self.step + self.tile

    @property
    def padded_width(self) -> int:
        """Columns that the tiles cover together."""
        return (self.cols - 1) * self.step + self.tile

    def origin(self, index: int) -> tuple[int, int]:
        """Return row and column of the upper-left pixel of a tile."""
        return index // self.cols * self.step, index % self.cols * self.step


def mirror_pad(x_BCHW: Tensor, height: int, width: int) -> Tensor:
    """Extend a picture to ``height`` x ``width`` by mirroring, by any distance (the edge pixel is repeated)."""
    for axis, size in ((2, height), (3, width)):
        have = x_BCHW.shape[axis]
        if size > have:
            index = torch.arange(size, device=x_BCHW.device) % (2 * have)
            x_BCHW = x_BCHW.index_select(axis, torch.where(index < have, index, 2 * have - 1 - index))
    return x_BCHW


def halve(x_BCHW: Tensor, valid_BHW: Tensor) -> tuple[Tensor, Tensor]:
    """Shrink a picture to half its size, rounded up: the mean of the valid ones of four pixels.

    A last row or column alone is repeated. A pixel is valid where one of the four is; others become 0.

    Returns
    -------
    tuple of Tensor
        (B, C, H / 2, W / 2), and bool (B, H / 2, W / 2).
    """
    H, W = x_BCHW.shape[2:]
    even = (H + H % 2, W + W % 2)

    def four(y: Tensor) -> Tensor:
        # added in one order, so that windows agree exactly with the whole
        return (y[..., ::2, ::2] + y[..., ::2, 1::2]) + (y[..., 1::2, ::2] + y[..., 1::2, 1::2])

    if bool(valid_BHW.all()):
        # the same numbers as below, in half of the time
        half_BChw = four(mirror_pad(x_BCHW, *even)) / 4
        return half_BChw, torch.ones_like(half_BChw[:, 0], dtype=torch.bool)
    weight_B1HW = mirror_pad(valid_BHW[:, None], *even).to(x_BCHW.dtype)
    # selected, not multiplied: an invalid pixel may be NaN
    known_BCHW = mirror_pad(torch.where(valid_BHW[:, None], x_BCHW, 0), *even)
    count_B1hw = four(weight_B1HW)
    return four(known_BCHW) / count_B1hw.clamp(min=1), count_B1hw[:, 0] > 0


def cut_tiles(x_BCHW: Tensor, grid: TileGrid) -> Tensor:
    """Cut a padded picture into (B, M, C, T, T)."""
    B, C = x_BCHW.shape[:2]
    tiles = x_BCHW.unfold(2, grid.tile, grid.step).unfold(3, grid.tile, grid.step)
    return tiles.permute(0, 2, 3, 1, 4, 5).reshape(B, grid.count, C, grid.tile, grid.tile)


def join_latents(latent_BMhwC: Tensor, grid: TileGrid) -> Tensor:
    """Put the latents of all tiles side by side: (B, rows * h, cols * w, C) (algorithm 1, "concatenate")."""
    B, _, h, w, C = latent_BMhwC.shape
    x = latent_BMhwC.view(B, grid.rows, grid.cols, h, w, C).transpose(2, 3)
    return x.reshape(B, grid.rows * h, grid.cols * w, C)


def split_latents(latent_BhwC: Tensor, grid: TileGrid) -> Tensor:
    """Undo :func:`join_latents`: (B, M, h, w, C) (algorithm 1, "split")."""
    B, H, W, C = latent_BhwC.shape
    h, w = H // grid.rows, W // grid.cols
    x = latent_BhwC.view(B, grid.rows, h, grid.cols, w, C).transpose(2, 3)
    return x.reshape(B, grid.count, h, w, C)


def feather(size: int, overlap: int, first: bool, last: bool, device: torch.device | None = None) -> Tensor:
    """Return the weights of a tile along one axis; those of neighbours add up to 1 across their overlap."""
    weight = torch.ones(size, device=device)
    if overlap:
        ramp = (torch.arange(overlap, device=device) + 0.5) / overlap
        if not first:
            weight[:overlap] = ramp
        if not last:
            weight[size - overlap :] = 1 - ramp
    return weight


def join_fields(fields_BMFhw: Tensor, grid: TileGrid, stride: int) -> Tensor:
    """Blend the fields of all tiles, feathered across the overlaps: (B, F, rows, cols) at ``stride``."""
    B, _, fields, h, w = fields_BMFhw.shape
    step, overlap = grid.step // stride, grid.overlap // stride
    canvas = fields_BMFhw.new_zeros(B, fields, grid.padded_height // stride, grid.padded_width // stride)
    for index in range(grid.count):
        i, j = divmod(index, grid.cols)
        weight_h = feather(h, overlap, i == 0, i == grid.rows - 1, canvas.device)
        weight_w = feather(w, overlap, j == 0, j == grid.cols - 1, canvas.device)
        patch = fields_BMFhw[:, index] * weight_h[:, None] * weight_w
        canvas[:, :, i * step : i * step + h, j * step : j * step + w] += patch
    return canvas


def mix_looks(fine_BFhw: Tensor, coarse_BFhw: Tensor, share: float) -> Tensor:
    """Mix what was seen in the scene with what was seen at half its size, on the same cells.

    A tile of the halved picture shows four times the ground, which tells levels better; the finer look tells edges
    better (decided here).

    Parameters
    ----------
    fine_BFhw, coarse_BFhw : Tensor
        Smoothed looks, of scenes or of one, (F, h, w); the coarse one enlarged (:func:`double_cells`). What only the
        finer one has, the detail of the depth, stays as it is.
    share : float
        Of the coarse one.
    """
    both = coarse_BFhw.shape[-3]
    mixed_BFhw = fine_BFhw[..., :both, :, :] * (1 - share) + coarse_BFhw * share
    return torch.cat([mixed_BFhw, fine_BFhw[..., both:, :, :]], -3)


def double_cells(coarse_BFhw: Tensor, height: int, width: int) -> Tensor:
    """Enlarge cells of a halved scene to those of the scene; where they end too early, the last one is repeated."""
    large = enlarge(coarse_BFhw, 2)[:, :, :height, :width]
    below, right = height - large.shape[2], width - large.shape[3]
    return F.pad(large, (0, right, 0, below), mode="replicate") if below or right else large


def enlarge(fields_BFhw: Tensor, stride: int) -> Tensor:
    """Enlarge fields bilinearly by ``stride``; windows with a cell of halo agree exactly with the whole."""
    if stride == 1:
        return fields_BFhw
    h, w = fields_BFhw.shape[2:]
    # PyTorch rounds differently where the output's height and width add up to 128 or less, or channels come last
    more = max(0, SMALL_OUTPUT // stride + 1 - h - w)
    large = F.pad(fields_BFhw, (0, more, 0, 0), mode="replicate").contiguous()
    return F.interpolate(large, scale_factor=stride, mode="bilinear", align_corners=False)[..., : w * stride]


def scatter(hazy_B3HW: Tensor, fields_B9HW: Tensor, strength: float = 1.0) -> Tensor:
    """Invert the scattering model: ``J = A + (I - A) exp(d) + r``, written so that d = r = 0 is exactly the identity.

    Parameters
    ----------
    hazy_B3HW : Tensor
        Picture I.
    fields_B9HW : Tensor
        Optical depth d, airlight A and residual r, three bands each.
    strength : float
        0..1, scales d and r.
    """
    depth, airlight, residual = fields_B9HW.chunk(3, 1)
    if strength != 1.0:
        depth, residual = depth * strength, residual * strength
    return hazy_B3HW + torch.expm1(depth) * (hazy_B3HW - airlight) + residual
