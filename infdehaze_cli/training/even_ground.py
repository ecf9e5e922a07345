"""Even ground for training: water, sand, snow, paved ground and fields, of which most data sets have little."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

TURBID = 0.4
"""Share of the water that is bright: with mud or algae, or shallow."""

GLINT = 0.3
"""Share of the water on which the sun glitters."""

RELIEF = 0.12
"""Largest relative deviation of the brightness."""


@lru_cache(maxsize=16)
def _bicubic(cells: int, side: int) -> Tensor:
    """Return the weights (side, cells) of bicubic enlargement along one axis: two products are quicker than taps."""
    each = torch.eye(cells)[None, None]
    return F.interpolate(each, size=(side, cells), mode="bicubic", align_corners=False)[0, 0]


def smooth_noise(rng: np.random.Generator, side: int, cells: int, channels: int = 1) -> Tensor:
    """Return noise (channels, side, side) with a standard deviation of about 1 and structures of side / cells px."""
    coarse = torch.from_numpy(rng.standard_normal((channels, cells, cells), dtype=np.float32))
    weight = _bicubic(cells, side)
    return weight @ coarse @ weight.T


def _water(rng: np.random.Generator) -> list[float]:
    # red, green and blue of clear water rise in this order; mud and algae turn it bright, green or brown
    red = rng.uniform(0.1, 0.4) if rng.random() < TURBID else rng.uniform(0.01, 0.16)
    green = red + rng.uniform(0.0, 0.22)
    return [red, green, max(0.0, green + rng.uniform(-0.18, 0.14))]


def _sand(rng: np.random.Generator) -> list[float]:
    bright = rng.uniform(0.45, 0.95)
    green = bright * rng.uniform(0.84, 1.0)
    return [bright, green, green * rng.uniform(0.72, 1.0)]


def _paved(rng: np.random.Generator) -> list[float]:
    # asphalt, concrete and roofs: grey
    return list(rng.uniform(0.2, 0.8) * rng.uniform(0.94, 1.06, 3))


def _field(rng: np.random.Generator) -> list[float]:
    # crops and grass, or soil: blue is the darkest, red or green the brightest
    bright = rng.uniform(0.2, 0.65)
    return [bright * rng.uniform(0.55, 1.1), bright * rng.uniform(0.8, 1.0), bright * rng.uniform(0.3, 0.75)]


def _snow(rng: np.random.Generator) -> list[float]:
    # snow and ice: nearly white, bluish in the shade
    bright = rng.uniform(0.7, 0.98)
    blue = rng.uniform(-0.01, 0.06)
    return [bright * (1 - blue), bright * (1 - blue / 2), bright]


GROUNDS = ((0.36, _water), (0.2, _sand), (0.09, _paved), (0.09, _field), (0.26, _snow))
"""Shares and colours. Snow must be common, or all that is white is taken for thick haze."""


def lay_even_ground(picture_3HW: Tensor, rng: np.random.Generator) -> Tensor:
    """Cover a part of a picture, or all of it, with water, sand, snow or the like: even ground.

    Haze over it is told by its colour alone, and steps of brightness show most there.
    """
    height, width = picture_3HW.shape[1:]
    side = max(height, width)

    def smooth(cells: int, channels: int = 1) -> Tensor:
        return smooth_noise(rng, side, cells, channels)[:, :height, :width]

    _, colour = GROUNDS[rng.choice(len(GROUNDS), p=[share for share, _ in GROUNDS])]
    colour_311 = torch.tensor(colour(rng), dtype=torch.float32)[:, None, None]
    # waves and swell, or slopes and drifts in the sun: structures of all sizes
    rough = rng.uniform(0.3, 0.7)
    shade = (smooth(6) + rough * smooth(18) + rough**2 * smooth(54)) * rng.uniform(0, RELIEF)
    ripple = smooth(max(4, round(side / rng.uniform(1.5, 6)))) * rng.uniform(0.0, 0.06)
    ground = colour_311 * (1 + shade + ripple) + smooth(4, 3) * 0.005
    if colour is _water and rng.random() < GLINT:
        ground = ground + (smooth(max(4, round(side / rng.uniform(1.2, 3)))) - 1.2).clamp(min=0) * rng.uniform(0, 0.3)
    shore = (smooth(int(rng.integers(4, 9))) - rng.uniform(-3.2, 0.6)) * side / 16
    cover = shore.clamp(0, 1)
    return cover * ground + (1 - cover) * picture_3HW
