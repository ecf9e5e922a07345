"""The encoder of one tile: patch embedding, then four stages of SFCA and transformer layers (paper, section 4).

Axes: B tiles, H W rows and columns, C channels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from .convnext import ConvNeXtLayer
from .presets import Preset
from .sfca import SFCA
from .swin import SwinLayer

EncoderDecoderBlock = Callable[[Preset, int, int], nn.Module]
"""Builds layer ``index`` of stage ``stage`` of a preset: a module on (B, H, W, C) that keeps the shape."""


def _swin(preset: Preset, stage: int, index: int) -> nn.Module:
    return SwinLayer(
        preset.widths[stage],
        preset.heads[stage],
        preset.window,
        shift=index % 2 == 1,
        mlp_ratio=preset.mlp_ratio,
    )


def _convnext(preset: Preset, stage: int, index: int) -> nn.Module:
    return ConvNeXtLayer(preset.widths[stage], preset.mlp_ratio)


BLOCKS: dict[str, EncoderDecoderBlock] = {"swin": _swin, "convnext": _convnext}
"""The exchangeable blocks of encoder and decoder; a preset names one."""


class PatchMerging(nn.Module):
    """Join 2x2 cells into one, with a norm and a linear layer to the next width."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.linear = nn.Linear(4 * dim, out_dim)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, H / 2, W / 2, C')."""
        B, H, W, C = x_BHWC.shape
        x = x_BHWC.view(B, H // 2, 2, W // 2, 2, C).transpose(2, 3).reshape(B, H // 2, W // 2, 4 * C)
        y: Tensor = self.linear(self.norm(x))
        return y


class Encoder(nn.Module):
    """Encode tiles one by one: nothing here sees beyond a tile."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.stem_stride = preset.stem_stride
        self.embed = nn.Linear(3 * preset.stem_stride**2, preset.widths[0])
        self.embed_norm = nn.LayerNorm(preset.widths[0])
        build = BLOCKS[preset.block]
        self.stages, self.merges = nn.ModuleList(), nn.ModuleList()
        for stage, (width, depth) in enumerate(zip(preset.widths, preset.depths, strict=True)):
            layers: list[nn.Module] = [SFCA(width, preset.sfca_dim)] if preset.sfca[stage] else []
            layers += [build(preset, stage, i) for i in range(depth)]
            self.stages.append(nn.Sequential(*layers))
            if stage + 1 < len(preset.widths):
                self.merges.append(PatchMerging(width, preset.widths[stage + 1]))

    def forward(self, tiles_B3HW: Tensor) -> list[Tensor]:
        """Encode tiles.

        Parameters
        ----------
        tiles_B3HW : Tensor
            Pictures with values around 0..1.

        Returns
        -------
        list of Tensor
            The residuals r1..r4, (B, H, W, C) each, from fine to coarse; the last one is the latent.
        """
        x = F.pixel_unshuffle(tiles_B3HW * 2 - 1, self.stem_stride).permute(0, 2, 3, 1)
        x = self.embed_norm(self.embed(x))
        residuals = []
        for stage, layers in enumerate(self.stages):
            x = layers(x)
            residuals.append(x)
            if stage < len(self.merges):
                x = self.merges[stage](x)
        return residuals
