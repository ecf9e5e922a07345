"""Residual stores over Zarr: in DRAM or on SSD, one chunk a batch, crc32c on each (design, section 3.2).

Residuals of one tile are a row of ``values`` numbers. The paper keeps them in DRAM (supplement, sections 2.4 and 6).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from torch import Tensor
from zarr.codecs import Crc32cCodec
from zarr.storage import LocalStore, MemoryStore

from infdehaze_cli.errors import CorruptError, StorageError

Tier = Literal["dram", "ssd", "recompute"]

# numpy has no bfloat16: its bits are stored as uint16
STORAGE_DTYPES: dict[str, tuple[torch.dtype, np.dtype[np.generic]]] = {
    "fp32": (torch.float32, np.dtype(np.float32)),
    "fp16": (torch.float16, np.dtype(np.float16)),
    "bf16": (torch.bfloat16, np.dtype(np.uint16)),
}


def pack(residuals: list[Tensor], dtype: str) -> Tensor:
    """Flatten and round the residuals of a batch, on their device: (B, values) in the storage dtype.

    Parameters
    ----------
    residuals : list of Tensor
        r1..r4, (B, H, W, C) each.
    dtype : str
        ``fp32``, ``fp16`` or ``bf16``. Values that fp16 cannot hold are cut at its largest.
    """
    kind, _ = STORAGE_DTYPES[dtype]
    flat = torch.cat([r.flatten(1) for r in residuals], 1)
    return (flat.clamp_(-65504, 65504) if kind is torch.float16 else flat).to(kind)


def unpack(packed_BV: Tensor, shapes: tuple[tuple[int, int, int], ...]) -> list[Tensor]:
    """Undo :func:`pack`: float32 residuals, on the device of ``packed_BV``."""
    sizes = [h * w * c for h, w, c in shapes]
    parts = torch.split(packed_BV.float(), sizes, 1)
    return [part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)]


def to_stored(packed_BV: Tensor) -> NDArray[np.generic]:
    """View packed residuals on the host as what a store keeps."""
    bits = packed_BV.view(torch.int16) if packed_BV.dtype is torch.bfloat16 else packed_BV
    stored: NDArray[np.generic] = bits.numpy()
    return stored.view(np.uint16) if packed_BV.dtype is torch.bfloat16 else stored


def from_stored(stored: NDArray[np.generic], dtype: str) -> Tensor:
    """Undo :func:`to_stored`."""
    kind, _ = STORAGE_DTYPES[dtype]
    return torch.from_numpy(stored.view(np.int16)).view(kind) if kind is torch.bfloat16 else torch.from_numpy(stored)


class ResidualStore(Protocol):
    """Keeps the packed residuals of batches of tiles."""

    @property
    def recompute(self) -> bool:
        """Whether nothing is kept, and the decoder phase encodes again."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes written so far."""
        ...

    def write(self, batch: int, packed: NDArray[np.generic]) -> None:
        """Keep the residuals of a batch."""
        ...

    def read(self, batch: int) -> NDArray[np.generic]:
        """Give the residuals of a batch back."""
        ...

    def close(self) -> None:
        """Free what is held, in memory and on disk."""
        ...


class RecomputeStore:
    """The tier that stores nothing."""

    recompute = True
    nbytes = 0

    def write(self, batch: int, packed: NDArray[np.generic]) -> None:
        """Forget them."""

    def read(self, batch: int) -> NDArray[np.generic]:
        """Refuse: the engine encodes again instead."""
        raise AssertionError("nothing is stored in the recompute tier")

    def close(self) -> None:
        """Nothing is held."""


class ZarrResidualStore:
    """A Zarr array with one uncompressed, checksummed chunk a batch.

    Parameters
    ----------
    batches, batch, values : int
        Number of batches, tiles of a full batch, and numbers of a tile.
    dtype : str
        Storage dtype, a key of :data:`STORAGE_DTYPES`.
    folder : Path, optional
        Where the array lies on disk; in memory without it. The folder is made, and removed by :meth:`close`.

    Raises
    ------
    StorageError
        When the disk is full, read-only or failing.
    CorruptError
        When a chunk is missing or its checksum is wrong.
    """

    recompute = False

    def __init__(self, batches: int, batch: int, values: int, dtype: str, folder: Path | None = None) -> None:
        self._folder = folder
        self._written: dict[int, int] = {}
        self.nbytes = 0
        try:
            store = MemoryStore() if folder is None else LocalStore(folder)
            self._array = zarr.create_array(
                store,
                shape=(max(1, batches) * batch, values),
                chunks=(batch, values),
                dtype=STORAGE_DTYPES[dtype][1],
                compressors=[Crc32cCodec()],
                fill_value=0,
                # the comparison with the fill value costs more than the bytes it could save
                config={"write_empty_chunks": True, "order": "C"},
            )
        except OSError as error:
            raise _disk_error(folder, error) from error
        self._batch = batch

    def write(self, batch: int, packed: NDArray[np.generic]) -> None:
        """Keep the residuals of a batch, (tiles, values) with at most ``batch`` tiles."""
        start = batch * self._batch
        try:
            self._array[start : start + len(packed)] = packed
        except OSError as error:
            raise _disk_error(self._folder, error) from error
        self._written[batch] = len(packed)
        self.nbytes += packed.nbytes

    def read(self, batch: int) -> NDArray[np.generic]:
        """Give the residuals of a batch back, checked."""
        # zarr reads a missing chunk as its fill value, silently
        if batch not in self._written or not self._chunk_exists(batch):
            raise CorruptError(
                f"Residuals of batch {batch} are missing from the store. Run again with more scratch space."
            )
        start = batch * self._batch
        try:
            packed = np.asarray(self._array[start : start + self._written[batch]])
        except OSError as error:
            raise _disk_error(self._folder, error) from error
        except ValueError as error:
            raise CorruptError(
                f"Residuals of batch {batch} are damaged ({error}). Check the disk behind --scratch and run again."
            ) from error
        return packed

    def _chunk_exists(self, batch: int) -> bool:
        return self._folder is None or (self._folder / "c" / str(batch) / "0").is_file()

    def close(self) -> None:
        """Free the memory, or remove the folder."""
        del self._array
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _disk_error(folder: Path | None, error: OSError) -> StorageError:
    return StorageError(
        f"Residuals cannot be stored in {folder or 'memory'} ({error.strerror or error}). "
        "Free some space, or name another folder with --scratch."
    )


def open_residual_store(tier: Tier, batches: int, batch: int, values: int, dtype: str, scratch: Path) -> ResidualStore:
    """Open the store of a tier; ``scratch`` is the run's own work folder."""
    if tier == "recompute":
        return RecomputeStore()
    folder = scratch / "residuals" if tier == "ssd" else None
    return ZarrResidualStore(batches, batch, values, dtype, folder)
