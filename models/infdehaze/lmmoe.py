"""Local Modeling Mixture-of-Experts (paper, supplement sections 2.2 and 4), on the concatenated latent grid of a scene.

Axes: B scenes, h w rows and columns of the latent grid, C channels, X experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNELS = (3, 3, 3, 5, 5, 5)
TOP_K = 2
SHARED_WEIGHT = 0.1
HALO = max(KERNELS) // 2
"""Rows and columns around a location that its experts see."""
WINDOWS_AT_A_TIME = 64
"""Bounds the memory of the widened windows in inference."""


class Expert(nn.Module):
    """1x1 convolution that widens, depth-wise convolution, GELU, 1x1 convolution back (equation 3).

    The first convolution has no bias, so that padding the map with zeros before or after it is the same.
    """

    def __init__(self, dim: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, expansion * dim, bias=False)
        self.depthwise = nn.Conv2d(expansion * dim, expansion * dim, kernel, groups=expansion * dim)
        self.reduce = nn.Linear(expansion * dim, dim)
        self.reach = kernel // 2

    def forward(self, x_BhwC: Tensor) -> Tensor:
        """Map (B, h, w, C) to the same shape, with zeros beyond the edges."""
        r = self.reach
        return self.inner(F.pad(x_BhwC, (0, 0, r, r, r, r)))

    def inner(self, x_BhwC: Tensor) -> Tensor:
        """Map a grid to its inside: (B, h - 2 reach, w - 2 reach, C)."""
        y = self.depthwise(self.expand(x_BhwC).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out: Tensor = self.reduce(F.gelu(y))
        return out


@dataclass(frozen=True, slots=True)
class Routing:
    """What the gate decided: ``weight_BhwX`` is zero for experts that a location did not choose."""

    weight_BhwX: Tensor
    balance: Tensor
    """Load-balancing loss, a scalar: 1 when all experts get an equal share, up to ``X / 2`` when two get all."""


class LMMoE(nn.Module):
    """Six local experts, two of them at each location, and a shared one (equation 4).

    Parameters
    ----------
    dim : int
        Channels.
    expansion : int
        Widening inside an expert (4 in the paper).
    window : int
        Side of the windows in which inference leaves out experts that no location there chose.
    routed : bool
        False leaves the experts and their gate out: the shared expert works alone, at full weight.

    Notes
    -----
    The gate is a 1x1 convolution and a softmax; the two chosen weights are scaled to add up to 1 (decided here).
    """

    def __init__(self, dim: int, expansion: int = 4, window: int = 8, routed: bool = True) -> None:
        super().__init__()
        self.window = window
        self.gate = nn.Linear(dim, len(KERNELS)) if routed else None
        self.experts = nn.ModuleList(Expert(dim, kernel, expansion) for kernel in (KERNELS if routed else ()))
        self.shared_weight = SHARED_WEIGHT if routed else 1.0
        self.shared = Expert(dim, 3, expansion)

    def route(self, x_BhwC: Tensor) -> Routing:
        """Choose the top two experts of each location."""
        if self.gate is None:
            return Routing(x_BhwC.new_zeros(*x_BhwC.shape[:-1], 0), x_BhwC.new_zeros((), dtype=torch.float32))
        share_BhwX = self.gate(x_BhwC).float().softmax(-1)
        top, chosen = share_BhwX.topk(TOP_K, dim=-1)
        weight = torch.zeros_like(share_BhwX).scatter(-1, chosen, top / top.sum(-1, keepdim=True))
        load_X = (weight > 0).float().flatten(0, -2).mean(0) / TOP_K
        balance = len(KERNELS) * (load_X * share_BhwX.flatten(0, -2).mean(0)).sum()
        return Routing(weight.to(x_BhwC.dtype), balance)

    def forward(self, x_BhwC: Tensor) -> Tensor:
        """Map (B, h, w, C) to the same shape, computing every expert everywhere (the form for training)."""
        return self.dense(x_BhwC)[0]

    def dense(self, x_BhwC: Tensor) -> tuple[Tensor, Tensor]:
        """Compute every expert everywhere; return the output and the load-balancing loss."""
        routing = self.route(x_BhwC)
        y_BhwC = self.shared_weight * self.shared(x_BhwC)
        for expert, weight_Bhw in zip(self.experts, routing.weight_BhwX.unbind(-1), strict=True):
            y_BhwC = y_BhwC + weight_Bhw[..., None] * expert(x_BhwC)
        return y_BhwC, routing.balance

    def sparse(
        self,
        x_BhwC: Tensor,
        halo: tuple[int, int, int, int] = (0, 0, 0, 0),
        windows: int = WINDOWS_AT_A_TIME,
        valid_Bhw: Tensor | None = None,
    ) -> Tensor:
        """Compute the chosen experts only, in windows where some location chose them (the form for inference).

        Parameters
        ----------
        x_BhwC : Tensor
            A grid, or a part of it with some of its surroundings.
        halo : tuple of int
            How many of the first and last rows, and of the first and last columns, are surroundings, each 0 (the grid
            ends there) or ``HALO``.
        windows : int
            Windows that are widened at a time.
        valid_Bhw : Tensor, optional
            bool, what is inside of the halo: windows without a location that is True are left out, and stay 0.

        Returns
        -------
        Tensor
            What is inside of the halo.
        """
        above, below, left, right = halo
        inner_BhwC = x_BhwC[:, above : x_BhwC.shape[1] - below, left : x_BhwC.shape[2] - right]
        B, h, w, _ = inner_BhwC.shape
        side = self.window
        weight_BhwX = self.route(inner_BhwC).weight_BhwX
        shared_Bhw1 = torch.full((B, h, w, 1), self.shared_weight, dtype=weight_BhwX.dtype, device=x_BhwC.device)
        weight_BhwX = F.pad(torch.cat([weight_BhwX, shared_Bhw1], -1), (0, 0, 0, -w % side, 0, -h % side))
        used_BXIJ = F.max_pool2d(weight_BhwX.permute(0, 3, 1, 2).float(), side) > 0
        if valid_Bhw is not None:
            used_BXIJ &= F.max_pool2d(F.pad(valid_Bhw[:, None].float(), (0, -w % side, 0, -h % side)), side) > 0
        padded = F.pad(x_BhwC, (0, 0, HALO - left, HALO - right + -w % side, HALO - above, HALO - below + -h % side))
        windows_BIJCss = padded.unfold(1, side + 2 * HALO, side).unfold(2, side + 2 * HALO, side)
        weights_BIJXss = weight_BhwX.unfold(1, side, side).unfold(2, side, side)
        out_BIJssC = x_BhwC.new_zeros(*windows_BIJCss.shape[:3], side, side, x_BhwC.shape[-1])
        for x, expert in enumerate((*self.experts, self.shared)):
            assert isinstance(expert, Expert)
            cut = slice(HALO - expert.reach, side + HALO + expert.reach)
            used_M3 = used_BXIJ[:, x].nonzero()
            for start in range(0, len(used_M3), windows):
                where_M3 = used_M3[start : start + windows]
                where = where_M3.unbind(-1)
                y_MssC = expert.inner(windows_BIJCss[where][..., cut, cut].permute(0, 2, 3, 1))
                # each window is there once, so that the sum has one order: expert by expert
                out_BIJssC[where] += y_MssC * weights_BIJXss[..., x, :, :][where][..., None]
        y_BHWC = out_BIJssC.transpose(2, 3).reshape(B, h + -h % side, w + -w % side, -1)
        return y_BHWC[:, :h, :w]
