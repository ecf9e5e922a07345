"""Carry out a plan: encode, bottleneck, decode, with what was measured (paper, algorithm 1)."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from infdehaze.network import InfDehaze
from infdehaze.presets import FIELDS, Preset

from infdehaze_cli.geometry import Window
from infdehaze_cli.journal import Journal, Progress
from infdehaze_cli.plan import Plan
from infdehaze_cli.store import RecomputeStore, ResidualStore, Workspace, ZarrResidualStore, row_length, stored_dtype

from .bottleneck import stream_bottleneck
from .canvas import FieldCanvas
from .coarse import CoarseLook, HalvedScene, OnePhase
from .compose import B, composing
from .decode import Take, decode_phase
from .device import Device
from .elastic import Elastic
from .encode import encode_phase
from .encoded import Encoded
from .finished import Finished
from .protocols import Reporter, SceneReader, SceneWriter, SourceBlock
from .state import SceneState
from .threads import BusyClock


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run took."""

    peak_device_bytes: int
    scratch_bytes: int
    """Bytes written to disk for want of memory, before any compression."""
    checkpoint_bytes: int
    """Bytes written to disk for an interrupted run to go on from, before any compression."""
    seconds: dict[str, float]
    """By phase; ``read``, ``store``, ``load`` and ``write`` are the work of threads that run beside the phases."""


@torch.inference_mode()
def execute(
    plan: Plan,
    model: InfDehaze,
    scene: SceneReader[SourceBlock],
    second: SceneReader[B],
    writer: SceneWriter[B],
    *,
    scratch: Path,
    budget: int | None,
    strength: float,
    reporter: Reporter,
    journal: Journal | None = None,
) -> Measured:
    """Run all phases over a scene.

    Parameters
    ----------
    plan : Plan
        What to do.
    model : InfDehaze
        The network, in evaluation mode; it is moved to the plan's device.
    scene, second : SceneReader
        Two handles of the source, for two threads.
    writer : SceneWriter
        Takes the restored windows, from top to bottom.
    scratch : Path
        An existing folder of the run's own.
    budget : int, optional
        Device bytes that must not be exceeded.
    strength : float
        0..1, how much of the haze is taken away.
    reporter : Reporter
        Is told how it goes on.
    journal : Journal, optional
        Is told what is done and on disk, and says what an interrupted run has left there. With it, what is worth
        keeping stays in ``scratch``, even when all went well.

    Raises
    ------
    StorageError, CorruptError
        From the residual store.
    """
    preset = model.preset
    device = Device(torch.device(plan.device), plan.precision, budget)
    device.place(model)
    run = _Run(model, device, {name: BusyClock() for name in ("read", "store", "load", "write")})
    # see `work_folder.COARSE`
    at_half = scratch / "coarse"
    shelf = Workspace(at_half, latents_on_disk=plan.latents_on_disk, codec=plan.codec)
    try:
        started = time.perf_counter()
        coarse = (
            run.look_at_half(plan.coarse(), scene, at_half, shelf, journal, reporter) if plan.coarse_tiles else None
        )
        seconds = {"coarse": time.perf_counter() - started}
        canvas = run.canvas(plan, coarse)
        taking = composing(preset, device, second, writer, strength, reporter, run.clocks)
        holds_data = None if coarse is None else coarse.holds_data
        found, _ = run.look(plan, scene, scratch, journal, reporter, canvas, taking, holds_data)
        seconds |= found
        run.scratch_bytes += shelf.disk_bytes
    finally:
        shelf.close()
        if journal is None:
            # the stores have emptied it
            shutil.rmtree(at_half, ignore_errors=True)
    seconds |= {name: clock.seconds for name, clock in run.clocks.items()}
    return Measured(device.peak_bytes, run.scratch_bytes, run.checkpoint_bytes, seconds)


@dataclass
class _Run:
    """What the looks of a run share."""

    model: InfDehaze
    device: Device
    clocks: dict[str, BusyClock]
    scratch_bytes: int = 0
    checkpoint_bytes: int = 0

    def canvas(self, plan: Plan, coarse: CoarseLook | None) -> FieldCanvas:
        """Make what joins the fields of the look at the scene."""
        preset = self.model.preset
        sizes = plan.grid, preset.planes, preset.field_stride
        return FieldCanvas(*sizes, *preset.field_sigmas, preset.thin_haze, coarse, preset.texture)

    def look_at_half(
        self,
        plan: Plan,
        scene: SceneReader[SourceBlock],
        scratch: Path,
        shelf: Workspace,
        journal: Journal | None,
        reporter: Reporter,
    ) -> CoarseLook:
        """Look at a scene at half its size; ``shelf`` keeps what is seen."""
        preset = self.model.preset
        coarse = CoarseLook(shelf, plan.grid, preset.field_stride, preset.coarse_share)
        progress = None if journal is None else journal.coarse
        once, taking = OnePhase(reporter, plan.tiles), nullcontext(coarse.take)
        # its detail is not asked for
        canvas = FieldCanvas(plan.grid, FIELDS, preset.field_stride, *preset.field_sigmas)
        _, tiles = self.look(plan, HalvedScene(scene), scratch, progress, once, canvas, taking)
        coarse.know(tiles)
        return coarse

    def look(
        self,
        plan: Plan,
        scene: SceneReader[SourceBlock],
        scratch: Path,
        journal: Progress | None,
        reporter: Reporter,
        canvas: FieldCanvas,
        taking: AbstractContextManager[Take],
        holds_data: Callable[[Window], bool] | None = None,
    ) -> tuple[dict[str, float], list[int]]:
        """Run all phases over a scene, up to its fields, which are taken while they come.

        Returns their seconds, and which tiles hold data. ``holds_data`` says of a window whether it may, where known.
        """
        model, device, clocks, preset = self.model, self.device, self.clocks, self.model.preset
        seconds: dict[str, float] = {}

        @contextmanager
        def timed(name: str) -> Iterator[None]:
            started = time.perf_counter()
            yield
            seconds[name] = time.perf_counter() - started

        amount = Elastic("tiles", plan.batch, reporter.note)
        workspace = Workspace(
            scratch,
            latents_on_disk=plan.latents_on_disk,
            heads_on_disk=plan.heads_on_disk,
            heads_at_a_time=plan.heads_at_a_time,
            codec=plan.codec,
        )
        store = _residual_store(plan, preset, scratch, journal)
        encoded = Encoded(_latent_store(plan, preset, scratch, journal), journal, plan.batches_in_memory)
        finished = Finished(journal, plan, preset, workspace, scratch)
        try:
            state = finished.restored(reporter.note)
            if state is None:
                state = SceneState.empty(plan, preset, workspace)
                with timed("encode"):
                    encode_phase(model, device, scene, state, store, encoded, reporter, clocks, amount, holds_data)
                with timed("bottleneck"):
                    reporter.phase("bottleneck", len(model.bottleneck.layers))
                    stream_bottleneck(
                        model.bottleneck,
                        state.latent_HWC,
                        state.occupied_HW,
                        workspace,
                        device=device,
                        chunk_tokens=plan.chunk_tokens,
                        on_layer=reporter.advance,
                        note=reporter.note,
                    )
                    finished.keep_latents(state)
            else:
                for name, steps in (("encode", plan.tiles), ("bottleneck", len(model.bottleneck.layers))):
                    seconds[name] = 0.0
                    reporter.phase(name, steps)
                    reporter.advance(steps)
            with timed("decode"), taking as take:
                decode_phase(model, device, scene, state, store, finished, canvas, take, reporter, clocks, amount)
            self.scratch_bytes += store.disk_bytes + workspace.disk_bytes
            self.checkpoint_bytes += encoded.disk_bytes + finished.disk_bytes
        finally:
            for each in (store, encoded, finished):
                each.close(keep=journal is not None)
            workspace.close()
        return seconds, [tile for tiles in state.members.values() for tile in tiles]


def _found(journal: Progress | None) -> dict[int, int] | None:
    """Return the batches that an interrupted run has left on disk, with the number of their tiles."""
    if journal is None or not journal.begun:
        return None
    return {batch: len(tiles) for batch, tiles in journal.encoded.items()}


def _residual_store(plan: Plan, preset: Preset, scratch: Path, journal: Progress | None) -> ResidualStore:
    if plan.tier == "recompute":
        return RecomputeStore()
    return ZarrResidualStore(
        plan.batches,
        plan.batch,
        row_length(preset.stored_shapes, plan.residual_dtype),
        stored_dtype(plan.residual_dtype),
        scratch / "residuals",
        plan.batches_in_memory,
        plan.codec,
        _found(journal),
    )


def _latent_store(plan: Plan, preset: Preset, scratch: Path, journal: Progress | None) -> ResidualStore | None:
    """Return where the latents of batches lie whose residuals are not in memory, in full precision."""
    # with residuals in memory a batch has to be encoded again anyway
    if journal is None or plan.batches_in_memory >= plan.batches:
        return None
    return ZarrResidualStore(
        plan.batches,
        plan.batch,
        preset.latent_side**2 * preset.widths[-1],
        np.dtype(np.float32),
        scratch / "encoded",
        0,
        plan.codec,
        _found(journal),
    )
