"""Which bands of a raster are its colours, and which rasters are refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from rasterio.enums import ColorInterp

from infdehaze_cli.errors import InputError, UsageError

SUPPORTED_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")

OtherBands = Literal["copy", "physics", "drop"]

_RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
_NOT_RGB = frozenset({"cyan", "magenta", "yellow", "black", "hue", "saturation", "lightness", "Y", "Cb", "Cr"})


def check_dtype(name: str, dtypes: Sequence[str]) -> np.dtype[Any]:
    """Return the one dtype of all bands.

    Raises
    ------
    InputError
        If there is no band, if bands differ in dtype, or if it is complex or otherwise not supported.
    """
    if not dtypes:
        raise InputError(f"{name} has no bands of its own; name one of its subdatasets instead.")
    if len(set(dtypes)) > 1:
        raise InputError(
            f"{name} mixes the data types {', '.join(sorted(set(dtypes)))}; "
            "convert it to one type first, e.g. with gdal_translate -ot."
        )
    if dtypes[0] not in SUPPORTED_DTYPES:
        raise InputError(
            f"{name} holds {dtypes[0]} values, which are not supported; "
            "convert it first, e.g. with gdal_translate -ot Float32."
        )
    return np.dtype(dtypes[0])


def colour_bands(
    name: str, interpretations: Sequence[ColorInterp], requested: tuple[int, ...] | None
) -> tuple[int, ...]:
    """Choose the bands that are dehazed.

    The request decides, then the colour interpretation (red, green and blue wherever they are), then the
    order: the first three bands, or the only one. An alpha band is never a colour.

    Parameters
    ----------
    name
        The raster's name, for messages.
    interpretations
        Colour interpretation of each band.
    requested
        Red, green and blue, or one grey band, counted from 1; None to choose.

    Returns
    -------
    tuple of int
        One or three band numbers, counted from 1.

    Raises
    ------
    UsageError
        If the request names no possible bands.
    InputError
        If the raster holds a palette or another colour model, or two bands without a request.
    """
    if ColorInterp.palette in interpretations:
        raise InputError(f"{name} holds palette indices, not colours; expand it with gdal_translate -expand rgb.")
    if requested is not None:
        return _checked(name, interpretations, requested)
    if any(kind.name in _NOT_RGB for kind in interpretations):
        raise InputError(
            f"{name} is not in red, green and blue but {', '.join(kind.name for kind in interpretations)}; "
            "convert it to RGB first, or name its bands with --bands."
        )
    if all(kind in interpretations for kind in _RGB):
        return tuple(interpretations.index(kind) + 1 for kind in _RGB)
    candidates = [number for number, kind in enumerate(interpretations, 1) if kind != ColorInterp.alpha]
    if not candidates:
        raise InputError(f"{name} has only an alpha band; give a raster with one or three colour bands.")
    if len(candidates) == 2:
        raise InputError(
            f"{name} has two bands, which is neither grey nor colour; "
            "name the band to use with --bands, e.g. --bands 1."
        )
    return tuple(candidates[:3])


def _checked(name: str, interpretations: Sequence[ColorInterp], requested: tuple[int, ...]) -> tuple[int, ...]:
    """Return the requested bands if they are possible."""
    shown = ",".join(map(str, requested))
    if len(requested) not in (1, 3):
        raise UsageError(f"--bands {shown} names {len(requested)} bands; name one (grey) or three (red,green,blue).")
    if len(set(requested)) != len(requested):
        raise UsageError(f"--bands {shown} names a band twice; name three different bands.")
    for band in requested:
        if not 1 <= band <= len(interpretations):
            raise UsageError(f"--bands {shown}: {name} has no band {band}; its bands are 1 to {len(interpretations)}.")
        if interpretations[band - 1] == ColorInterp.alpha:
            raise UsageError(f"--bands {shown}: band {band} of {name} is its alpha band; name a colour band.")
    return tuple(requested)


def kept_bands(
    interpretations: tuple[ColorInterp, ...], colours: tuple[int, ...], other_bands: OtherBands
) -> tuple[tuple[int, ...], tuple[ColorInterp, ...]]:
    """Return which bands of the source an output has, in its order, counted from 1, and what they are.

    ``drop`` leaves the colours and, behind them, alpha: red, green, blue as a viewer expects them.
    """
    if other_bands != "drop":
        return tuple(range(1, len(interpretations) + 1)), interpretations
    kept = (*colours, *(band for band, kind in enumerate(interpretations, 1) if kind == ColorInterp.alpha))
    kinds = [interpretations[band - 1] for band in kept]
    if len(colours) == 3:
        kinds[:3] = _RGB
    return kept, tuple(kinds)
