"""Writes a restored scene: never under the final name before every block of it has been read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import rasterio
from numpy.typing import NDArray

from infdehaze_cli.errors import StorageError
from infdehaze_cli.raster import others
from infdehaze_cli.raster._gdal import GDAL_ERRORS, abandon, open_quietly, reason, to_rasterio
from infdehaze_cli.raster.bands import OtherBands, kept_bands
from infdehaze_cli.raster.cog import CARRIER_DOMAIN, make_cog
from infdehaze_cli.raster.destination import (
    check_free_space,
    choose_target,
    remove_all,
    sync,
    temporary_name,
    write_error,
)
from infdehaze_cli.raster.locations import is_local
from infdehaze_cli.raster.overviews import Overviews, can_be_made, is_fill
from infdehaze_cli.raster.profiles import (
    NO_OPTIONS,
    check_lossy,
    cog_options,
    find_profile,
    gtiff_options,
    intermediate_options,
    is_lossless,
    is_sparse,
)
from infdehaze_cli.raster.scaling import largest, unscale
from infdehaze_cli.raster.source import Block, Scene
from infdehaze_cli.raster.trial import check_options
from infdehaze_cli.raster.verify import UNWRITTEN, Written, verify


class OutputWriter:
    """Writes the blocks of one scene to a GeoTIFF or COG, as a context manager.

    Leaving it with an exception, or without `finish`, removes everything that it wrote.

    Parameters
    ----------
    scene
        The open source: its metadata, scaling limits and nodata value are taken over.
    dst
        The file to write, in an existing folder, or an object of a store, such as ``s3://bucket/key``.
    format
        ``"cog"`` or ``"gtiff"``.
    profile
        A name of `profiles.PROFILES`, which stands above ``format``.
    other_bands
        What becomes of bands that are neither colour nor alpha: ``"copy"``, ``"drop"``, or ``"physics"``, which
        corrects them by the haze that `write` is told.
    wavelengths
        Of all bands in micrometres, for ``"physics"``; None to take what the file tells.
    creation_options
        GDAL creation options of the COG or GTiff driver; they replace the defaults.
    overwrite
        Whether an existing file may be replaced.
    tags
        Metadata items of our own for the default domain.
    work_dir
        Where the uncompressed file lies that a COG is made from, and any file before its upload; beside ``dst``,
        or in the system's temporary folder, if None.
    token
        A part of temporary names; see `destination.temporary_name`.
    beside
        Bytes that others will write to ``work_dir`` before the output is finished.

    Raises
    ------
    UsageError
        If ``dst`` is impossible or exists, a creation option is unknown or invalid, or a profile does not fit.
    StorageError
        If there is not enough free space, or the folder cannot be written.
    """

    def __init__(
        self,
        scene: Scene,
        dst: str | Path,
        *,
        format: Literal["cog", "gtiff"] = "cog",  # noqa: A002  (GDAL's word for it, and the command line's)
        profile: str | None = None,
        other_bands: OtherBands = "copy",
        wavelengths: Sequence[float] | None = None,
        creation_options: Mapping[str, str] = NO_OPTIONS,
        overwrite: bool = False,
        tags: Mapping[str, str] = NO_OPTIONS,
        work_dir: Path | None = None,
        token: str | None = None,
        beside: int = 0,
    ) -> None:
        self._scene, self._dst = scene, dst
        chosen = find_profile(profile, format)
        self._cog = chosen.format == "cog"
        self._bands, colours = kept_bands(scene.metadata.colours, scene.colour_bands, other_bands)
        self._metadata = scene.metadata.only(self._bands, colours)
        self._others = others.OtherBands(scene, wavelengths) if other_bands == "physics" else None
        if chosen.lossy:
            check_lossy(scene.shown, scene.dtype, colours)
            self._metadata = self._metadata.masked()
        self._target = choose_target(scene.path, dst, work_dir, overwrite=overwrite, parts=scene.files)
        self._written, self._sums, self._whole = 0, Written(), False
        overrides = {**chosen.options, **{key.upper(): value for key, value in creation_options.items()}}
        name = temporary_name(dst, token)
        self._final = self._target.folder / f"{name}.tmp.tif"
        self._options = cog_options(overrides) if self._cog else gtiff_options(scene.dtype, overrides)
        self._raw = (work_dir or self._target.folder) / f"{name}.raw.tmp.tif" if self._cog else self._final
        if overrides:
            check_options(self._metadata, scene.dtype, self._options, cog=self._cog)
        self._overviews_first = self._cog and can_be_made(scene.height, scene.width, self._metadata, self._options)
        check_free_space(
            scene,
            len(self._bands),
            work_dir or self._target.folder,
            self._target.folder,
            cog=self._cog,
            overviews_first=self._overviews_first,
            beside=beside,
        )
        for left in (self._raw, self._final):
            remove_all(left)
        self._tags = {**tags, "INFDEHAZE_SCALE_RANGE": str(scene.limits)}
        self._dataset: Any = None
        self._overviews: Overviews | None = None
        self._create({**intermediate_options(), "SPARSE_OK": "YES"} if self._cog else self._options)

    def _create(self, options: Mapping[str, str]) -> None:
        """Open the first file and write the metadata."""
        scene = self._scene
        try:
            self._dataset = open_quietly(
                self._raw,
                # overviews are made from what is written
                "w+" if self._overviews_first else "w",
                driver="GTiff",
                height=scene.height,
                width=scene.width,
                count=len(self._bands),
                dtype=scene.dtype.name,
                **{**self._metadata.creation(), **options},
            )
            self._metadata.apply(self._dataset, self._tags, band_domain=CARRIER_DOMAIN if self._cog else "")
            if self._overviews_first:
                largest = int(self._options["BLOCKSIZE"])
                self._overviews = Overviews(self._dataset, self._raw, self._metadata, options, largest)
        except GDAL_ERRORS as error:
            failed = write_error(
                f"Cannot create {self._raw}", error, self._raw.parent, advice="check that its folder can be written"
            )
            self._remove()
            raise failed from error
        except BaseException:
            self._remove()
            raise

    @property
    def wants_haze(self) -> bool:
        """Whether bands that are no colour are to be corrected too."""
        return self._others is not None

    def write(self, block: Block, restored: NDArray[np.float32], haze: NDArray[np.float32] | None = None) -> None:
        """Write one window.

        A pixel that is not data, a band that is no colour, and a value that the network left as it was come
        out bit for bit; see `scaling.unscale`. A grey band gets the mean of the three channels.

        Parameters
        ----------
        block
            A block of the scene.
        restored
            float32 ``(3, rows, cols)`` in the network's range.
        haze
            float32 ``(6, rows, cols)``, depth and airlight of the colours: what ``other_bands="physics"`` needs.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        if restored.shape != block.values.shape:
            raise ValueError(f"restored has the shape {restored.shape}, its block {block.values.shape}")
        native = self._restore(block, restored)
        if self._others is not None:
            if haze is None:
                raise ValueError("other bands cannot be corrected without the haze of the window")
            self._others.correct(block, haze, native)
        if self._bands != tuple(range(1, len(native) + 1)):
            native = native[[band - 1 for band in self._bands]]
        mask = block.mask
        if mask is None and self._metadata.has_mask:
            mask = np.where(block.valid, np.uint8(255), np.uint8(0))
        window = to_rasterio(block.window)
        # most of many mosaics
        empty = self._cog and mask is None and not block.valid.any() and is_fill(native, self._metadata.nodata)
        try:
            with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
                if not empty:
                    self._dataset.write(native, window=window)
                if mask is not None:
                    self._dataset.write_mask(mask, window=window)
                self._sums.add(window, native, mask)
                if self._overviews is not None:
                    self._overviews.take(block.window, empty=empty)
        except GDAL_ERRORS as error:
            raise self._failed(error) from error
        self._written += block.window.pixels

    def _restore(self, block: Block, restored: NDArray[np.float32]) -> NDArray[Any]:
        """Return all bands of the window with the restored colours in them."""
        scene, native = self._scene, block.native
        if not block.valid.any():
            # most of many mosaics; the other bands are corrected in place
            return native if self._others is None else native.copy()
        if len(scene.colour_bands) == 1:
            # in float64, so that three equal values have exactly that mean
            restored = restored.mean(axis=0, dtype=np.float64).astype(np.float32)[np.newaxis]
        if not block.valid.all():
            restored = np.where(block.valid, restored, block.values[: len(restored)])
        if scene.dtype.kind != "u" and scene.limits.lo == 0:
            # nothing lies over what is perfectly black, and these types would not clip it at 0
            restored = np.where((block.values == 0).all(axis=0), block.values[: len(restored)], restored)
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

    def complete(self) -> None:
        """Complete the file under its temporary name, and check every block of it.

        Raises
        ------
        StorageError
            If it cannot be completed or does not read back; nothing is left behind then.
        """
        scene = self._scene
        if self._written < scene.height * scene.width:
            raise ValueError("finish was called before all windows were written")
        try:
            if self._overviews is not None:
                self._overviews.close()
            self._dataset.close()
            shape, dtype = (len(self._bands), scene.height, scene.width), scene.dtype.name
            overviews = () if self._overviews is None else tuple(self._overviews.sums)
            exact = is_lossless(self._options)
            exact_overviews = is_lossless(self._options, overviews=True)
            if self._cog:
                if not (exact and exact_overviews):
                    verify(self._raw, shape, dtype, sparse=True, written=self._sums, overviews=overviews)
                make_cog(self._raw, self._final, self._options)
                remove_all(self._raw)
            verify(
                self._final,
                shape,
                dtype,
                sparse=is_sparse(self._options),
                metadata=self._metadata.with_items(self._tags),
                cog=self._cog,
                written=self._sums if exact else None,
                overviews=overviews if exact_overviews else (),
            )
            if is_local(self._dst):
                sync(self._final)
        except UNWRITTEN as error:
            failed = self._failed(error)
            self._remove()
            raise failed from error
        except BaseException:
            self._remove()
            raise
        self._whole = True

    def finish(self) -> Path:
        """Complete the file, unless it is, and give it its name, or upload it.

        Returns
        -------
        Path
            The output; of an upload, the file that was sent, which is gone.

        Raises
        ------
        StorageError
            As `complete`, and if it cannot get its name.
        """
        if not self._whole:
            self.complete()
        try:
            self._target.publish(self._final)
        except GDAL_ERRORS as error:
            self._remove()
            # it may have its name already, and what stands beside it too: nothing is to be written again
            raise StorageError(f"Writing {self._target.shown} failed ({reason(error)}); check the disk.") from error
        except BaseException:
            self._remove()
            raise
        if is_local(self._dst):
            return Path(self._dst)
        self._remove()
        return self._final

    def _failed(self, error: BaseException) -> StorageError:
        return write_error(f"Writing {self._target.shown} failed", error, self._raw.parent, self._final.parent)

    def _remove(self) -> None:
        """Remove whatever has been written under a temporary name."""
        if self._dataset is not None:
            if self._overviews is not None:
                self._overviews.abandon()
            abandon(self._dataset, self._raw)
        remove_all(self._raw)
        remove_all(self._final)

    def __enter__(self) -> OutputWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()
