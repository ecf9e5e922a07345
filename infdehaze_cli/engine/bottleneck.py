"""The bottleneck, streamed: the device holds a chunk of tokens, the store the scene.

Axes: H W rows and columns of the scene's latent grid, N tokens that hold data, C channels, h heads, D head dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from infdehaze.bottleneck import Bottleneck, BottleneckLayer
from infdehaze.lmmoe import HALO
from torch import Tensor

from infdehaze_cli.store import SceneArray, Workspace

from .attention import Amounts, attend, attended_bands, chunks
from .device import Device
from .elastic import Elastic


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
            result_hND = attend(layer, layer.attention, latent_HWC, token_N, workspace, device, chunk_tokens, amounts)
        _mix(layer, latent_HWC, occupied_HW, result_hND, device, rows * side, chunk_tokens, amounts)
        if result_hND is not None:
            result_hND.close()
        on_layer()


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
    bands = attended_bands(layer, latent_HWC, occupied_HW, result_hND, device, rows, amounts.tokens)
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
    for cols in chunks(W, piece):
        left, right = min(HALO, cols.start), min(HALO, W - cols.stop)
        seen = (rows, slice(cols.start - left, cols.stop + right))
        with device.metered(first_band and first == cols.start == 0), device.autocast():
            here_HW1 = device.to_device(valid_HW1[seen].clone())
            normed = (layer.norm2(device.to_device(seen_HWC[seen].clone())) * here_HW1)[None]
            inside = here_HW1[up : len(here_HW1) - down, left : here_HW1.shape[1] - right]
            y_HWC = layer.moe.sparse(normed, (up, down, left, right), windows.limit, inside[None, ..., 0])[0]
            y_HWC = (y_HWC * inside).float().cpu()
        out_HWC[first:last, cols] = y_HWC
