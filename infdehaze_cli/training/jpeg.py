"""JPEG artefacts, which most pictures from the web and many orthophotos carry: made on the device that trains.

Baseline JPEG of ITU-T T.81 and JFIF with the tables of its annex K and halved chroma, without the coding, which loses
nothing. Axes: B pictures, H W rows and columns; k blocks, u v frequencies.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

QUALITY = (55, 97)
"""Range that the quality is drawn from, the end left out."""

BLOCK = 8

_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def compress(pictures_B3HW: Tensor, quality_B: Tensor) -> Tensor:
    """Return what JPEG of a quality 1..100 leaves of pictures; both are float32 with whole values 0..255."""
    device = pictures_B3HW.device
    height, width = pictures_B3HW.shape[2:]
    ycc = _mix(pictures_B3HW, _TO_YCC)
    # 16 px: a block of chroma covers four of luma
    ycc = F.pad(ycc, (0, -width % 16, 0, -height % 16), mode="replicate").round()
    luma_B1HW, chroma_B2HW = ycc[:, :1] - 128, F.avg_pool2d(ycc[:, 1:], 2).round()
    scale_B = torch.where(quality_B < 50, (5000 / quality_B).floor(), 200 - 2 * quality_B)
    luma_B1HW = _quantise(luma_B1HW, torch.tensor(_LUMA, device=device), scale_B)
    chroma_B2HW = _quantise(chroma_B2HW, torch.tensor(_CHROMA, device=device), scale_B)
    chroma_B2HW = F.interpolate(chroma_B2HW, scale_factor=2, mode="bilinear")
    ycc = torch.cat([(luma_B1HW + 128).clamp(0, 255), chroma_B2HW.clamp(-128, 127)], 1).round()
    return _mix(ycc, _TO_RGB)[:, :, :height, :width].round().clamp(0, 255)


def _mix(pictures_B3HW: Tensor, weights: tuple[tuple[float, ...], ...]) -> Tensor:
    """Mix the bands, each of the result by a row of weights."""
    weights_33 = torch.tensor(weights, device=pictures_B3HW.device)
    # summed, not multiplied as matrices, which a GPU may do in fewer digits
    return (weights_33[:, :, None, None] * pictures_B3HW[:, None]).sum(2)


def _quantise(x_BCHW: Tensor, table_uv: Tensor, scale_B: Tensor) -> Tensor:
    """Round the cosine transform of each block of 8 x 8 to multiples of the scaled table."""
    B, C, H, W = x_BCHW.shape
    table_Buv = ((table_uv * scale_B[:, None, None] + 50) / 100).floor().clamp(1, 255)
    table = table_Buv[:, None, None, :, None, :]
    basis_ui = _cosines(x_BCHW.device)
    blocks = x_BCHW.view(B, C, H // BLOCK, BLOCK, W // BLOCK, BLOCK)
    found = torch.einsum("bckilj,ui,vj->bckulv", blocks, basis_ui, basis_ui)
    kept = (found / table).round() * table
    return torch.einsum("bckulv,ui,vj->bckilj", kept, basis_ui, basis_ui).reshape(B, C, H, W)


def _cosines(device: torch.device) -> Tensor:
    """Return the orthonormal basis (u, i) of the discrete cosine transform."""
    u, i = torch.meshgrid(torch.arange(BLOCK, device=device), torch.arange(BLOCK, device=device), indexing="ij")
    basis = torch.cos((2 * i + 1) * u * math.pi / (2 * BLOCK)) / 2
    return torch.where(u == 0, basis / math.sqrt(2), basis)


def compress_some(pictures_B3HW: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Send a share of the pictures of a batch through JPEG, each with a quality of its own.

    Parameters
    ----------
    pictures_B3HW : Tensor
        float32, whole values 0..255, on the device of ``generator``.
    share : float
        Of the batch, 0..1; what is left of a picture is drawn as one or none.
    generator : torch.Generator
        The source of all randomness.
    """
    draw_3 = torch.rand(3, generator=generator, device=generator.device)
    count = math.floor(share * len(pictures_B3HW) + float(draw_3[0]))
    if not count:
        return pictures_B3HW
    # samples of a batch are drawn alike, so it does not matter which
    quality_B = torch.randint(*QUALITY, (count,), generator=generator, device=generator.device).float()
    return torch.cat([compress(pictures_B3HW[:count], quality_B), pictures_B3HW[count:]])
