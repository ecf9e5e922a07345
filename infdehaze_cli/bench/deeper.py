"""Pictures of 8 bits as rasters of more bits, which the tool scales by limits of each scene, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio

from infdehaze_cli.errors import UsageError
from infdehaze_cli.raster import gdal_environment


def widen(src: Path, dst: Path, bits: int) -> None:
    """Write a uint8 picture as uint16 of so many bits: each value times a power of two.

    Parameters
    ----------
    src, dst
        The picture, and the GeoTIFF to write.
    bits
        8 to 16. A value of 255 becomes one below ``2 ** bits``, which no band of the file says.

    Raises
    ------
    UsageError
        If the picture is not uint8.
    """
    _copy(src, dst, "uint8", "uint16", 2.0 ** (bits - 8))


def narrow(src: Path, dst: Path, bits: int) -> None:
    """Write a raster that `widen` has made, or what was made of it, as uint8 again, rounded."""
    _copy(src, dst, "uint16", "uint8", 0.5 ** (bits - 8))


def _copy(src: Path, dst: Path, old: str, new: str, factor: float) -> None:
    with gdal_environment(), rasterio.open(src) as source:
        if source.dtypes[0] != old:
            raise UsageError(
                f"{src} holds {source.dtypes[0]}, not {old}. Leave --bits out, or give pictures of 8 bits."
            )
        kept = {key: source.profile[key] for key in ("height", "width", "count", "crs", "transform")}
        nodata = None if source.nodata is None else source.nodata * factor
        profile = {**kept, "driver": "GTiff", "dtype": new, "nodata": nodata, "compress": "deflate"}
        pixels = np.clip(np.rint(source.read() * factor), 0, np.iinfo(new).max).astype(new)
        with rasterio.open(dst, "w", **profile) as out:
            out.colorinterp = source.colorinterp
            out.write(pixels)
