"""Tiles of a scene, and the fields that are joined from them: the geometry that training and streaming share.

Axes: B scenes, M tiles of a scene in row-major order, F fields, C channels, H W rows and columns, T tile side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SMALL_OUTPUT = 128

AIRLIGHT_FLOOR = 0.1
"""Weight of the airlight where no haze was found."""


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


def fill_invalid(tiles_BCHW: Tensor, valid_BHW: Tensor) -> Tensor:
    """Give pixels without data the mean colour of their tile's valid pixels (0 where there are none)."""
    if bool(valid_BHW.all()):
        return tiles_BCHW
    weight_B1HW = valid_BHW[:, None].to(tiles_BCHW.dtype)
    # selected, not multiplied: an invalid pixel may be NaN
    known = torch.where(valid_BHW[:, None], tiles_BCHW, 0)
    mean = known.sum((2, 3), keepdim=True) / weight_B1HW.sum((2, 3), keepdim=True).clamp(min=1)
    return torch.where(valid_BHW[:, None], tiles_BCHW, mean)


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


def normalise_fields(fields: Tensor, weight: Tensor) -> Tensor:
    """Divide joined fields by the joined weight of the tiles with data, so that empty neighbours fade nothing."""
    return torch.where(weight > 0, fields / weight.clamp(min=torch.finfo(weight.dtype).tiny), 0)


def smoothing_radius(sigma: float) -> int:
    """Return how many cells around a cell a Gaussian of ``sigma`` cells reaches."""
    return math.ceil(3 * sigma)


def smooth_fields(
    fields_BFhw: Tensor,
    weight_B1hw: Tensor,
    sigma: float,
    airlight_sigma: float | None = None,
    thin_haze: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Smooth joined fields by a Gaussian, and divide by the weight of the tiles with data smoothed alike.

    Haze is smooth where ground is not, and so are the fields that tell them apart (decided here). Cells beyond the
    scene and in tiles without data have no weight, so that edges and holes fade nothing. The airlight, the colour of
    the haze itself, hardly changes over a scene, and shows only where there is haze: it is smoothed further, with the
    share of the light that the haze made as its weight.

    Parameters
    ----------
    fields_BFhw, weight_B1hw : Tensor
        Sums of feathered fields and of feathered ones.
    sigma : float
        Standard deviation in cells; 0 only divides.
    airlight_sigma : float, optional
        The same for the airlight, fields 3 to 5 of nine; like the others without it.
    thin_haze : tuple of float, optional
        See :func:`leave_clear`, which comes last.
    """
    none, full = thin_haze
    if full <= 0:
        # the depth around is not asked for
        return _smooth_all(fields_BFhw, weight_B1hw, sigma, airlight_sigma)
    look_BFhw = smooth_look(fields_BFhw, weight_B1hw, sigma, airlight_sigma)
    return leave_clear(look_BFhw[:, :-1], look_BFhw[:, -1:], none, full)


def smooth_look(fields_BFhw: Tensor, weight_B1hw: Tensor, sigma: float, airlight_sigma: float | None = None) -> Tensor:
    """Smooth joined fields, and add the mean optical depth around each cell: all that :func:`leave_clear` asks.

    Parameters
    ----------
    fields_BFhw, weight_B1hw, sigma, airlight_sigma
        As for :func:`smooth_fields`.

    Returns
    -------
    Tensor
        (B, F + 1, h, w): the fields, and the depth around.
    """
    smooth_BFhw = _smooth_all(fields_BFhw, weight_B1hw, sigma, airlight_sigma)
    around_B1hw = _smooth(fields_BFhw[:, :3].mean(1, keepdim=True), weight_B1hw, airlight_sigma or sigma)
    return torch.cat([smooth_BFhw, around_B1hw], 1)


def mix_looks(fine_BFhw: Tensor, coarse_BFhw: Tensor, share: float) -> Tensor:
    """Mix what was seen in the scene with what was seen at half its size, on the same cells.

    A tile of the halved picture shows four times the ground, which tells levels better; the finer look tells edges
    better (decided here).

    Parameters
    ----------
    fine_BFhw, coarse_BFhw : Tensor
        Smoothed looks; the coarse one enlarged (:func:`double_cells`).
    share : float
        Of the coarse one.
    """
    return fine_BFhw * (1 - share) + coarse_BFhw * share


def double_cells(coarse_BFhw: Tensor, height: int, width: int) -> Tensor:
    """Enlarge cells of a halved scene to those of the scene; where they end too early, the last one is repeated."""
    large = enlarge(coarse_BFhw, 2)[:, :, :height, :width]
    below, right = height - large.shape[2], width - large.shape[3]
    return F.pad(large, (0, right, 0, below), mode="replicate") if below or right else large


def leave_clear(fields_BFhw: Tensor, around_B1hw: Tensor, none: float, full: float) -> Tensor:
    """Take no haze away where the mean optical depth is up to ``none``, all of it from ``full`` on.

    A little haze cannot be told from ground with lifted shadows, and clear ground is to stay (decided here). What
    counts is the larger depth of here and ``around``: gaps between patches, and small patches, are not clear ground.
    With a ``full`` of 0 all is taken everywhere.
    """
    if full <= 0:
        return fields_BFhw
    depth_B3hw, airlight_B3hw, residual_B3hw = fields_BFhw.chunk(3, 1)
    depth_B1hw = torch.maximum(depth_B3hw.mean(1, keepdim=True), around_B1hw)
    share = ((depth_B1hw - none) / max(full - none, 1e-6)).clamp(0, 1)
    share = share * share * (3 - 2 * share)
    return torch.cat([depth_B3hw * share, airlight_B3hw, residual_B3hw * share], 1)


def _smooth_all(fields_BFhw: Tensor, weight_B1hw: Tensor, sigma: float, airlight_sigma: float | None) -> Tensor:
    if airlight_sigma is None or airlight_sigma == sigma:
        return _smooth(fields_BFhw, weight_B1hw, sigma)
    depth_B3hw, airlight_B3hw, residual_B3hw = fields_BFhw.chunk(3, 1)
    depth_B1hw = normalise_fields(depth_B3hw, weight_B1hw).mean(1, keepdim=True)
    seen_B1hw = AIRLIGHT_FLOOR - torch.expm1(-depth_B1hw.clamp(min=0))
    airlight = _smooth(airlight_B3hw * seen_B1hw, weight_B1hw * seen_B1hw, airlight_sigma)
    others = _smooth(torch.cat([depth_B3hw, residual_B3hw], 1), weight_B1hw, sigma)
    return torch.cat([others[:, :3], airlight, others[:, 3:]], 1)


def _smooth(fields_BFhw: Tensor, weight_B1hw: Tensor, sigma: float) -> Tensor:
    both = torch.cat([fields_BFhw, weight_B1hw], 1)
    if sigma:
        channels, radius = both.shape[1], smoothing_radius(sigma)
        offset = torch.arange(-radius, radius + 1, device=both.device, dtype=both.dtype)
        kernel = torch.exp(-0.5 * (offset / sigma) ** 2)
        kernel = (kernel / kernel.sum()).expand(channels, 1, 1, -1)
        both = F.conv2d(both, kernel, padding=(0, radius), groups=channels)
        both = F.conv2d(both, kernel.transpose(2, 3), padding=(radius, 0), groups=channels)
    return normalise_fields(both[:, :-1], both[:, -1:])


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
