"""The picture of an attribution: a scene, and beside it what its window owes to each part; the window outlined."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from infdehaze_cli.geometry import Window
from infdehaze_cli.raster import Scene

from .pictures import View, encode, fit
from .ramp import palette

WIDTH, _GAP = 2000, 8
"""Pixels of the picture at most, and of the line between its halves."""

DECADES = 3.0
"""Powers of ten of the attribution from where colour begins to its full strength."""

_TOP = 0.995
"""Quantile of the attribution that gets the last colour."""

_OUTLINE = np.array((255, 40, 40), np.uint8)


def mean_factor(scene: Scene) -> int:
    """Return the side of the squares, in pixels, over which the attribution of a picture is averaged."""
    rows, cols = fit(scene.height, scene.width, (WIDTH - _GAP) // 2)
    return max(1, -(-scene.height // rows), -(-scene.width // cols))


def attribution_picture(scene: Scene, window: Window, weight: NDArray[np.float32], factor: int) -> bytes:
    """Return a PNG.

    Parameters
    ----------
    scene
        The open source.
    window
        What was attributed.
    weight
        float32 (rows, cols): the mean absolute attribution of squares of ``factor`` pixels, NaN where there is no data.
    factor
        See :func:`mean_factor`.

    Raises
    ------
    InputError
        When the scene cannot be read.
    """
    shape = fit(scene.height, scene.width, (WIDTH - _GAP) // 2)
    seen = View(scene.path, scene.colour_bands, scene.limits).read(shape).pixels()
    place = _strength(_resample(weight, (scene.height, scene.width), shape, factor))
    colours = palette(256)[np.rint(place * 255).astype(np.uint8)].transpose(2, 0, 1)
    grey = 0.6 * seen.mean(0)
    over = np.rint(grey + place * (colours - grey)).astype(np.uint8)
    frame = _frame(window, (scene.height, scene.width), shape)
    for half in (seen, over):
        half[:, frame] = _OUTLINE[:, None]
    line = np.full((3, shape[0], _GAP), 255, np.uint8)
    return encode(np.concatenate([seen, line, over], axis=2), "PNG")


def _resample(
    weight: NDArray[np.float32], size: tuple[int, int], shape: tuple[int, int], factor: int
) -> NDArray[np.float32]:
    """Return the squares that the pixels of a picture fall into."""
    rows, cols = (((np.arange(n) + 0.5) * whole / n / factor).astype(int) for n, whole in zip(shape, size, strict=True))
    resampled: NDArray[np.float32] = weight[np.ix_(rows, cols)]
    return resampled


def _strength(weight: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return 0..1 by the logarithm of the attribution, 0 where there is none."""
    known = weight[np.isfinite(weight) & (weight > 0)]
    if not known.size:
        return np.zeros(weight.shape)
    top = float(np.quantile(known, _TOP))
    share = np.where(np.isfinite(weight), weight, 0).astype(np.float64) / top
    strength: NDArray[np.float64] = np.clip(1 + np.log10(np.maximum(share, 10.0**-DECADES)) / DECADES, 0.0, 1.0)
    return strength


def _frame(window: Window, size: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return where the outline of a window lies in a picture: two pixels wide, around it."""
    (top, bottom), (left, right) = (
        (int(start * n / whole), -int(-stop * n // whole))
        for (start, stop), n, whole in zip(
            ((window.row, window.row_end), (window.col, window.col_end)), shape, size, strict=True
        )
    )
    frame = np.zeros(shape, np.bool_)
    frame[max(0, top - 2) : bottom + 2, max(0, left - 2) : right + 2] = True
    frame[top:bottom, left:right] = False
    return frame
