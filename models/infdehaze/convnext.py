"""ConvNeXt layers: the encoder and decoder block of the `fast` preset (paper, supplement section 4, ablations)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvNeXtLayer(nn.Module):
    """Depth-wise 7x7 convolution, LayerNorm, MLP of four times the width, layer scale, residual connection.

    Parameters
    ----------
    dim : int
        Channels.
    mlp_ratio : float
        Expansion of the MLP.
    """

    def __init__(self, dim: int, mlp_ratio: float) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.depthwise = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.scale = nn.Parameter(torch.full((dim,), 0.1))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Map (B, H, W, C) to the same shape."""
        y_BHWC = self.depthwise(x_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        y_BHWC = self.fc2(F.gelu(self.fc1(self.norm(y_BHWC))))
        out_BHWC: Tensor = x_BHWC + self.scale * y_BHWC
        return out_BHWC
