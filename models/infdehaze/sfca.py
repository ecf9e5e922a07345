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


def low_pass(side: int, limit: int, device: torch.device) -> Tensor:
    """Return the matrix (side, side), float32, that keeps the whole frequencies -limit..limit of a periodic signal."""
    # as fftfreq counts them, so that small sides have none twice
    frequency_F = torch.tensor([f for f in range(-(side // 2), (side + 1) // 2) if abs(f) <= limit]).double()
    sample_N = torch.arange(side, dtype=torch.float64)
    angle_NNF = 2 * torch.pi / side * (sample_N[:, None, None] - sample_N[:, None]) * frequency_F
    kernel_NN: Tensor = angle_NNF.cos().sum(-1) / side
    return kernel_NN.to(device, torch.float32)


def split_bands(x_BHWE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split a float32 map into three frequency bands that add up to it.

    A centred square of the spectrum is a low-pass along rows times one along columns, so the inverse FFT of the
    masked FFT is two products with small matrices. Other than an FFT, they round alike for any batch and thread count.

    Returns
    -------
    tuple of Tensor
        Low, middle and high band, each (B, H, W, E).
    """
    B, H, W, E = x_BHWE.shape
    limits = zip(band_limits(H), band_limits(W), strict=True)

    def square(limit_H: int, limit_W: int) -> Tensor:
        rows_BHWE = (low_pass(H, limit_H, x_BHWE.device) @ x_BHWE.reshape(B, H, W * E)).view(B, H, W, E)
        return low_pass(W, limit_W, x_BHWE.device) @ rows_BHWE

    with torch.autocast(x_BHWE.device.type, enabled=False):
        low, below_high = (square(*limit) for limit in limits)
    return low, below_high - low, x_BHWE - below_high


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
        bands = split_bands(z_BHWE.float())
        q_JBNE = self.query(z_BHWE).view(B, H * W, BANDS, E).permute(2, 0, 1, 3)
        kv_JBNE = torch.stack([to_kv(band.to(z_BHWE.dtype)) for to_kv, band in zip(self.key_value, bands, strict=True)])
        k_JBNE, v_JBNE = kv_JBNE.view(BANDS, B, H * W, 2 * E).chunk(2, -1)
        attended_JBHWE = F.scaled_dot_product_attention(q_JBNE, k_JBNE, v_JBNE).view(BANDS, B, H, W, E)
        # all bands in one call and in one layout: a single map, or another layout, is convolved with other rounding
        maps_MEHW = attended_JBHWE.flatten(0, 1).permute(0, 3, 1, 2).contiguous()
        logit_BJ = self.weight_net(maps_MEHW).view(BANDS, B).T.contiguous()
        weight_BJ = logit_BJ.softmax(-1)
        # added one by one, since a reduction over three picks its order by the shape
        fused_BHWE = sum(w_B.view(B, 1, 1, 1) * y for w_B, y in zip(weight_BJ.unbind(-1), attended_JBHWE, strict=True))
        y_BHWC: Tensor = x_BHWC + self.restore(fused_BHWE)
        return y_BHWC
