"""What the network sees where a tile has no data: ground of the same tile (decided here).

Ranked statistics, and layers that compare neighbours, take one even colour for haze or water. So a patch of a tile
that has no data shows another one that has. Black edges of which a file does not say that they are no data would be
taken for ground, and the darkest there is: no haze could lie over it, nor near it. So they are found here.

Axes: C channels, H W rows and columns of a tile, h w those of its patches, P pixels of a patch.
"""

from __future__ import annotations

from math import gcd

import torch
import torch.nn.functional as F
from torch import Tensor

PATCH = 8
"""Pixels of a patch's side, as of the statistics and of the embedding."""

CELL = 64
"""Pixels of the side of an area whose own patches are preferred, as of a latent cell of `lite`."""


def fill_invalid(tiles_BCHW: Tensor, valid_BHW: Tensor) -> Tensor:
    """Return the tiles of :func:`fill_and_weigh`."""
    return fill_and_weigh(tiles_BCHW, valid_BHW)[0]


def fill_and_weigh(tiles_BCHW: Tensor, valid_BHW: Tensor) -> tuple[Tensor, Tensor]:
    """Give pixels without data something that their tile shows elsewhere; values under them influence nothing.

    Of a tile that holds little data little can be known, so what is said of it weighs as much as it has.

    Up to half of a patch takes the mean colour of the rest of it. Patches with less data than that become copies of
    those with more, evenly drawn from the 64 px around or, if there are none, from the tile; where no patch of a tile
    has so much, any data will do. What :func:`black_edges` finds counts as no data.

    Parameters
    ----------
    tiles_BCHW : Tensor
        float; may be anything where there is no data.
    valid_BHW : Tensor
        bool, True where there is.

    Returns
    -------
    tuple of Tensor
        The very tiles if nothing is missing; a tile without any data is 0. And (B,), the share of each tile's pixels
        that hold data, never less than one pixel's.
    """
    whole = (valid_BHW.flatten(1).all(1) & ~_may_have_black_edges(tiles_BCHW)).tolist()
    if all(whole):
        return tiles_BCHW, tiles_BCHW.new_ones(len(whole))
    known_BHW = valid_BHW.clone()
    for tile_CHW, known_HW, full in zip(tiles_BCHW, known_BHW, whole, strict=True):
        if not full:
            known_HW &= ~black_edges(tile_CHW, known_HW)
    each = zip(tiles_BCHW, known_BHW, whole, strict=True)
    filled = torch.stack([tile if full else _fill(tile, known) for tile, known, full in each])
    pixels = known_BHW[0].numel()
    # counted in fp32, in which every count up to 2**24 is exact
    return filled, known_BHW.flatten(1).sum(1).clamp(min=1).to(torch.float32) / pixels


def _may_have_black_edges(tiles_BCHW: Tensor) -> Tensor:
    """Return (B,) False for tiles without a black pixel where every edge has one: quicker than to look for edges."""
    every, last = slice(None, None, PATCH), slice(-1, None)
    looked_at = (tiles_BCHW[:, :, rows, cols] for rows in (every, last) for cols in (every, last))
    return torch.stack([(x == 0).all(1).flatten(1).any(1) for x in looked_at]).any(0)


def black_edges(tile_CHW: Tensor, valid_HW: Tensor) -> Tensor:
    """Return (H, W) True for black edges: where `PATCH` x `PATCH` px and more are 0 in all bands, and one px around.

    No ground that a sensor sees is so even. What lies beyond the tile counts as black, so that the last of an edge is
    found where it leaves the tile, and black pixels near are taken with it. One pixel more, because where a picture was
    made smaller its edges are mixed.
    """
    black_1HW = ((tile_CHW == 0).all(0) & valid_HW)[None].float()
    beyond = F.pad(black_1HW, (PATCH - 1,) * 4, value=1.0)
    found_1HW = F.max_pool2d(-F.max_pool2d(-beyond, PATCH, stride=1), PATCH, stride=1)
    while True:
        near_1HW = black_1HW * F.max_pool2d(found_1HW, 2 * PATCH + 1, stride=1, padding=PATCH)
        if torch.equal(near_1HW, found_1HW):
            return F.max_pool2d(found_1HW, 3, stride=1, padding=1)[0] > 0
        found_1HW = near_1HW


def _fill(tile_CHW: Tensor, valid_HW: Tensor) -> Tensor:
    side = gcd(PATCH, *valid_HW.shape)
    # selected, not multiplied: an invalid pixel may be NaN
    known_CPhw = F.pixel_unshuffle(torch.where(valid_HW, tile_CHW, 0)[:, None], side)
    valid_Phw = F.pixel_unshuffle(valid_HW[None].to(tile_CHW.dtype), side) > 0
    count_hw = valid_Phw.sum(0)
    mean_C1hw = known_CPhw.sum(1, keepdim=True) / count_hw.clamp(min=1)
    filled_CPhw = torch.where(valid_Phw, known_CPhw, mean_C1hw)
    enough_hw = 2 * count_hw >= side * side
    if not bool(enough_hw.any()):
        enough_hw = count_hw > 0
    source = _sources(enough_hw, CELL // side)
    copied = filled_CPhw.flatten(2).index_select(2, source).view(filled_CPhw.shape)
    return F.pixel_shuffle(copied, side)[:, 0]


def _sources(enough_hw: Tensor, cell: int) -> Tensor:
    """Return for each patch, row by row, the number of the one that it shows; ``cell`` in patches."""
    h, w = enough_hw.shape
    patch_N = torch.arange(h * w, device=enough_hw.device)
    enough_N = enough_hw.flatten()
    source_N, needy_N = patch_N, ~enough_N
    if h % cell == 0 and w % cell == 0:
        # patches of a cell one after the other
        order_Gn = patch_N.view(h // cell, cell, w // cell, cell).transpose(1, 2).reshape(-1, cell * cell)
        own_Gn = order_Gn.gather(1, _borrow(enough_N[order_Gn], needy_N[order_Gn]))
        source_N = torch.empty_like(patch_N).scatter(0, order_Gn.flatten(), own_Gn.flatten())
        needy_N = needy_N & ~enough_N[source_N]
    return torch.where(needy_N, _borrow(enough_N[None], needy_N[None])[0], source_N)


def _borrow(enough_Gn: Tensor, needy_Gn: Tensor) -> Tensor:
    """Return for each patch of a group its own number, and for the needy ones that of one with enough, if any."""
    count_G1, wanted_G1 = (x.sum(1, keepdim=True) for x in (enough_Gn, needy_Gn))
    givers_Gn = (~enough_Gn).to(torch.uint8).argsort(dim=1, stable=True)
    # evenly over all of them
    turn_Gn = (needy_Gn.cumsum(1) - 1).clamp(min=0) * count_G1 // wanted_G1.clamp(min=1)
    own_Gn = torch.arange(enough_Gn.shape[1], device=enough_Gn.device).expand_as(givers_Gn)
    return torch.where(needy_Gn & (count_G1 > 0), givers_Gn.gather(1, turn_Gn), own_Gn)
