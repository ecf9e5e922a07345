"""The global bottleneck: layers of IBSSA and LMMoE over the latents of a whole scene (paper, supplement section 4).

Axes: B scenes, h w rows and columns of the concatenated latent grid, N tokens (h * w), C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .ibssa import IBSSA
from .lmmoe import LMMoE


class BottleneckLayer(nn.Module):
    """``x + IBSSA(norm(x))``, unless ``attention`` is None, then ``x + LMMoE(norm(x))``."""

    def __init__(
        self, dim: int, heads: int, block: int, bits: int, neighbours: bool, expansion: int, attention: bool, moe: bool
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim) if attention else None
        self.attention = IBSSA(dim, heads, block, bits, neighbours) if attention else None
        self.norm2 = nn.LayerNorm(dim)
        self.moe = LMMoE(dim, expansion, routed=moe)


class Bottleneck(nn.Module):
    """A stack of :class:`BottleneckLayer`.

    Parameters
    ----------
    dim, heads, depth : int
        Channels, attention heads, layers (4 in the paper).
    block, bits, neighbours
        See :class:`~infdehaze.ibssa.IBSSA`.
    expansion : int
        See :class:`~infdehaze.lmmoe.LMMoE`.
    attention, moe : bool
        What to leave out, for comparison.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        depth: int,
        block: int,
        bits: int,
        neighbours: bool,
        expansion: int,
        *,
        attention: bool = True,
        moe: bool = True,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            BottleneckLayer(dim, heads, block, bits, neighbours, expansion, attention, moe) for _ in range(depth)
        )

    def forward(self, x_BhwC: Tensor, valid_Bhw: Tensor | None = None) -> Tensor:
        """Model the scene globally.

        Parameters
        ----------
        x_BhwC : Tensor
            Concatenated latents.
        valid_Bhw : Tensor, optional
            bool; tokens of tiles without any data are False: nothing attends to them, experts see zeros there, and
            they come out as zeros.

        Returns
        -------
        Tensor
            (B, h, w, C).
        """
        return self.with_balance(x_BhwC, valid_Bhw)[0]

    def with_balance(self, x_BhwC: Tensor, valid_Bhw: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Also return the mean load-balancing loss of the LMMoE layers (zero in inference)."""
        balance = torch.zeros((), device=x_BhwC.device)
        if valid_Bhw is not None:
            x_BhwC = x_BhwC * valid_Bhw[..., None]
        for layer in self.layers:
            assert isinstance(layer, BottleneckLayer)
            if layer.attention is not None:
                x_BhwC = x_BhwC + _attend_scene(layer, x_BhwC, valid_Bhw)
            normed = layer.norm2(x_BhwC)
            if valid_Bhw is not None:
                normed = normed * valid_Bhw[..., None]
            if self.training:
                y_BhwC, layer_balance = layer.moe.dense(normed)
                balance = balance + layer_balance / len(self.layers)
            else:
                y_BhwC = layer.moe.sparse(normed)
            x_BhwC = x_BhwC + (y_BhwC if valid_Bhw is None else y_BhwC * valid_Bhw[..., None])
        return x_BhwC, balance


def _attend_scene(layer: BottleneckLayer, x_BhwC: Tensor, valid_Bhw: Tensor | None) -> Tensor:
    """Attend over the tokens of each scene, leaving out those without data: what is added to (B, h, w, C)."""
    assert layer.attention is not None
    assert layer.norm1 is not None
    normed = layer.norm1(x_BhwC)
    if valid_Bhw is None:
        y: Tensor = layer.attention(normed.flatten(1, 2))
        return y.view_as(x_BhwC)
    out = torch.zeros_like(x_BhwC)
    for b, valid_hw in enumerate(valid_Bhw):
        # scenes keep different tokens, so they cannot share a batch
        if valid_hw.any():
            out[b, valid_hw] = layer.attention(normed[b, valid_hw][None])[0].to(out.dtype)
    return out
