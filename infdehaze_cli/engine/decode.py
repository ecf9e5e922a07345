"""The decoder phase of algorithm 1 (paper, supplement section 2.4): latents and residuals to joined fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from infdehaze.decoder import share_of_others
from infdehaze.network import InfDehaze
from torch import Tensor

from infdehaze_cli.errors import CorruptError
from infdehaze_cli.host_memory import QUEUE
from infdehaze_cli.memory import COMPOSE_ROWS
from infdehaze_cli.store import ResidualStore, from_stored, pack, unpack

from .canvas import FieldCanvas
from .device import Device
from .elastic import Elastic
from .encode import encode_tiles
from .encoded import encoded_again
from .finished import Finished
from .protocols import Reporter, SceneReader, SourceBlock
from .state import LatentRows, SceneState
from .threads import BusyClock, Prefetch, Sink
from .tiles import TileBatch, read_batch

Take = Callable[[FieldCanvas, int, int], None]
"""Is given a canvas, with the first and the end of pixel rows whose fields are final: bands of `COMPOSE_ROWS`."""


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
    """Load residuals, or read the tiles again when the disk has lost or spoilt them."""
    try:
        return _Ready(number, from_stored(store.read(number), state.residual_dtype), damage=damage)
    except CorruptError as error:
        tiles = read_batch(scene, state.grid, number, state.batch)
        return _Ready(number, tiles=tiles, damage=(*damage, encoded_again(number, error)))


def decode_phase(
    model: InfDehaze,
    device: Device,
    scene: SceneReader[SourceBlock],
    state: SceneState,
    store: ResidualStore,
    finished: Finished,
    canvas: FieldCanvas,
    take: Take,
    reporter: Reporter,
    clocks: dict[str, BusyClock],
    amount: Elastic,
) -> None:
    """Decode all tiles that an interrupted run has not, join all fields, and hand them on band by band.

    Parameters
    ----------
    scene : SceneReader
        For tiles that are encoded again.
    finished : Finished
        Gives and takes fields of decoded batches.
    canvas : FieldCanvas
        Joins the fields.
    take : callable
        See `Take`.
    """
    reporter.phase("decode", state.grid.count)
    latents, others = LatentRows(state), share_of_others(state.tiles)
    metered = 0

    def keep(item: tuple[int, dict[int, Tensor]]) -> None:
        finished.keep_fields(*item)

    with (
        Prefetch(_fetch(scene, state, store, finished), QUEUE, clocks["load"]) as ready,
        Sink(keep, QUEUE, clocks["store"]) as keeper,
    ):
        row, height = 0, state.grid.height
        for item in ready:
            for damage in item.damage:
                reporter.note(damage)
            indices = state.members[item.number]
            fields: dict[int, Tensor] = {}
            if item.fields is not None:
                fields.update(zip(indices, item.fields, strict=True))
            elif indices:
                latent = torch.stack([latents.get(index) for index in indices])
                with device.metered(len(indices) > metered):
                    work = partial(
                        _decode_part, model, device, state.residual_dtype, item, indices, latent, others, fields
                    )
                    amount.run(len(indices), work)
                metered = max(metered, len(indices))
                keeper.put((item.number, fields))
            first = item.number * state.batch
            for index in range(first, min(first + state.batch, state.grid.count)):
                canvas.add(index, fields.get(index), state.weight(index))
                reporter.advance()
                while row < height and canvas.finished_pixels >= min(row + COMPOSE_ROWS, height):
                    take(canvas, row, min(row + COMPOSE_ROWS, height))
                    row += COMPOSE_ROWS
                    canvas.drop_above(row)


def _decode_part(
    model: InfDehaze,
    device: Device,
    dtype: str,
    item: _Ready,
    indices: tuple[int, ...],
    latent_BHWC: Tensor,
    others: float,
    fields: dict[int, Tensor],
    part: slice,
) -> None:
    """Put the fields (F, h, w) of some tiles of a batch, on the host, into ``fields``."""
    if item.packed is not None:
        packed = device.to_device(item.packed[part])
    else:
        assert item.tiles is not None
        # rounded as the other tiers round, so that every tier gives the same pixels
        packed = pack(model.encoder.to_store(encode_tiles(model, device, item.tiles, part)[0]), dtype)
    residuals = model.encoder.from_store(unpack(packed, model.preset.stored_shapes))
    with device.autocast():
        found = model.decoder(device.to_device(latent_BHWC[part]), residuals, others)
    fields.update(zip(indices[part], device.to_host([found.float()]).wait()[0], strict=True))
