"""The colours of optical depth, the same in the report and in QGIS."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: From thin to thick haze, evenly spaced; lightness rises all the way, so that grey print and colour blindness keep it.
COLOURS = ("#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#fde725")

LOW, HIGH = 0.02, 0.98
"""Quantiles of the depth that become the first and the last colour."""


def depth_range(depth: NDArray[np.float32]) -> tuple[float, float]:
    """Return the depths of the first and the last colour; values that are not finite do not count.

    The second is always above the first, also where there is one depth, or none.
    """
    known = depth[np.isfinite(depth)]
    low, high = map(float, np.quantile(known, (LOW, HIGH))) if known.size else (0.0, 0.0)
    return (low, high) if high - low > 1e-6 else (low, low + 1.0)


def stops(low: float, high: float) -> list[tuple[float, str]]:
    """Return each colour with its depth."""
    return [(low + (high - low) * i / (len(COLOURS) - 1), colour) for i, colour in enumerate(COLOURS)]


def palette(count: int) -> NDArray[np.uint8]:
    """Return ``count`` colours along the ramp, (count, 3)."""
    known = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in COLOURS], np.float64)
    place = np.linspace(0, len(COLOURS) - 1, count)
    return np.stack([np.interp(place, range(len(COLOURS)), known[:, i]) for i in range(3)], 1).round().astype(np.uint8)
