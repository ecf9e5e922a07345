"""Overviews of a file that is still being written: GDAL's own averages, made while rows come rather than at the end.

GDAL makes the overviews of a COG in one thread once all pixels are there, and does not see that most of a mosaic may be
empty. Here each is a file beside the level below it, ``.ovr``, ``.ovr.ovr`` and so on, which GDAL takes for overviews.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.windows import Window as RasterioWindow

from infdehaze_cli.geometry import Window, split_windows
from infdehaze_cli.raster._gdal import abandon, open_quietly, to_rasterio
from infdehaze_cli.raster.metadata import Metadata
from infdehaze_cli.raster.validity import representable
from infdehaze_cli.raster.verify import Written

#: Rows and columns of an overview that are made at a time.
_ROWS, _COLS = 256, 1024

#: With other creation options of a COG, GDAL makes other overviews, or of another grid.
_INDIFFERENT = frozenset(
    {
        *("COMPRESS", "LEVEL", "QUALITY", "PREDICTOR", "OVERVIEW_COMPRESS", "OVERVIEW_QUALITY", "OVERVIEW_PREDICTOR"),
        *("BLOCKSIZE", "BIGTIFF", "NUM_THREADS", "SPARSE_OK", "COPY_SRC_MDD", "OVERVIEWS", "OVERVIEW_RESAMPLING"),
    }
)


def can_be_made(height: int, width: int, metadata: Metadata, options: Mapping[str, str]) -> bool:
    """Whether a COG, with these creation options, has the overviews that are made here."""
    if metadata.has_mask or ColorInterp.alpha in metadata.colours:
        # by another rule GDAL averages what these say of, and these themselves
        return False
    usual = options["OVERVIEWS"].upper() == "AUTO" and options.get("OVERVIEW_RESAMPLING", "").upper() == "AVERAGE"
    if not usual or not options.keys() <= _INDIFFERENT or not options["BLOCKSIZE"].isdigit():
        return False
    # a side of one pixel is not halved
    return max(height, width) < min(height, width) * max(1, int(options["BLOCKSIZE"]))


@dataclass(slots=True)
class _Level:
    """A file, with what of it is there."""

    dataset: Any
    path: Path
    rows: int = 0
    filled: list[Window] = field(default_factory=list)
    """Windows that hold something, as long as the next level needs them."""
    sums: Written = field(default_factory=Written)


def is_fill(values: NDArray[Any], nodata: float | None) -> bool:
    """Whether all values are what GDAL reads where nothing was written, to the bit."""
    if nodata is not None and np.isfinite(nodata) and representable(nodata, values.dtype) is None:
        # GDAL would round it
        return False
    fill = values.dtype.type(nodata or 0)
    if values.dtype.kind == "f":
        as_bits = f"u{values.dtype.itemsize}"
        values, fill = values.view(as_bits), fill.view(as_bits)
    return bool((values == fill).all())


class Overviews:
    """Makes the overviews of a tiled GeoTIFF, which is open for writing and reading.

    Parameters
    ----------
    dataset
        The file.
    path
        Its path.
    metadata
        What it was made with.
    options
        GDAL creation options of the overviews' files.
    largest
        No side of the last overview is above it.

    Raises
    ------
    rasterio.errors.RasterioError, OSError
        From all methods, if GDAL or the disk fails.
    """

    def __init__(self, dataset: Any, path: Path, metadata: Metadata, options: Mapping[str, str], largest: int) -> None:
        self._levels = [_Level(dataset, path)]
        keywords = {key: value for key, value in metadata.creation().items() if key not in ("crs", "transform")}
        height, width = dataset.shape
        while max(height, width) > largest:
            # rounded down, as GDAL does for a COG
            height, width = height // 2, width // 2
            path = path.with_name(path.name + ".ovr")
            size = {"height": height, "width": width, "count": dataset.count, "dtype": dataset.dtypes[0]}
            try:
                self._levels.append(
                    _Level(open_quietly(path, "w+", driver="GTiff", **size, **keywords, **options), path)
                )
                self._levels[-1].dataset.colorinterp = dataset.colorinterp
            except BaseException:
                self.abandon()
                raise

    @property
    def sums(self) -> list[Written]:
        """What each overview holds, from the largest on."""
        return [level.sums for level in self._levels[1:]]

    def take(self, window: Window, *, empty: bool) -> None:
        """Take note that a window of the file is written, unless it is ``empty``: what GDAL reads where nothing is.

        Windows come from top to bottom, and from left to right.
        """
        file = self._levels[0]
        if not empty:
            file.filled.append(window)
        if window.col_end == file.dataset.width:
            file.rows = window.row_end
            for below, level in pairwise(self._levels):
                self._go_on(below, level)

    def _go_on(self, below: _Level, level: _Level) -> None:
        """Make the rows of a level that the rows below it allow."""
        height, width = level.dataset.shape
        down = below.dataset.height / height
        while level.rows < height:
            end = min(level.rows + _ROWS, height)
            if below.rows < min(math.ceil((end + 1) * down), below.dataset.height):
                return
            for part in split_windows(end - level.rows, width, _ROWS, _COLS):
                _make(below, level, Window(level.rows, part.col, part.height, part.width))
            level.rows = end
            below.filled = [filled for filled in below.filled if filled.row_end > math.floor((end - 1) * down)]

    def close(self) -> None:
        """Complete the files of the overviews."""
        for level in self._levels[1:]:
            level.dataset.close()

    def abandon(self) -> None:
        """Close the files, which are not wanted any more."""
        for level in self._levels[1:]:
            abandon(level.dataset, level.path)


def _make(below: _Level, level: _Level, window: Window) -> None:
    """Make a window of a level."""
    place, dataset = to_rasterio(window), level.dataset
    # a pixel more on each side: at the edge of what it reads GDAL weighs parts of pixels otherwise
    row, col = max(0, window.row - 1), max(0, window.col - 1)
    height, width = min(window.row_end + 1, dataset.height) - row, min(window.col_end + 1, dataset.width) - col
    # where a side is odd a pixel stands for a little more than two
    down, across = below.dataset.height / dataset.height, below.dataset.width / dataset.width
    seen = RasterioWindow(col * across, row * down, width * across, height * down)
    if not any(_overlap(seen, filled) for filled in below.filled):
        level.sums.add(place, dataset.read(window=place))
        return
    shape = (dataset.count, height, width)
    found = below.dataset.read(window=seen, out_shape=shape, resampling=Resampling.average)
    pixels = found[:, window.row - row :, window.col - col :][:, : window.height, : window.width]
    dataset.write(pixels, window=place)
    level.filled.append(window)
    level.sums.add(place, pixels)


def _overlap(seen: RasterioWindow, filled: Window) -> bool:
    """Whether two windows share a part of a pixel."""
    rows = seen.row_off < filled.row_end and filled.row < seen.row_off + seen.height
    return bool(rows and seen.col_off < filled.col_end and filled.col < seen.col_off + seen.width)
