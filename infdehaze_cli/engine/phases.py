"""The encoder and the decoder phase of algorithm 1 (paper, supplement section 2.4), each a pipeline of threads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from infdehaze.decoder import FIELDS
from infdehaze.network import InfDehaze
from infdehaze.presets import Preset
from infdehaze.tiling import TileGrid, enlarge, fill_invalid, scatter
from numpy.typing import NDArray
from torch import Tensor

from infdehaze_cli.errors import CorruptError
from infdehaze_cli.geometry import Window, split_windows
from infdehaze_cli.host_memory import QUEUE
from infdehaze_cli.memory import COMPOSE_COLS, COMPOSE_ROWS
from infdehaze_cli.plan import Plan
from infdehaze_cli.store import ResidualStore, SceneArray, Workspace, from_stored, pack, to_stored, unpack

from .canvas import FieldCanvas
from .device import Device, PendingCopy
from .elastic import Elastic
from .encoded import Encoded, KeptBatch, encoded_again
from .protocols import Reporter, SceneReader, SceneWriter, SourceBlock
from .threads import BusyClock, Prefetch, Sink
from .tiles import TileBatch, read_batch

B = TypeVar("B", bound=SourceBlock)


@dataclass(slots=True)
class SceneState:
    """What the phases of a run hand on."""

    grid: TileGrid
    batch: int
    residual_dtype: str
    side: int
    """Tokens of a tile along one side."""
    latent_HWC: SceneArray
    """Latents of the whole scene."""
    occupied_HW: Tensor
    """bool, the tokens of tiles with data."""
    members: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Tiles with data of each batch."""

    @classmethod
    def empty(cls, plan: Plan, preset: Preset, workspace: Workspace) -> SceneState:
        """Make room for the latents of a scene."""
        grid, side = plan.grid, preset.latent_side
        rows, cols = grid.rows * side, grid.cols * side
        latents = workspace.latents(rows, cols, preset.widths[-1], side)
        return cls(grid, plan.batch, plan.residual_dtype, side, latents, torch.zeros(rows, cols, dtype=torch.bool))

    def rows(self, tile_row: int) -> slice:
        """Rows of the latent grid that a row of tiles takes."""
        return slice(tile_row * self.side, (tile_row + 1) * self.side)

    def cols(self, tile_col: int) -> slice:
        """Columns of the latent grid that a column of tiles takes."""
        return slice(tile_col * self.side, (tile_col + 1) * self.side)


class LatentRows:
    """One row of tiles of the latent grid at a time, so that each band of the store is written and read once."""

    def __init__(self, state: SceneState) -> None:
        self._state = state
        self._row = -1
        self._band_HWC = torch.empty(0)

    def put(self, index: int, latent_HWC: Tensor) -> None:
        """Take the latent of a tile; tiles come in row-major order, those without data not at all."""
        row, col = divmod(index, self._state.grid.cols)
        self._go_to(row)
        self._band_HWC.numpy()[:, self._state.cols(col)] = latent_HWC.numpy()
        self._state.occupied_HW.numpy()[self._state.rows(row), self._state.cols(col)] = True

    def finish(self) -> None:
        """Write what is left; rows of tiles without data are zeros."""
        self._go_to(self._state.grid.rows)

    def _go_to(self, row: int) -> None:
        while self._row < row:
            if self._row >= 0:
                self._state.latent_HWC.write(self._state.rows(self._row), self._band_HWC)
            self._row += 1
            self._band_HWC = torch.zeros(self._state.side, *self._state.latent_HWC.shape[1:])

    def get(self, index: int) -> Tensor:
        """Return the latent of a tile."""
        row, col = divmod(index, self._state.grid.cols)
        if row != self._row:
            self._row, self._band_HWC = row, self._state.latent_HWC.read(self._state.rows(row))
        return self._band_HWC[:, self._state.cols(col)]


def encode_tiles(model: InfDehaze, device: Device, tiles: TileBatch, part: slice = slice(None)) -> list[Tensor]:
    """Encode tiles of a batch; the residuals come out in fp32 on the device."""
    values = device.to_device(torch.from_numpy(tiles.values[part]))
    valid = torch.from_numpy(tiles.valid[part])
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
    encoded: Encoded,
    reporter: Reporter,
    clocks: dict[str, BusyClock],
    amount: Elastic,
) -> None:
    """Encode all tiles that an interrupted run has not: latents to the host, residuals to the store.

    Reading, computing and storing go on at the same time, at most ``QUEUE`` batches apart.
    """
    reporter.phase("encode", state.grid.count)

    latents = LatentRows(state)

    def keep(item: tuple[TileBatch | KeptBatch, list[PendingCopy]]) -> None:
        tiles, copies = item
        if isinstance(tiles, KeptBatch):
            for latent, index in zip(tiles.latents, tiles.indices, strict=True):
                latents.put(index, latent)
            return
        parts = [copy.wait() for copy in copies]
        for latent, index in zip((tile for part in parts for tile in part[0]), tiles.indices, strict=True):
            latents.put(index, latent)
        packed = [to_stored(part[1]) for part in parts if len(part) > 1]
        if packed:
            store.write(tiles.number, packed[0] if len(packed) == 1 else np.concatenate(packed))
        encoded.put(tiles.number, tiles.indices, [part[0] for part in parts])

    batches = encoded.batches(scene, state.grid, state.batch, state.side)
    metered = False
    with Prefetch(batches, QUEUE, clocks["read"]) as ahead, Sink(keep, QUEUE, clocks["store"]) as sink:
        for tiles, damage in ahead:
            if damage:
                reporter.note(damage)
            state.members[tiles.number] = tiles.indices
            copies: list[PendingCopy] = []
            if isinstance(tiles, KeptBatch):
                sink.put((tiles, copies))
            elif tiles.indices:
                with device.metered(not metered):
                    amount.run(len(tiles.indices), partial(_encode_part, model, device, state, store, tiles, copies))
                metered = True
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
    residuals = encode_tiles(model, device, tiles, part)
    # rounded here and not by the storing thread: the device is faster at it, and half the bytes travel
    packed = [] if store.recompute else [pack(residuals, state.residual_dtype)]
    copies.append(device.to_host([residuals[-1], *packed]))


@dataclass(frozen=True, slots=True)
class _Ready:
    """A batch before decoding: its residuals from the store, or the tiles to encode again."""

    number: int
    packed: Tensor | None
    tiles: TileBatch | None
    damage: str = ""
    """Why a stored batch has to be encoded again."""


def _fetch(scene: SceneReader[SourceBlock], state: SceneState, store: ResidualStore) -> Iterator[_Ready]:
    for number in range(-(-state.grid.count // state.batch)):
        if not state.members[number]:
            yield _Ready(number, None, None)
        elif store.recompute:
            yield _Ready(number, None, read_batch(scene, state.grid, number, state.batch))
        else:
            yield _load(scene, state, store, number)


def _load(scene: SceneReader[SourceBlock], state: SceneState, store: ResidualStore, number: int) -> _Ready:
    """Load residuals, or read the tiles again when the disk has lost or spoilt them (design, section 3.5)."""
    try:
        return _Ready(number, from_stored(store.read(number), state.residual_dtype), None)
    except CorruptError as error:
        tiles = read_batch(scene, state.grid, number, state.batch)
        return _Ready(number, None, tiles, encoded_again(number, error))


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
    amount: Elastic,
) -> None:
    """Decode all tiles, join their fields, and write the restored scene band by band.

    Parameters
    ----------
    scene, second : SceneReader
        Two handles of the source: one for tiles that are encoded again, one for the windows of the output. Each is
        used by one thread.
    """
    preset = model.preset
    canvas = FieldCanvas(state.grid, FIELDS, preset.field_stride, *preset.field_sigmas)
    reporter.phase("decode", state.grid.count)
    windows = split_windows(second.height, second.width, COMPOSE_ROWS, COMPOSE_COLS)
    latents = LatentRows(state)
    window_rows = Elastic("rows of the output", COMPOSE_ROWS, reporter.note)
    blocks = (second.read(window) for window in windows)
    metered = {"decode": False, "compose": False}

    def write(item: tuple[B, NDArray[np.float32], NDArray[np.float32] | None]) -> None:
        writer.write(*item)

    with (
        Prefetch(_fetch(scene, state, store), QUEUE, clocks["load"]) as ready,
        Prefetch(blocks, QUEUE, clocks["read"]) as source,
        Sink(write, QUEUE, clocks["write"]) as sink,
    ):
        row = 0
        for item in ready:
            if item.damage:
                reporter.note(item.damage)
            indices = state.members[item.number]
            fields: dict[int, Tensor] = {}
            if indices:
                latent = torch.stack([latents.get(index) for index in indices])
                with device.metered(not metered["decode"]):
                    work = partial(_decode_part, model, device, state.residual_dtype, item, indices, latent, fields)
                    amount.run(len(indices), work)
                metered["decode"] = True
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
        packed = pack(encode_tiles(model, device, item.tiles, part), dtype)
    residuals = unpack(packed, model.preset.residual_shapes)
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
