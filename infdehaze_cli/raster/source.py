"""An open source raster: its facts, and its windows as numbers for the network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from infdehaze_cli import retry
from infdehaze_cli.errors import InfdehazeError, InputError, StorageError
from infdehaze_cli.geometry import Window
from infdehaze_cli.raster._gdal import GDAL_ERRORS, failing_disk, open_quietly, reason, to_rasterio
from infdehaze_cli.raster.bands import check_dtype, colour_bands
from infdehaze_cli.raster.locations import gdal_name, is_local, is_remote, redacted
from infdehaze_cli.raster.metadata import Metadata
from infdehaze_cli.raster.sampling import sample_values
from infdehaze_cli.raster.scaling import Limits, dark_value, full_limits, limits_from_sample, scale
from infdehaze_cli.raster.validity import Validity, representable

_UNREAD: tuple[type[BaseException], ...] = (*GDAL_ERRORS, InfdehazeError)

_NO_PARTS = "Range downloading not supported"
"""What GDAL says of a web server that cannot be asked for a part of a file."""

_UNASKED = 2
"""Further tries of a read that are made without asking the disk: a damaged file costs a quarter of a second more."""


@dataclass(frozen=True, slots=True)
class Block:
    """One window of a scene.

    Attributes
    ----------
    window
        Where it lies.
    native
        ``(bands, rows, cols)`` in the source's dtype: all bands, untouched.
    values
        float32 ``(3, rows, cols)``: the colours scaled to the network's range (about 0 to 1, always finite);
        a grey band is repeated. Invalid pixels hold 0.
    valid
        bool ``(rows, cols)``: True where the pixel is data, in all its colours.
    mask
        uint8 ``(rows, cols)``, 0 or 255: what the output's mask band will hold, where it has one.
    """

    window: Window
    native: NDArray[Any]
    values: NDArray[np.float32]
    valid: NDArray[np.bool_]
    mask: NDArray[np.uint8] | None = None


class Scene:
    """An open source raster. Use `Scene.open`, and close it or use it as a context manager.

    One thread may use it at a time; it need not be the one that opened it.

    Attributes
    ----------
    path : str
        As it was given.
    shown : str
        The same for messages: without passwords and signatures.
    files : tuple of str
        All files that it is read from, as far as GDAL knows: masks, overviews, parts of a mosaic.
    height, width, count : int
        Rows, columns, bands.
    dtype : numpy.dtype
        Of all bands.
    bits : int or None
        How many bits of an integer dtype are used, where the file says so (12-bit cameras).
    block_shape : tuple of int
        Rows and columns of the blocks in which the file is stored.
    colour_bands : tuple of int
        One (grey) or three (red, green, blue) band numbers, counted from 1.
    nodata : tuple of float or None
        The value of each colour band that restored pixels must not take.
    band_nodata : tuple of float or None
        The same of every band.
    validity : Validity
        The rule for valid pixels.
    metadata : Metadata
        What the output has to keep.
    """

    def __init__(
        self,
        dataset: Any,
        path: str,
        *,
        bands: tuple[int, ...] | None,
        scale_range: tuple[float, float] | None,
    ) -> None:
        self.path, self.shown = path, redacted(path)
        self._dataset = dataset
        self._bands = bands
        self._scale_range = None if scale_range is None else Limits(*map(float, scale_range))
        self.files = tuple(str(file) for file in dataset.files)
        self.dtype = check_dtype(self.shown, dataset.dtypes)
        self.height, self.width, self.count = int(dataset.height), int(dataset.width), int(dataset.count)
        self.colour_bands = colour_bands(self.shown, dataset.colorinterp, bands)
        bits = dataset.tags(self.colour_bands[0], ns="IMAGE_STRUCTURE").get("NBITS")
        self.bits = int(bits) if bits and self.dtype.kind in "iu" else None
        block_rows, block_cols = dataset.block_shapes[self.colour_bands[0] - 1]
        self.block_shape = (int(block_rows), int(block_cols))
        self.validity = Validity.of(dataset, self.colour_bands)
        self.band_nodata = tuple(representable(value, self.dtype) for value in dataset.nodatavals)
        self.nodata = tuple(self.band_nodata[band - 1] for band in self.colour_bands)
        self.metadata = Metadata.of(dataset, has_masks=bool(self.validity.mask_bands))

    @classmethod
    def open(
        cls,
        src: str | Path,
        *,
        bands: tuple[int, ...] | None = None,
        scale_range: tuple[float, float] | None = None,
    ) -> Scene:
        """Open anything that GDAL opens; no pixel is read yet.

        Parameters
        ----------
        src
            A path, a ``/vsi`` path or a URL.
        bands
            Red, green and blue, or one grey band, counted from 1; None to let the file decide.
        scale_range
            The native values that become 0 and 1; None to take them from the picture.

        Raises
        ------
        InputError
            If it is missing, no raster, or of a kind that cannot be dehazed.
        UsageError
            If ``bands`` or ``scale_range`` make no sense.
        """
        tries, step = 0, ""

        def opened() -> Scene:
            nonlocal tries, step
            tries, step = tries + 1, "open"
            dataset = open_quietly(gdal_name(src))
            step = "read the header of"
            try:
                # outside rasterio's environment GDAL prints its remarks on a damaged header to stderr
                with rasterio.Env():
                    return cls(dataset, str(src), bands=bands, scale_range=scale_range)
            except BaseException:
                dataset.close()
                raise

        def may_pass(error: BaseException) -> bool:
            if not isinstance(error, GDAL_ERRORS) or not is_local(src) or not Path(src).exists():
                return False
            return tries <= _UNASKED or _failing(str(src)) is not None

        try:
            return retry.persist(opened, may_pass)
        except GDAL_ERRORS as error:
            if _failing(str(src)) is not None:
                raise _disk(redacted(src) if step == "open" else f"the header of {redacted(src)}", error) from error
            raise InputError(f"Cannot {step} {redacted(src)} ({reason(error)}); {_advice(step, error)}.") from error

    @cached_property
    def limits(self) -> Limits:
        """The native values that become 0 and 1, the same for all windows; the first use may read a sample.

        Raises
        ------
        InputError, StorageError
            If the sample cannot be read, from a file or over a network.
        """
        if self._scale_range is not None:
            return self._scale_range
        if self.dtype == np.uint8:
            return full_limits(self.dtype, self.bits)
        try:
            with rasterio.Env():
                sample = sample_values(self._dataset, self.validity)
        except GDAL_ERRORS as error:
            raise self._unreadable("a sample", error, ", or give --scale-range lo,hi") from error
        scales, offsets = zip(
            *((self.metadata.scales[band - 1], self.metadata.offsets[band - 1]) for band in self.colour_bands),
            strict=True,
        )
        return limits_from_sample(self.shown, sample, self.dtype, dark_value(scales, offsets))

    def check_same(self, other: Scene) -> None:
        """Check that another handle says the same: GDAL also opens a file of whose header a part was not delivered.

        Raises
        ------
        StorageError
            If it does not, as after a read that the disk or a mount has failed.
        """
        facts = []
        for scene in (self, other):
            kept = replace(scene.metadata, gcps=(), rpcs=None)
            counts = len(scene.metadata.gcps), scene.metadata.rpcs is None
            facts.append(repr((scene.height, scene.width, scene.dtype, scene.bits, scene.validity, kept, counts)))
        if facts[0] != facts[1]:
            raise StorageError(
                f"{self.shown} was not read the same twice; check the disk or the network that it lies on."
            )

    def read(self, window: Window) -> Block:
        """Read all bands of a window.

        Parameters
        ----------
        window
            A rectangle inside the scene.

        Raises
        ------
        InputError
            If the file's block is damaged.
        StorageError
            If a network does not deliver it, even when asked again.
        """
        if window.intersect(Window(0, 0, self.height, self.width)) != window:
            raise ValueError(f"{window} is empty or not inside the scene")
        native, masks = self._read_native(window)
        valid = self.validity.valid(native, masks)
        return Block(window, native, self._scaled(native, valid), valid, self._output_mask(valid, masks))

    def _read_native(self, window: Window) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
        """Return all bands of a window, and the masks that its validity needs."""
        limits, bands, tries = to_rasterio(window), list(self.validity.mask_bands), 0

        def read() -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
            nonlocal tries
            tries += 1
            with rasterio.Env():
                if tries > 1:
                    self._open_again()
                native = self._dataset.read(window=limits)
                return native, self._dataset.read_masks(bands, window=limits) if bands else None

        def may_pass(error: BaseException) -> bool:
            # networks are asked again by GDAL itself
            if not isinstance(error, _UNREAD) or not is_local(self.path):
                return False
            return tries <= _UNASKED or self._failing() is not None

        try:
            return retry.persist(read, may_pass)
        except _UNREAD as error:
            where = f"rows {window.row} to {window.row_end - 1}, columns {window.col} to {window.col_end - 1}"
            raise self._unreadable(where, error, "") from error

    def _open_again(self) -> None:
        """Take another handle: after a read that has failed GDAL was seen to give wrong blocks from the same one."""
        fresh = Scene.open(self.path, bands=self._bands)
        try:
            self.check_same(fresh)
        except StorageError:
            fresh.close()
            raise
        self._dataset.close()
        self._dataset = fresh._dataset

    def _unreadable(self, what: str, error: BaseException, advice: str) -> InfdehazeError:
        """Return the error for a part that cannot be read: of a network, if there is one, rather than of the file."""
        told = f"Cannot read {what} of {self.shown} ({reason(error)}); check"
        if is_remote(self.path):
            return StorageError(f"{told} the network, and that the file is whole{advice}.")
        if retry.may_pass(error) or self._failing() is not None:
            return _disk(f"{what} of {self.shown}", error)
        return InputError(f"{told} that the file is whole{advice}.")

    def _failing(self) -> OSError | None:
        """Return the error of the disk under the file, or under a part of it, if it has one."""
        return next((error for path in dict.fromkeys((self.path, *self.files)) if (error := _failing(path))), None)

    def _scaled(self, native: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the colours of a window in the network's range, 0 where invalid."""
        if not valid.any():
            # most of many mosaics
            return np.zeros((3, *valid.shape), dtype=np.float32)
        values = np.empty((3, *valid.shape), dtype=np.float32)
        for channel, band in enumerate(self.colour_bands):
            values[channel] = scale(native[band - 1], self.limits)
        if not valid.all():
            np.copyto(values, np.float32(0), where=~valid)
        if len(self.colour_bands) == 1:
            values[1:] = values[0]
        return values

    def _output_mask(self, valid: NDArray[np.bool_], masks: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
        """Return what the output's mask band has to hold, or None when it has no mask band."""
        if not self.metadata.has_mask:
            return None
        # a mask that all bands share is kept as it is; any other becomes one that says what was used
        shown = masks[0] != 0 if masks is not None and self.validity.shared_mask else valid
        return np.where(shown, np.uint8(255), np.uint8(0))

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._dataset.close()

    def __enter__(self) -> Scene:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _failing(path: str) -> OSError | None:
    """Return the error of the disk or mount under a local file, if it has one: not of a file that is missing."""
    error = failing_disk(path) if is_local(path) else None
    return error if error is not None and retry.may_pass(error) else None


def _advice(step: str, error: BaseException) -> str:
    """Return what to do about a file that cannot be opened, or whose header cannot be read."""
    if _NO_PARTS in reason(error):
        return "its server gives whole files only, so download it first"
    return "check the path, and that it is a raster" if step == "open" else "check that the file is whole"


def _disk(what: str, error: BaseException) -> StorageError:
    return StorageError(f"Cannot read {what} ({reason(error)}); check the disk or the network that it lies on.")
