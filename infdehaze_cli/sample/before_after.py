"""A before-and-after picture from rasters of any size, by decimated reads."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from infdehaze_cli.errors import InputError, StorageError

SIDE = 1000
"""Pixels of a picture's longer side."""


def read_small(path: Path) -> NDArray[np.uint8]:
    """Read an 8-bit raster as (rows, cols, 3) of at most ``SIDE`` pixels a side.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as source:
                colours = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
                known = all(colour in source.colorinterp for colour in colours)
                bands = [source.colorinterp.index(c) + 1 for c in colours] if known else [1, 2, 3]
                if not known and source.count < 3:
                    bands = [1, 1, 1]
                factor = max(1.0, max(source.shape) / SIDE)
                shape = (3, max(1, round(source.height / factor)), max(1, round(source.width / factor)))
                picture = source.read(bands, out_shape=shape, resampling=Resampling.average)
    except (RasterioError, OSError) as error:
        raise InputError(f"{path} cannot be read as a picture ({error}). Check that the file is whole.") from error
    return np.moveaxis(np.clip(picture, 0, 255).astype(np.uint8), 0, 2)


def draw_before_after(rasters: Mapping[str, Path], out: Path) -> Path:
    """Draw 8-bit rasters side by side, each under its name, to a PNG.

    Raises
    ------
    InputError
        When one cannot be read.
    StorageError
        When the picture cannot be written.
    """
    # pyplot would choose a window system; the figure alone needs none
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pictures = {name: read_small(path) for name, path in rasters.items()}
    first = next(iter(pictures.values()))
    panel = 5.0
    figure = Figure(figsize=(panel * len(pictures), panel * first.shape[0] / first.shape[1] + 0.4), dpi=110)
    FigureCanvasAgg(figure)
    for i, (name, picture) in enumerate(pictures.items()):
        axes = figure.add_subplot(1, len(pictures), i + 1)
        axes.imshow(picture, interpolation="lanczos")
        axes.set_title(name, fontsize=11)
        axes.set_axis_off()
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=0.93, wspace=0.02)
    try:
        figure.savefig(out)
    except OSError as error:
        raise StorageError(f"{out} cannot be written ({error.strerror or error}). Check the folder.") from error
    return out
