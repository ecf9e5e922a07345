"""Small pictures of large rasters, by decimated reads, and their bytes as PNG and JPEG."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import MemoryFile

from infdehaze_cli.errors import InputError
from infdehaze_cli.geometry import Window
from infdehaze_cli.raster import Limits
from infdehaze_cli.raster._gdal import GDAL_ERRORS, open_quietly, quiet, reason, to_rasterio
from infdehaze_cli.raster.locations import gdal_name, redacted

_NO_DATA = 128
"""The grey of pixels without data."""

_QUALITIES = (88, 75, 60, 40, 20)


@dataclass(frozen=True, slots=True)
class Picture:
    """A part of a raster as it is shown.

    Attributes
    ----------
    values
        float32 (3, rows, cols), 0..1 between the limits; a grey band is repeated.
    valid
        bool (rows, cols).
    """

    values: NDArray[np.float32]
    valid: NDArray[np.bool_]

    def pixels(self) -> NDArray[np.uint8]:
        """Return it as uint8 (3, rows, cols), grey where there is no data."""
        return np.where(self.valid, np.rint(self.values * 255), _NO_DATA).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class View:
    """A raster and how it is shown: its colour bands, counted from 1, and what becomes black and white."""

    path: str | Path
    bands: tuple[int, ...]
    limits: Limits

    def read(self, shape: tuple[int, int], window: Window | None = None) -> Picture:
        """Read a window, or all, as a picture of ``shape`` rows and columns; overviews are used where there are some.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        part: dict[str, Any] = {} if window is None else {"window": to_rasterio(window)}
        part["out_shape"] = (len(self.bands), *shape)
        try:
            with rasterio.Env(), quiet(), open_quietly(gdal_name(self.path)) as dataset:
                native = dataset.read(list(self.bands), resampling=Resampling.average, **part)
                valid = dataset.read_masks(list(self.bands), **part).any(axis=0)
        except GDAL_ERRORS as error:
            raise InputError(
                f"{redacted(self.path)} cannot be read as a picture ({reason(error)}); check that the file is whole."
            ) from error
        values = (native.astype(np.float64) - self.limits.lo) / self.limits.span
        valid &= np.isfinite(values).all(axis=0)
        values = np.clip(np.where(valid, values, 0.0), 0.0, 1.0).astype(np.float32)
        return Picture(np.broadcast_to(values, (3, *shape)), valid)


def fit(height: int, width: int, most: int) -> tuple[int, int]:
    """Return the rows and columns of a picture of a scene whose longer side has at most ``most`` pixels."""
    factor = max(1.0, max(height, width) / most)
    return max(1, round(height / factor)), max(1, round(width / factor))


def encode(pixels: NDArray[np.uint8], driver: str, colours: NDArray[np.uint8] | None = None, **options: Any) -> bytes:
    """Return a picture, (bands, rows, cols), as a file; with ``colours`` (n, 3) a palette whose first is clear."""
    bands, height, width = pixels.shape
    shape = {"count": bands, "height": height, "width": width, "dtype": "uint8"}
    with rasterio.Env(), quiet(), MemoryFile() as memory:
        with memory.open(driver=driver, **shape, **options) as dataset:
            if colours is not None:
                table = {i: (*map(int, c), 255 if i else 0) for i, c in enumerate(colours)}
                dataset.write_colormap(1, table)
            dataset.write(pixels)
        memory.seek(0)
        return bytes(memory.read())


def jpeg_within(pixels: NDArray[np.uint8], most: int) -> bytes:
    """Return a picture as JPEG of at most ``most`` bytes, as good as that allows."""
    for quality in _QUALITIES:
        content = encode(pixels, "JPEG", quality=quality)
        if len(content) <= most:
            return content
    return jpeg_within(pixels[:, ::2, ::2], most)


def data_uri(content: bytes, kind: str) -> str:
    """Return bytes as a URI that holds them; ``kind`` is ``png`` or ``jpeg``."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def side_by_side(before: Picture, after: Picture, gap: int) -> bytes:
    """Return two pictures of one size as a PNG, with a white line between."""
    line = np.full((3, before.valid.shape[0], gap), 255, np.uint8)
    return encode(np.concatenate([before.pixels(), line, after.pixels()], axis=2), "PNG")
