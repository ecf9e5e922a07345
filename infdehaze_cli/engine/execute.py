"""Carry out a plan: encode, bottleneck, decode, with what was measured (paper, algorithm 1)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from infdehaze.network import InfDehaze
from infdehaze.presets import Preset

from infdehaze_cli.journal import Journal
from infdehaze_cli.plan import Plan
from infdehaze_cli.store import RecomputeStore, ResidualStore, Workspace, ZarrResidualStore, row_length, stored_dtype

from .bottleneck import stream_bottleneck
from .decode import B, decode_phase
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
    clocks = {name: BusyClock() for name in ("read", "store", "load", "write")}
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
                encode_phase(model, device, scene, state, store, encoded, reporter, clocks, amount)
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
        with timed("decode"):
            decode_phase(
                model, device, scene, second, writer, state, store, finished, reporter, clocks, strength, amount
            )
        on_disk = store.disk_bytes + workspace.disk_bytes
        checkpoint = encoded.disk_bytes + finished.disk_bytes
    finally:
        for each in (store, encoded, finished):
            each.close(keep=journal is not None)
        workspace.close()
    seconds |= {name: clock.seconds for name, clock in clocks.items()}
    return Measured(device.peak_bytes, on_disk, checkpoint, seconds)


def _found(journal: Journal | None) -> dict[int, int] | None:
    """Return the batches that an interrupted run has left on disk, with the number of their tiles."""
    if journal is None or not journal.worth_keeping:
        return None
    return {batch: len(tiles) for batch, tiles in journal.encoded.items()}


def _residual_store(plan: Plan, preset: Preset, scratch: Path, journal: Journal | None) -> ResidualStore:
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


def _latent_store(plan: Plan, preset: Preset, scratch: Path, journal: Journal | None) -> ResidualStore | None:
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
