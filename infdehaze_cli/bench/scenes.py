"""Scenes and weights that ``infdehaze bench memory`` measures with."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import rasterio
import torch
from infdehaze.network import InfDehaze
from infdehaze.presets import PRESETS
from infdehaze.weights import resolve_weights, save_weights, shipped_weights
from rasterio.errors import RasterioError
from rasterio.transform import Affine
from rasterio.windows import Window as RasterWindow

from infdehaze_cli.engine import Reporter
from infdehaze_cli.errors import StorageError, UsageError
from infdehaze_cli.geometry import split_windows
from infdehaze_cli.sample import write_landscape
from infdehaze_cli.sample.landscape import BLOCK
from infdehaze_cli.sizes import format_size

SMALLEST, LARGEST = 64, 131_072
"""Sides of a scene in pixels."""


def check_sizes(sizes: Sequence[int]) -> None:
    """Check the sides of scenes.

    Raises
    ------
    UsageError
        When there is none, or one cannot be.
    """
    if not sizes:
        raise UsageError("There is no size to measure. Give sides in pixels, as in --sizes 1024,2048.")
    for size in sizes:
        if not SMALLEST <= size <= LARGEST:
            raise UsageError(
                f"A scene of {size} x {size} px cannot be measured. Give sides between {SMALLEST} and {LARGEST} px."
            )


def prepare_weights(name: str, folder: Path) -> tuple[Path, bool]:
    """Return a checkpoint, and whether it is random: a preset that has no weights gets some, in ``folder``.

    Memory and time do not depend on the values, but the restored pictures are worth nothing.

    Raises
    ------
    CheckpointError
        When there are no such weights and there is no such preset.
    """
    if name not in PRESETS or name in shipped_weights() or Path(name).is_file():
        return resolve_weights(name), False
    path = folder / f"{name}-random.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_weights(path, InfDehaze(PRESETS[name]), {"weights": "random, for measurements of memory"})
    return path, True


def make_blank(folder: Path, size: int) -> Path:
    """Write a scene without pixels, to plan with: it takes some kilobytes, in the blocks of a landscape."""
    path = folder / "blank.tif"
    shape = {"height": size, "width": size, "count": 3, "dtype": "uint8", "photometric": "RGB"}
    placed = {"crs": "EPSG:32633", "transform": Affine(1, 0, 463_000, 0, -1, 5_571_000)}
    blocks = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "SPARSE_OK": True, "BIGTIFF": "IF_SAFER"}
    try:
        with rasterio.open(path, "w", driver="GTiff", **shape, **placed, **blocks):
            pass
    except (RasterioError, OSError) as error:
        raise StorageError(f"{path} cannot be written ({error}). Name another folder with --scratch.") from error
    return path


def make_scenes(folder: Path, sizes: Sequence[int], reporter: Reporter) -> dict[int, Path]:
    """Write a landscape of the largest size by windows, and cut the smaller scenes out of its upper left.

    Parameters
    ----------
    folder : Path
        Where they go.
    sizes : sequence of int
        Their sides in pixels.

    Raises
    ------
    StorageError
        When the folder has no room for the scenes and an output, or cannot be written.
    """
    largest = max(sizes)
    # packed or not, with the output and the file that it is made from
    needed, free = 4 * 3 * largest**2, shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"The scratch folder {folder.parent} has {format_size(free)} free, and a scene of {largest} x {largest} px "
            f"needs {format_size(needed)}. Free some space, name another folder with --scratch, or measure less."
        )
    paths = {size: folder / f"scene-{size}.tif" for size in sizes}
    reporter.phase("scene", -(-(largest**2) // 1_000_000))
    told = 0

    def tell(done: int, total: int) -> None:
        nonlocal told
        megapixels = -(-total // 1_000_000) if done == total else done // 1_000_000
        reporter.advance(megapixels - told)
        told = megapixels

    try:
        write_landscape(paths[largest], largest, largest, progress=tell)
        for size in sizes:
            if size != largest:
                _cut(paths[largest], paths[size], size)
    except (RasterioError, OSError) as error:
        raise StorageError(
            f"The scene cannot be written to {folder} ({error}). Name another folder with --scratch."
        ) from error
    return paths


def _cut(src: Path, dst: Path, size: int) -> None:
    """Copy the upper left of a raster, by windows."""
    with rasterio.open(src) as source:
        profile = {**source.profile, "height": size, "width": size, "photometric": "RGB"}
        with rasterio.open(dst, "w", **profile) as target:
            for w in split_windows(size, size, BLOCK, BLOCK):
                part = RasterWindow(w.col, w.row, w.width, w.height)
                target.write(source.read(window=part), window=part)
