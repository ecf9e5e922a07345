"""With which creation options a raster is written, and the profiles that name them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from rasterio.enums import ColorInterp

from infdehaze_cli.errors import UsageError

NO_OPTIONS: Mapping[str, str] = MappingProxyType({})

#: A third of the time of GDAL's default level, and on real scenes 0 to 15 per cent more space.
_DEFLATE_LEVEL = "1"

#: Compressions that can use a predictor.
_PREDICTED = frozenset({"DEFLATE", "LZW", "ZSTD"})

_TILES: Mapping[str, str] = MappingProxyType(
    {"TILED": "YES", "BLOCKXSIZE": "256", "BLOCKYSIZE": "256", "INTERLEAVE": "PIXEL"}
)

_LOSSLESS = _PREDICTED | {"NONE", "LZMA", "PACKBITS"}


@dataclass(frozen=True, slots=True)
class Profile:
    """A named way to write an output.

    Attributes
    ----------
    format
        ``"cog"`` or ``"gtiff"``.
    options
        Creation options on top of the format's own; those of the user come last.
    lossy
        Whether pixels come back only nearly: then a mask says which are data, for no nodata value would survive.
    """

    format: Literal["cog", "gtiff"]
    options: Mapping[str, str] = field(default_factory=dict)
    lossy: bool = False


PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        "cog-deflate": Profile("cog"),
        "cog-zstd": Profile("cog", {"COMPRESS": "ZSTD"}),
        "cog-jpeg": Profile("cog", {"COMPRESS": "JPEG", "QUALITY": "90"}, lossy=True),
        "gtiff": Profile("gtiff"),
    }
)


def find_profile(name: str | None, format: str) -> Profile:  # noqa: A002  (the name of the option)
    """Return a profile by its name, or the plain one of a format.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    key = name or {"cog": "cog-deflate"}.get(format, format)
    if key not in PROFILES:
        raise UsageError(f"There is no output profile {key!r}. Use one of {', '.join(PROFILES)}.")
    return PROFILES[key]


def check_lossy(name: str, dtype: np.dtype[Any], colours: tuple[ColorInterp, ...]) -> None:
    """Check that JPEG can hold such bands.

    Raises
    ------
    UsageError
        If they are not uint8, not one or three, or one is alpha.
    """
    if dtype != np.uint8 or len(colours) not in (1, 3) or ColorInterp.alpha in colours:
        raise UsageError(
            f"JPEG holds one or three bands of uint8, and {name} would come out with {len(colours)} of {dtype}. "
            "Use --profile cog-zstd, or leave bands out with --other-bands drop."
        )


def _predictable(options: Mapping[str, str]) -> bool:
    """Whether GDAL has a predictor for the bits that are asked for."""
    return options.get("NBITS", "8") in ("8", "16", "32", "64")


def intermediate_options() -> dict[str, str]:
    """Return the options of the file that becomes a COG: nothing to compress, and it is read once."""
    # of a BigTIFF libtiff doubts the counts of entries, and so cannot go round in circles after a write that failed
    return {**_TILES, "BIGTIFF": "YES"}


def gtiff_options(dtype: np.dtype[Any], overrides: Mapping[str, str]) -> dict[str, str]:
    """Return the creation options of a plain GeoTIFF, with the tiles that arrive: each is packed once."""
    options = {**_TILES, "BIGTIFF": "IF_SAFER", "COMPRESS": "DEFLATE", "NUM_THREADS": "ALL_CPUS"}
    options |= overrides
    packing = options["COMPRESS"].upper()
    if packing in _PREDICTED and _predictable(options):
        options.setdefault("PREDICTOR", "3" if dtype.kind == "f" else "2")
    if packing == "DEFLATE":
        options.setdefault("ZLEVEL", _DEFLATE_LEVEL)
    return options


def cog_options(overrides: Mapping[str, str]) -> dict[str, str]:
    """Return the creation options of a COG."""
    options = {
        "COMPRESS": "DEFLATE",
        "BLOCKSIZE": "512",
        "BIGTIFF": "IF_SAFER",
        "OVERVIEWS": "AUTO",
        "NUM_THREADS": "ALL_CPUS",
        "COPY_SRC_MDD": "YES",
    }
    options |= overrides
    packing = options["COMPRESS"].upper()
    if packing in _PREDICTED and _predictable(options):
        options.setdefault("PREDICTOR", "YES")
    if packing == "DEFLATE":
        options.setdefault("LEVEL", _DEFLATE_LEVEL)
    if "RESAMPLING" not in options:
        # it would stand below that one
        options.setdefault("OVERVIEW_RESAMPLING", "AVERAGE")
    return options


def is_sparse(options: Mapping[str, str]) -> bool:
    """Whether a file with these creation options may lack blocks without data: GDAL takes all but these for yes."""
    return options.get("SPARSE_OK", "NO").upper() not in ("NO", "FALSE", "OFF", "0")


def is_lossless(options: Mapping[str, str], *, overviews: bool = False) -> bool:
    """Whether a file with these creation options holds the very pixels that were written, or its ``overviews`` do."""
    packing = options["COMPRESS"].upper()
    if overviews:
        other = options.get("OVERVIEW_COMPRESS", "AUTO").upper()
        packing = packing if other == "AUTO" else other
    return packing in _LOSSLESS and not options.keys() & {"NBITS", "DISCARD_LSB"}
