"""Float rasters on the grid of a scene, such as its transmission: written by windows, whole or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infdehaze_cli.errors import StorageError
from infdehaze_cli.geometry import Window
from infdehaze_cli.raster._gdal import GDAL_ERRORS, open_quietly, reason, to_rasterio
from infdehaze_cli.raster.destination import check_destination, remove_all, sync_and_rename
from infdehaze_cli.raster.source import Scene


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

    Raises
    ------
    UsageError
        If ``dst`` is impossible or exists.
    StorageError
        If it cannot be created or written.
    """

    def __init__(self, scene: Scene, dst: str | Path, descriptions: Sequence[str], *, overwrite: bool = False) -> None:
        self._dst = check_destination(scene.path, dst, overwrite=overwrite)
        self._partial = self._dst.with_name(f".{self._dst.stem}.{secrets.token_hex(4)}.tmp.tif")
        place = {key: value for key, value in scene.metadata.creation().items() if key in ("crs", "transform")}
        self._dataset: Any = None
        try:
            self._dataset = open_quietly(
                self._partial,
                "w",
                driver="GTiff",
                height=scene.height,
                width=scene.width,
                count=len(descriptions),
                dtype="float32",
                tiled=True,
                blockxsize=512,
                blockysize=512,
                compress="DEFLATE",
                predictor=3,
                num_threads="ALL_CPUS",
                BIGTIFF="IF_SAFER",
                **place,
            )
            self._dataset.descriptions = tuple(descriptions)
            if scene.metadata.gcps:
                self._dataset.gcps = (list(scene.metadata.gcps), scene.metadata.gcps_crs)
            if scene.metadata.rpcs is not None:
                self._dataset.rpcs = scene.metadata.rpcs
        except GDAL_ERRORS as error:
            self.close()
            raise self._failed(error) from error

    def write(self, window: Window, values: NDArray[np.float32]) -> None:
        """Write a window of all bands, (bands, rows, cols)."""
        try:
            self._dataset.write(values, window=to_rasterio(window))
        except GDAL_ERRORS as error:
            raise self._failed(error) from error

    def finish(self) -> Path:
        """Complete the file and give it its name."""
        try:
            self._dataset.close()
            with open_quietly(self._partial) as written:
                # GDAL does not always say when a disk was full
                for _, window in written.block_windows():
                    written.read(window=window)
            sync_and_rename(self._partial, self._dst)
        except GDAL_ERRORS as error:
            self.close()
            raise self._failed(error) from error
        return self._dst

    def _failed(self, error: BaseException) -> StorageError:
        return StorageError(f"Writing {self._dst} failed ({reason(error)}); check the disk and the free space on it.")

    def close(self) -> None:
        """Remove what is unfinished; does nothing after `finish`."""
        if self._dataset is not None:
            with suppress(*GDAL_ERRORS):
                self._dataset.close()
        remove_all(self._partial)

    def __enter__(self) -> MapWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
