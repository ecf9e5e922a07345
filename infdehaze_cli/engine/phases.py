"""The encoder and the decoder phase of algorithm 1 (paper, supplement section 2.4), each a pipeline of threads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from infdehaze.decoder import FIELDS
from infdehaze.network import InfDehaze
from infdehaze.tiling import TileGrid, enlarge, fill_invalid, scatter
from numpy.typing import NDArray
from torch import Tensor

from infdehaze_cli.geometry import split_windows
from infdehaze_cli.store import ResidualStore, from_stored, pack, to_stored, unpack

from .canvas import FieldCanvas
from .device import Device, PendingCopy
from .protocols import Reporter, SceneReader, SceneWriter, SourceBlock
from .threads import BusyClock, Prefetch, Sink
from .tiles import TileBatch, iterate_batches, read_batch

QUEUE = 2
"""Batches that wait between two threads."""

BAND_ROWS = 512
WINDOW_COLS = 1024
"""Windows of the output: whole blocks of a COG; the same whatever the budget, so that pixels are the same too."""

B = TypeVar("B", bound=SourceBlock)


@dataclass(slots=True)
class SceneState:
    """What the phases of a run hand on."""

    grid: TileGrid
    batch: int
    residual_dtype: str
    latent_HWC: Tensor
    """Latents of the whole scene on the host, float32."""
    occupied_HW: Tensor
    """bool, the tokens of tiles with data."""
    members: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Tiles with data of each batch."""

    @classmethod
    def empty(cls, grid: TileGrid, batch: int, residual_dtype: str, side: int, width: int) -> SceneState:
        """Make room for the latents of a scene."""
        shape = (grid.rows * side, grid.cols * side)
        return cls(grid, batch, residual_dtype, torch.zeros(*shape, width), torch.zeros(shape, dtype=torch.bool))

    def latent_slot(self, index: int) -> tuple[slice, slice]:
        """Where a tile's latent lies."""
        side = self.latent_HWC.shape[0] // self.grid.rows
        i, j = divmod(index, self.grid.cols)
        return slice(i * side, (i + 1) * side), slice(j * side, (j + 1) * side)


def encode_tiles(model: InfDehaze, device: Device, tiles: TileBatch) -> list[Tensor]:
    """Encode a batch; the residuals come out in fp32 on the device."""
    values = device.to_device(torch.from_numpy(tiles.values))
    valid = torch.from_numpy(tiles.valid)
    if not bool(valid.all()):
        values = fill_invalid(values, device.to_device(valid))
    with device.autocast():
        residuals = model.encoder(values)
    return [r.float() for r in residuals]


def encode_phase(
    model: InfDehaze,
    device: Device,
    scene: SceneReader[SourceBlock],
    state: SceneState,
    store: ResidualStore,
    reporter: Reporter,
    clocks: dict[str, BusyClock],
) -> None:
    """Encode all tiles: latents to the host, residuals to the store.

    Reading, computing and storing go on at the same time, at most ``QUEUE`` batches apart.
    """
    reporter.phase("encode", state.grid.count)

    def keep(item: tuple[TileBatch, PendingCopy]) -> None:
        tiles, copy = item
        latents, *packed = copy.wait()
        for latent, index in zip(latents, tiles.indices, strict=True):
            rows, cols = state.latent_slot(index)
            # through numpy: inference mode, in which the host tensors are made, is a matter of the thread
            state.latent_HWC.numpy()[rows, cols] = latent.numpy()
            state.occupied_HW.numpy()[rows, cols] = True
        if packed:
            store.write(tiles.number, to_stored(packed[0]))

    batches = iterate_batches(scene, state.grid, state.batch)
    metered = False
    with Prefetch(batches, QUEUE, clocks["read"]) as ahead, Sink(keep, QUEUE, clocks["store"]) as sink:
        for tiles in ahead:
            state.members[tiles.number] = tiles.indices
            if tiles.indices:
                with device.metered(not metered):
                    residuals = encode_tiles(model, device, tiles)
                    # rounded here and not by the storing thread: the device is faster at it, and half the bytes travel
                    packed = [] if store.recompute else [pack(residuals, state.residual_dtype)]
                metered = True
                sink.put((tiles, device.to_host([residuals[-1], *packed])))
            reporter.advance(min(state.batch, state.grid.count - tiles.number * state.batch))


@dataclass(frozen=True, slots=True)
class _Ready:
    """A batch before decoding: its residuals from the store, or the tiles to encode again."""

    number: int
    packed: Tensor | None
    tiles: TileBatch | None


def _fetch(scene: SceneReader[SourceBlock], state: SceneState, store: ResidualStore) -> Iterator[_Ready]:
    for number in range(-(-state.grid.count // state.batch)):
        if not state.members[number]:
            yield _Ready(number, None, None)
        elif store.recompute:
            yield _Ready(number, None, read_batch(scene, state.grid, number, state.batch))
        else:
            yield _Ready(number, from_stored(store.read(number), state.residual_dtype), None)


def decode_phase(
    model: InfDehaze,
    device: Device,
    scene: SceneReader[SourceBlock],
    second: SceneReader[B],
    writer: SceneWriter[B],
    state: SceneState,
    store: ResidualStore,
    reporter: Reporter,
    clocks: dict[str, BusyClock],
    strength: float,
) -> None:
    """Decode all tiles, join their fields, and write the restored scene band by band.

    Parameters
    ----------
    scene, second : SceneReader
        Two handles of the source: one for tiles that are encoded again, one for the windows of the output. Each is
        used by one thread.
    """
    preset = model.preset
    canvas = FieldCanvas(state.grid, FIELDS, preset.field_stride, preset.smoothing / preset.field_stride)
    reporter.phase("decode", state.grid.count)
    windows = split_windows(second.height, second.width, BAND_ROWS, WINDOW_COLS)
    blocks = (second.read(window) for window in windows)
    metered = {"decode": False, "compose": False}

    def write(item: tuple[B, NDArray[np.float32]]) -> None:
        writer.write(*item)

    with (
        Prefetch(_fetch(scene, state, store), QUEUE, clocks["load"]) as ready,
        Prefetch(blocks, QUEUE, clocks["read"]) as source,
        Sink(write, QUEUE, clocks["write"]) as sink,
    ):
        row = 0
        for item in ready:
            indices = state.members[item.number]
            fields: Tensor | None = None
            if indices:
                with device.metered(not metered["decode"]):
                    fields = _decode_batch(model, device, state, item, indices)
                metered["decode"] = True
            first = item.number * state.batch
            place = {index: i for i, index in enumerate(indices)}
            for index in range(first, min(first + state.batch, state.grid.count)):
                canvas.add(index, fields[place[index]] if fields is not None and index in place else None)
                reporter.advance()
                while row < second.height and canvas.finished_pixels >= min(row + BAND_ROWS, second.height):
                    for _ in range(0, second.width, WINDOW_COLS):
                        block = next(source)
                        with device.metered(not metered["compose"]):
                            restored = _compose(model, device, canvas, block, strength)
                        metered["compose"] = True
                        sink.put((block, restored))
                    row += BAND_ROWS
                    canvas.drop_above(row)


def _decode_batch(
    model: InfDehaze, device: Device, state: SceneState, item: _Ready, indices: tuple[int, ...]
) -> Tensor:
    """Return the fields of a batch on the host: (B, F, h, w)."""
    if item.packed is not None:
        packed = device.to_device(item.packed)
    else:
        assert item.tiles is not None
        # rounded as the other tiers round, so that every tier gives the same pixels
        packed = pack(encode_tiles(model, device, item.tiles), state.residual_dtype)
    residuals = unpack(packed, model.preset.residual_shapes)
    latent = torch.stack([state.latent_HWC[state.latent_slot(index)] for index in indices])
    with device.autocast():
        fields = model.decoder(device.to_device(latent), residuals)
    return device.to_host([fields.float()]).wait()[0]


def _compose(
    model: InfDehaze, device: Device, canvas: FieldCanvas, block: SourceBlock, strength: float
) -> NDArray[np.float32]:
    """Apply the scattering model to a window of the source; a window without data comes back as it is."""
    if strength == 0.0 or not block.valid.any():
        return block.values
    window = block.window
    coarse, (top, left) = canvas.cut(window)
    fields = enlarge(device.to_device(coarse.contiguous())[None], model.preset.field_stride)
    fields = fields[:, :, top : top + window.height, left : left + window.width]
    restored = scatter(device.to_device(torch.from_numpy(block.values))[None], fields, strength)
    return np.asarray(device.to_host([restored[0]]).wait()[0].numpy())
