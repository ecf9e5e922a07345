"""What the classical baselines share: window filters and the inverse of the scattering model.

Axes: C colour bands (red, green, blue), H W rows and columns. A whole picture is held in memory, with about 300 bytes a
pixel at the peak of the guided filter.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

PATCH = 15
"""Side in pixels of the minimum filter in both papers."""
EPSILON = 1e-3
"""Regularisation of the guided filter, for values 0..1."""
SHARE = 1e-3
"""Of the pixels, the haziest, among which the airlight is sought."""


def minimum_filter(values_HW: Floats, side: int) -> Floats:
    """Return the least value in a square window of odd ``side``, cut off at the edges of the picture."""
    pooled = F.max_pool2d(-torch.from_numpy(values_HW)[None], side, stride=1, padding=side // 2)
    return np.asarray(-pooled[0].numpy(), dtype=np.float64)


def box_sum(values_HW: Floats, radius: int) -> Floats:
    """Return the sum over the square window of ``2 * radius + 1`` pixels, cut off at the edges of the picture."""
    for axis in (0, 1):
        size = values_HW.shape[axis]
        total = np.cumsum(values_HW, axis=axis)
        total = np.concatenate([np.zeros_like(total.take([0], axis)), total], axis)
        place = np.arange(size)
        last, first = np.minimum(place + radius + 1, size), np.maximum(place - radius, 0)
        values_HW = total.take(last, axis) - total.take(first, axis)
    return values_HW


def guided_filter(guide_CHW: Floats, values_HW: Floats, valid_HW: Mask, radius: int) -> Floats:
    """Smooth values along the edges of a colour picture.

    He, Sun and Tang, "Guided Image Filtering", ECCV 2010, equations 14 to 16 (the guide has three channels).

    Parameters
    ----------
    guide_CHW : ndarray, shape (3, h, w)
        Values 0..1.
    values_HW : ndarray, shape (h, w)
        What is to be smoothed.
    valid_HW : ndarray, shape (h, w), bool
        Pixels that count. Where a window holds none, the result means nothing.
    radius : int
        Pixels that the window reaches to each side.

    Returns
    -------
    ndarray, shape (h, w)
    """
    weight_HW = valid_HW.astype(np.float64)
    count_HW = np.maximum(box_sum(weight_HW, radius), 1.0)

    def mean(x_HW: Floats) -> Floats:
        return box_sum(x_HW * weight_HW, radius) / count_HW

    mean_C = [mean(band) for band in guide_CHW]
    mean_HW = mean(values_HW)
    covariance_HWC = np.stack(
        [mean(band * values_HW) - m * mean_HW for band, m in zip(guide_CHW, mean_C, strict=True)], -1
    )
    sigma_HWCC = np.empty((*values_HW.shape, 3, 3))
    for i in range(3):
        for j in range(i, 3):
            product = mean(guide_CHW[i] * guide_CHW[j]) - mean_C[i] * mean_C[j]
            sigma_HWCC[..., i, j] = sigma_HWCC[..., j, i] = product
    sigma_HWCC += EPSILON * np.eye(3)
    slope_HWC: Floats = np.linalg.solve(sigma_HWCC, covariance_HWC[..., None])[..., 0].astype(np.float64)
    smooth_HW = mean(mean_HW - (slope_HWC * np.stack(mean_C, axis=-1)).sum(axis=-1))
    for i in range(3):
        smooth_HW += mean(slope_HWC[..., i]) * guide_CHW[i]
    return smooth_HW


def haziest_colours(hazy_CHW: Floats, haziness_HW: Floats, valid_HW: Mask) -> Floats:
    """Return the colours (3, n) of the haziest 0.1 % of the valid pixels, at least one."""
    places = np.flatnonzero(valid_HW)
    count = max(1, round(SHARE * places.size))
    haziest = places[np.argsort(haziness_HW.ravel()[places], kind="stable")[-count:]]
    return hazy_CHW.reshape(3, -1)[:, haziest]


def invert(hazy_CHW: Floats, transmission_HW: Floats, airlight_C11: Floats) -> NDArray[np.float32]:
    """Return ``J = (I - A) / t + A``, cut to the range of a picture: from 0 to 1, or to what is there above it."""
    clear_CHW = (hazy_CHW - airlight_C11) / transmission_HW + airlight_C11
    return np.clip(clear_CHW, 0.0, max(1.0, float(hazy_CHW.max()))).astype(np.float32)
