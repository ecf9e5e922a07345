"""A reversible output: gain and offset rasters, and a GDAL VRT that applies them to the source when it is read.

The scattering model ``J = A + (I - A) exp(d) + r`` is a gain and an offset a pixel, both as smooth as haze is.
"""

from __future__ import annotations

import math
import os
import secrets
from pathlib import Path
from types import TracebackType
from xml.etree import ElementTree as xml

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.fill import fillnodata
from rasterio.io import MemoryFile
from rasterio.transform import Affine

from infdehaze_cli.errors import InputError, StorageError, UsageError
from infdehaze_cli.geometry import Window
from infdehaze_cli.raster import Block, Scene, is_local, redacted
from infdehaze_cli.raster._gdal import quiet, to_rasterio
from infdehaze_cli.raster.destination import (
    check_destination,
    check_free,
    remove_all,
    sync,
    sync_and_rename,
    write_error,
)
from infdehaze_cli.raster.locations import gdal_name, local_files
from infdehaze_cli.raster.metadata import Metadata
from infdehaze_cli.raster.scaling import largest
from infdehaze_cli.raster.verify import UNWRITTEN, Written, verify

from .coarse import BlockMeans

CELL = 16
"""Pixels of a side that a cell of gain and offset covers: as many as lie between the values that `lite` predicts."""

_KEPT = np.uint32(0xFFFFFF00)
"""The bits of a float32 that are kept: half a step in 65535 is lost, and a third of the bytes."""

_COG = {"COMPRESS": "DEFLATE", "PREDICTOR": "YES", "OVERVIEWS": "NONE", "BLOCKSIZE": "256"}


def beside_vrt(dst: str | Path) -> tuple[Path, Path]:
    """Return the names of gain and offset beside a VRT."""
    return Path(dst).with_suffix(".gain.tif"), Path(dst).with_suffix(".offset.tif")


class VrtWriter:
    """Takes the windows of a run and writes gain, offset and a VRT, in place of new pixels.

    Parameters
    ----------
    scene
        The open source, to which the VRT will point.
    dst
        The VRT; ``NAME.gain.tif`` and ``NAME.offset.tif`` lie beside it.
    overwrite
        Whether existing files may be replaced.
    token
        A part of temporary names; see `destination.temporary_name`.

    Raises
    ------
    UsageError
        If ``dst`` is impossible, exists, or is no ``.vrt``.
    InputError
        If the source could not be read the same way through such a VRT.
    """

    wants_haze = True

    def __init__(self, scene: Scene, dst: str | Path, *, overwrite: bool = False, token: str | None = None) -> None:
        self._scene = scene
        self._dst = check_destination(scene.path, dst, overwrite=overwrite, parts=scene.files)
        if self._dst.suffix.lower() != ".vrt":
            raise UsageError(f"{self._dst} is no name of a VRT. End it with .vrt.")
        self._gain, self._offset = beside_vrt(self._dst)
        for path in (self._gain, self._offset):
            check_destination(scene.path, path, overwrite=overwrite, parts=scene.files)
        if scene.path != redacted(scene.path):
            raise UsageError(
                "A VRT would hold the password or the query of its source. Copy the source to a local file first."
            )
        behind = [file for name in (scene.path, *scene.files) for file in local_files(name)]
        if not Path(scene.path).exists() and not all(file.is_absolute() for file in behind):
            raise UsageError(f"A VRT would not find {scene.shown} from another folder. Name it by its absolute path.")
        if scene.metadata.has_mask or scene.validity.alpha is not None:
            raise InputError(f"{scene.shown} has a mask, which such a VRT would lose. Use --output instead.")
        if (inside := _nodata_inside(scene)) is not None:
            raise InputError(
                f"{scene.shown} has the nodata value {inside:g}, which restored pixels might take in such a VRT. "
                "Use --output instead."
            )
        if "transform" not in scene.metadata.creation():
            raise InputError(f"{scene.shown} has no geotransform, which such a VRT needs. Use --output instead.")
        self._bands = len(scene.colour_bands)
        self._means = BlockMeans(2 * self._bands, scene.height, scene.width, CELL, centred=True)
        self._token, self._whole, self._overwrite = token or secrets.token_hex(4), False, overwrite
        # what a run that was killed has left
        self.close()

    def write(self, block: Block, restored: NDArray[np.float32], haze: NDArray[np.float32] | None = None) -> None:
        """Take the haze of a window, float32 (6, rows, cols), and what the restored values add to its gain."""
        if haze is None:
            raise ValueError("gain and offset need the haze of the window")
        limits, gain = self._scene.limits, np.exp(haze[:3])
        # J - I exp(d) is A (1 - exp(d)) + r; in native units, lo + span J, the dark limit comes along
        offset = limits.lo * (1 - gain) + limits.span * (restored - gain * block.values)
        if self._bands == 1:
            gain, offset = gain.mean(0, keepdims=True), offset.mean(0, keepdims=True)
        self._means.add(block.window, np.concatenate([gain, offset]), block.valid)

    def complete(self) -> None:
        """Write the three files under temporary names.

        Raises
        ------
        StorageError
            If they cannot be written; it may pass where they may be when all is done again.
        """
        try:
            gain = _filled(self._means.means(slice(self._bands)), 1.0)
            self._write(self._partial(self._gain), gain, "gain", 1.0)
            del gain
            # GDAL takes the offset away
            offset = -_filled(self._means.means(slice(self._bands, None)), 0.0)
            self._write(self._partial(self._offset), offset, "offset", 0.0)
            self._partial(self._dst).write_bytes(self._document())
            for path in self._files():
                sync(self._partial(path))
        except UNWRITTEN as error:
            failed = write_error(f"Writing {self._dst} failed", error, self._dst.parent)
            self.close()
            raise failed from error
        self._whole = True

    def finish(self) -> Path:
        """Complete the three files, unless they are, and give them their names.

        A VRT that is replaced goes first and comes last: it must never be read with a gain that is not its own.

        Raises
        ------
        StorageError
            As `complete`, and if they cannot get their names.
        """
        if not self._whole:
            self.complete()
        try:
            check_free(*self._files(), overwrite=self._overwrite)
            self._dst.unlink(missing_ok=True)
            for path in self._files():
                sync_and_rename(self._partial(path), path)
        except OSError as error:
            raise StorageError(f"Writing {self._dst} failed ({error.strerror or error}); check the disk.") from error
        finally:
            self.close()
        return self._dst

    @staticmethod
    def host_bytes(scene: Scene) -> int:
        """Return the bytes that the cells of a scene take while it is run; twice that comes on top at the end."""
        cells = -(-scene.height // CELL) * -(-scene.width // CELL)
        return 4 * (2 * len(scene.colour_bands) + 1) * cells

    def _partial(self, path: Path) -> Path:
        return path.with_name(f".{path.stem}.{self._token}.tmp{path.suffix}")

    def _files(self) -> tuple[Path, Path, Path]:
        return self._gain, self._offset, self._dst

    def _write(self, path: Path, values: NDArray[np.float32], name: str, plain: float) -> None:
        """Write a raster whose cells cover several pixels of the scene; its last band changes nothing."""
        values = (values.view(np.uint32) & _KEPT).view(np.float32)
        if self._scene.count > self._bands:
            values = np.concatenate([values, np.full((1, *values.shape[1:]), plain, np.float32)])
        place = dict(self._scene.metadata.creation())
        bands, rows, cols = values.shape
        shape = {"count": bands, "height": rows, "width": cols, "dtype": "float32"}
        transform = place["transform"] @ Affine.scale(self._means.factor)
        with rasterio.Env(), quiet(), MemoryFile() as memory:
            with memory.open(driver="GTiff", crs=place.get("crs"), transform=transform, **shape) as dataset:
                dataset.write(values)
                written = Written()
                written.add(to_rasterio(Window(0, 0, rows, cols)), values)
                colours = ("grey",) if self._bands == 1 else ("red", "green", "blue")
                dataset.descriptions = tuple(f"{name}, {colour}" for colour in (*colours, "other bands"))[:bands]
                metadata = Metadata.of(dataset, has_masks=False)
            rasterio.shutil.copy(memory.name, str(path), driver="COG", **_COG)
            verify(path, values.shape, "float32", metadata=metadata, cog=True, written=written)

    def _document(self) -> bytes:
        scene = self._scene
        root = xml.Element("VRTDataset", subClass="VRTProcessedDataset")
        local = is_local(scene.path) and Path(scene.path).exists()
        name = os.path.relpath(scene.path, self._dst.parent) if local else gdal_name(scene.path).removeprefix("file://")
        source = xml.SubElement(xml.SubElement(root, "Input"), "SourceFilename", relativeToVRT=str(int(local)))
        source.text = name
        steps = xml.SubElement(root, "ProcessingSteps")
        self._step(steps)
        return xml.tostring(root) + b"\n"

    def _step(self, steps: xml.Element) -> None:
        scene = self._scene
        step = xml.SubElement(steps, "Step", name="Dehazing")
        xml.SubElement(step, "Algorithm").text = "LocalScaleOffset"
        arguments = {"relativeToVRT": "true"}
        for band in range(1, scene.count + 1):
            # GDAL wants a gain for every band: the last one of ours leaves a band as it is
            channel = scene.colour_bands.index(band) + 1 if band in scene.colour_bands else self._bands + 1
            for kind, path in (("gain", self._gain), ("offset", self._offset)):
                arguments[f"{kind}_dataset_filename_{band}"] = path.name
                arguments[f"{kind}_dataset_band_{band}"] = str(channel)
        if scene.dtype.kind in "iu":
            low, high = int(np.iinfo(scene.dtype).min), largest(scene.dtype, scene.bits)
            nodata = next((value for value in scene.nodata if value is not None), math.nan)
            # a restored value must not become nodata
            arguments["min"], arguments["max"] = str(low + (nodata == low)), str(high - (nodata == high))
        for key, value in arguments.items():
            xml.SubElement(step, "Argument", name=key).text = value

    def close(self) -> None:
        """Remove what is unfinished."""
        for path in self._files():
            remove_all(self._partial(path))

    def __enter__(self) -> VrtWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _nodata_inside(scene: Scene) -> float | None:
    """Return a nodata value that is neither the least nor the largest integer: GDAL would not keep away from it."""
    if scene.dtype.kind not in "iu":
        return None
    ends = int(np.iinfo(scene.dtype).min), largest(scene.dtype, scene.bits)
    return next((value for value in scene.nodata if value is not None and value not in ends), None)


def _filled(values: NDArray[np.float32], plain: float) -> NDArray[np.float32]:
    """Return cells without data filled from around, so that they change nothing at their borders."""
    known = np.isfinite(values[0])
    if known.all():
        return values
    if not known.any():
        return np.full_like(values, plain)
    reach = math.hypot(*known.shape)
    filled = [
        fillnodata(np.where(known, band, 0).astype(np.float32), known, max_search_distance=reach) for band in values
    ]
    return np.stack(filled).astype(np.float32)
