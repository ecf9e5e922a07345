"""The colour of a raster, read in windows as float32 with its validity. Used only to compare rasters."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterioWindow

from infdehaze_cli.errors import InputError, UsageError
from infdehaze_cli.geometry import Window

_RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


class Picture:
    """Three colour bands of an open raster.

    Attributes
    ----------
    name : str
        The path as the user gave it.
    height, width : int
    dtype : numpy.dtype
        Common to the colour bands.
    crs, transform
        Its place on Earth; a plain picture has no CRS.
    """

    def __init__(self, dataset: Any, name: str, bands: Sequence[int] | None) -> None:
        self._dataset = dataset
        self._bands = _choose_bands(dataset, name, bands)
        self.name = name
        self.height: int = dataset.height
        self.width: int = dataset.width
        self.crs, self.transform = dataset.crs, dataset.transform
        self.dtype = np.result_type(*(dataset.dtypes[band - 1] for band in self._bands))
        if self.dtype.kind not in "iuf":
            raise InputError(f"{name} holds {self.dtype} values. Give a raster of real numbers.")

    def read(self, window: Window, scale: float) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read a window.

        Parameters
        ----------
        window : Window
            Inside the raster.
        scale : float
            The stored value that becomes 1.

        Returns
        -------
        values : ndarray, shape (3, h, w), float32
            Red, green and blue; grey is repeated. 0 where invalid.
        valid : ndarray, shape (h, w), bool
            False for nodata, transparent or masked pixels, and where a value is not finite.
        """
        place = RasterioWindow(window.col, window.row, window.width, window.height)
        try:
            stored = self._dataset.read(self._bands, window=place)
            # As GDAL has it: nodata in one band alone (pure red over a nodata of 0) is still a colour.
            valid = self._dataset.read_masks(self._bands, window=place).any(axis=0)
        except RasterioError as error:
            raise InputError(
                f"{self.name} is damaged at row {window.row}, column {window.col}. Copy or create it again."
            ) from error
        # False for NaN and infinity too, and for what would overflow below.
        valid &= (np.abs(stored) <= np.finfo(np.float32).max).all(axis=0)
        values = (np.where(valid, stored, stored.dtype.type(0)) / np.float64(scale)).astype(np.float32)
        return np.broadcast_to(values, (3, *values.shape[1:])), valid


@contextmanager
def open_picture(path: str | os.PathLike[str], bands: Sequence[int] | None = None) -> Iterator[Picture]:
    """Open a raster of any format that GDAL reads; plain pictures without a georeference are welcome.

    Parameters
    ----------
    path : str or path
        A file, or a ``/vsi`` path.
    bands : sequence of int, optional
        Red, green and blue, or one band of grey, counted from 1. By default the bands whose colour
        interpretation says so, else the first three that are not alpha.
    """
    name = os.fspath(path)
    try:
        with warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning):
            dataset = rasterio.open(name)
    except RasterioError as error:
        raise InputError(
            f"{name} cannot be opened as a raster. Check the path and that GDAL reads its format."
        ) from error
    with dataset:
        yield Picture(dataset, name, bands)


def _choose_bands(dataset: Any, name: str, bands: Sequence[int] | None) -> list[int]:
    """Return the one or three band numbers that make the colour."""
    if bands is not None:
        if len(bands) not in (1, 3):
            raise UsageError(f"{len(bands)} bands do not make a colour. Name three (red, green, blue) or one.")
        for band in bands:
            if not 1 <= band <= dataset.count:
                raise UsageError(f"{name} has no band {band}. Choose from 1 to {dataset.count}.")
        return list(bands)
    meaning = list(dataset.colorinterp)
    if all(colour in meaning for colour in _RGB):
        return [meaning.index(colour) + 1 for colour in _RGB]
    if ColorInterp.palette in meaning:
        raise InputError(f"{name} stores palette numbers. Expand them to colours with `gdal_translate -expand rgb`.")
    opaque = [band for band, colour in enumerate(meaning, start=1) if colour is not ColorInterp.alpha]
    if len(opaque) == 1 or len(opaque) >= 3:
        return opaque[:3]
    raise InputError(f"{name} has {len(opaque)} bands that are not alpha. Name three bands, or one of grey.")
