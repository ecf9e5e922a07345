"""A STAC item that describes an output, for catalogues; made with pystac, which is an extra."""

from __future__ import annotations

import json
import math
import os
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import rasterio
from rasterio.crs import CRS
from rasterio.transform import from_gcps
from rasterio.warp import transform as transform_points

from .errors import StorageError, UsageError
from .raster import is_local
from .raster._gdal import GDAL_ERRORS, open_quietly, reason
from .raster.locations import gdal_name, redacted

_PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
_RASTER = "https://stac-extensions.github.io/raster/v2.0.0/schema.json"
_EO = "https://stac-extensions.github.io/eo/v2.0.0/schema.json"
_PROCESSING = "https://stac-extensions.github.io/processing/v1.2.0/schema.json"

_COMMON_NAMES = {"red", "green", "blue", "nir", "pan", "coastal", "rededge", "swir"}
_EDGE = 16
"""Points a side of the footprint: the edge of a map is a curve in longitude and latitude."""


def check_item(path: str | Path, *, overwrite: bool) -> None:
    """Check before a run that an item can be written.

    Raises
    ------
    UsageError
        When pystac is missing, or ``path`` is impossible or exists.
    """
    if find_spec("pystac") is None:
        raise UsageError("A STAC item needs the package pystac. Install it with pip install 'infdehaze[stac]'.")
    if not is_local(path):
        raise UsageError(f"{redacted(path)} is not a local file. Write the STAC item to a local file and copy it.")
    item = Path(path)
    if item.is_dir() or not item.parent.is_dir():
        raise UsageError(f"{item} is no place for a STAC item. Name a file in a folder that exists.")
    if item.exists() and not overwrite:
        raise UsageError(f"{item} exists; give --overwrite to replace it.")


def write_item(path: str | Path, dst: str | Path) -> None:
    """Write the STAC item of a finished output, whole or not at all.

    Parameters
    ----------
    path
        The item, a local file.
    dst
        The output that it describes. A file is linked relative to the item, an object by its URL.

    Raises
    ------
    StorageError
        When the output cannot be read again, or the item not be written.
    """
    item = Path(path)
    partial = item.with_name(f".{item.name}.{secrets.token_hex(4)}.tmp")
    try:
        with rasterio.Env(), open_quietly(gdal_name(dst)) as dataset:
            content = describe(dataset, item, dst)
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        partial.replace(item)
    except GDAL_ERRORS as error:
        partial.unlink(missing_ok=True)
        raise StorageError(
            f"{redacted(dst)} is written, but its STAC item {item} is not ({reason(error)}); check the disk."
        ) from error


def describe(dataset: Any, item: Path, dst: str | Path) -> dict[str, Any]:
    """Return a STAC item as JSON-ready values: place, time, grid, bands, and what made it.

    ``geometry`` is None where the raster says nothing of its place on Earth. Without a time of acquisition in the
    raster's tags, ``datetime`` is the time of writing.
    """
    import pystac

    created = datetime.now(UTC)
    ring = footprint(dataset)
    box = None if ring is None else [f(axis) for f in (min, max) for axis in zip(*ring, strict=True)]
    properties: dict[str, Any] = {
        "created": created.isoformat(),
        "proj:shape": [dataset.height, dataset.width],
        "processing:lineage": "Haze removed with infdehaze.",
        "processing:software": {"infdehaze": version("infdehaze")},
    }
    if dataset.crs is not None:
        code = dataset.crs.to_authority()
        properties |= {"proj:code": ":".join(code)} if code else {"proj:wkt2": dataset.crs.to_wkt()}
    if not dataset.transform.is_identity:
        properties["proj:transform"] = list(dataset.transform)[:6]
    href = os.path.relpath(dst, item.parent) if is_local(dst) else redacted(dst)
    entry = pystac.Item(
        id=Path(str(dst).rpartition("/")[2]).stem,
        geometry=None if ring is None else {"type": "Polygon", "coordinates": [ring]},
        bbox=box,
        datetime=acquired(dataset) or created,
        properties=properties,
        stac_extensions=[_PROJECTION, _RASTER, _EO, _PROCESSING],
    )
    entry.add_asset(
        "data",
        pystac.Asset(
            href=Path(href).as_posix() if is_local(dst) else href,
            media_type=pystac.MediaType.COG if _is_cog(dataset) else pystac.MediaType.GEOTIFF,
            roles=["data"],
            extra_fields={"bands": [_band(dataset, band) for band in dataset.indexes]},
        ),
    )
    return entry.to_dict(include_self_link=False, transform_hrefs=False)


def footprint(dataset: Any) -> list[list[float]] | None:
    """Return the closed outline of a raster in longitude and latitude, counter-clockwise, or None."""
    crs, transform = dataset.crs, dataset.transform
    gcps, gcps_crs = dataset.gcps
    if crs is None and gcps and gcps_crs is not None:
        crs, transform = gcps_crs, from_gcps(gcps)
    if crs is None:
        return None
    steps = [i / _EDGE for i in range(_EDGE)]
    unit = [(s, 1.0) for s in steps] + [(1.0, 1 - s) for s in steps]
    unit += [(1 - s, 0.0) for s in steps] + [(0.0, s) for s in steps]
    places = [transform @ (x * dataset.width, y * dataset.height) for x, y in unit]
    try:
        lon, lat = transform_points(crs, CRS.from_epsg(4326), *map(list, zip(*places, strict=True)))
    except GDAL_ERRORS:
        # a CRS that is not of this Earth
        return None
    ring = [[float(x), float(y)] for x, y in zip(lon, lat, strict=True)]
    if not all(math.isfinite(value) for point in ring for value in point):
        return None
    twice_area = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(ring, ring[1:] + ring[:1], strict=True))
    ring = ring if twice_area > 0 else ring[::-1]
    return [*ring, ring[0]]


def acquired(dataset: Any) -> datetime | None:
    """Return when a picture was taken, from its tags; a time without a zone counts as UTC."""
    told = dataset.tags(ns="IMAGERY").get("ACQUISITIONDATETIME"), dataset.tags().get("TIFFTAG_DATETIME")
    for text in filter(None, told):
        for form in ("%Y:%m:%d %H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"):
            with suppress(ValueError):
                return datetime.strptime(text.rstrip("Z"), form).replace(tzinfo=UTC)
    return None


def _is_cog(dataset: Any) -> bool:
    return bool(dataset.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG")


def _band(dataset: Any, band: int) -> dict[str, Any]:
    """Return what STAC says of a band."""
    kind = dataset.colorinterp[band - 1].name
    nodata, scale, offset = (values[band - 1] for values in (dataset.nodatavals, dataset.scales, dataset.offsets))
    facts: dict[str, Any] = {"name": f"b{band}", "data_type": dataset.dtypes[band - 1]}
    if dataset.descriptions[band - 1]:
        facts["description"] = dataset.descriptions[band - 1]
    if dataset.units[band - 1]:
        facts["unit"] = dataset.units[band - 1]
    if nodata is not None:
        # JSON has no number for these; STAC takes the words
        facts["nodata"] = nodata if math.isfinite(nodata) else str(nodata)
    if (scale, offset) != (1.0, 0.0):
        facts |= {"raster:scale": scale, "raster:offset": offset}
    if kind in _COMMON_NAMES:
        facts["eo:common_name"] = kind
    return facts
