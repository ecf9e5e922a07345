"""Pictures of 8 bits as rasters of more bits, which the tool scales by limits of each scene, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio

from infdehaze_cli.errors import UsageError
from infdehaze_cli.geometry import Window
from infdehaze_cli.raster import Scene, gdal_environment
from infdehaze_cli.raster._gdal import open_quietly


def widen(src: Path, dst: Path, bits: int) -> None:
    """Write a uint8 picture as uint16 of so many bits: each value times ``2 ** (bits - 8)``; no tag says how many.

    Parameters
    ----------
    src, dst
        The picture, which is read whole, and the GeoTIFF to write.
    bits
        8 to 16.

    Raises
    ------
    InputError
        If the picture cannot be read.
    UsageError
        If it is not uint8.
    """
    _copy(src, dst, "uint8", "uint16", 2.0 ** (bits - 8))


def narrow(src: Path, dst: Path, bits: int) -> None:
    """Write a raster that `widen` has made, or what was made of it, as uint8 again, rounded."""
    _copy(src, dst, "uint16", "uint8", 0.5 ** (bits - 8))


def _copy(src: Path, dst: Path, old: str, new: str, factor: float) -> None:
    with gdal_environment(), Scene.open(src) as scene:
        if scene.dtype != old:
            raise UsageError(f"{src} holds {scene.dtype}, not {old}. Leave --bits out, or give pictures of 8 bits.")
        block = scene.read(Window(0, 0, scene.height, scene.width))
        creation = scene.metadata.creation()
        if creation.get("nodata") is not None:
            creation["nodata"] *= factor
        shape = {"count": len(block.native), "height": scene.height, "width": scene.width, "dtype": new}
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            open_quietly(dst, "w", driver="GTiff", compress="deflate", **{**creation, **shape}) as out,
        ):
            out.write(np.clip(np.rint(block.native * factor), 0, np.iinfo(new).max).astype(new))
            if block.mask is not None:
                out.write_mask(block.mask)
