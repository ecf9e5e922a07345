"""Haze in bands that the network does not see, by the law of its optical depth over wavelength.

Scattering by haze falls off as a power of the wavelength, ``d = b * wavelength ** -g``: ``g`` is 4 for clean air and
close to 0 for fog (Angstrom, 1929). Three estimated depths give ``b`` and ``g`` at each pixel; then
``J = A + (I - A) exp(d)``, as in the colours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: Between fog and clean air; noise in the estimate must not lead outside.
STEEPEST = 4.0


def depth_at(depth: NDArray[np.float32], wavelengths: Sequence[float], wavelength: float) -> NDArray[np.float32]:
    """Return the optical depth at another wavelength.

    Parameters
    ----------
    depth
        Estimated depth of red, green and blue, ``(3, rows, cols)``; negative values count as none.
    wavelengths
        Of the three, all different, in any one unit.
    wavelength
        Of the band, in the same unit.

    Returns
    -------
    ndarray of float32
        ``(rows, cols)``, 0 or more. Where all three are alike it is the same; with no depth in one of them, ``g`` is
        that of the others as far as it can be told, and the level that of their mean.

    Raises
    ------
    ValueError
        If wavelengths are not above 0 or not different.
    """
    known = np.asarray(wavelengths, dtype=np.float64)
    if len(known) != 3 or len(set(known.tolist())) < 3 or not (known > 0).all() or not wavelength > 0:
        raise ValueError(
            f"wavelengths {tuple(wavelengths)} and {wavelength} must be above 0, the first three different"
        )
    log_known = np.log(known)
    centred = log_known - log_known.mean()
    # in float64: a difference of logarithms of small depths
    positive = np.maximum(depth, 0).astype(np.float64)
    level = positive.mean(axis=0)
    # a straight line through the three points in log-log space; far below the level a depth says only "little"
    logs = np.log(np.maximum(positive, level * 1e-3 + 1e-12))
    steepness = np.clip(-np.tensordot(centred, logs, axes=1) / (centred @ centred), 0.0, STEEPEST)
    # through the mean depth, so that the law keeps the amount of haze whatever its steepness
    shape = np.exp(-steepness[np.newaxis] * log_known[:, np.newaxis, np.newaxis]).mean(axis=0)
    result: NDArray[np.float32] = (level * np.exp(-steepness * np.log(wavelength)) / shape).astype(np.float32)
    return result


def nearest_airlight(
    airlight: NDArray[np.float32], wavelengths: Sequence[float], wavelength: float
) -> NDArray[np.float32]:
    """Return the airlight of the colour whose wavelength is nearest: beyond the colours nothing is known of it."""
    steps = [abs(np.log(known / wavelength)) for known in wavelengths]
    nearest: NDArray[np.float32] = airlight[int(np.argmin(steps))]
    return nearest


def correct_band(
    values: NDArray[np.float32], depth: NDArray[np.float32], airlight: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Invert the scattering model in one band: ``J = A + (I - A) exp(d)``.

    Parameters
    ----------
    values, depth, airlight
        ``(rows, cols)``, values and airlight in the network's range. Where the depth is 0, values come back to the bit.
    """
    clear: NDArray[np.float32] = values + np.expm1(depth) * (values - airlight)
    return clear
