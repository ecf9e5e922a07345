"""Finished files on their way to object stores, through GDAL: a store shows an object whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import rasterio
import rasterio.shutil
from rasterio.windows import Window as RasterioWindow

from infdehaze_cli.errors import StorageError, UsageError
from infdehaze_cli.raster._gdal import GDAL_ERRORS, open_quietly, reason
from infdehaze_cli.raster.locations import WRITABLE, gdal_name, redacted

#: What GDAL says of an object that is there but no raster, and of one that is not there.
_NO_RASTER = "not recognized as being in a supported file format"
# the last is what GDAL says when it is asked again
_MISSING = (
    "does not exist in the file system",
    "specified key does not exist",
    "specified blob does not exist",
    "HTTP response code: 404",
)

_SIDECARS = (".aux.xml", ".msk", ".ovr")


@dataclass(frozen=True, slots=True)
class RemoteTarget:
    """An object to be written. Use `RemoteTarget.check`.

    Attributes
    ----------
    path
        Its name in GDAL's virtual file system.
    shown
        Its name in messages.
    folder
        The local folder in which the file is made.
    overwrite
        Whether an object of that name may be replaced.
    """

    path: str
    shown: str
    folder: Path
    overwrite: bool

    @classmethod
    def check(cls, source: str, dst: str, folder: Path, *, overwrite: bool) -> RemoteTarget:
        """Return the target, if an object may be written there.

        Raises
        ------
        UsageError
            If nothing can be uploaded there, it is the source, or an object exists and must not be replaced.
        StorageError
            If the store cannot be asked.
        """
        path, shown = gdal_name(dst), redacted(dst)
        if not path.startswith(WRITABLE):
            raise UsageError(
                f"{shown} cannot be written to; write to a local file, to s3://, gs:// or az://, or to - for a pipe."
            )
        if len([part for part in path.split("/") if part]) < 3 or path.endswith("/"):
            raise UsageError(f"{shown} names no object; give a bucket and a key, as in s3://bucket/clean.tif.")
        if {".", ".."} & set(path.split("/")):
            # servers and libraries do not agree on what these mean
            raise UsageError(f"{shown} has a . or .. in its key; name the object by its full key.")
        if path == gdal_name(source):
            raise UsageError(f"{shown} is the source itself; write to another object.")
        if exists(path, shown) and not overwrite:
            raise UsageError(f"{shown} exists; give --overwrite to replace it.")
        for suffix in _SIDECARS:
            # these cannot be removed one by one, and would be read together with the new file
            if exists(path + suffix, shown + suffix):
                raise UsageError(f"{shown}{suffix} exists and would be taken for a part of the output; remove it.")
        return cls(path, shown, folder, overwrite)

    def publish(self, finished: Path) -> None:
        """Upload a finished file under its final name, and look whether it arrived.

        Raises
        ------
        StorageError
            If it did not arrive as it is, or an object of that name has come meanwhile and must not be replaced.
        rasterio.errors.RasterioError, rasterio._err.CPLE_BaseError
            If the upload fails. Stores make an object whole or not at all, so there is nothing to remove: what lies
            under the name may be somebody else's.
        """
        if not self.overwrite and exists(self.path, self.shown):
            raise StorageError(f"{self.shown} has come into being meanwhile; give --overwrite to replace it.")
        with rasterio.Env():
            rasterio.shutil.copyfiles(str(finished), self.path)
            self._look(finished)

    def _look(self, finished: Path) -> None:
        """Compare the header and the last block, which lies at the end, with those of the local file."""
        with open_quietly(finished) as here, open_quietly(self.path) as there:
            rows, cols = here.block_shapes[0]
            row, col = (here.height - 1) // rows * rows, (here.width - 1) // cols * cols
            last = RasterioWindow(col, row, here.width - col, here.height - row)
            facts = [(d.shape, d.count, d.dtypes, d.tags(), d.read(window=last).tobytes()) for d in (here, there)]
        if facts[0] != facts[1]:
            raise StorageError(f"{self.shown} did not arrive as it was sent; try again.")


def exists(path: str, shown: str) -> bool:
    """Whether there is an object of that name, raster or not.

    Raises
    ------
    StorageError
        If the store cannot be reached, or does not let us look.
    """
    try:
        with rasterio.Env():
            open_quietly(path).close()
    except GDAL_ERRORS as error:
        said = str(error)
        if _NO_RASTER in said:
            return True
        if any(words in said for words in _MISSING):
            return False
        raise StorageError(
            f"Cannot look for {shown} ({reason(error)}); check the bucket, the network and the credentials."
        ) from error
    return True
