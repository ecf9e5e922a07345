"""The encoder phase of algorithm 1 (paper, supplement section 2.4): tiles to latents and residuals, in threads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from infdehaze.filling import fill_and_weigh
from infdehaze.network import InfDehaze
from torch import Tensor

from infdehaze_cli.geometry import Window
from infdehaze_cli.host_memory import QUEUE
from infdehaze_cli.store import ResidualStore, pack, to_stored

from .device import Device, PendingCopy
from .elastic import Elastic
from .encoded import Encoded, KeptBatch
from .protocols import Reporter, SceneReader, SourceBlock
from .state import LatentRows, SceneState
from .threads import BusyClock, Prefetch, Sink
from .tiles import TileBatch


def encode_tiles(
    model: InfDehaze, device: Device, tiles: TileBatch, part: slice = slice(None)
) -> tuple[list[Tensor], Tensor]:
    """Encode tiles of a batch: the residuals, in fp32, and the tiles' weights (M,), all on the device."""
    values = device.to_device(torch.from_numpy(tiles.values[part]))
    values, weight_M = fill_and_weigh(values, device.to_device(torch.from_numpy(tiles.valid[part])))
    with device.autocast():
        residuals = model.encoder(values)
    return [r.float() for r in residuals], weight_M


def encode_phase(
    model: InfDehaze,
    device: Device,
    scene: SceneReader[SourceBlock],
    state: SceneState,
    store: ResidualStore,
    encoded: Encoded,
    reporter: Reporter,
    clocks: dict[str, BusyClock],
    amount: Elastic,
    holds_data: Callable[[Window], bool] | None = None,
) -> None:
    """Encode all tiles that an interrupted run has not: latents to the host, residuals to the store.

    Reading, computing and storing go on at the same time, at most ``QUEUE`` batches apart. What ``holds_data`` says of
    a window, if it is known, spares reading tiles without data.
    """
    reporter.phase("encode", state.grid.count)

    latents = LatentRows(state)

    def keep(item: tuple[TileBatch | KeptBatch, list[PendingCopy]]) -> None:
        tiles, copies = item
        if isinstance(tiles, KeptBatch):
            for latent, index, pixels in zip(tiles.latents, tiles.indices, tiles.known, strict=True):
                latents.put(index, latent, pixels)
            return
        parts = [copy.wait() for copy in copies]
        known = [round(weight * state.grid.tile**2) for part in parts for weight in part[1].tolist()]
        found = (latent for part in parts for latent in part[0])
        for latent, index, pixels in zip(found, tiles.indices, known, strict=True):
            latents.put(index, latent, pixels)
        packed = [to_stored(part[2]) for part in parts if len(part) > 2]
        if packed:
            store.write(tiles.number, packed[0] if len(packed) == 1 else np.concatenate(packed))
        encoded.put(tiles.number, dict(zip(tiles.indices, known, strict=True)), [part[0] for part in parts])

    batches = encoded.batches(scene, state.grid, state.batch, state.side, holds_data)
    metered = 0
    with Prefetch(batches, QUEUE, clocks["read"]) as ahead, Sink(keep, QUEUE, clocks["store"]) as sink:
        for tiles, damage in ahead:
            if damage:
                reporter.note(damage)
            state.members[tiles.number] = tiles.indices
            copies: list[PendingCopy] = []
            if isinstance(tiles, KeptBatch):
                sink.put((tiles, copies))
            elif tiles.indices:
                # the first batches may hold less than others
                with device.metered(len(tiles.indices) > metered):
                    amount.run(len(tiles.indices), partial(_encode_part, model, device, state, store, tiles, copies))
                metered = max(metered, len(tiles.indices))
                sink.put((tiles, copies))
            reporter.advance(min(state.batch, state.grid.count - tiles.number * state.batch))
    latents.finish()


def _encode_part(
    model: InfDehaze,
    device: Device,
    state: SceneState,
    store: ResidualStore,
    tiles: TileBatch,
    copies: list[PendingCopy],
    part: slice,
) -> None:
    """Encode some tiles of a batch and start their way to the host: latents, and residuals as they are stored."""
    residuals, weight_M = encode_tiles(model, device, tiles, part)
    # rounded here and not by the storing thread: the device is faster at it, and half the bytes travel
    packed = [] if store.recompute else [pack(model.encoder.to_store(residuals), state.residual_dtype)]
    copies.append(device.to_host([residuals[-1], weight_M, *packed]))
