"""Which pixels are data: nodata values, alpha, mask bands, and numbers that are none.

A pixel is valid only if *all* its colour bands are: a pixel that lacks one colour cannot be dehazed.
An explicit mask stands above the nodata value, as in GDAL; alpha and non-finite values always count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags


@dataclass(frozen=True, slots=True)
class Validity:
    """The rule by which one dataset's pixels are judged; it reads a mask band only where one exists.

    Attributes
    ----------
    colours
        The colour bands, counted from 1.
    nodata
        The nodata value of each colour band, or None where it has none or its dtype cannot hold it.
    alpha
        The alpha band, counted from 1, or None.
    mask_bands
        The bands whose mask has to be read: one for a mask that all bands share, else each colour band that
        has its own.
    shared_mask
        Whether all bands share that mask.
    """

    colours: tuple[int, ...]
    nodata: tuple[float | None, ...]
    alpha: int | None
    mask_bands: tuple[int, ...]
    shared_mask: bool

    @classmethod
    def of(cls, dataset: Any, colours: tuple[int, ...]) -> Validity:
        """Derive the rule from an open dataset's nodata values, colour interpretation and mask flags."""
        flags: Sequence[Sequence[MaskFlags]] = [dataset.mask_flag_enums[band - 1] for band in colours]
        kinds: list[ColorInterp] = list(dataset.colorinterp)
        alpha = kinds.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in kinds else None
        known = (MaskFlags.all_valid, MaskFlags.nodata, MaskFlags.alpha)
        # one nodata value for all bands together (GDAL's NODATA_VALUES) is told like a mask, and is read as one
        together = {MaskFlags.per_dataset, MaskFlags.nodata}
        masked = tuple(
            band
            for band, flag in zip(colours, flags, strict=True)
            if together <= set(flag) or not any(kind in flag for kind in known)
        )
        shared = bool(masked) and all(MaskFlags.per_dataset in flag for flag in flags)
        dtype = np.dtype(dataset.dtypes[0])
        nodata = tuple(
            None if band in masked else representable(dataset.nodatavals[band - 1], dtype) for band in colours
        )
        return cls(colours, nodata, alpha, masked[:1] if shared else masked, shared)

    @property
    def bands_needed(self) -> tuple[int, ...]:
        """The bands that the rule looks at: the colours, then alpha if there is one."""
        return self.colours if self.alpha is None else (*self.colours, self.alpha)

    def for_bands(self, bands: tuple[int, ...]) -> Validity:
        """Return the same rule for an array that holds only ``bands``, in that order."""
        colours = tuple(bands.index(band) + 1 for band in self.colours)
        alpha = None if self.alpha is None else bands.index(self.alpha) + 1
        return replace(self, colours=colours, alpha=alpha)

    def valid(self, native: NDArray[Any], masks: NDArray[np.uint8] | None) -> NDArray[np.bool_]:
        """Judge every pixel of a window.

        Parameters
        ----------
        native
            All bands, ``(bands, rows, cols)``.
        masks
            The masks of ``mask_bands``, ``(masks, rows, cols)``, 0 where invalid; None if there are none.

        Returns
        -------
        ndarray of bool
            ``(rows, cols)``, True where the pixel is data.
        """
        valid = np.ones(native.shape[1:], dtype=np.bool_)
        for band, value in zip(self.colours, self.nodata, strict=True):
            plane = native[band - 1]
            if value is not None:
                valid &= ~equals_nodata(plane, value)
            if plane.dtype.kind == "f":
                valid &= np.isfinite(plane)
        if self.alpha is not None:
            valid &= native[self.alpha - 1] != 0
        if masks is not None:
            valid &= (masks != 0).all(axis=0)
        return valid


def representable(nodata: float | None, dtype: np.dtype[Any]) -> float | None:
    """Return a nodata value if pixels of that dtype have to be compared with it, else None.

    One that the dtype cannot hold matches no pixel, and pixels that are not finite are found without it.
    """
    if nodata is None or not np.isfinite(nodata):
        return None
    if dtype.kind == "f":
        return float(nodata) if abs(nodata) <= float(np.finfo(dtype).max) * (1 + 1e-6) else None
    limits = np.iinfo(dtype)
    return float(nodata) if float(nodata).is_integer() and limits.min <= nodata <= limits.max else None


def tolerance(nodata: float, dtype: np.dtype[Any]) -> float:
    """Return the distance within which GDAL takes a value of that dtype for nodata: 0 for integers."""
    return 4.0 * float(np.finfo(dtype).eps) * abs(nodata) if dtype.kind == "f" else 0.0


def equals_nodata(plane: NDArray[Any], nodata: float) -> NDArray[np.bool_]:
    """Compare a band with its nodata value as GDAL does: floats within a few units of the last place."""
    dtype = plane.dtype
    if dtype.kind != "f":
        return np.asarray(plane == dtype.type(int(nodata)))
    width = tolerance(nodata, dtype)
    limit = float(np.finfo(dtype).max)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(
            (plane >= dtype.type(max(nodata - width, -limit))) & (plane <= dtype.type(min(nodata + width, limit)))
        )
