"""Spatial-Frequency Cross Attention (paper, supplement sections 2.1 and 4): space asks, frequency bands answer.

Axes: B tiles, H W rows and columns, C channels, E reduced channels, N tokens (H * W), J bands (3).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BANDS = 3


def band_limits(side: int) -> tuple[int, int]:
    """Return the largest whole frequency inside the inner and the middle square, for one axis of ``side`` samples.

    The squares have 1/32 and 1/16 of the spectrum's side (supplement section 4). On maps too small for that
    (decided here) the inner one keeps the mean alone and the middle one has at least the first harmonic.
    """
    inner = side // 64
    return inner, max(inner + 1, side // 32)


def split_bands(x_BHWE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split a float32 map into three frequency bands that add up to it.

    Returns
    -------
    tuple of Tensor
        Low, middle and high band, each (B, H, W, E).
    """
    H, W = x_BHWE.shape[1:3]
    inner_H, middle_H = band_limits(H)
    inner_W, middle_W = band_limits(W)
    spectrum = torch.fft.rfft2(x_BHWE, dim=(1, 2))
    row_H = torch.fft.fftfreq(H, 1 / H, device=x_BHWE.device).abs()[:, None]
    col_W = torch.fft.rfftfreq(W, 1 / W, device=x_BHWE.device)[None]
    # half a step above the limit, so that rounding of the frequencies cannot matter
    in_inner = ((row_H < inner_H + 0.5) & (col_W < inner_W + 0.5))[None, :, :, None]
    in_middle = ((row_H < middle_H + 0.5) & (col_W < middle_W + 0.5))[None, :, :, None] & ~in_inner
    low = torch.fft.irfft2(spectrum * in_inner, s=(H, W), dim=(1, 2))
    middle = torch.fft.irfft2(spectrum * in_middle, s=(H, W), dim=(1, 2))
    # the rest by subtraction: one inverse transform fewer, and the sum is the input by construction
    return low, middle, x_BHWE - low - middle


class SFCA(nn.Module):
    """Cross attention between a tile's feature map and its three frequency bands, with learned fusion weights.

    Parameters
    ----------
    dim : int
        Channels of the map.
    reduced : int
        Channels inside (32 in the paper).

    Notes
    -----
    WeightNet is a convolution to 4 channels, ReLU, a convolution to 1 and a mean over the tile. Its three outputs pass
    a softmax (decided here), so that the fused map keeps its scale. The projection back starts at zero: the module is
    the identity until training gives it something to add.
    """

    def __init__(self, dim: int, reduced: int = 32) -> None:
        super().__init__()
        self.reduce = nn.Linear(dim, reduced)
        self.query = nn.Linear(reduced, BANDS * reduced)
        self.key_value = nn.ModuleList(nn.Linear(reduced, 2 * reduced) for _ in range(BANDS))
        self.weight_net = nn.Sequential(
            nn.Conv2d(reduced, 4, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(4, 1, 3, padding=1),
            nn.AdaptiveAvgPool2d(1),
        )
        self.restore = nn.Linear(reduced, dim)
        nn.init.zeros_(self.restore.weight)
        nn.init.zeros_(self.restore.bias)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Map (B, H, W, C) to the same shape."""
        B, H, W, _ = x_BHWC.shape
        z_BHWE = self.reduce(x_BHWC)
        E = z_BHWE.shape[-1]
        # cuFFT has no half precision for all sizes
        bands = split_bands(z_BHWE.float())
        q_JBNE = self.query(z_BHWE).view(B, H * W, BANDS, E).permute(2, 0, 1, 3)
        attended, logits = [], []
        for band_BHWE, q_BNE, to_kv in zip(bands, q_JBNE, self.key_value, strict=True):
            k_BNE, v_BNE = to_kv(band_BHWE.to(z_BHWE.dtype)).view(B, H * W, 2 * E).chunk(2, -1)
            y_B1NE = F.scaled_dot_product_attention(q_BNE[:, None], k_BNE[:, None], v_BNE[:, None])
            y_BHWE = y_B1NE.view(B, H, W, E)
            attended.append(y_BHWE)
            logits.append(self.weight_net(y_BHWE.permute(0, 3, 1, 2)).view(B))
        weight_JB = torch.stack(logits).softmax(0)
        fused_BHWE = sum(w_B.view(B, 1, 1, 1) * y for w_B, y in zip(weight_JB, attended, strict=True))
        y_BHWC: Tensor = x_BHWC + self.restore(fused_BHWE)
        return y_BHWC
