"""From a finished GeoTIFF to a COG through GDAL's driver, with all metadata domains.

The driver copies either the bands' default metadata or the other domains, never both: when it copies all
domains it leaves out the bands' default one. So their items travel in a domain of their own, whose name is
then blanked out in the file's XML, in place, which moves no byte of the layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import rasterio
import rasterio.shutil

#: The domain in which the bands' default metadata reaches the driver.
CARRIER_DOMAIN = "INFDEHAZE_BAND_DEFAULT"

_ATTRIBUTE = f' domain="{CARRIER_DOMAIN}"'.encode()
_OPENING, _CLOSING = b"<GDALMetadata>", b"</GDALMetadata>"
#: The XML stands at the front of a COG, before any pixel; it is searched no further than this.
_FRONT = 1 << 24


def make_cog(source: Path, target: Path, options: Mapping[str, str]) -> None:
    """Write ``source``, a tiled GeoTIFF, as the COG ``target``, block by block.

    Raises
    ------
    rasterio.errors.RasterioError, OSError
        If GDAL or the disk fails.
    """
    # overviews pass through a temporary file: packing that too would double their cost
    with rasterio.Env(COG_TMP_COMPRESSION="NONE", GDAL_TIFF_INTERNAL_MASK=True):
        rasterio.shutil.copy(str(source), str(target), driver="COG", **options)
    _restore_default_domain(target)


def _restore_default_domain(path: Path) -> None:
    """Turn the items of the carrier domain back into the bands' default metadata."""
    with path.open("r+b") as file:
        front = file.read(_FRONT)
        start = front.find(_OPENING)
        end = front.find(_CLOSING, start)
        if start < 0 or end < 0:
            return
        file.seek(start)
        file.write(front[start:end].replace(_ATTRIBUTE, b" " * len(_ATTRIBUTE)))
