"""Sorted statistics of patches: what the darkest, haziest and brightest parts of a cell and of its tile look like.

Decided here. Classical dehazing reads optical depth and airlight off just these (the dark channel, the palest pixels);
layers that average find ranks only slowly: from 19,000 crops, a small network on ranks alone told the mean depth and
the airlight better than the whole one without them after 75,000.

Axes: B tiles, S statistics, h w rows and columns of the latent, P patches, C channels, F coarse fields.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH = 8
"""Pixels of a patch's side."""

STATISTICS = 15
"""Of a patch: minimum, maximum, mean, deviation of three bands; the least minimum, the largest maximum, saturation."""

CELL_RANKS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
TILE_RANKS = (0.0, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.995, 1.0)
"""Which of the sorted values are taken, as shares of their number."""


def patch_statistics(tiles_B3HW: Tensor) -> Tensor:
    """Return the statistics (B, S, H / 8, W / 8) of each patch of pictures with values around 0..1, centred on 0."""
    bands_B3PHW = F.pixel_unshuffle(tiles_B3HW, PATCH).unflatten(1, (3, -1))
    low, high = bands_B3PHW.amin(2), bands_B3PHW.amax(2)
    mean_B3HW = bands_B3PHW.mean(2)
    deviation = (bands_B3PHW - mean_B3HW[:, :, None]).square().mean(2).add(1e-6).sqrt()
    dark, bright = low.amin(1, keepdim=True), high.amax(1, keepdim=True)
    saturation = mean_B3HW.amax(1, keepdim=True) - mean_B3HW.amin(1, keepdim=True)
    levels = torch.cat([low, dark, high, bright, mean_B3HW], 1) * 2 - 1
    return torch.cat([levels, saturation * 2, deviation * 4], 1)


def ranked(values_BSP: Tensor, ranks: tuple[float, ...]) -> Tensor:
    """Return the values at the given ranks of each sorted row: (..., S, ranks); no interpolation, so none rounds."""
    count = values_BSP.shape[-1]
    index = torch.tensor([round(rank * (count - 1)) for rank in ranks], device=values_BSP.device)
    return values_BSP.sort(-1).values.index_select(-1, index)


def default_carrier(fields: int, dim: int) -> Tensor:
    """Return the directions (fields, dim) in which a latent carries coarse fields: the first channels, one each."""
    carrier = torch.empty(fields, dim)
    # loading fills it; `eye` of a meta tensor would make torch import its compiler
    return carrier if carrier.is_meta else torch.eye(fields, dim)


def read_carried(latent_BhwC: Tensor, carrier_FC: Tensor) -> Tensor:
    """Return what a latent carries: float32 (B, h, w, F).

    In double precision, which autocast and TF32 leave alone: a level in half precision is off by several digital
    numbers, and this takes no time.
    """
    return (latent_BhwC.double() @ carrier_FC.double().T).float()


class TileStatistics(nn.Module):
    """Predict coarse fields from ranked statistics of each latent cell and of the whole tile.

    The latent carries them to the bottleneck and to the decoder's head, in directions of their own, from which all else
    is taken away: nothing that is learned elsewhere blurs them.

    Parameters
    ----------
    side : int
        Cells of the latent along a side of the tile.
    dim : int
        Channels of the latent.
    fields : int
        Number of coarse fields.
    hidden : int
        Width of the two layers between.
    tells : bool
        Whether the latent also tells what the fields were read from, for the bottleneck to weigh them by.

    Notes
    -----
    The last layer starts at zero, and `tools/fit_statistics.py` gives it something better to start from. ``carrier`` is
    a buffer of orthogonal rows, which the head has too; their length is one over the scale at which fields are written.
    """

    carrier: Tensor

    def __init__(self, side: int, dim: int, fields: int, hidden: int = 256, *, tells: bool = False) -> None:
        super().__init__()
        self.side = side
        self.mlp = nn.Sequential(
            nn.Linear(STATISTICS * (len(CELL_RANKS) + len(TILE_RANKS)), hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, fields),
        )
        self.tell = nn.Linear(hidden, dim) if tells else None
        self.register_buffer("carrier", default_carrier(fields, dim))

    def features(self, tiles_B3HW: Tensor) -> Tensor:
        """Return the ranked statistics of tiles of any floating dtype: float32 (B, h, w, features)."""
        return self.rank(patch_statistics(tiles_B3HW.float()))

    def rank(self, maps_BSHW: Tensor) -> Tensor:
        """Return the ranks of each cell and of the whole, of tiles whose statistics of patches are given."""
        B, S, H, W = maps_BSHW.shape
        h = w = self.side
        cells = maps_BSHW.view(B, S, h, H // h, w, W // w).permute(0, 2, 4, 1, 3, 5).reshape(B, h, w, S, -1)
        own = ranked(cells, CELL_RANKS).flatten(3)
        whole = ranked(maps_BSHW.flatten(2), TILE_RANKS).flatten(1)
        return torch.cat([own, whole[:, None, None].expand(B, h, w, -1)], -1)

    def forward(self, tiles_B3HW: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map (B, 3, H, W) to coarse fields (B, h, w, F), before they are bounded, and what a latent tells of them."""
        # levels need all their digits, whatever the rest computes in
        with torch.autocast(tiles_B3HW.device.type, enabled=False):
            y = self.mlp[:-1](self.features(tiles_B3HW))
            return self.mlp[-1](y), None if self.tell is None else self.tell(y)

    def write(self, latent_BhwC: Tensor, fields_BhwF: Tensor) -> Tensor:
        """Let a latent carry fields, in place of what it has in these directions; the result is float32."""
        carrier_FC = self.carrier.double()
        # rows of one length: what is read is divided by it twice, once for the direction and once for the scale
        change_BhwF = (fields_BhwF - read_carried(latent_BhwC, carrier_FC)).double()
        return (latent_BhwC + change_BhwF @ (carrier_FC / carrier_FC.square().sum(-1, keepdim=True))).float()
