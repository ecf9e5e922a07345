"""What the bottleneck and the decoder phase leave on disk for an interrupted run to go on from.

Kept are the latents after the bottleneck and the fields of decoded batches. From the fields the windows of the output
are made again, which takes no network, and lets strength and output change in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from infdehaze.presets import Preset
from torch import Tensor

from infdehaze_cli.errors import CorruptError
from infdehaze_cli.journal import Progress
from infdehaze_cli.plan import Plan
from infdehaze_cli.store import Workspace, ZarrResidualStore

from .state import SceneState


class Finished:
    """Finished work of the last two phases, and the journal that says what is there.

    Parameters
    ----------
    journal : Progress, optional
        Says what an interrupted run has left, and is told what is there; None to keep nothing.
    plan, preset
        Of the run.
    workspace : Workspace
        Keeps the latents.
    scratch : Path
        The run's own folder.

    Raises
    ------
    StorageError
        When the disk is full, read-only or failing.
    """

    def __init__(
        self, journal: Progress | None, plan: Plan, preset: Preset, workspace: Workspace, scratch: Path
    ) -> None:
        self._journal, self._plan, self._preset, self._workspace = journal, plan, preset, workspace
        self._side = preset.tile // preset.field_stride
        self._latents_written = 0
        self._fields: ZarrResidualStore | None = None
        if journal is not None:
            self._fields = ZarrResidualStore(
                plan.batches,
                plan.batch,
                preset.planes * self._side**2,
                np.dtype(np.float32),
                scratch / "fields",
                0,
                plan.codec,
                journal.decoded if journal.begun else None,
            )

    def restored(self, note: Callable[[str], None]) -> SceneState | None:
        """Return what the bottleneck has left, if it was done; ``note`` is told when the disk has spoilt it."""
        if self._journal is None or self._journal.mixed is None:
            return None
        plan, mixed = self._plan, self._journal.mixed
        try:
            latents = self._workspace.put_back(*SceneState.shape(plan, self._preset), self._preset.latent_side)
        except CorruptError:
            note("The latents after the bottleneck are missing or damaged: the bottleneck is done again.")
            return None
        state = SceneState.of(plan, self._preset, latents)
        for number in range(plan.batches):
            first = number * plan.batch
            state.members[number] = tuple(
                tile for tile in range(first, min(first + plan.batch, plan.tiles)) if tile in mixed
            )
        for tile, known in mixed.items():
            state.occupy(tile, known)
        return state

    def keep_latents(self, state: SceneState) -> None:
        """Keep the latents after the bottleneck, and which tiles hold how much data; write it down."""
        if self._journal is None:
            return
        self._workspace.put_aside(state.latent_HWC, state.side)
        if not self._plan.latents_on_disk:
            self._latents_written = 4 * math.prod(state.latent_HWC.shape)
        full = state.grid.tile**2
        self._journal.add_mixed(
            {tile: state.known.get(tile, full) for tiles in state.members.values() for tile in tiles}
        )

    def keep_fields(self, batch: int, fields: Mapping[int, Tensor]) -> None:
        """Keep the fields (F, h, w) of a batch's tiles with data; write it down."""
        if self._journal is None or self._fields is None:
            return
        self._fields.write(batch, np.stack([fields[tile].flatten().numpy() for tile in sorted(fields)]))
        self._journal.add_decoded(batch, len(fields))

    def fields(self, batch: int) -> tuple[Tensor | None, str]:
        """Return the fields of a decoded batch, float32 (tiles, F, h, w), if there are, and what has become of them."""
        if self._journal is None or self._fields is None or not self._fields.holds(batch):
            return None, ""
        try:
            rows = torch.from_numpy(self._fields.read(batch))
        except CorruptError:
            return None, f"Fields of batch {batch} are missing or damaged: it is decoded again."
        return rows.view(len(rows), self._preset.planes, self._side, self._side), ""

    @property
    def disk_bytes(self) -> int:
        """Bytes written to disk so far, before any compression."""
        return self._latents_written + (0 if self._fields is None else self._fields.disk_bytes)

    def close(self, *, keep: bool) -> None:
        """Remove the fields, unless they are to be kept."""
        if self._fields is not None:
            self._fields.close(keep=keep)
