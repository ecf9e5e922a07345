"""Reads a written file back: GDAL does not always say when a disk was full."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rasterio.windows import Window as RasterioWindow

from infdehaze_cli.errors import StorageError
from infdehaze_cli.geometry import split_windows
from infdehaze_cli.raster._gdal import open_quietly, to_rasterio
from infdehaze_cli.raster.metadata import Metadata
from infdehaze_cli.raster.source import Scene

#: Values read at a time, so that checking a wide scene needs little memory.
_READ_VALUES = 1 << 23


def verify(path: Path, scene: Scene, count: int, *, sparse: bool, metadata: Metadata | None = None) -> None:
    """Check that a file has the scene's shape and dtype, ``count`` bands, and only blocks that can be decoded.

    With ``metadata`` it also has to lie somewhere, and to have a nodata value, where that says so: GDAL copies a file
    although it has not read all of its header.

    Raises
    ------
    StorageError
        If its shape or dtype differ, or a block was never written.
    rasterio.errors.RasterioError
        If a block cannot be decoded.
    """
    with open_quietly(path, NUM_THREADS="ALL_CPUS") as dataset:
        found = (dataset.height, dataset.width, dataset.count, dataset.dtypes[0])
        if found != (scene.height, scene.width, count, scene.dtype.name):
            raise StorageError(f"{path} did not get the scene's size and type; check the creation options.")
        if metadata is not None and _place(dataset) != _place(metadata):
            raise StorageError(f"{path} did not get the scene's place on the map; check the disk and try again.")
        if not sparse:
            _check_block_offsets(dataset, path)
        _decode(dataset)
        levels = len(dataset.overviews(1))
    for level in range(levels):
        with open_quietly(path, NUM_THREADS="ALL_CPUS", OVERVIEW_LEVEL=level) as overview:
            _decode(overview)


def _place(described: Any) -> tuple[bool, ...]:
    """Whether there is a CRS, a transform and a nodata value; with control points GDAL decides about the first two."""
    transform, gcps = described.transform, described.gcps
    if gcps and gcps[0]:
        return (described.nodata is not None,)
    return described.nodata is not None, described.crs is not None, not (transform is None or transform.is_identity)


def _decode(dataset: Any) -> None:
    """Read every block of all bands and of the mask, if there is one."""
    masked = any("per_dataset" in {flag.name for flag in flags} for flags in dataset.mask_flag_enums)
    for window in _block_windows(dataset):
        dataset.read(window=window)
        if masked:
            dataset.read_masks(1, window=window)


def _block_windows(dataset: Any) -> Iterator[RasterioWindow]:
    """Yield windows that cover the dataset, made of whole blocks, each of a bounded size."""
    rows, cols = dataset.block_shapes[0]
    blocks = max(1, _READ_VALUES // (rows * cols * dataset.count))
    for window in split_windows(dataset.height, dataset.width, rows, cols * blocks):
        yield to_rasterio(window)


def _check_block_offsets(dataset: Any, path: Path) -> None:
    """Check that no block is missing: a missing one would read as nodata, without an error."""
    rows, cols = dataset.block_shapes[0]
    separate = dataset.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE") == "BAND"
    for band in range(1, dataset.count + 1 if separate else 2):
        for row in range(-(-dataset.height // rows)):
            for col in range(-(-dataset.width // cols)):
                if dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=band) is None:
                    raise StorageError(f"{path} lacks a block after writing; check the free space of its disk.")
