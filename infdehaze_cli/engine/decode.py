"""The decoder phase of algorithm 1 (paper, supplement section 2.4): latents and residuals to a restored scene."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from infdehaze.decoder import FIELDS
from infdehaze.network import InfDehaze
from infdehaze.tiling import enlarge, scatter
from numpy.typing import NDArray
from torch import Tensor

from infdehaze_cli.errors import CorruptError
from infdehaze_cli.geometry import Window, split_windows
from infdehaze_cli.host_memory import QUEUE
from infdehaze_cli.memory import COMPOSE_COLS, COMPOSE_ROWS
from infdehaze_cli.store import ResidualStore, from_stored, pack, unpack

from .canvas import FieldCanvas
from .device import Device
from .elastic import Elastic
from .encode import encode_tiles
from .encoded import encoded_again
from .finished import Finished
from .protocols import Reporter, SceneReader, SceneWriter, SourceBlock
from .state import LatentRows, SceneState
from .threads import BusyClock, Prefetch, Sink
from .tiles import TileBatch, read_batch

B = TypeVar("B", bound=SourceBlock)


@dataclass(frozen=True, slots=True)
class _Ready:
    """A batch before decoding: its residuals from the store, or the tiles to encode again, or its fields already."""

    number: int
    packed: Tensor | None = None
    tiles: TileBatch | None = None
    fields: Tensor | None = None
    damage: tuple[str, ...] = ()
    """What of it the disk has lost or spoilt."""


def _fetch(
    scene: SceneReader[SourceBlock], state: SceneState, store: ResidualStore, finished: Finished
) -> Iterator[_Ready]:
    for number in range(-(-state.grid.count // state.batch)):
        if not state.members[number]:
            yield _Ready(number)
            continue
        fields, lost = finished.fields(number)
        damage = (lost,) if lost else ()
        if fields is not None:
            yield _Ready(number, fields=fields)
        elif store.holds(number):
            yield _load(scene, state, store, number, damage)
        else:
            # not stored, or in the memory of a run that was interrupted
            yield _Ready(number, tiles=read_batch(scene, state.grid, number, state.batch), damage=damage)


def _load(
    scene: SceneReader[SourceBlock], state: SceneState, store: ResidualStore, number: int, damage: tuple[str, ...]
) -> _Ready:
    """Load residuals, or read the tiles again when the disk has lost or spoilt them (design, section 3.5)."""
    try:
        return _Ready(number, from_stored(store.read(number), state.residual_dtype), damage=damage)
    except CorruptError as error:
        tiles = read_batch(scene, state.grid, number, state.batch)
        return _Ready(number, tiles=tiles, damage=(*damage, encoded_again(number, error)))


def decode_phase(
    model: InfDehaze,
    device: Device,
    scene: SceneReader[SourceBlock],
    second: SceneReader[B],
    writer: SceneWriter[B],
    state: SceneState,
    store: ResidualStore,
    finished: Finished,
    reporter: Reporter,
    clocks: dict[str, BusyClock],
    strength: float,
    amount: Elastic,
) -> None:
    """Decode all tiles that an interrupted run has not, join all fields, and write the scene band by band.

    Parameters
    ----------
    scene, second : SceneReader
        Two handles of the source: one for tiles that are encoded again, one for the windows of the output. Each is
        used by one thread.
    finished : Finished
        Gives and takes fields of decoded batches.
    """
    preset = model.preset
    canvas = FieldCanvas(state.grid, FIELDS, preset.field_stride, *preset.field_sigmas, preset.thin_haze)
    reporter.phase("decode", state.grid.count)
    windows = split_windows(second.height, second.width, COMPOSE_ROWS, COMPOSE_COLS)
    latents = LatentRows(state)
    window_rows = Elastic("rows of the output", COMPOSE_ROWS, reporter.note)
    blocks = (second.read(window) for window in windows)
    metered = {"decode": False, "compose": False}

    def write(item: tuple[B, NDArray[np.float32], NDArray[np.float32] | None]) -> None:
        writer.write(*item)

    def keep(item: tuple[int, dict[int, Tensor]]) -> None:
        finished.keep_fields(*item)

    with (
        Prefetch(_fetch(scene, state, store, finished), QUEUE, clocks["load"]) as ready,
        Prefetch(blocks, QUEUE, clocks["read"]) as source,
        Sink(write, QUEUE, clocks["write"]) as sink,
        Sink(keep, QUEUE, clocks["store"]) as keeper,
    ):
        row = 0
        for item in ready:
            for damage in item.damage:
                reporter.note(damage)
            indices = state.members[item.number]
            fields: dict[int, Tensor] = {}
            if item.fields is not None:
                fields.update(zip(indices, item.fields, strict=True))
            elif indices:
                latent = torch.stack([latents.get(index) for index in indices])
                with device.metered(not metered["decode"]):
                    work = partial(_decode_part, model, device, state.residual_dtype, item, indices, latent, fields)
                    amount.run(len(indices), work)
                metered["decode"] = True
                keeper.put((item.number, fields))
            first = item.number * state.batch
            for index in range(first, min(first + state.batch, state.grid.count)):
                canvas.add(index, fields.get(index))
                reporter.advance()
                while row < second.height and canvas.finished_pixels >= min(row + COMPOSE_ROWS, second.height):
                    for _ in range(0, second.width, COMPOSE_COLS):
                        block = next(source)
                        with device.metered(not metered["compose"]):
                            haze = np.zeros((6, *block.valid.shape), np.float32) if writer.wants_haze else None
                            restored = _compose(model, device, canvas, block, strength, window_rows, haze)
                        metered["compose"] = True
                        sink.put((block, restored, haze))
                    row += COMPOSE_ROWS
                    canvas.drop_above(row)


def _decode_part(
    model: InfDehaze,
    device: Device,
    dtype: str,
    item: _Ready,
    indices: tuple[int, ...],
    latent_BHWC: Tensor,
    fields: dict[int, Tensor],
    part: slice,
) -> None:
    """Put the fields (F, h, w) of some tiles of a batch, on the host, into ``fields``."""
    if item.packed is not None:
        packed = device.to_device(item.packed[part])
    else:
        assert item.tiles is not None
        # rounded as the other tiers round, so that every tier gives the same pixels
        packed = pack(model.encoder.to_store(encode_tiles(model, device, item.tiles, part)), dtype)
    residuals = model.encoder.from_store(unpack(packed, model.preset.stored_shapes))
    with device.autocast():
        found = model.decoder(device.to_device(latent_BHWC[part]), residuals)
    fields.update(zip(indices[part], device.to_host([found.float()]).wait()[0], strict=True))


def _compose(
    model: InfDehaze,
    device: Device,
    canvas: FieldCanvas,
    block: SourceBlock,
    strength: float,
    amount: Elastic,
    haze: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Apply the scattering model to a window of the source; a window without data comes back as it is.

    ``haze`` is filled with what was taken away.
    """
    if strength == 0.0 or not block.valid.any():
        return block.values
    restored = np.empty_like(block.values)
    amount.run(block.window.height, partial(_compose_rows, model, device, canvas, block, strength, restored, haze))
    return restored


def _compose_rows(
    model: InfDehaze,
    device: Device,
    canvas: FieldCanvas,
    block: SourceBlock,
    strength: float,
    restored: NDArray[np.float32],
    haze: NDArray[np.float32] | None,
    part: slice,
) -> None:
    window = Window(block.window.row + part.start, block.window.col, part.stop - part.start, block.window.width)
    coarse, (top, left) = canvas.cut(window)
    fields = enlarge(device.to_device(coarse.contiguous())[None], model.preset.field_stride)
    fields = fields[:, :, top : top + window.height, left : left + window.width]
    found = scatter(device.to_device(torch.from_numpy(block.values[:, part]))[None], fields, strength)
    restored[:, part] = device.to_host([found[0]]).wait()[0].numpy()
    if haze is not None:
        haze[:, part] = fields[0, :6].cpu().numpy()
        haze[:3, part] *= strength
