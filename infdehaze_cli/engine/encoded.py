"""What the encoder phase leaves on disk for an interrupted run to go on from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from infdehaze.tiling import TileGrid
from torch import Tensor

from infdehaze_cli.errors import CorruptError
from infdehaze_cli.geometry import Window
from infdehaze_cli.journal import Progress
from infdehaze_cli.store import ResidualStore

from .protocols import SceneReader, SourceBlock
from .tiles import TileBatch, read_batch


@dataclass(frozen=True, slots=True)
class KeptBatch:
    """A batch that an interrupted run has encoded."""

    number: int
    indices: tuple[int, ...]
    """Tiles with data, in order."""
    known: tuple[int, ...]
    """Their pixels with data."""
    latents: Tensor
    """float32 (len(indices), side, side, C)."""


class Encoded:
    """Latents of the batches whose residuals are not in memory, and the journal that says which are there.

    The latents in the scene's grid are changed by the bottleneck, and may be in memory; these are what it begins with.

    Parameters
    ----------
    latents : ResidualStore, optional
        Rows of latents in full precision, by batch; None to keep nothing.
    journal : Progress, optional
        Is told what is there.
    in_memory : int
        Batches, from the first on, whose residuals are in memory and are lost with the process.
    """

    def __init__(self, latents: ResidualStore | None, journal: Progress | None, in_memory: int) -> None:
        self._latents, self._journal, self._in_memory = latents, journal, in_memory

    def put(self, batch: int, known: Mapping[int, int], latents: list[Tensor]) -> None:
        """Keep the latents, (tiles, side, side, C) in parts, unless the residuals are in memory; write it down.

        ``known`` are the tiles in order, with their pixels that hold data.
        """
        if self._latents is None or batch < self._in_memory:
            return
        self._latents.write(batch, np.concatenate([part.flatten(1).numpy() for part in latents]))
        if self._journal is not None:
            self._journal.add_encoded(batch, known)

    def batches(
        self,
        scene: SceneReader[SourceBlock],
        grid: TileGrid,
        batch: int,
        side: int,
        holds_data: Callable[[Window], bool] | None = None,
    ) -> Iterator[tuple[TileBatch | KeptBatch, str]]:
        """Yield all batches in order: kept, or read in order to be encoded, with what the disk has done to it.

        Parameters
        ----------
        scene, grid, batch, holds_data
            As of :func:`.tiles.read_batch`.
        side : int
            Tokens of a tile along one side.
        """
        for number in range(-(-grid.count // batch)):
            damage = ""
            try:
                if (kept := self._get(number, side)) is not None:
                    yield kept, damage
                    continue
            except CorruptError as error:
                damage = encoded_again(number, error)
            yield read_batch(scene, grid, number, batch, holds_data), damage

    def _get(self, number: int, side: int) -> KeptBatch | None:
        if self._latents is None or self._journal is None or number not in self._journal.encoded:
            return None
        known = self._journal.encoded[number]
        rows = torch.from_numpy(self._latents.read(number))
        return KeptBatch(number, tuple(known), tuple(known.values()), rows.view(len(known), side, side, -1))

    @property
    def disk_bytes(self) -> int:
        """Bytes written to disk so far, before any compression."""
        return 0 if self._latents is None else self._latents.disk_bytes

    def close(self, *, keep: bool) -> None:
        """Remove the latents, unless they are to be kept."""
        if self._latents is not None:
            self._latents.close(keep=keep)


def encoded_again(number: int, error: CorruptError) -> str:
    """Say that the disk has lost or spoilt a batch, and what is done about it."""
    what = str(error).partition(". ")[0].partition(" (")[0]
    return f"{what}: batch {number} is encoded again."
