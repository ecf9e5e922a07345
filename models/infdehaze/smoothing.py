"""The fields of a scene, smoothed across its tiles, and clear ground left (decided here).

Axes: B scenes, F fields, h w rows and columns of cells.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

AIRLIGHT_FLOOR = 0.1
"""Weight of the airlight where no haze was found."""


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
