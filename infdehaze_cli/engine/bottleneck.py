"""The bottleneck, streamed: the device holds a chunk of tokens, the host the scene (design, section 3.1).

Axes: H W rows and columns of the scene's latent grid, N tokens that hold data, C channels, h heads, D head dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from infdehaze.bottleneck import Bottleneck, BottleneckLayer
from infdehaze.ibssa import IBSSA, block_attention, block_bounds
from infdehaze.lmmoe import HALO
from torch import Tensor

from .device import Device


def stream_bottleneck(
    bottleneck: Bottleneck,
    latent_HWC: Tensor,
    occupied_HW: Tensor,
    *,
    device: Device,
    chunk_tokens: int,
    on_layer: Callable[[], None],
) -> None:
    """Run the bottleneck over a scene's latents, in place.

    Parameters
    ----------
    bottleneck : Bottleneck
        On ``device``, in evaluation mode.
    latent_HWC : Tensor
        float32 on the host; changed in place.
    occupied_HW : Tensor
        bool on the host; False for the tokens of tiles without data, which take no part and stay zero.
    device : Device
        Where chunks are computed, and in which precision.
    chunk_tokens : int
        Tokens on the device at a time; whole rows and whole attention blocks are kept together.
    on_layer : callable
        Called after each layer.
    """
    token_N = occupied_HW.flatten().nonzero()[:, 0]
    if not len(token_N):
        return
    for layer in bottleneck.layers:
        assert isinstance(layer, BottleneckLayer)
        if layer.attention is not None:
            _attend(layer, latent_HWC, token_N, device, chunk_tokens)
        _mix(layer, latent_HWC, occupied_HW, device, chunk_tokens)
        on_layer()


def _chunks(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, min(total, start + size))


def _attend(
    layer: BottleneckLayer,
    latent_HWC: Tensor,
    token_N: Tensor,
    device: Device,
    chunk_tokens: int,
) -> None:
    """Add IBSSA: project chunks of rows, sort on the host, attend groups of blocks, add the projected result."""
    attention, norm, flat_TC = layer.attention, layer.norm1, latent_HWC.view(-1, latent_HWC.shape[-1])
    assert attention is not None
    assert norm is not None
    N, h, D = len(token_N), attention.heads, flat_TC.shape[1] // attention.heads
    exact = len(block_bounds(N, attention.block)) == 1
    q_hND, k_hND, v_hND = (torch.empty(h, N, D) for _ in range(3))
    code_q_hN, code_k_hN = (torch.zeros(h, N, dtype=torch.int32) for _ in range(2))
    for part in _chunks(N, chunk_tokens):
        with device.metered(part.start == 0), device.autocast():
            x_1nC = device.to_device(flat_TC[token_N[part]][None])
            q, k, v = attention.project(norm(x_1nC))
            for store, value in ((q_hND, q), (k_hND, k), (v_hND, v)):
                store[:, part] = value[0].float().cpu()
            if not exact:
                code_q_hN[:, part], code_k_hN[:, part] = (
                    attention.codes(q)[0].cpu(),
                    attention.codes(k)[0].cpu(),
                )
    # a stable sort breaks ties by the row-major index
    order_q_hN, order_k_hN = (code.argsort(dim=-1, stable=True) for code in (code_q_hN, code_k_hN))
    del code_q_hN, code_k_hN

    out_hND = torch.empty(h, N, D)
    for own, seen in _groups(attention, N, chunk_tokens):
        inner = slice(own.start - seen.start, own.stop - seen.start)
        with device.metered(own.start == 0), device.autocast():
            q, k, v = (
                device.to_device(store.gather(1, order[:, seen, None].expand(-1, -1, D))[None])
                for store, order in ((q_hND, order_q_hN), (k_hND, order_k_hN), (v_hND, order_k_hN))
            )
            y_1hnD = block_attention(q, k, v, attention.block, attention.neighbours)
            out_hND.scatter_(1, order_q_hN[:, own, None].expand(-1, -1, D), y_1hnD[0, :, inner].float().cpu())
    del q_hND, k_hND, v_hND, order_q_hN, order_k_hN

    for part in _chunks(N, chunk_tokens):
        with device.autocast():
            y_nC = attention.proj(device.to_device(out_hND[:, part].transpose(0, 1).flatten(1)))
        flat_TC.index_add_(0, token_N[part], y_nC.float().cpu())


def _groups(attention: IBSSA, tokens: int, chunk_tokens: int) -> Iterator[tuple[slice, slice]]:
    """Yield groups of attention blocks as sorted positions: those computed, and those seen with their neighbours.

    A group is a sequence of its own to :func:`block_attention`, which finds the same blocks in it; with neighbours it
    gets one block more on each side, whose results are dropped.
    """
    bounds = block_bounds(tokens, attention.block)
    size = max(1, chunk_tokens // attention.block)
    reach = 1 if attention.neighbours else 0
    for first in range(0, len(bounds), size):
        last = min(len(bounds), first + size) - 1
        low, high = max(0, first - reach), min(len(bounds) - 1, last + reach)
        yield slice(bounds[first][0], bounds[last][1]), slice(bounds[low][0], bounds[high][1])


def _mix(
    layer: BottleneckLayer,
    latent_HWC: Tensor,
    occupied_HW: Tensor,
    device: Device,
    chunk_tokens: int,
) -> None:
    """Add LMMoE in bands of rows with a halo of two rows; the row above a band is kept from before its own change."""
    H, W, C = latent_HWC.shape
    side = layer.moe.window
    rows = max(side, chunk_tokens // W // side * side)
    above = latent_HWC.new_zeros(0, W, C)
    for band in _chunks(H, rows):
        below = min(HALO, H - band.stop)
        with_below = latent_HWC[band.start : band.stop + below]
        with device.metered(band.start == 0), device.autocast():
            x_HWC = device.to_device(torch.cat([above, with_below]))
            valid_HW1 = device.to_device(occupied_HW[band.start - len(above) : band.stop + below, :, None])
            normed = (layer.norm2(x_HWC) * valid_HW1)[None]
            y_HWC = layer.moe.sparse(normed, (len(above), below))[0]
            y_HWC = y_HWC * valid_HW1[len(above) : len(above) + len(y_HWC)]
        above = latent_HWC[max(band.start, band.stop - HALO) : band.stop].clone()
        latent_HWC[band] += y_HWC.float().cpu()
