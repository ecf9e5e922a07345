"""The bottleneck, streamed: the device holds a chunk of tokens, the store the scene (design, section 3.1).

Axes: H W rows and columns of the scene's latent grid, N tokens that hold data, C channels, h heads, g heads that are
processed together, D head dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from infdehaze.bottleneck import Bottleneck, BottleneckLayer
from infdehaze.ibssa import IBSSA, block_attention, block_bounds
from infdehaze.lmmoe import HALO, WINDOWS_AT_A_TIME
from torch import Tensor

from infdehaze_cli.store import SceneArray, Workspace

from .device import Device
from .elastic import Elastic

CODE_SHIFT = 1 << 15
"""Codes have up to 16 bits and are kept as int16, in the same order."""


@dataclass(slots=True)
class Amounts:
    """What goes through the device at a time; shrinks when memory runs out."""

    tokens: Elastic
    blocks: Elastic
    rows: Elastic
    windows: Elastic

    @classmethod
    def of(cls, chunk_tokens: int, block: int, rows: int, note: Callable[[str], None]) -> Amounts:
        """Begin with ``chunk_tokens`` tokens, whole attention blocks of them, and rows of the latent grid."""
        windows = Elastic("windows of the latent grid", WINDOWS_AT_A_TIME, note)
        return cls(
            Elastic("tokens of the bottleneck", chunk_tokens, note),
            Elastic("attention blocks", max(1, chunk_tokens // block), note),
            Elastic("rows of windows of the latent grid", rows, note, windows),
            windows,
        )


def stream_bottleneck(
    bottleneck: Bottleneck,
    latent_HWC: SceneArray,
    occupied_HW: Tensor,
    workspace: Workspace,
    *,
    device: Device,
    chunk_tokens: int,
    on_layer: Callable[[], None],
    note: Callable[[str], None],
) -> None:
    """Run the bottleneck over a scene's latents, in place.

    Parameters
    ----------
    bottleneck : Bottleneck
        On ``device``, in evaluation mode.
    latent_HWC : SceneArray
        float32; changed in place.
    occupied_HW : Tensor
        bool on the host; False for the tokens of tiles without data, which take no part and stay zero.
    workspace : Workspace
        Makes the room for queries, keys and values.
    device : Device
        Where chunks are computed, and in which precision.
    chunk_tokens : int
        Tokens on the device at a time; whole rows and whole attention blocks are kept together.
    on_layer : callable
        Called after each layer.
    note : callable
        Is told when memory ran out and less is done at a time.

    Raises
    ------
    BudgetError
        When the device cannot hold the smallest part.
    StorageError, CorruptError
        From the store.
    """
    token_N = occupied_HW.flatten().nonzero()[:, 0]
    if not len(token_N):
        return
    amounts: Amounts | None = None
    for layer in bottleneck.layers:
        assert isinstance(layer, BottleneckLayer)
        side = layer.moe.window
        rows = max(1, chunk_tokens // latent_HWC.shape[1] // side)
        block = 1 if layer.attention is None else layer.attention.block
        amounts = amounts or Amounts.of(chunk_tokens, block, rows, note)
        result_hND = None
        if layer.attention is not None:
            result_hND = _attend(layer, layer.attention, latent_HWC, token_N, workspace, device, chunk_tokens, amounts)
        _mix(layer, latent_HWC, occupied_HW, result_hND, device, rows * side, chunk_tokens, amounts)
        if result_hND is not None:
            result_hND.close()
        on_layer()


def _even_chunks(total: int, size: int) -> Iterator[slice]:
    """Cut into parts of nearly the same size: products of very few rows round differently from those of many."""
    parts = -(-total // size)
    for i in range(parts):
        yield slice(i * total // parts, (i + 1) * total // parts)


def _chunks(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, min(total, start + size))


def _attend(
    layer: BottleneckLayer,
    attention: IBSSA,
    latent_HWC: SceneArray,
    token_N: Tensor,
    workspace: Workspace,
    device: Device,
    chunk_tokens: int,
    amounts: Amounts,
) -> SceneArray:
    """Return IBSSA's result before its last projection: project chunks, sort on the host, attend groups of blocks."""
    C, N, h = latent_HWC.shape[2], len(token_N), attention.heads
    stores = [workspace.heads(name, h, N, C // h, chunk_tokens) for name in ("queries", "keys", "values")]
    # 2 bytes a token and head, in host memory (design, section 3.1)
    codes = [torch.zeros(h, N, dtype=torch.int16) for _ in range(2)]
    blocks = len(block_bounds(N, attention.block))
    # one block is exact attention: its order does not matter, and stays
    codes_wanted = codes if blocks > 1 else []
    for chunk in _even_chunks(N, chunk_tokens):
        x_nC = _gather(latent_HWC, token_N[chunk], chunk_tokens)
        work = partial(_project_tokens, layer, attention, x_nC, chunk.start, stores, codes_wanted, device)
        amounts.tokens.run(len(x_nC), work)

    queries, keys, values = stores
    for heads in _chunks(h, workspace.group(h)):
        qkv_gND = [store.read((heads,)) for store in stores]
        # a stable sort breaks ties by the row-major index
        order_q, order_k = (code[heads].argsort(dim=-1, stable=True)[..., None] for code in codes)
        work = partial(_attend_blocks, attention, qkv_gND, (order_q, order_k, order_k), device)
        amounts.blocks.run(blocks, work)
        queries.write((heads,), qkv_gND[0])
    keys.close()
    values.close()
    return queries


def _attend_blocks(
    attention: IBSSA, qkv_gND: list[Tensor], order_gN1: tuple[Tensor, ...], device: Device, blocks: slice
) -> None:
    """Attend in some blocks of sorted tokens; the result takes the place of their queries, seen for the last time."""
    g, N, D = qkv_gND[0].shape
    own, seen = _span(attention, N, blocks)
    inner = slice(own.start - seen.start, own.stop - seen.start)
    with device.metered(own.start == 0), device.autocast():
        q, k, v = (
            device.to_device(x.gather(1, order[:, seen].expand(g, -1, D))[None])
            for x, order in zip(qkv_gND, order_gN1, strict=True)
        )
        y_1gnD = block_attention(q, k, v, attention.block, attention.neighbours)
        found_gnD = y_1gnD[0, :, inner].float().cpu()
    qkv_gND[0].scatter_(1, order_gN1[0][:, own].expand(g, -1, D), found_gnD)


def _project_tokens(
    layer: BottleneckLayer,
    attention: IBSSA,
    x_nC: Tensor,
    start: int,
    stores: list[SceneArray],
    codes: list[Tensor],
    device: Device,
    part: slice,
) -> None:
    """Fill the stores with queries, keys, values and the codes, from a chunk whose first token is number ``start``."""
    assert layer.norm1 is not None
    place = slice(start + part.start, start + part.stop)
    with device.metered(place.start == 0), device.autocast():
        qkv = attention.project(layer.norm1(device.to_device(x_nC[part][None])))
        hashed = [attention.codes(x)[0].cpu() for x in qkv[: len(codes)]]
        found = [x[0].float().cpu() for x in qkv]
    for store, value in zip(stores, found, strict=True):
        store.write((slice(0, attention.heads), place), value)
    for code_hN, code in zip(codes, hashed, strict=True):
        code_hN[:, place] = (code - CODE_SHIFT).to(torch.int16)


def _gather(latent_HWC: SceneArray, token_n: Tensor, chunk_tokens: int) -> Tensor:
    """Return the latents of tokens, reading no more rows at a time than a chunk has."""
    W = latent_HWC.shape[1]
    first, last = int(token_n[0]) // W, int(token_n[-1]) // W
    parts = []
    for rows in _chunks(last + 1 - first, max(1, chunk_tokens // W)):
        start, stop = (first + rows.start) * W, (first + rows.stop) * W
        here_n = token_n[(token_n >= start) & (token_n < stop)] - start
        if len(here_n):
            rows_HWC = latent_HWC.read(slice(first + rows.start, first + rows.stop))
            parts.append(rows_HWC.reshape(-1, rows_HWC.shape[2])[here_n])
    return torch.cat(parts)


def _span(attention: IBSSA, tokens: int, blocks: slice) -> tuple[slice, slice]:
    """Return the sorted positions of some blocks, and of those seen with their neighbours.

    They are a sequence of its own to :func:`block_attention`, which finds the same blocks in it; with neighbours it
    gets one block more on each side, whose results are dropped.
    """
    bounds = block_bounds(tokens, attention.block)
    reach = 1 if attention.neighbours else 0
    low, high = max(0, blocks.start - reach), min(len(bounds), blocks.stop + reach) - 1
    return slice(bounds[blocks.start][0], bounds[blocks.stop - 1][1]), slice(bounds[low][0], bounds[high][1])


def _attended_bands(
    layer: BottleneckLayer,
    latent_HWC: SceneArray,
    occupied_HW: Tensor,
    result_hND: SceneArray | None,
    device: Device,
    rows: int,
    amount: Elastic,
) -> Iterator[tuple[slice, Tensor]]:
    """Yield bands of rows from top to bottom, with the projected result of the attention, if any, added."""
    H, _, C = latent_HWC.shape
    done = 0
    for band in _chunks(H, rows):
        x_HWC = latent_HWC.read(band).clone()
        flat_TC, token_n = x_HWC.view(-1, C), occupied_HW[band].flatten().nonzero()[:, 0]

        if result_hND is not None and layer.attention is not None:
            work = partial(_add_result, layer.attention, flat_TC, token_n, done, result_hND, device)
            amount.run(len(token_n), work)
        done += len(token_n)
        yield band, x_HWC


def _add_result(
    attention: IBSSA,
    flat_TC: Tensor,
    token_n: Tensor,
    done: int,
    result_hND: SceneArray,
    device: Device,
    part: slice,
) -> None:
    """Add the last projection of the attention's result to a part of a band's tokens, of which ``done`` lie above."""
    found_hnD = result_hND.read((slice(0, result_hND.shape[0]), slice(done + part.start, done + part.stop)))
    with device.autocast():
        y_nC = attention.proj(device.to_device(found_hnD.transpose(0, 1).flatten(1)))
    flat_TC.index_add_(0, token_n[part], y_nC.float().cpu())


def _mix(
    layer: BottleneckLayer,
    latent_HWC: SceneArray,
    occupied_HW: Tensor,
    result_hND: SceneArray | None,
    device: Device,
    rows: int,
    chunk_tokens: int,
    amounts: Amounts,
) -> None:
    """Add the attention's result and then LMMoE, in bands of rows with a halo of two rows of either side."""
    side = layer.moe.window
    bands = _attended_bands(layer, latent_HWC, occupied_HW, result_hND, device, rows, amounts.tokens)
    above = torch.zeros(0, *latent_HWC.shape[1:])
    band, x_HWC = next(bands)
    while True:
        following = next(bands, None)
        below = x_HWC[:0] if following is None else following[1][:HALO]
        seen_HWC = torch.cat([above, x_HWC, below])
        top = len(above)
        valid_HW1 = occupied_HW[band.start - top : band.stop + len(below), :, None]

        mixed_HWC = torch.empty_like(x_HWC)
        first, windows = band.start == 0, amounts.windows
        work = partial(
            _mix_rows, layer, x_HWC, seen_HWC, valid_HW1, top, first, device, chunk_tokens, windows, mixed_HWC
        )
        amounts.rows.run(-(-len(x_HWC) // side), work)
        above = seen_HWC[top : top + len(x_HWC)][-HALO:]
        latent_HWC.write(band, x_HWC.add_(mixed_HWC))
        if following is None:
            return
        band, x_HWC = following


def _mix_rows(
    layer: BottleneckLayer,
    x_HWC: Tensor,
    seen_HWC: Tensor,
    valid_HW1: Tensor,
    top: int,
    first_band: bool,
    device: Device,
    piece_tokens: int,
    windows: Elastic,
    out_HWC: Tensor,
    part: slice,
) -> None:
    """Compute LMMoE of some rows of a band, which begins ``top`` rows below the first of what is seen.

    Parts are counted in rows of windows, so that each begins where a window would begin in the whole scene. In very
    wide scenes a row of windows is cut into pieces.
    """
    side, W = layer.moe.window, x_HWC.shape[1]
    first, last = part.start * side, min(len(x_HWC), part.stop * side)
    up, down = min(HALO, top + first), min(HALO, len(seen_HWC) - top - last)
    rows = slice(top + first - up, top + last + down)
    # windows are whole, also where the scene has fewer rows
    piece = max(side, piece_tokens // max(side, last - first) // side * side)
    for cols in _chunks(W, piece):
        left, right = min(HALO, cols.start), min(HALO, W - cols.stop)
        seen = (rows, slice(cols.start - left, cols.stop + right))
        with device.metered(first_band and first == cols.start == 0), device.autocast():
            here_HW1 = device.to_device(valid_HW1[seen].clone())
            normed = (layer.norm2(device.to_device(seen_HWC[seen].clone())) * here_HW1)[None]
            inside = here_HW1[up : len(here_HW1) - down, left : here_HW1.shape[1] - right]
            y_HWC = layer.moe.sparse(normed, (up, down, left, right), windows.limit, inside[None, ..., 0])[0]
            y_HWC = (y_HWC * inside).float().cpu()
        out_HWC[first:last, cols] = y_HWC
