"""The bottleneck over a scene's latents and back, streamed: the host holds the scene, the device a chunk of tokens.

Forward it is that of a run, which keeps the inputs of the layers. On the way back each layer is computed again: its
attention as in a run, for its gradient in groups of blocks, its experts in rows of windows with their halo.

Axes: H W rows and columns of the scene's latent grid, N tokens that hold data, n of them, C channels, h heads, D head
dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from infdehaze.bottleneck import Bottleneck, BottleneckLayer
from infdehaze.ibssa import IBSSA, block_attention, block_bounds
from infdehaze.lmmoe import HALO
from torch import Tensor

from infdehaze_cli.store import HostArray, SceneArray, Workspace

from .attention import attend_blocks, attended_bands, orders, project, span
from .bottleneck import stream_bottleneck
from .device import Device
from .elastic import Elastic

WORKSPACE = Workspace(Path())
"""Everything lies in memory; nothing is written there."""


class ScenePullback:
    """The bottleneck on the latents of a scene, and the gradient at its input from that at its output.

    Parameters
    ----------
    bottleneck : Bottleneck
        On ``device``, in evaluation mode, without gradients of its weights.
    occupied_HW : Tensor
        bool on the host; False for the tokens of tiles without data, which take no part.
    device : Device
        Where chunks are computed.
    chunk_tokens : int
        Tokens on the device at a time; whole windows and whole attention blocks are kept together.
    note : callable
        Is told when memory ran out and less is done at a time.
    """

    def __init__(
        self,
        bottleneck: Bottleneck,
        occupied_HW: Tensor,
        device: Device,
        chunk_tokens: int,
        note: Callable[[str], None],
    ) -> None:
        self._bottleneck, self._occupied_HW, self._device = bottleneck, occupied_HW, device
        self._chunk_tokens, self._note = chunk_tokens, note
        self._token_N = occupied_HW.flatten().nonzero()[:, 0]
        self._inputs: list[Tensor] = []
        self._layers = [layer for layer in bottleneck.layers if isinstance(layer, BottleneckLayer)]
        first = self._layers[0]
        block = 1 if first.attention is None else first.attention.block
        self._tokens = Elastic("tokens of the bottleneck", chunk_tokens, note)
        self._blocks = Elastic("attention blocks", chunk_tokens // block, note)
        self._windows = Elastic("windows of the latent grid", chunk_tokens // first.moe.window**2, note)

    def forward(self, latent_HWC: Tensor) -> Tensor:
        """Return what :meth:`Bottleneck.forward` does, (H, W, C) on the host, and keep what :meth:`backward` needs."""
        latents = _held(latent_HWC * self._occupied_HW[..., None])
        whole = slice(0, len(latent_HWC))
        self._inputs = []

        def keep() -> None:
            self._inputs.append(latents.read(whole).clone())

        keep()
        with torch.no_grad():
            stream_bottleneck(
                self._bottleneck,
                latents,
                self._occupied_HW,
                WORKSPACE,
                device=self._device,
                chunk_tokens=self._chunk_tokens,
                on_layer=keep,
                note=self._note,
            )
        return self._inputs.pop()

    def backward(self, grad_HWC: Tensor) -> Tensor:
        """Return the gradient at the input of the last :meth:`forward`, which it forgets."""
        grad_HWC = grad_HWC.clone()
        for layer in reversed(self._layers[: len(self._inputs)]):
            before_HWC = self._inputs.pop()
            if layer.attention is None or not len(self._token_N):
                self._mix_back(layer, before_HWC, grad_HWC)
            else:
                self._layer_back(layer, layer.attention, _held(before_HWC), grad_HWC)
        return grad_HWC * self._occupied_HW[..., None]

    def _layer_back(self, layer: BottleneckLayer, attention: IBSSA, before_HWC: SceneArray, grad_HWC: Tensor) -> None:
        """Take a gradient through the experts, then through the attention, in place."""
        device, chunk = self._device, self._chunk_tokens
        with torch.no_grad():
            stores, codes = project(layer, attention, before_HWC, self._token_N, WORKSPACE, device, chunk, self._tokens)
            qkv_hND = [store.read(slice(0, attention.heads)) for store in stores]
            order_hN1 = orders(codes, slice(0, attention.heads))
            # the result takes the place of the queries that it is given
            result_hND = _held(qkv_hND[0])
            given = [result_hND.read(slice(0, attention.heads)), *qkv_hND[1:]]
            blocks = len(block_bounds(len(self._token_N), attention.block))
            self._blocks.run(blocks, partial(attend_blocks, attention, given, order_hN1, device))
            bands = attended_bands(
                layer,
                before_HWC,
                self._occupied_HW,
                result_hND,
                device,
                max(1, chunk // grad_HWC.shape[1]),
                self._tokens,
            )
            between_HWC = torch.cat([band_HWC for _, band_HWC in bands])
            result_hND.close()
            del given
        self._mix_back(layer, between_HWC, grad_HWC)
        del between_HWC
        for head in range(attention.heads):
            self._head_back(attention, head, [x[head] for x in qkv_hND], [o[head, :, 0] for o in order_hN1], grad_HWC)
        work = partial(self._project_back, layer, attention, before_HWC, qkv_hND, grad_HWC)
        self._tokens.run(len(self._token_N), work)

    def _head_back(
        self,
        attention: IBSSA,
        head: int,
        qkv_ND: list[Tensor],
        order_N: list[Tensor],
        grad_HWC: Tensor,
    ) -> None:
        """Put the gradients of a head's queries, keys and values in their place."""
        D = qkv_ND[0].shape[1]
        weight_CD = attention.proj.weight[:, head * D : (head + 1) * D]
        flat_TC = grad_HWC.view(-1, grad_HWC.shape[2])
        found_ND = [torch.zeros_like(x) for x in qkv_ND]

        def attend_back(blocks: slice) -> None:
            own, seen = span(attention, len(order_N[0]), blocks)
            inner = slice(own.start - seen.start, own.stop - seen.start)
            with self._device.metered(own.start == 0 and head == 0):
                given_nC = self._device.to_device(flat_TC[self._token_N[order_N[0][own]]])
                leaves = [
                    self._device.to_device(x[order[seen]]).requires_grad_()
                    for x, order in zip(qkv_ND, order_N, strict=True)
                ]
                with torch.enable_grad():
                    q, k, v = (leaf[None, None] for leaf in leaves)
                    y_nD = block_attention(q, k, v, attention.block, attention.neighbours)[0, 0, inner]
                grads = self._device.to_host(list(torch.autograd.grad(y_nD, leaves, given_nC @ weight_CD))).wait()
            for found, order, grad_nD in zip(found_ND, order_N, grads, strict=True):
                found.index_add_(0, order[seen], grad_nD)

        self._blocks.run(len(block_bounds(len(order_N[0]), attention.block)), attend_back)
        for x_ND, found in zip(qkv_ND, found_ND, strict=True):
            x_ND.copy_(found)

    def _project_back(
        self,
        layer: BottleneckLayer,
        attention: IBSSA,
        before_HWC: SceneArray,
        grad_hND: list[Tensor],
        grad_HWC: Tensor,
        part: slice,
    ) -> None:
        """Add the gradient that came by queries, keys and values of some tokens."""
        assert layer.norm1 is not None
        H, _, C = before_HWC.shape
        token_n = self._token_N[part]
        x_nC = before_HWC.read(slice(0, H)).view(-1, C)[token_n]
        with self._device.metered(part.start == 0):
            given = [self._device.to_device(grad[:, part].clone())[None] for grad in grad_hND]
            leaf = self._device.to_device(x_nC).requires_grad_()
            with torch.enable_grad():
                qkv = attention.project(layer.norm1(leaf[None]))
            (found_nC,) = self._device.to_host(list(torch.autograd.grad(qkv, leaf, given))).wait()
        grad_HWC.view(-1, C).index_add_(0, token_n, found_nC)

    def _mix_back(self, layer: BottleneckLayer, x_HWC: Tensor, grad_HWC: Tensor) -> None:
        """Take a gradient through the experts, in place: some windows of a row at a time, with their halo."""
        (H, W), side = x_HWC.shape[:2], layer.moe.window
        around_HWC = torch.zeros_like(grad_HWC)

        def mix_back(top: int, windows: slice) -> None:
            bottom, left, right = min(top + side, H), windows.start * side, min(windows.stop * side, W)
            halo = min(HALO, top), min(HALO, H - bottom), min(HALO, left), min(HALO, W - right)
            inner = slice(top, bottom), slice(left, right)
            seen = slice(top - halo[0], bottom + halo[1]), slice(left - halo[2], right + halo[3])
            with self._device.metered(top == left == 0):
                valid = self._device.to_device(self._occupied_HW[seen].clone())[None, ..., None]
                leaf = self._device.to_device(x_HWC[seen].clone()).requires_grad_()
                given = self._device.to_device(grad_HWC[inner] * self._occupied_HW[inner][..., None])[None]
                with torch.enable_grad():
                    y_1HWC = layer.moe.sparse(layer.norm2(leaf[None]) * valid, halo)
                (found,) = self._device.to_host(list(torch.autograd.grad(y_1HWC, leaf, given))).wait()
                del valid, leaf, given, y_1HWC
            around_HWC[seen] += found

        for top in range(0, H, side):
            self._windows.run(-(-W // side), partial(mix_back, top))
        grad_HWC += around_HWC


def _held(values: Tensor) -> HostArray:
    """Copy values to where they can be read and written by slices."""
    held = HostArray(values.shape)
    held.write(slice(0, len(values)), values)
    return held
