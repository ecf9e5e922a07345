"""Attention over the tokens of a scene, streamed: project chunks, sort on the host, attend groups of blocks.

Axes: H W rows and columns of the scene's latent grid, N tokens that hold data, C channels, h heads, g heads that are
processed together, D head dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from infdehaze.bottleneck import BottleneckLayer
from infdehaze.ibssa import IBSSA, block_attention, block_bounds
from infdehaze.lmmoe import WINDOWS_AT_A_TIME
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


def even_chunks(total: int, size: int) -> Iterator[slice]:
    """Cut into parts of nearly the same size: products of very few rows round differently from those of many."""
    parts = -(-total // size)
    for i in range(parts):
        yield slice(i * total // parts, (i + 1) * total // parts)


def chunks(total: int, size: int) -> Iterator[slice]:
    """Cut into parts of one size, the last of which is what remains."""
    for start in range(0, total, size):
        yield slice(start, min(total, start + size))


def attend(
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
    stores, codes = project(layer, attention, latent_HWC, token_N, workspace, device, chunk_tokens, amounts.tokens)
    queries, keys, values = stores
    heads, tokens, _ = queries.shape
    for group in chunks(heads, workspace.group(heads)):
        qkv_gND = [store.read((group,)) for store in stores]
        work = partial(attend_blocks, attention, qkv_gND, orders(codes, group), device)
        amounts.blocks.run(len(block_bounds(tokens, attention.block)), work)
        queries.write((group,), qkv_gND[0])
        # before the next heads are read: the budget has room for one group
        del qkv_gND, work
    keys.close()
    values.close()
    return queries


def project(
    layer: BottleneckLayer,
    attention: IBSSA,
    latent_HWC: SceneArray,
    token_N: Tensor,
    workspace: Workspace,
    device: Device,
    chunk_tokens: int,
    amount: Elastic,
) -> tuple[list[SceneArray], list[Tensor]]:
    """Return queries, keys and values (h, N, D), and the codes of the first two (h, N)."""
    C, N, h = latent_HWC.shape[2], len(token_N), attention.heads
    stores = [workspace.heads(name, h, N, C // h, chunk_tokens) for name in ("queries", "keys", "values")]
    # 2 bytes a token and head, in host memory
    codes = [torch.zeros(h, N, dtype=torch.int16) for _ in range(2)]
    # one block is exact attention: its order does not matter, and stays
    codes_wanted = codes if len(block_bounds(N, attention.block)) > 1 else []
    for chunk in even_chunks(N, chunk_tokens):
        x_nC = _gather(latent_HWC, token_N[chunk], chunk_tokens)
        work = partial(_project_tokens, layer, attention, x_nC, chunk.start, stores, codes_wanted, device)
        amount.run(len(x_nC), work)
    return stores, codes


def orders(codes: list[Tensor], heads: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Return how queries, keys and values of some heads are sorted, each (g, N, 1)."""
    # a stable sort breaks ties by the row-major index
    order_q, order_k = (code[heads].argsort(dim=-1, stable=True)[..., None] for code in codes)
    return order_q, order_k, order_k


def attend_blocks(
    attention: IBSSA, qkv_gND: list[Tensor], order_gN1: tuple[Tensor, ...], device: Device, blocks: slice
) -> None:
    """Attend in some blocks of sorted tokens; the result takes the place of their queries, seen for the last time."""
    g, N, D = qkv_gND[0].shape
    own, seen = span(attention, N, blocks)
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
    for rows in chunks(last + 1 - first, max(1, chunk_tokens // W)):
        start, stop = (first + rows.start) * W, (first + rows.stop) * W
        here_n = token_n[(token_n >= start) & (token_n < stop)] - start
        if len(here_n):
            rows_HWC = latent_HWC.read(slice(first + rows.start, first + rows.stop))
            parts.append(rows_HWC.reshape(-1, rows_HWC.shape[2])[here_n])
    return torch.cat(parts)


def span(attention: IBSSA, tokens: int, blocks: slice) -> tuple[slice, slice]:
    """Return the sorted positions of some blocks, and of those seen with their neighbours.

    They are a sequence of its own to :func:`block_attention`, which finds the same blocks in it; with neighbours it
    gets one block more on each side, whose results are dropped.
    """
    bounds = block_bounds(tokens, attention.block)
    reach = 1 if attention.neighbours else 0
    low, high = max(0, blocks.start - reach), min(len(bounds), blocks.stop + reach) - 1
    return slice(bounds[blocks.start][0], bounds[blocks.stop - 1][1]), slice(bounds[low][0], bounds[high][1])


def attended_bands(
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
    for band in chunks(H, rows):
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
