"""Put physically based haze over a clear raster of any size, by windows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from .engine import Reporter, Silent
from .errors import UsageError
from .geometry import split_windows
from .raster import MapWriter, OutputWriter, Scene, gdal_environment
from .training.haze import HazeField, named_style

BLOCK_ROWS, BLOCK_COLS = 512, 1024


def synthesise(
    src: str | Path,
    dst: str | Path,
    *,
    style: str = "patches",
    seed: int = 0,
    feature: float | None = None,
    transmission: str | Path | None = None,
    bands: tuple[int, ...] | None = None,
    scale_range: tuple[float, float] | None = None,
    format: Literal["cog", "gtiff"] = "cog",  # noqa: A002 - the name of the option
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> Path:
    """Write a hazy version of a raster.

    Parameters
    ----------
    src, dst : str or Path
        Clear source and hazy output; what is said of them for :func:`infdehaze_cli.dehaze` holds here too.
    style : str
        A key of :data:`infdehaze_cli.training.haze.STYLES`.
    seed : int
        The same seed gives the same haze, whatever windows it is made in.
    feature : float, optional
        Size in pixels of the largest structures; by default about that of the scene.
    transmission : str or Path, optional
        Also write the true transmission of red, green and blue, float32, 0..1.

    Raises
    ------
    InfdehazeError
        As :func:`infdehaze_cli.dehaze`.
    """
    reporter = reporter or Silent()
    chosen = named_style(style)
    with gdal_environment(), Scene.open(src, bands=bands, scale_range=scale_range) as scene:
        if transmission is not None and Path(transmission).resolve() == Path(dst).resolve():
            raise UsageError(f"{dst} cannot be both the hazy raster and its transmission. Name two files.")
        if feature is not None and not math.isfinite(feature):
            raise UsageError(f"Haze has no features of {feature} px. Give --feature a number of pixels.")
        generator = torch.Generator().manual_seed(seed)
        field = HazeField([chosen], scene.height, scene.width, generator, feature)
        names = ("transmission, red", "transmission, green", "transmission, blue")
        maps = MapWriter(scene, transmission, names, overwrite=overwrite) if transmission is not None else None
        try:
            with OutputWriter(
                scene,
                dst,
                format=format,
                overwrite=overwrite,
                tags={"INFDEHAZE_SYNTHETIC_HAZE": f"{style}, seed {seed}"},
            ) as writer:
                windows = list(split_windows(scene.height, scene.width, BLOCK_ROWS, BLOCK_COLS))
                reporter.phase("haze", len(windows))
                for window in windows:
                    block = scene.read(window)
                    haze = field.window(window.row, window.col, window.height, window.width)
                    hazy = haze.over(torch.from_numpy(block.values)[None])[0].numpy()
                    writer.write(block, hazy)
                    if maps is not None:
                        maps.write(window, haze.transmission_B3HW[0].numpy().astype(np.float32))
                    reporter.advance()
                if maps is not None:
                    maps.finish()
                return writer.finish()
        finally:
            if maps is not None:
                maps.close()
