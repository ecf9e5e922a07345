"""The fields of a scene, smoothed across its tiles, and clear ground left (decided here).

Axes: B scenes, F fields, h w rows and columns of cells.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .detail import add_detail, relative, slope

AIRLIGHT_FLOOR = 0.1
"""Weight of the airlight where no haze was found."""

HERE = 0.7
"""Share of the optical depth of a cell that counts in telling clear ground, beside the mean around it."""


def normalise_fields(fields: Tensor, weight: Tensor) -> Tensor:
    """Divide joined fields by the joined weight of the tiles with data, so that empty neighbours fade nothing."""
    return torch.where(weight > 0, fields / weight.clamp(min=torch.finfo(weight.dtype).tiny), 0)


def smoothing_radius(sigma: float) -> int:
    """Return how many cells around a cell a Gaussian of ``sigma`` cells reaches."""
    return math.ceil(3 * sigma)


def smoothing_reach(sigma: float, airlight_sigma: float, texture: float) -> int:
    """Return how many cells around a cell :func:`smooth_look` reaches: for detail it smooths what it has smoothed."""
    return max(smoothing_radius(max(sigma, airlight_sigma)), 2 * smoothing_radius(sigma) if texture else 0)


def smooth_fields(
    fields_BFhw: Tensor,
    weight_B1hw: Tensor,
    sigma: float,
    airlight_sigma: float | None = None,
    thin_haze: tuple[float, float] = (0.0, 0.0),
    texture: float = 0.0,
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
    texture : float, optional
        See :func:`smooth_look`.
    """
    if thin_haze[1] <= 0 and not texture:
        # the depth around is not asked for
        return _smooth_all(fields_BFhw, weight_B1hw, sigma, airlight_sigma)
    look_BLhw = smooth_look(fields_BFhw, weight_B1hw, sigma, airlight_sigma, texture)
    return settle(look_BLhw, thin_haze, texture)


def smooth_look(
    fields_BFhw: Tensor,
    weight_B1hw: Tensor,
    sigma: float,
    airlight_sigma: float | None = None,
    texture: float = 0.0,
) -> Tensor:
    """Smooth joined fields, and add the mean optical depth around each cell: all that :func:`settle` asks.

    Parameters
    ----------
    fields_BFhw, weight_B1hw, sigma, airlight_sigma
        As for :func:`smooth_fields`.
    texture : float, optional
        Variance of the dark channel that is taken for ground. Where it is given the last of the fields is the dark
        channel, and the look has the detail of the depth in its place; see :mod:`infdehaze.detail`.

    Returns
    -------
    Tensor
        (B, F + 1, h, w): the fields, the depth around, and the detail where there is one.
    """
    dark_B1hw = fields_BFhw[:, -1:]
    if texture:
        fields_BFhw = fields_BFhw[:, :-1]
    smooth_BFhw = _smooth_all(fields_BFhw, weight_B1hw, sigma, airlight_sigma)
    depth_B1hw = fields_BFhw[:, :3].mean(1, keepdim=True)
    around_B1hw = _smooth(depth_B1hw, weight_B1hw, airlight_sigma or sigma)
    if not texture:
        return torch.cat([smooth_BFhw, around_B1hw], 1)
    detail_B1hw = _detail(depth_B1hw, dark_B1hw, weight_B1hw, sigma, texture)
    return torch.cat([smooth_BFhw, around_B1hw, detail_B1hw], 1)


def settle(look_BLhw: Tensor, thin_haze: tuple[float, float], texture: float = 0.0) -> Tensor:
    """Return the fields of a look: with clear ground left, and the detail of the depth, if there is ``texture``.

    What is clear ground is told by the smoothed depth: its own texture must not make it haze.
    """
    if not texture:
        return leave_clear(look_BLhw[:, :-1], look_BLhw[:, -1:], *thin_haze)
    fields_BFhw, around_B1hw, detail_B1hw = look_BLhw[:, :-2], look_BLhw[:, -2:-1], look_BLhw[:, -1:]
    left_BFhw = leave_clear(fields_BFhw, around_B1hw, *thin_haze)
    return add_detail(left_BFhw, relative(detail_B1hw, fields_BFhw))


def leave_clear(fields_BFhw: Tensor, around_B1hw: Tensor, none: float, full: float) -> Tensor:
    """Take no haze away where the mean optical depth is up to ``none``, all of it from ``full`` on.

    A little haze cannot be told from ground with lifted shadows, and clear ground is to stay (decided here). What
    counts is the depth ``around``: pale ground here and there looks like haze, but seldom so all around. A cell counts
    by itself with seven tenths of its depth, so that a small, thick patch in a clear scene is haze still. With a
    ``full`` of 0 all is taken everywhere.
    """
    if full <= 0:
        return fields_BFhw
    depth_B3hw, airlight_B3hw, residual_B3hw = fields_BFhw.chunk(3, 1)
    depth_B1hw = torch.maximum(HERE * depth_B3hw.mean(1, keepdim=True), around_B1hw)
    share = ((depth_B1hw - none) / max(full - none, 1e-6)).clamp(0, 1)
    share = share * share * (3 - 2 * share)
    return torch.cat([depth_B3hw * share, airlight_B3hw, residual_B3hw * share], 1)


def _detail(depth_B1hw: Tensor, dark_B1hw: Tensor, weight_B1hw: Tensor, sigma: float, texture: float) -> Tensor:
    """Return what the dark channel says of the depth beyond its smoothed form; both are sums of feathered tiles."""
    depth_B1hw, dark_B1hw = (normalise_fields(x, weight_B1hw) for x in (depth_B1hw, dark_B1hw))
    each = [depth_B1hw, dark_B1hw, depth_B1hw * dark_B1hw, dark_B1hw.square()]
    depth, around_B1hw, both, square = _smooth(torch.cat(each, 1) * weight_B1hw, weight_B1hw, sigma).chunk(4, 1)
    slope_B1hw = slope(depth, around_B1hw, both, square, texture)
    return _smooth(slope_B1hw * weight_B1hw, weight_B1hw, sigma) * (dark_B1hw - around_B1hw)


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
