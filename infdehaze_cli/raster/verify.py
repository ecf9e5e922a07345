"""Reads a written file back: GDAL does not always say when a write failed, or when a disk was full."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow

from infdehaze_cli.errors import StorageError
from infdehaze_cli.geometry import split_windows
from infdehaze_cli.raster._gdal import GDAL_ERRORS, open_quietly, to_rasterio
from infdehaze_cli.raster.metadata import Metadata

UNWRITTEN: tuple[type[BaseException], ...] = (*GDAL_ERRORS, StorageError)
"""What says that a file has to be written again: GDAL, the system, or `verify`."""

#: Values read at a time, so that checking a wide scene needs little memory.
_READ_VALUES = 1 << 23

#: How GDAL begins its note on the layout of a COG, after the header of a TIFF.
_NOTE = b"GDAL_STRUCTURAL_METADATA_SIZE="
_LONGEST_HEADER = 16


class Written:
    """Checksums of the windows that are written to a file, to look for when it is read."""

    def __init__(self) -> None:
        self._sums: list[tuple[RasterioWindow, int, int | None]] = []

    def add(self, window: RasterioWindow, pixels: NDArray[Any], mask: NDArray[np.uint8] | None = None) -> None:
        """Remember a window of all bands, and of the mask."""
        self._sums.append((window, _sum(pixels), None if mask is None else _sum(mask)))

    def check(self, dataset: Any) -> None:
        """Read all windows.

        Raises
        ------
        StorageError
            If one does not hold what was written.
        """
        for window, pixels, mask in self._sums:
            found = _sum(dataset.read(window=window))
            seen = None if mask is None else _sum(dataset.read_masks(1, window=window))
            if (found, seen) != (pixels, mask):
                raise StorageError(f"{dataset.name} does not hold what was written; check the disk and try again.")


def _sum(values: NDArray[Any]) -> int:
    if values.dtype.kind == "f":
        # a block that is zero or nodata all over comes back with the sign, or the kind of NaN, that GDAL has for it
        values = np.where(np.isnan(values), values.dtype.type("nan"), values) + values.dtype.type(0)
    return zlib.crc32(np.ascontiguousarray(values).data)


def verify(
    path: Path,
    shape: tuple[int, int, int],
    dtype: str,
    *,
    sparse: bool = False,
    metadata: Metadata | None = None,
    cog: bool = False,
    written: Written | None = None,
    overviews: Sequence[Written] = (),
) -> None:
    """Check that a GeoTIFF has a shape and dtype, and only blocks that can be decoded.

    Parameters
    ----------
    path
        The file.
    shape
        Bands, rows, columns.
    dtype
        Of all bands.
    sparse
        Whether blocks without data may be missing.
    metadata
        What it has to hold beside pixels.
    cog
        Whether it has to be a COG, from its header to the sizes that stand before each block.
    written
        What it has to hold, unless its packing loses something.
    overviews
        The same of its overviews, from the largest on, where it is known.

    Raises
    ------
    StorageError
        If its shape or dtype differ, something of it is not what it has to be, or a block was never written.
    rasterio.errors.RasterioError
        If a block cannot be decoded.
    """
    with ExitStack() as stack:
        dataset = stack.enter_context(open_quietly(path, NUM_THREADS="ALL_CPUS"))
        if (dataset.count, *dataset.shape, dataset.dtypes[0]) != (*shape, dtype):
            raise StorageError(f"{path} did not get the scene's size and type; check the creation options.")
        lost = [] if metadata is None else metadata.lost_in(dataset)
        if cog and not _is_cog(dataset, path):
            lost.append("layout")
        if lost:
            raise StorageError(f"{path} did not get its {lost[0]}; check the disk and try again.")
        blocks = _Blocks(dataset, path, sparse=sparse, framed=cog)
        blocks.check(dataset)
        _decode(dataset) if written is None else written.check(dataset)
        levels = len(dataset.overviews(1))
        if overviews and levels != len(overviews):
            raise StorageError(f"{path} did not get its overviews; check the disk and try again.")
        for level in range(levels):
            with open_quietly(path, NUM_THREADS="ALL_CPUS", OVERVIEW_LEVEL=level) as overview:
                blocks.check(overview, level)
                _decode(overview) if not overviews else overviews[level].check(overview)


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


def _is_cog(dataset: Any, path: Path) -> bool:
    """Whether the first directory follows GDAL's note on the layout, which begins the file and says its own length."""
    with path.open("rb") as file:
        start = file.read(_LONGEST_HEADER + len(_NOTE) + 6)
    note = start.find(_NOTE)
    digits = start[note + len(_NOTE) : note + len(_NOTE) + 6]
    if note < 0 or not digits.isdigit() or dataset.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") != "COG":
        return False
    end = note + len(_NOTE) + len(f"{int(digits):06} bytes\n") + int(digits)
    return int(dataset.get_tag_item("IFD_OFFSET", "TIFF", bidx=1)) == end + end % 2


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Where the blocks of a file lie."""

    dataset: Any
    path: Path
    sparse: bool = False
    framed: bool = False
    """Whether readers over a network find the size of a block before it, and its last four bytes again behind it."""

    def check(self, dataset: Any, level: int | None = None) -> None:
        """Check that no block of the raster or of an overview is missing: it would read as nodata, without an error."""
        separate = self.dataset.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE") == "BAND"
        rows, cols = (-(-side // block) for side, block in zip(dataset.shape, dataset.block_shapes[0], strict=True))
        with self.path.open("rb", buffering=0) as file:
            for band in range(1, dataset.count + 1 if separate else 2):
                for row, col in product(range(rows), range(cols)):
                    offset, size = (self._item(what, row, col, band, level) for what in ("OFFSET", "SIZE"))
                    if not offset and self.sparse:
                        continue
                    if not offset:
                        raise StorageError(f"{self.path} lacks a block after writing; check the space on its disk.")
                    if self.framed and not _is_framed(file, offset, size):
                        raise StorageError(f"{self.path} has a damaged block; check the disk and try again.")

    def _item(self, what: str, row: int, col: int, band: int, level: int | None) -> int:
        return int(self.dataset.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", bidx=band, ovr=level) or 0)


def _is_framed(file: BinaryIO, offset: int, size: int) -> bool:
    file.seek(offset - 4)
    before = int.from_bytes(file.read(4), "little")
    file.seek(offset + size - 4)
    return before == size and file.read(4) == file.read(4)
