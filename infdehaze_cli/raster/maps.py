"""Float rasters on the grid of a scene, such as its transmission: written by windows, whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import rasterio.shutil
from numpy.typing import NDArray

from infdehaze_cli.errors import StorageError
from infdehaze_cli.geometry import Window
from infdehaze_cli.raster._gdal import GDAL_ERRORS, abandon, open_quietly, reason, to_rasterio
from infdehaze_cli.raster.destination import (
    check_destination,
    check_free,
    check_name,
    remove_all,
    sync,
    sync_and_rename,
    temporary_name,
    write_error,
)
from infdehaze_cli.raster.metadata import Metadata
from infdehaze_cli.raster.source import Block, Scene
from infdehaze_cli.raster.verify import UNWRITTEN, Written, verify

_COG = {"COMPRESS": "DEFLATE", "PREDICTOR": "YES", "NUM_THREADS": "ALL_CPUS", "BIGTIFF": "IF_SAFER"}


class MapWriter:
    """Writes float32 bands on the grid of a scene to a tiled GeoTIFF, as a context manager.

    Parameters
    ----------
    scene
        Where the grid and its place on Earth come from.
    dst
        The file to write, in an existing folder.
    descriptions
        One a band.
    overwrite
        Whether an existing file may be replaced.
    nodata
        The value of pixels without data, if any.
    cog
        Whether the file becomes a Cloud Optimized GeoTIFF.
    token
        A part of temporary names; see `destination.temporary_name`.

    Raises
    ------
    UsageError
        If ``dst`` is impossible or exists.
    StorageError
        If it cannot be created or written; it may pass where all of it may do better when it is written again.
    """

    def __init__(
        self,
        scene: Scene,
        dst: str | Path,
        descriptions: Sequence[str],
        *,
        overwrite: bool = False,
        nodata: float | None = None,
        cog: bool = False,
        token: str | None = None,
    ) -> None:
        self._dst = check_destination(scene.path, dst, overwrite=overwrite, parts=scene.files)
        check_name(dst)
        # an output whose name differs by its suffix alone may lie beside it
        name = f"{temporary_name(self._dst, token)}.map"
        self._partial = self._dst.with_name(f"{name}.tmp.tif")
        self._cog = self._dst.with_name(f"{name}.cog.tmp.tif") if cog else None
        for left in (self._partial, *([self._cog] if self._cog else [])):
            remove_all(left)
        place = {key: value for key, value in scene.metadata.creation().items() if key in ("crs", "transform")}
        self._dataset: Any = None
        self._sums, self._whole, self._overwrite = Written(), False, overwrite
        try:
            self._dataset = open_quietly(
                self._partial,
                "w",
                driver="GTiff",
                height=scene.height,
                width=scene.width,
                count=len(descriptions),
                dtype="float32",
                nodata=nodata,
                tiled=True,
                blockxsize=512,
                blockysize=512,
                compress="DEFLATE",
                predictor=3,
                # with threads GDAL 3.10 was seen to print an error of its own beside a map that is whole
                num_threads="ALL_CPUS" if cog else "1",
                # see `profiles.intermediate_options`
                BIGTIFF="YES" if cog else "IF_SAFER",
                **place,
            )
            self._dataset.descriptions = tuple(descriptions)
            if scene.metadata.gcps:
                self._dataset.gcps = (list(scene.metadata.gcps), scene.metadata.gcps_crs)
            if scene.metadata.rpcs is not None:
                self._dataset.rpcs = scene.metadata.rpcs
        except GDAL_ERRORS as error:
            failed = self._failed(error)
            self.close()
            raise failed from error

    def write(self, window: Window, values: NDArray[np.float32]) -> None:
        """Write a window of all bands, (bands, rows, cols)."""
        try:
            self._dataset.write(values, window=to_rasterio(window))
            self._sums.add(to_rasterio(window), values)
        except GDAL_ERRORS as error:
            raise self._failed(error) from error

    def complete(self) -> None:
        """Complete the file under its temporary name, and check every block of it."""
        try:
            metadata = Metadata.of(self._dataset, has_masks=False)
            shape = (self._dataset.count, *self._dataset.shape)
            self._dataset.close()
            if self._cog is not None:
                rasterio.shutil.copy(str(self._partial), str(self._cog), driver="COG", **_COG)
                remove_all(self._partial)
            whole, cog = self._cog or self._partial, self._cog is not None
            verify(whole, shape, "float32", metadata=metadata, cog=cog, written=self._sums)
            sync(whole)
        except UNWRITTEN as error:
            failed = self._failed(error)
            self.close()
            raise failed from error
        self._whole = True

    def finish(self) -> Path:
        """Complete the file, unless it is, and give it its name."""
        if not self._whole:
            self.complete()
        try:
            check_free(self._dst, overwrite=self._overwrite)
            sync_and_rename(self._cog or self._partial, self._dst)
        except GDAL_ERRORS as error:
            self.close()
            raise StorageError(f"Writing {self._dst} failed ({reason(error)}); check the disk.") from error
        return self._dst

    def _failed(self, error: BaseException) -> StorageError:
        return write_error(f"Writing {self._dst} failed", error, self._dst.parent)

    def close(self) -> None:
        """Remove what is unfinished; does nothing after `finish`."""
        if self._dataset is not None:
            abandon(self._dataset, self._partial)
        remove_all(self._partial)
        if self._cog is not None:
            remove_all(self._cog)

    def __enter__(self) -> MapWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class BlockWriter(Protocol):
    """What takes the windows of a restored scene."""

    def write(self, block: Block, restored: NDArray[np.float32], haze: NDArray[np.float32] | None = None) -> None:
        """Take a window, its restored values, and the haze that was taken away."""
        ...


class HazeMapWriter:
    """Hands windows on to the output's writer, and writes the optical depth that was taken away as a float32 COG.

    Parameters
    ----------
    scene
        The open source.
    dst
        The map: one band a colour, NaN where there is no data.
    output
        The writer of the restored scene.
    overwrite
        Whether an existing file may be replaced.
    token
        A part of temporary names; see `destination.temporary_name`.

    Raises
    ------
    UsageError, StorageError
        As :class:`MapWriter`.
    """

    wants_haze = True

    def __init__(
        self, scene: Scene, dst: str | Path, output: BlockWriter, *, overwrite: bool = False, token: str | None = None
    ) -> None:
        colours = ("grey",) if len(scene.colour_bands) == 1 else ("red", "green", "blue")
        names = [f"optical depth, {colour}" for colour in colours]
        self._map = MapWriter(scene, dst, names, overwrite=overwrite, nodata=float("nan"), cog=True, token=token)
        self._output, self._bands = output, len(names)

    def write(self, block: Block, restored: NDArray[np.float32], haze: NDArray[np.float32] | None = None) -> None:
        """Write a window of both."""
        if haze is None:
            raise ValueError("a haze map needs the haze of the window")
        self._output.write(block, restored, haze)
        depth = haze[:3] if self._bands == 3 else haze[:3].mean(0, keepdims=True)
        self._map.write(block.window, np.where(block.valid, depth, np.float32("nan")))

    def complete(self) -> None:
        """Complete the map under its temporary name."""
        self._map.complete()

    def finish(self) -> Path:
        """Complete the map, unless it is, and give it its name."""
        return self._map.finish()

    def __enter__(self) -> HazeMapWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._map.close()
