"""Residual stores over Zarr: in DRAM as far as it goes, then on SSD; one chunk a batch, crc32c on each.

Residuals of one tile are a row of numbers (see :mod:`.packing`). The paper keeps them in DRAM alone (supplement,
sections 2.4 and 6); here `--ram` says how many of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore, MemoryStore

from infdehaze_cli.errors import CorruptError
from infdehaze_cli.retry import persist

from .arrays import disk_error
from .codecs import codecs_of

Tier = Literal["dram", "ssd", "recompute"]


class ResidualStore(Protocol):
    """Keeps the packed residuals of batches of tiles."""

    @property
    def recompute(self) -> bool:
        """Whether nothing is kept, and the decoder phase encodes again."""
        ...

    @property
    def disk_bytes(self) -> int:
        """Bytes written to disk so far, before any compression."""
        ...

    def holds(self, batch: int) -> bool:
        """Whether the residuals of a batch were stored; the disk may have lost them since."""
        ...

    def write(self, batch: int, packed: NDArray[np.generic]) -> None:
        """Keep the residuals of a batch."""
        ...

    def read(self, batch: int) -> NDArray[np.generic]:
        """Give the residuals of a batch back."""
        ...

    def close(self, *, keep: bool = False) -> None:
        """Free what is held, in memory and, unless it is to be kept, on disk."""
        ...


class RecomputeStore:
    """The tier that stores nothing."""

    recompute = True
    disk_bytes = 0

    def holds(self, batch: int) -> bool:
        """Return False."""
        return False

    def write(self, batch: int, packed: NDArray[np.generic]) -> None:
        """Forget them."""

    def read(self, batch: int) -> NDArray[np.generic]:
        """Refuse: the engine encodes again instead."""
        raise AssertionError("nothing is stored in the recompute tier")

    def close(self, *, keep: bool = False) -> None:
        """Nothing is held."""


class ZarrResidualStore:
    """Two Zarr arrays with one checksummed chunk a batch: the first batches in memory, the others on disk.

    Parameters
    ----------
    batches, batch, length : int
        Number of batches, tiles of a full batch, and numbers in a tile's row.
    dtype : numpy.dtype
        Of a row.
    folder : Path
        Where the array on disk lies. It is made when the first batch goes there, and removed by :meth:`close`.
    in_memory : int
        How many batches are kept in memory, from the first on.
    codec : str
        See :func:`.codecs.codecs_of`.
    found : mapping, optional
        Batches on disk from an interrupted run, with the number of their tiles; None to begin with an empty folder.

    Raises
    ------
    StorageError
        When the disk is full, read-only or failing.
    CorruptError
        When a chunk is missing or its checksum is wrong.
    """

    recompute = False

    def __init__(
        self,
        batches: int,
        batch: int,
        length: int,
        dtype: np.dtype[np.generic],
        folder: Path,
        in_memory: int,
        codec: str = "none",
        found: Mapping[int, int] | None = None,
    ) -> None:
        self._shape, self._batch, self._dtype = (max(1, batches) * batch, length), batch, dtype
        self._folder, self._in_memory, self._codec = folder, in_memory, codec
        self._arrays: dict[bool, Any] = {}
        self._written: dict[int, int] = dict(found or {})
        self._reopened = found is not None
        self.disk_bytes = sum(self._written.values()) * length * dtype.itemsize
        # a scratch folder that cannot be used is found before the first tile, not hours later
        if in_memory < batches:
            self._array(on_disk=True)

    def _array(self, on_disk: bool) -> Any:
        if on_disk not in self._arrays:
            try:
                if on_disk and self._reopened:
                    # the plan says what it holds; a damaged header is not asked
                    (self._folder / "zarr.json").unlink(missing_ok=True)
                self._arrays[on_disk] = zarr.create_array(
                    LocalStore(self._folder) if on_disk else MemoryStore(),
                    shape=self._shape,
                    chunks=(self._batch, self._shape[1]),
                    dtype=self._dtype,
                    compressors=codecs_of(self._codec, self._dtype.itemsize),
                    fill_value=0,
                    # the comparison with the fill value costs more than the bytes it could save
                    config={"write_empty_chunks": True, "order": "C"},
                )
            except OSError as error:
                raise disk_error(self._folder, error) from error
        return self._arrays[on_disk]

    def holds(self, batch: int) -> bool:
        """Whether a batch was written, by this run or, on disk, by the one before it."""
        return batch in self._written

    def write(self, batch: int, packed: NDArray[np.generic]) -> None:
        """Keep the residuals of a batch, (tiles, L) with at most ``batch`` tiles."""
        start, on_disk = batch * self._batch, batch >= self._in_memory
        try:
            if on_disk and self._reopened:
                # zarr reads a chunk before it writes a part of it, and this one may be damaged
                self._chunk(batch).unlink(missing_ok=True)
            array = self._array(on_disk)
            persist(partial(array.__setitem__, slice(start, start + len(packed)), packed))
        except OSError as error:
            raise disk_error(self._folder, error) from error
        self._written[batch] = len(packed)
        self.disk_bytes += packed.nbytes if on_disk else 0

    def read(self, batch: int) -> NDArray[np.generic]:
        """Give the residuals of a batch back, checked."""
        on_disk = batch >= self._in_memory
        # zarr reads a missing chunk as its fill value, silently
        if batch not in self._written or (on_disk and not self._chunk(batch).is_file()):
            raise CorruptError(
                f"Residuals of batch {batch} are missing from the store. Run again with more scratch space."
            )
        start = batch * self._batch
        try:
            array = self._array(on_disk)
            return np.asarray(persist(lambda: array[start : start + self._written[batch]]))
        except OSError as error:
            raise disk_error(self._folder, error) from error
        except (ValueError, RuntimeError) as error:
            raise CorruptError(
                f"Residuals of batch {batch} are damaged ({error}). Check the disk behind --scratch and run again."
            ) from error

    def _chunk(self, batch: int) -> Path:
        return self._folder / "c" / str(batch) / "0"

    def close(self, *, keep: bool = False) -> None:
        """Free the memory, and remove the folder unless it is to be kept."""
        self._arrays.clear()
        if not keep:
            shutil.rmtree(self._folder, ignore_errors=True)
