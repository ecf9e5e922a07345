"""A made-up rural landscape seen from straight above: every window of it can be drawn by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from os import PathLike
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from rasterio.windows import Window as RasterWindow

from infdehaze_cli.geometry import Window, split_windows
from infdehaze_cli.sample.fields import CLEARING, DIRT, GRASS, Ground, blend, draw_fields
from infdehaze_cli.sample.light import light
from infdehaze_cli.sample.noise import Float, Frame, noise_1d
from infdehaze_cli.sample.streets import draw_villages
from infdehaze_cli.sample.trees import grow

BLOCK = 512  # pixels; a scene is drawn in blocks on this grid, so that no window can change a pixel
MARGIN = 32.0  # metres around a block in which trees and houses stand whose shadows reach into it
RIVERS = 5200.0  # metres from one river to the next
WATER = np.array((40, 52, 48, 6), np.float32)
SHALLOW = np.array((72, 80, 58, 30), np.float32)
BANDS = ("red", "green", "blue", "near infrared")
COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.nir)
SOURCE = "made-up landscape"  # a tag of each file, by which one is told
ORIGIN = (463_000.0, 5_571_000.0)  # easting and northing of the upper-left corner of a file


@dataclass(frozen=True, slots=True, kw_only=True)
class Landscape:
    """A made-up landscape of fields, woods, villages, roads and water.

    The same seed and size give the same pixels whatever windows are asked for. Only the blocks of 512 x 512
    pixels that a window touches are drawn. A village and a river lie near the middle, so that small scenes
    have both.

    Attributes
    ----------
    height, width : int
        Size of the scene in pixels.
    seed : int
        Which landscape.
    metres_per_pixel : float
        Ground size of a pixel, 0.2 to 5.
    """

    height: int
    width: int
    seed: int = 0
    metres_per_pixel: float = 1.0

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError("a landscape needs at least one row and one column")
        if not 0.2 <= self.metres_per_pixel <= 5:
            raise ValueError("metres_per_pixel must lie between 0.2 and 5")

    def window(self, window: Window) -> NDArray[np.uint8]:
        """Draw one window.

        Parameters
        ----------
        window : Window
            Which pixels; must lie inside the scene.

        Returns
        -------
        ndarray
            (4, window.height, window.width) uint8: red, green, blue, near infrared.
        """
        if min(window.row, window.col) < 0 or window.row_end > self.height or window.col_end > self.width:
            raise ValueError(f"{window} does not lie inside a scene of {self.height} x {self.width} pixels")
        picture = np.empty((4, window.height, window.width), np.uint8)
        for row in range(window.row // BLOCK * BLOCK, window.row_end, BLOCK):
            for col in range(window.col // BLOCK * BLOCK, window.col_end, BLOCK):
                block = Window(row, col, BLOCK, BLOCK)
                common = window.intersect(block)
                assert common is not None
                drawn = _draw_block(self, row, col)
                picture[(slice(None), *common.relative_to(window))] = drawn[(slice(None), *common.relative_to(block))]
        return picture


@lru_cache(maxsize=16)
def _draw_block(scene: Landscape, row: int, col: int) -> NDArray[np.uint8]:
    """Draw the block whose corner is a pixel of the scene, (4, BLOCK, BLOCK) uint8."""
    scale = scene.metres_per_pixel
    margin = -(-round(MARGIN / scale) // 16) * 16
    # the first village, the origin of the world, goes a little up and left of the middle of the scene
    up, left = (int(size * 0.5 - min(0.08 * size, 90 / scale)) for size in (scene.height, scene.width))
    frame = Frame(row - up - margin, col - left - margin, BLOCK + 2 * margin, scene.seed, scale)

    shore = _shore(frame)
    ground = draw_fields(frame, _woods(frame, shore))
    _draw_water(frame, ground, shore)
    draw_villages(frame, ground, shore)
    picture = light(frame, ground, *grow(frame, ground.trees))[:, margin:-margin, margin:-margin]
    drawn: NDArray[np.uint8] = np.clip(picture + 0.5, 0, 255).astype(np.uint8)
    drawn.flags.writeable = False  # it is shared between windows
    return drawn


def _shore(frame: Frame) -> Float:
    """Return the metres from the water's edge, (side, side), negative in rivers and lakes."""

    # a river winds about a line from left to right; at the origin it passes 215 m below
    def course(start: int, count: int) -> Float:
        waves = [
            noise_1d(start, count, frame.pixels(spacing), frame.seed, 91 + number, spacing)
            for spacing in (1300, 420, 130)
        ]
        return 150 * waves[0] + 100 * waves[1] + 34 * waves[2]

    number = round((frame.row + frame.side / 2) * frame.scale / RIVERS)
    line = course(frame.col - 1, frame.side + 2) - course(0, 1) + np.float32(number * RIVERS + 215)
    slope = (line[2:] - line[:-2]) / np.float32(2 * frame.scale)
    width = 9 + 2.5 * noise_1d(frame.col, frame.side, frame.pixels(170), frame.seed, 94, number)
    meander = 20 * frame.noise(90, 95) + 2 * frame.noise(25, 96)
    y = frame.axis(0, frame.row)[:, None]
    river = np.abs(y + meander - line[1:-1]) / np.sqrt(1 + np.square(slope)) - width
    lake = (2.0 - frame.noise(420, 97) - 0.16 * frame.noise(110, 98)) * 190 + 5 * frame.noise(30, 99)
    lake += 250 * _opening(frame)
    away: Float = np.minimum(river, lake)
    return away


def _opening(frame: Frame) -> Float:
    """Return 1 around the first village, which no wood or lake may hide, falling to 0; (side, side)."""
    x, y = frame.axis(0, frame.col), frame.axis(0, frame.row)[:, None]
    opening: Float = np.clip(1.6 - np.hypot(x, y) / np.float32(CLEARING), 0, 1)
    return opening


def _woods(frame: Frame, shore: Float) -> Float:
    """Return where woods grow that follow no parcel, (side, side), above 0."""
    wood: Float = frame.noise(520, 101) - np.float32(1.3)
    wood += 0.35 * frame.noise(130, 102) + 0.12 * frame.noise(35, 103)
    wood -= 2 * _opening(frame)
    wood[shore < 12] = -1
    return wood


def _draw_water(frame: Frame, ground: Ground, shore: Float) -> None:
    """Paint water, its banks and the meadows beside it, and plant trees along it."""
    if shore.min() > 90:
        return
    patches = frame.noise(45, 111)
    blend(
        ground.colour,
        GRASS * np.float32(0.9),
        np.clip((55 + 18 * patches - shore) / 6, 0, 0.8) * (ground.trees < 0.9),
    )
    blend(ground.colour, DIRT * np.float32(0.8), np.clip(2.2 + patches - shore, 0, 0.7))
    ground.trees[shore < 12] *= shore[shore < 12] > 3
    riparian = (shore > 2) & (shore < 11 + 5 * patches)
    np.maximum(ground.trees, (riparian & (patches > -0.2)) * np.float32(0.5), out=ground.trees)
    ground.trees[shore < 1.5] = 0
    depth = np.clip(-shore / 7, 0, 1)
    water = SHALLOW[:, None, None] + (WATER - SHALLOW)[:, None, None] * depth
    water *= 1 + np.float32(0.05) * frame.noise(300, 112)
    blend(ground.colour, water, np.clip(0.5 - shore / np.float32(frame.scale), 0, 1))


def write_landscape(
    path: str | PathLike[str],
    height: int,
    width: int,
    *,
    seed: int = 0,
    crs: str = "EPSG:32633",
    bands: int = 3,
    metres_per_pixel: float = 1.0,
    compress: str = "deflate",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a landscape as a tiled GeoTIFF, block by block; memory does not grow with the scene.

    Parameters
    ----------
    path : path-like
        Where the file goes. It appears only when it is complete, and replaces one that is there.
    height, width : int
        Size in pixels.
    seed : int
        Which landscape.
    crs : str
        Projected coordinate system in metres.
    bands : {3, 4}
        Red, green, blue, and with 4 near infrared.
    metres_per_pixel : float
        Ground size of a pixel.
    compress : str
        GDAL's name of a lossless compression, or ``none``.
    progress : callable, optional
        Called with the pixels done and the pixels in all after every block.

    Returns
    -------
    Path
        The file.
    """
    if bands not in (3, 4):
        raise ValueError("a landscape has 3 or 4 bands")
    scene = Landscape(height=height, width=width, seed=seed, metres_per_pixel=metres_per_pixel)
    path = Path(path)
    unfinished = path.with_name(path.name + ".tmp.tif")
    profile = {
        "driver": "GTiff", "height": height, "width": width, "count": bands, "dtype": "uint8", "crs": crs,
        "transform": Affine(metres_per_pixel, 0, ORIGIN[0], 0, -metres_per_pixel, ORIGIN[1]),
        "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "interleave": "pixel", "compress": compress,
        "photometric": "RGB", "BIGTIFF": "IF_SAFER",
    }  # fmt: skip
    if compress.lower() in ("deflate", "lzw", "zstd"):
        profile["predictor"] = 2
    try:
        with rasterio.open(unfinished, "w", **profile) as target:
            target.colorinterp = COLOURS[:bands]
            target.descriptions = BANDS[:bands]
            target.update_tags(source=SOURCE, seed=str(seed))
            done = 0
            for window in split_windows(height, width, BLOCK, BLOCK):
                place = RasterWindow(window.col, window.row, window.width, window.height)
                target.write(scene.window(window)[:bands], window=place)
                done += window.pixels
                if progress is not None:
                    progress(done, height * width)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
