"""Creation options are tried on a small raster before the work begins: what fails, fails at once and not at the end."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from infdehaze_cli.errors import StorageError, UsageError
from infdehaze_cli.raster._gdal import GDAL_ERRORS, collected_log, open_quietly, quiet, reason, refusing_disk
from infdehaze_cli.raster.cog import CARRIER_DOMAIN, make_cog
from infdehaze_cli.raster.destination import remove_all
from infdehaze_cli.raster.metadata import Metadata
from infdehaze_cli.raster.profiles import intermediate_options, is_lossless, is_sparse
from infdehaze_cli.raster.verify import Written, verify

SIDE = 64
"""Pixels of the small raster's sides, where it gets no overviews."""

MAX_TRIED = 1 << 26
"""Bytes up to which the raster is made larger than a block of a COG, so that it gets overviews like a scene."""

MAX_BLOCK = 1 << 29
"""Bytes of a block that is larger than usual: each reader holds several, unpacked."""

_BLOCK_SIDES = ("BLOCKSIZE", "BLOCKXSIZE", "BLOCKYSIZE")
_USUAL_SIDE = 512

#: In place of those that an output has, which an option must not lose either.
_TAGS = {"INFDEHAZE_VERSION": "0"}


def check_options(metadata: Metadata, dtype: np.dtype[Any], options: Mapping[str, str], *, cog: bool) -> None:
    """Write a small raster with the scene's metadata as the output will be written, and read it back.

    Parameters
    ----------
    metadata
        What the output has to hold beside pixels.
    dtype
        Of all bands.
    options
        Creation options of the COG or, without ``cog``, the GTiff driver, in capitals.

    Raises
    ------
    UsageError
        If the driver does not know an option or its value, or with them the output would not be what was promised:
        another size or type, pixels or metadata lost, files beside it.
    StorageError
        If the system has no room for temporary files.
    """
    driver = "COG" if cog else "GTiff"
    _check_blocks(options, dtype.itemsize * len(metadata.colours))
    try:
        with tempfile.TemporaryDirectory(prefix="infdehaze-options-") as name:
            folder = Path(name)
            try:
                with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), quiet(), collected_log() as messages:
                    made = _write(folder, metadata, dtype, options, cog=cog)
            except GDAL_ERRORS as error:
                if (refusal := refusing_disk(folder)) is not None:
                    raise refusal from error
                what = reason(error).replace(f"{folder}/", "")
                raise UsageError(f"The creation options do not work ({what}); see GDAL's {driver} driver.") from error
            except StorageError as error:
                what = str(error).split(";")[0].replace(f"{folder}/", "")
                raise UsageError(f"The creation options do not keep the scene ({what}); leave them out.") from error
            for message in messages:
                if "creation option" in message or "not recognised" in message:
                    raise UsageError(f"Wrong creation option ({message.rstrip('. ')}); see GDAL's {driver} driver.")
            beside = {path.name for path in folder.iterdir()} - {made.name, f"{made.name}.aux.xml"}
            if beside:
                suffix = Path(min(beside)).suffix
                raise UsageError(f"The creation options ask for a file {suffix} beside the output; leave them out.")
    except OSError as error:
        raise StorageError(
            f"The creation options cannot be tried in the system's temporary folder ({error.strerror or error}); "
            "make room there, or set TMPDIR."
        ) from error


def _check_blocks(options: Mapping[str, str], pixel_bytes: int) -> None:
    """Refuse sizes of blocks of which GDAL would break down, or fill the memory."""
    for key in _BLOCK_SIDES:
        # GDAL takes a text for 0, and a COG of such blocks ends the process
        if key in options and not (options[key].isdecimal() and int(options[key]) > 0):
            raise UsageError(f"Wrong creation option ({key}={options[key]}); give a multiple of 16.")
    sides = [int(options.get(key, options.get("BLOCKSIZE", "1"))) for key in _BLOCK_SIDES[1:]]
    if max(sides) > _USUAL_SIDE and prod(sides) * pixel_bytes > MAX_BLOCK:
        raise UsageError(f"The creation options ask for blocks of {sides[0]} x {sides[1]} px; give smaller ones.")


def _write(folder: Path, metadata: Metadata, dtype: np.dtype[Any], options: Mapping[str, str], *, cog: bool) -> Path:
    """Go the way of an output, from its first file to the check of its last."""
    first = folder / "raw.tif"
    made, count = folder / "made.tif" if cog else first, len(metadata.colours)
    side = int(options["BLOCKSIZE"]) + 16 if cog else SIDE
    if side**2 * count * dtype.itemsize > MAX_TRIED:
        side = SIDE
    # more than one value, so that no option takes the block for one without data
    pixels = np.repeat((np.indices((1, side, side)).sum(0) % 2).astype(dtype), count, 0)
    written = Written()
    with open_quietly(
        first,
        "w",
        driver="GTiff",
        height=side,
        width=side,
        count=count,
        dtype=dtype.name,
        **{**metadata.creation(), **(intermediate_options() if cog else options)},
    ) as dataset:
        metadata.apply(dataset, _TAGS, band_domain=CARRIER_DOMAIN if cog else "")
        dataset.write(pixels)
        mask = np.full((side, side), 255, np.uint8) if metadata.has_mask else None
        if mask is not None:
            dataset.write_mask(mask)
        written.add(rasterio.windows.Window(0, 0, side, side), pixels, mask)
    if cog:
        make_cog(first, made, options)
        remove_all(first)
    verify(
        made,
        (count, side, side),
        dtype.name,
        sparse=is_sparse(options),
        metadata=metadata.with_items(_TAGS),
        cog=cog,
        written=written if is_lossless(options) else None,
    )
    return made
