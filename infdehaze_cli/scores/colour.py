"""Colour as the eye sees it: sRGB to CIE L*a*b* and the CIEDE2000 difference. Numpy only, no files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# IEC 61966-2-1 primaries under D65, for linear red, green and blue to X, Y and Z.
_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
# The white point is the matrix's own, so that a neutral grey has a* = b* = 0.
_WHITE = _TO_XYZ.sum(axis=1)
_POW7_25 = 25.0**7


def srgb_to_lab(rgb: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Convert sRGB colours to CIE L*a*b* under D65.

    Parameters
    ----------
    rgb : ndarray, shape (3, ...), float
        Red, green and blue, gamma-encoded. Values outside 0..1 are clipped: they are no sRGB colours.

    Returns
    -------
    ndarray, shape (3, ...), float64
        L* in 0..100, a* and b* in about -108..99.
    """
    encoded = np.clip(rgb.astype(np.float64), 0.0, 1.0)
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    xyz = np.tensordot(_TO_XYZ / _WHITE[:, None], linear, axes=1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.stack([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def ciede2000(first: NDArray[np.floating[Any]], second: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the CIEDE2000 difference of colours, with all parametric factors 1.

    The formula and its branches follow Sharma, Wu and Dalal, "The CIEDE2000 color-difference formula:
    implementation notes, supplementary test data, and mathematical observations", 2005.

    Parameters
    ----------
    first, second : ndarray, shape (3, ...), float
        L*, a* and b*.

    Returns
    -------
    ndarray, shape (...), float64
        The difference, 0 for equal colours; about 1 is just noticeable.
    """
    l1, a1, b1 = first.astype(np.float64)
    l2, a2, b2 = second.astype(np.float64)

    # a* is stretched near the grey axis.
    chroma7 = ((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2) ** 7
    stretch = 1.5 - 0.5 * np.sqrt(chroma7 / (chroma7 + _POW7_25))
    a1, a2 = a1 * stretch, a2 * stretch
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = np.degrees(np.arctan2(b1, a1)) % 360, np.degrees(np.arctan2(b2, a2)) % 360

    # Hue is an angle: take the short way round, and none at all where one colour is grey.
    grey = c1 * c2 == 0
    dh = h2 - h1
    far = np.abs(dh) > 180
    dh = np.where(grey, 0.0, np.where(far, dh - np.copysign(360.0, dh), dh))
    h_sum = h1 + h2
    h_mean = np.where(far, (h_sum + np.where(h_sum < 360, 360.0, -360.0)) / 2, h_sum / 2)
    h_mean = np.where(grey, h_sum, h_mean)

    d_lightness = l2 - l1
    d_chroma = c2 - c1
    d_hue = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(dh) / 2)

    l_mean, c_mean = (l1 + l2) / 2, (c1 + c2) / 2
    t = (
        1
        - 0.17 * np.cos(np.radians(h_mean - 30))
        + 0.24 * np.cos(np.radians(2 * h_mean))
        + 0.32 * np.cos(np.radians(3 * h_mean + 6))
        - 0.20 * np.cos(np.radians(4 * h_mean - 63))
    )
    offset = (l_mean - 50) ** 2
    term_l = d_lightness / (1 + 0.015 * offset / np.sqrt(20 + offset))
    term_c = d_chroma / (1 + 0.045 * c_mean)
    term_h = d_hue / (1 + 0.015 * c_mean * t)

    # Blue turns with chroma: the rotation term couples chroma and hue around 275 degrees.
    c_mean7 = c_mean**7
    turn = 60 * np.exp(-(((h_mean - 275) / 25) ** 2))
    rotation = -2 * np.sqrt(c_mean7 / (c_mean7 + _POW7_25)) * np.sin(np.radians(turn))
    squared = term_l**2 + term_c**2 + term_h**2 + rotation * term_c * term_h
    # Rounding can take the quadratic form of equal colours just below 0.
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)), dtype=np.float64)
