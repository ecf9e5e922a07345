"""Arrays of a whole scene that the bottleneck works on: latents, queries, keys, values; in memory or on disk.

Both kinds are read and written by slices, as torch tensors of float32.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
import zarr
from torch import Tensor
from zarr.storage import LocalStore

from infdehaze_cli.errors import CorruptError, StorageError
from infdehaze_cli.retry import persist

from .codecs import codecs_of

Slices = slice | tuple[slice, ...]

ASIDE = "mixed"
"""The folder of latents from which an interrupted run goes on."""


class SceneArray(Protocol):
    """An array of float32 that is read and written by slices along its first axes."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of all axes."""
        ...

    def read(self, where: Slices) -> Tensor:
        """Return a part; who changes it must write it back."""
        ...

    def write(self, where: Slices, values: Tensor) -> None:
        """Replace a part."""
        ...

    def close(self) -> None:
        """Free what is held."""
        ...


class HostArray:
    """In memory, zeros at first."""

    def __init__(self, shape: Sequence[int]) -> None:
        self._values = torch.zeros(*shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of all axes."""
        return tuple(self._values.shape)

    def read(self, where: Slices) -> Tensor:
        """Return a part, without a copy."""
        return self._values[where]

    def write(self, where: Slices, values: Tensor) -> None:
        """Replace a part; what :meth:`read` gave may be given back."""
        # through numpy: inference mode, in which the tensor is made, is a matter of the thread
        self._values.numpy()[where] = values.numpy()

    def close(self) -> None:
        """Free the memory."""
        self._values = torch.empty(0)


class DiskArray:
    """A Zarr array on disk with a crc32c on each chunk.

    Parameters
    ----------
    shape, chunks : sequence of int
        Sizes of all axes, and of a chunk.
    folder : Path
        Is made, and removed by :meth:`close`.
    codec : str
        See :func:`.codecs.codecs_of`.
    reopen : bool
        Whether ``folder`` holds such an array, with the same arguments, to be read.

    Raises
    ------
    StorageError
        When the disk is full, read-only or failing.
    CorruptError
        When a chunk is missing or its checksum is wrong.
    """

    def __init__(
        self, shape: Sequence[int], chunks: Sequence[int], folder: Path, codec: str = "none", *, reopen: bool = False
    ) -> None:
        self._folder = folder
        self.shape = tuple(shape)
        try:
            if reopen:
                # the arguments say what it holds; a damaged header is not asked
                (folder / "zarr.json").unlink(missing_ok=True)
            self._array = zarr.create_array(
                LocalStore(folder),
                shape=self.shape,
                chunks=tuple(min(c, s) for c, s in zip(chunks, shape, strict=True)),
                dtype="float32",
                compressors=codecs_of(codec, 4),
                # what was never written, or is lost, reads as NaN, which no part of a sound scene holds
                fill_value=float("nan"),
                config={"write_empty_chunks": True, "order": "C"},
            )
        except OSError as error:
            raise disk_error(folder, error) from error

    def read(self, where: Slices) -> Tensor:
        """Read a part, checked."""
        try:
            values = torch.from_numpy(persist(lambda: self._array[where]))
        except OSError as error:
            raise disk_error(self._folder, error) from error
        except (ValueError, RuntimeError) as error:
            raise CorruptError(
                f"A chunk of {self._folder} is damaged ({error}). Check the disk behind --scratch and run again."
            ) from error
        if bool(values.isnan().any()):
            raise CorruptError(
                f"A chunk of {self._folder} is missing, or holds values that are no numbers. "
                "Check the disk behind --scratch and the weights, and run again."
            )
        return values

    def write(self, where: Slices, values: Tensor) -> None:
        """Replace a part."""
        try:
            persist(partial(self._array.__setitem__, where, values.numpy()))
        except OSError as error:
            raise disk_error(self._folder, error) from error

    def move(self, folder: Path) -> None:
        """Give the folder another name, in one step, in place of whatever has it."""
        shutil.rmtree(folder, ignore_errors=True)
        try:
            self._folder.rename(folder)
            self._folder, self._array = folder, zarr.open_array(LocalStore(folder), mode="r")
        except OSError as error:
            raise disk_error(folder, error) from error

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)


def disk_error(folder: Path, error: OSError) -> StorageError:
    """Say what a disk did, and what to do about it."""
    return StorageError(
        f"Work files cannot be kept in {folder} ({error.strerror or error}). "
        "Free some space, or name another folder with --scratch."
    )


class Workspace:
    """Makes the arrays of one run.

    Parameters
    ----------
    scratch : Path
        The run's own folder.
    latents_on_disk, heads_on_disk : bool
        Where the latents lie, and where queries, keys and values do.
    heads_at_a_time : int
        Attention heads whose queries, keys and values are in memory together.
    codec : str
        Of the arrays on disk.
    """

    def __init__(
        self,
        scratch: Path,
        *,
        latents_on_disk: bool = False,
        heads_on_disk: bool = False,
        heads_at_a_time: int | None = None,
        codec: str = "none",
    ) -> None:
        self._scratch, self._codec = scratch, codec
        self._latents_on_disk, self._heads_on_disk = latents_on_disk, heads_on_disk
        self._heads_at_a_time = heads_at_a_time
        self._disk: dict[str, int] = {}

    def latents(self, rows: int, cols: int, channels: int, band: int) -> SceneArray:
        """Make room for the latents (rows, cols, channels), cut on disk into bands of rows."""
        shape = (rows, cols, channels)
        return self._make("latents", shape, (band, cols, channels), self._latents_on_disk)

    def put_aside(self, latents: SceneArray, band: int) -> None:
        """Bring latents, (rows, cols, channels), to the disk under a name where nothing changes them any more.

        They may still be read. See :meth:`put_back`.
        """
        folder = self._scratch / ASIDE
        if isinstance(latents, DiskArray):
            latents.move(folder)
            return
        shutil.rmtree(folder, ignore_errors=True)
        rows, cols, channels = latents.shape
        copy = DiskArray(latents.shape, (band, cols, channels), folder, self._codec)
        for part in _bands(rows, band):
            copy.write(part, latents.read(part))

    def put_back(self, rows: int, cols: int, channels: int, band: int) -> SceneArray:
        """Return the latents that :meth:`put_aside` has left, every chunk of them checked.

        Raises
        ------
        CorruptError
            When a chunk is missing or damaged.
        """
        shape = (rows, cols, channels)
        aside = DiskArray(shape, (band, cols, channels), self._scratch / ASIDE, self._codec, reopen=True)
        found: SceneArray = aside if self._latents_on_disk else HostArray(shape)
        for part in _bands(rows, band):
            values = aside.read(part)
            if found is not aside:
                found.write(part, values)
        return found

    def heads(self, name: str, heads: int, tokens: int, dim: int, chunk: int) -> SceneArray:
        """Make room for queries, keys or values (heads, tokens, dim), cut on disk by heads and ``chunk`` tokens."""
        shape = (heads, tokens, dim)
        return self._make(name, shape, (self.group(heads), chunk, dim), self._heads_on_disk)

    def look(self, rows: int, cols: int, fields: int, band: int) -> SceneArray:
        """Make room for what was seen of a scene (rows, cols, fields), cut on disk into bands of rows."""
        return self._make("look", (rows, cols, fields), (band, cols, fields), self._latents_on_disk)

    def group(self, heads: int) -> int:
        """Return how many of ``heads`` are processed together."""
        return min(heads, self._heads_at_a_time or heads)

    def _make(self, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], on_disk: bool) -> SceneArray:
        if not on_disk:
            return HostArray(shape)
        # the arrays of a layer have the names of the layer's before, whose place they take
        self._disk[name] = 4 * math.prod(shape)
        return DiskArray(shape, chunks, self._scratch / name, self._codec)

    @property
    def disk_bytes(self) -> int:
        """Bytes that the arrays have taken on disk at most, before any compression."""
        return sum(self._disk.values())

    def close(self) -> None:
        """Remove what is left on disk."""
        for name in self._disk:
            shutil.rmtree(self._scratch / name, ignore_errors=True)


def _bands(rows: int, band: int) -> Iterator[slice]:
    for start in range(0, rows, band):
        yield slice(start, min(rows, start + band))
