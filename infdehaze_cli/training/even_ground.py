"""Even ground for training: water, sand and snow, which most data sets lack."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

WATER, SAND = 0.42, 0.26
"""Shares of the ground; the rest is snow, which must be common, or all that is white is taken for thick haze."""

RELIEF = 0.12
"""Largest relative deviation of the brightness."""


@lru_cache(maxsize=16)
def _bicubic(cells: int, side: int) -> Tensor:
    """Return the weights (side, cells) of bicubic enlargement along one axis: two products are quicker than taps."""
    each = torch.eye(cells)[None, None]
    return F.interpolate(each, size=(side, cells), mode="bicubic", align_corners=False)[0, 0]


def lay_even_ground(picture_3HW: Tensor, rng: np.random.Generator) -> Tensor:
    """Cover a part of a picture, or all of it, with water, sand or snow: even ground, which most data sets lack.

    Haze over it is told by its colour alone, and steps of brightness show most there.
    """
    side = max(picture_3HW.shape[1:])

    def smooth(cells: int, channels: int = 1) -> Tensor:
        coarse = torch.from_numpy(rng.standard_normal((channels, cells, cells), dtype=np.float32))
        weight = _bicubic(cells, side)
        return weight[: picture_3HW.shape[1]] @ coarse @ weight[: picture_3HW.shape[2]].T

    kind = rng.random()
    if kind < WATER:
        # water: red, green and blue rise in this order, and turbid water is brighter and greener
        red = rng.uniform(0.01, 0.16)
        green = red + rng.uniform(0.01, 0.2)
        colour = [red, green, max(0.0, green + rng.uniform(-0.06, 0.14))]
    elif kind < WATER + SAND:
        bright = rng.uniform(0.45, 0.95)
        green = bright * rng.uniform(0.84, 1.0)
        colour = [bright, green, green * rng.uniform(0.72, 1.0)]
    else:
        # snow and ice: nearly white, bluish in the shade
        bright = rng.uniform(0.7, 0.98)
        blue = rng.uniform(-0.01, 0.06)
        colour = [bright * (1 - blue), bright * (1 - blue / 2), bright]
    colour_311 = torch.tensor(colour, dtype=torch.float32)[:, None, None]
    # waves and swell, or slopes and drifts in the sun: structures of all sizes
    rough = rng.uniform(0.3, 0.7)
    shade = (smooth(6) + rough * smooth(18) + rough**2 * smooth(54)) * rng.uniform(0, RELIEF)
    ripple = smooth(max(4, round(side / rng.uniform(1.5, 6)))) * rng.uniform(0.0, 0.06)
    ground = colour_311 * (1 + shade + ripple) + smooth(4, 3) * 0.005
    shore = (smooth(int(rng.integers(4, 9))) - rng.uniform(-3.2, 0.6)) * side / 16
    cover = shore.clamp(0, 1)
    return cover * ground + (1 - cover) * picture_3HW
