"""Writes a restored scene: never under the final name before every block of it has been read back."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import rasterio
from numpy.typing import NDArray

from infdehaze_cli.errors import StorageError
from infdehaze_cli.raster._gdal import GDAL_ERRORS, open_quietly, reason, to_rasterio
from infdehaze_cli.raster.cog import CARRIER_DOMAIN, make_cog
from infdehaze_cli.raster.destination import (
    check_destination,
    check_free_space,
    check_options,
    remove_all,
    sync_and_rename,
)
from infdehaze_cli.raster.profiles import NO_OPTIONS, cog_options, gtiff_options, intermediate_options
from infdehaze_cli.raster.scaling import largest, unscale
from infdehaze_cli.raster.source import Block, Scene
from infdehaze_cli.raster.verify import verify


class OutputWriter:
    """Writes the blocks of one scene to a GeoTIFF or COG, as a context manager.

    Leaving it with an exception, or without `finish`, removes everything that it wrote.

    Parameters
    ----------
    scene
        The open source: its metadata, scaling limits and nodata value are taken over.
    dst
        The file to write, in an existing folder.
    format
        ``"cog"`` or ``"gtiff"``.
    creation_options
        GDAL creation options of the COG or GTiff driver; they replace the defaults.
    overwrite
        Whether an existing file may be replaced.
    tags
        Metadata items of our own for the default domain.
    work_dir
        Where the uncompressed file lies that a COG is made from; beside ``dst`` if None.

    Raises
    ------
    UsageError
        If ``dst`` is impossible or exists, or a creation option is unknown or invalid.
    StorageError
        If there is not enough free space, or the folder cannot be written.
    """

    def __init__(
        self,
        scene: Scene,
        dst: str | Path,
        *,
        format: Literal["cog", "gtiff"] = "cog",  # noqa: A002  (GDAL's word for it, and the command line's)
        creation_options: Mapping[str, str] = NO_OPTIONS,
        overwrite: bool = False,
        tags: Mapping[str, str] = NO_OPTIONS,
        work_dir: Path | None = None,
    ) -> None:
        self._scene = scene
        self._dst = check_destination(scene.path, dst, overwrite=overwrite)
        self._cog = format == "cog"
        self._written = 0
        overrides = {key.upper(): value for key, value in creation_options.items()}
        token = f".{self._dst.stem}.{secrets.token_hex(4)}"
        self._final = self._dst.with_name(f"{token}.tmp.tif")
        self._options = cog_options(overrides) if self._cog else gtiff_options(scene.dtype, overrides)
        self._raw = (work_dir or self._dst.parent) / f"{token}.raw.tmp.tif" if self._cog else self._final
        if overrides:
            check_options(scene, "COG" if self._cog else "GTiff", self._options)
        check_free_space(scene, self._raw.parent, self._dst.parent, cog=self._cog)
        self._tags = {**tags, "INFDEHAZE_SCALE_RANGE": str(scene.limits)}
        self._dataset: Any = None
        self._create(intermediate_options() if self._cog else self._options)

    def _create(self, options: Mapping[str, str]) -> None:
        """Open the first file and write the metadata."""
        scene = self._scene
        try:
            self._dataset = open_quietly(
                self._raw,
                "w",
                driver="GTiff",
                height=scene.height,
                width=scene.width,
                count=scene.count,
                dtype=scene.dtype.name,
                **{**scene.metadata.creation(), **options},
            )
            scene.metadata.apply(self._dataset, self._tags, band_domain=CARRIER_DOMAIN if self._cog else "")
        except GDAL_ERRORS as error:
            self._remove()
            raise StorageError(
                f"Cannot create {self._raw} ({reason(error)}); check that its folder can be written."
            ) from error
        except BaseException:
            self._remove()
            raise

    def write(self, block: Block, restored: NDArray[np.float32]) -> None:
        """Write one window.

        A pixel that is not data, a band that is no colour, and a value that the network left as it was come
        out bit for bit; see `scaling.unscale`. A grey band gets the mean of the three channels.

        Parameters
        ----------
        block
            A block of the scene.
        restored
            float32 ``(3, rows, cols)`` in the network's range.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        if restored.shape != block.values.shape:
            raise ValueError(f"restored has the shape {restored.shape}, its block {block.values.shape}")
        native = self._restore(block, restored)
        window = to_rasterio(block.window)
        try:
            with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
                self._dataset.write(native, window=window)
                if self._scene.metadata.has_mask and block.mask is not None:
                    self._dataset.write_mask(block.mask, window=window)
        except GDAL_ERRORS as error:
            raise self._failed(error) from error
        self._written += block.window.pixels

    def _restore(self, block: Block, restored: NDArray[np.float32]) -> NDArray[Any]:
        """Return all bands of the window with the restored colours in them."""
        scene, native = self._scene, block.native
        if len(scene.colour_bands) == 1:
            # in float64, so that three equal values have exactly that mean
            restored = restored.mean(axis=0, dtype=np.float64).astype(np.float32)[np.newaxis]
        if not block.valid.all():
            restored = np.where(block.valid, restored, block.values[: len(restored)])
        out = native.copy()
        for channel, band in enumerate(scene.colour_bands):
            out[band - 1] = unscale(
                restored[channel],
                block.values[channel],
                native[band - 1],
                scene.limits,
                nodata=scene.nodata[channel],
                top=largest(scene.dtype, scene.bits) if scene.dtype.kind in "iu" else None,
            )
        return out

    def finish(self) -> Path:
        """Complete the file, check every block of it, and give it its name.

        Returns
        -------
        Path
            The output.

        Raises
        ------
        StorageError
            If it cannot be completed or does not read back; nothing is left behind then.
        """
        scene = self._scene
        if self._written < scene.height * scene.width:
            raise ValueError("finish was called before all windows were written")
        try:
            self._dataset.close()
            if self._cog:
                make_cog(self._raw, self._final, self._options)
                remove_all(self._raw)
            verify(self._final, scene, sparse="SPARSE_OK" in self._options)
            sync_and_rename(self._final, self._dst)
        except GDAL_ERRORS as error:
            self._remove()
            raise self._failed(error) from error
        except BaseException:
            self._remove()
            raise
        return self._dst

    def _failed(self, error: BaseException) -> StorageError:
        return StorageError(f"Writing {self._dst} failed ({reason(error)}); check the disk and the free space on it.")

    def _remove(self) -> None:
        """Remove whatever has been written under a temporary name."""
        if self._dataset is not None:
            with suppress(*GDAL_ERRORS):
                self._dataset.close()
        remove_all(self._raw)
        remove_all(self._final)

    def __enter__(self) -> OutputWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()
