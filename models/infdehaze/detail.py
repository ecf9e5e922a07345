"""Detail of the optical depth that smoothing has taken from it, given back by the dark channel (decided here).

Smoothing across tiles is what makes depths of single cells true, and it blurs the edges of patches of haze. The dark
channel (He 2009), the darkest of an area in any band, shows these edges, and the ground besides. So around each cell
it is asked how depth goes with the dark channel, by least squares as in the guided filter (He 2010), and what the dark
channel has of detail goes into the depth by that much: nothing where they have nothing to do with each other.

Axes: B tiles or scenes, h w rows and columns of cells.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PATCH = 8
"""Pixels of a side of the areas whose darkest value is taken."""

LEAST_DEPTH = 0.05
"""Mean optical depth below which detail counts as if there were as much."""


def dark_channel(tiles_B3HW: Tensor, stride: int) -> Tensor:
    """Return the darkest value in any band, of areas of `PATCH` px, as a mean over cells: float32 (B, h, w, 1)."""
    dark_B1HW = -F.max_pool2d(-tiles_B3HW.float().amin(1, keepdim=True), min(PATCH, stride))
    return F.avg_pool2d(dark_B1HW, max(1, stride // PATCH)).permute(0, 2, 3, 1)


def slope(depth_B1hw: Tensor, dark_B1hw: Tensor, both_B1hw: Tensor, square_B1hw: Tensor, texture: float) -> Tensor:
    """Return how depth goes with the dark channel, from the means around of them, their product and the square of this.

    Never less than 0: haze is not darker than ground.
    """
    variance_B1hw = (square_B1hw - dark_B1hw.square()).clamp(min=0)
    return ((both_B1hw - depth_B1hw * dark_B1hw) / (variance_B1hw + texture)).clamp(min=0)


def relative(detail_B1hw: Tensor, fields_BFhw: Tensor) -> Tensor:
    """Return detail as a share of the mean optical depth, fields 0 to 2."""
    return detail_B1hw / fields_BFhw[:, :3].mean(1, keepdim=True).clamp(min=LEAST_DEPTH)


def add_detail(fields_BFhw: Tensor, share_B1hw: Tensor) -> Tensor:
    """Add a share of itself to the optical depth of each band; none becomes negative, and one of 0 stays."""
    depth_B3hw = fields_BFhw[:, :3]
    more_B3hw = torch.where(depth_B3hw > 0, (depth_B3hw * (1 + share_B1hw)).clamp(min=0), depth_B3hw)
    return torch.cat([more_B3hw, fields_BFhw[:, 3:]], 1)
