"""At which wavelength a band lies, from what its file says or from the user."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from rasterio.enums import ColorInterp

from infdehaze_cli.errors import UsageError
from infdehaze_cli.raster.metadata import Metadata, Tags

#: Sentinel-2 MSI, micrometres (mean of its satellites, rounded to 1 nm).
SENTINEL_2: Mapping[str, float] = {
    "B1": 0.443,
    "B2": 0.492,
    "B3": 0.560,
    "B4": 0.665,
    "B5": 0.704,
    "B6": 0.740,
    "B7": 0.781,
    "B8": 0.833,
    "B8A": 0.865,
    "B9": 0.944,
    "B10": 1.375,
    "B11": 1.612,
    "B12": 2.194,
}
_SENTINEL_NAME = re.compile(r"\bB(?:0?([1-9]|1[0-2])|(8A))\b", re.IGNORECASE)

_BY_KIND: Mapping[str, float] = {
    "coastal": 0.443,
    "blue": 0.48,
    "green": 0.56,
    "red": 0.66,
    "rededge": 0.72,
    "nir": 0.84,
    "swir": 1.6,
}
_BY_WORDS = ((re.compile(r"near.?infra.?red|\bnir\b", re.IGNORECASE), 0.84),)

_KEYS = ("central_wavelength_um", "central_wavelength", "center_wavelength", "wavelength")
_UNIT_KEYS = ("wavelength_units", "wavelength_unit")


def parse_wavelengths(text: str, count: int) -> tuple[float, ...]:
    """Return the wavelengths of ``0.49,0.56,0.66`` in micrometres, one a band; numbers above 100 are nanometres.

    Raises
    ------
    UsageError
        If they are not ``count`` numbers above 0.
    """
    try:
        values = tuple(_micrometres(float(part), "") for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count or not all(math.isfinite(value) and value > 0 for value in values):
        raise UsageError(
            f"--wavelengths {text} does not say the wavelength of {count} bands; "
            "give one number a band, as in 0.49,0.56,0.66 (micrometres) or 490,560,660 (nanometres)."
        )
    return values


def wavelengths_of(metadata: Metadata) -> tuple[float | None, ...]:
    """Return the central wavelength of each band in micrometres, None where the file does not tell.

    Looked at in this order: items such as ``wavelength`` or ``CENTRAL_WAVELENGTH_UM`` of the band; the STAC items
    ``eo:bands`` or ``bands`` of the raster; names of Sentinel-2 bands, if the raster is of Sentinel-2; the colour
    interpretation; the description.
    """
    listed = _stac_bands(metadata.tags, len(metadata.colours))
    sentinel = _is_sentinel_2(metadata)
    found: list[float | None] = []
    for band, (kind, text) in enumerate(zip(metadata.colours, metadata.descriptions, strict=True)):
        value = _from_items(metadata.band_tags[band]) or listed[band]
        if value is None and sentinel:
            value = _sentinel(text or "")
        found.append(value or _from_kind(kind, text or ""))
    return tuple(found)


def _micrometres(value: float, unit: str) -> float:
    """Return a wavelength in micrometres; without a unit, the number tells."""
    nanometres = unit.lower().startswith(("nm", "nano")) or (not unit and value > 100)
    return value / 1000 if nanometres else value


def _from_items(tags: Tags) -> float | None:
    """Return the wavelength in a band's metadata, in whatever domain."""
    items = {key.lower(): value for domain in tags.values() for key, value in domain.items()}
    unit = next((items[key] for key in _UNIT_KEYS if key in items), "")
    for key in _KEYS:
        with suppress(KeyError, ValueError, IndexError):
            value = _micrometres(float(items[key].split()[0]), "um" if key.endswith("_um") else unit)
            if math.isfinite(value) and value > 0:
                return value
    return None


def _stac_bands(tags: Tags, count: int) -> Sequence[float | None]:
    """Return the wavelengths of STAC's list of bands, if the raster carries one of the right length."""
    items = tags.get("", {})
    # GDAL ends the name of an item at its colon
    for text in (items.get("eo", "").removeprefix("bands="), items.get("bands", "")):
        with suppress(ValueError, AttributeError, TypeError):
            bands: list[dict[str, Any]] = json.loads(text or "[]")
            if len(bands) == count:
                values = [band.get("center_wavelength", band.get("eo:center_wavelength")) for band in bands]
                return [None if value is None else float(value) for value in values]
    return [None] * count


def _is_sentinel_2(metadata: Metadata) -> bool:
    """Whether band names are those of Sentinel-2: other satellites number theirs otherwise."""
    words = " ".join(str(value) for domain in metadata.tags.values() for value in domain.values())
    named = any(re.search(r"\bB8A\b", text or "", re.IGNORECASE) for text in metadata.descriptions)
    return named or bool(re.search(r"sentinel-?2|\bS2[A-D]_", words, re.IGNORECASE))


def _sentinel(text: str) -> float | None:
    match = _SENTINEL_NAME.search(text)
    return SENTINEL_2.get(f"B{match[1] or match[2]}".upper()) if match else None


def _from_kind(kind: ColorInterp, text: str) -> float | None:
    return _BY_KIND.get(kind.name) or next((value for words, value in _BY_WORDS if words.search(text)), None)
