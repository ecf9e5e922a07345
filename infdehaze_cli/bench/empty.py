"""What a mosaic costs that is mostly empty, beside a full one of the same size, in one process."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window as RasterioWindow

from infdehaze_cli.api import RunResult, dehaze
from infdehaze_cli.engine import Reporter
from infdehaze_cli.errors import UsageError
from infdehaze_cli.geometry import split_windows
from infdehaze_cli.plan import RunConfig
from infdehaze_cli.sample import write_landscape
from infdehaze_cli.synth import synthesise

_ROWS = 256


@dataclass(frozen=True, slots=True)
class EmptyResult:
    """Two runs over scenes of one size."""

    full: RunResult
    mosaic: RunResult
    valid_share: float
    """Share of the mosaic's pixels that hold data."""

    @property
    def ratio(self) -> float:
        """Wall time of the mosaic over that of the full scene."""
        return self.mosaic.seconds["total"] / self.full.seconds["total"]


def bench_empty(
    size: int, share: float, options: Mapping[str, str], *, config: RunConfig, reporter: Reporter
) -> EmptyResult:
    """Clean a full scene of ``size`` x ``size`` px, and one of which only the first rows hold data.

    Parameters
    ----------
    size : int
        Pixels a side.
    share : float
        Of the rows that hold data, above 0 and up to 1; rounded up to whole rows of tiles.
    options : mapping
        GDAL creation options of the outputs.
    config : RunConfig
        Of both runs.
    reporter : Reporter
        Is told how they go on.

    Raises
    ------
    UsageError
        When the share is none, or GDAL knows no such option.
    """
    if not 0.0 < share <= 1.0:
        raise UsageError("A share of data lies above 0 and up to 1. Give --share such a number.")
    rows = min(size, -(-round(size * share) // _ROWS) * _ROWS)
    with tempfile.TemporaryDirectory(prefix="infdehaze-bench-") as temporary:
        names = ("clear", "hazy", "full", "mosaic", "restored")
        clear, hazy, full, mosaic, restored = (Path(temporary) / f"{name}.tif" for name in names)
        write_landscape(clear, size, size)
        synthesise(clear, hazy, style="patches", overwrite=True)
        _with_data_in(hazy, full, size)
        _with_data_in(hazy, mosaic, rows)
        # the first run also loads code and makes pools of memory
        _with_data_in(hazy, clear, min(size, _ROWS))
        runs = [
            dehaze(src, restored, config=config, reporter=reporter, creation_options=options, overwrite=True)
            for src in (clear, full, mosaic)
        ]
        return EmptyResult(runs[1], runs[2], rows / size)


def _with_data_in(src: Path, dst: Path, rows: int) -> None:
    """Copy a scene of which only the first rows hold data, the others being nodata."""
    with rasterio.open(src) as source:
        profile = {**source.profile, "driver": "GTiff", "nodata": 0}
        with rasterio.open(dst, "w", **profile) as out:
            for window in split_windows(source.height, source.width, _ROWS, source.width):
                here = RasterioWindow(window.col, window.row, window.width, window.height)
                pixels = np.maximum(source.read(window=here), 1)
                out.write(pixels if window.row < rows else np.zeros_like(pixels), window=here)
