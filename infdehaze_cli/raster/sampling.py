"""A small, deterministic sample of a scene's valid values, from which its scaling limits are taken."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.windows import Window as RasterioWindow

from infdehaze_cli.raster.validity import Validity

#: Longest side of the decimated picture, in pixels.
SAMPLE_SIDE = 1024
#: Above this side a decimated read without overviews would decode the whole scene: patches are read instead.
DECIMATED_SIDE = 4096
PATCHES, PATCH_SIDE = 16, 64
#: With fewer valid values than a patch has, the patches have missed what there is: all of the scene is read.
ENOUGH = PATCH_SIDE**2
#: Rows that are decimated at a time then.
_STRIP_ROWS = 8192


def sample_values(dataset: Any, validity: Validity) -> NDArray[Any]:
    """Return valid values of the colour bands, about a million pixels at most.

    A scene that is small or has overviews is read decimated, by nearest neighbour; of any other, patches on a
    regular lattice are read, and where these hold hardly any data, as in a mosaic that is mostly empty, all of it.

    Parameters
    ----------
    dataset
        An open rasterio dataset.
    validity
        Its rule for valid pixels.

    Returns
    -------
    ndarray
        ``(n,)`` in the dataset's dtype, the colour bands one after the other (in each patch).
    """
    height, width = dataset.height, dataset.width
    coarsest = max(dataset.overviews(validity.colours[0]), default=1)
    if max(height, width) / coarsest <= DECIMATED_SIDE:
        return _read(dataset, validity, RasterioWindow(0, 0, width, height), SAMPLE_SIDE)
    parts = [
        _read(dataset, validity, RasterioWindow(col, row, cols, rows), PATCH_SIDE)
        for row, rows in _lattice(height)
        for col, cols in _lattice(width)
    ]
    if sum(part.size for part in parts) < ENOUGH * len(validity.colours):
        strips = [
            RasterioWindow(0, row, width, min(_STRIP_ROWS, height - row)) for row in range(0, height, _STRIP_ROWS)
        ]
        share = DECIMATED_SIDE / max(height, width)
        parts = [_read(dataset, validity, strip, max(strip.height, strip.width) * share) for strip in strips]
    return np.concatenate(parts)


def _lattice(size: int) -> list[tuple[int, int]]:
    """Return start and length of the patches along one axis, spread from edge to edge."""
    length = min(PATCH_SIDE, size)
    starts = {int(start) for start in np.linspace(0, size - length, PATCHES)}
    return [(start, length) for start in sorted(starts)]


def _read(dataset: Any, validity: Validity, window: RasterioWindow, longest: float) -> NDArray[Any]:
    """Return the valid colour values of a window, decimated to at most ``longest`` pixels a side."""
    factor = max(1.0, max(window.height, window.width) / longest)
    shape = max(1, int(window.height / factor)), max(1, int(window.width / factor))
    bands = validity.bands_needed
    native = dataset.read(list(bands), window=window, out_shape=(len(bands), *shape), resampling=Resampling.nearest)
    masks = None
    if validity.mask_bands:
        masks = dataset.read_masks(
            list(validity.mask_bands), window=window, out_shape=(len(validity.mask_bands), *shape)
        )
    valid = validity.for_bands(bands).valid(native, masks)
    return np.asarray(native[: len(validity.colours)][:, valid]).reshape(-1)
