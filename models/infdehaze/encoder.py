"""The encoder of one tile: patch embedding, then four stages of SFCA and transformer layers (paper, section 4).

Axes: B tiles, H W rows and columns, C channels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .convnext import ConvNeXtLayer
from .detail import dark_channel
from .norm import CentredNorm
from .presets import FIELDS, Preset
from .sfca import SFCA
from .statistics import TileStatistics, read_carried
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


STATISTICS = 10
"""Features of a patch beside its pixels: minimum, maximum and deviation of three bands, and the least of all."""


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


class PatchEmbedding(nn.Module):
    """Embed the pixels of a patch linearly (supplement, section 4: "The linear embedding layer").

    With ``statistics`` (decided here, for wide stems) the minimum, maximum and deviation of each band and the minimum
    over all bands go in as well: haze shows in just these, and a linear layer cannot make them. Nothing is normalised
    here, because the brightness and contrast of a patch are what tells haze from ground.
    """

    def __init__(self, stride: int, dim: int, statistics: bool) -> None:
        super().__init__()
        self.stride, self.statistics = stride, statistics
        self.linear = nn.Linear(3 * stride**2 + (STATISTICS if statistics else 0), dim)

    def forward(self, tiles_B3HW: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, H / stride, W / stride, C)."""
        x_BPHW = F.pixel_unshuffle(tiles_B3HW * 2 - 1, self.stride)
        if self.statistics:
            # reduced before the channels go last, where the CPU is four times as fast
            bands_B3PHW = x_BPHW.unflatten(1, (3, -1))
            low = bands_B3PHW.amin(2)
            deviation = (bands_B3PHW - bands_B3PHW.mean(2, keepdim=True)).square().mean(2).add(1e-6).sqrt()
            dark = low.amin(1, keepdim=True)
            x_BPHW = torch.cat([x_BPHW, low, bands_B3PHW.amax(2), 4 * deviation, dark], 1)
        x = x_BPHW.permute(0, 2, 3, 1)
        y: Tensor = self.linear(x)
        return y


class Encoder(nn.Module):
    """Encode tiles one by one: nothing here sees beyond a tile."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.dark_stride = preset.field_stride if preset.texture else 0
        self.embed = PatchEmbedding(preset.stem_stride, preset.widths[0], preset.patch_statistics)
        self.statistics: TileStatistics | None = None
        if preset.tile_statistics:
            self.statistics = TileStatistics(
                preset.latent_side,
                preset.widths[-1],
                FIELDS,
                hidden=preset.statistics_width,
                tells=preset.bottleneck_corrects,
            )
        # begins at zero: latents are what the statistics tell, until training finds more
        self.last_norm = nn.LayerNorm(preset.widths[-1]) if preset.bottleneck_corrects else None
        if self.last_norm is not None:
            nn.init.zeros_(self.last_norm.weight)
        build = BLOCKS[preset.block]
        # what a stage adds up outweighs what comes up to it in the decoder, unless it has a norm at its end
        self.norms = nn.ModuleList(CentredNorm(width) for width in preset.widths[1:]) if preset.residual_norms else None
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
            The residuals r1..r4, (B, H, W, C) each, from fine to coarse; the last one is the latent. Before them,
            where the preset has ``texture``, the dark channel (B, h, w, 1) of the cells of the fields.
        """
        # first, while no residual takes memory
        coarse_BhwF, told_BhwC = (None, None) if self.statistics is None else self.statistics(tiles_B3HW)
        residuals = [dark_channel(tiles_B3HW, self.dark_stride)] if self.dark_stride else []
        x = self.embed(tiles_B3HW)
        for stage, layers in enumerate(self.stages):
            x = layers(x)
            if self.norms is not None and stage:
                x = self.norms[stage - 1](x)
            if self.statistics is not None and coarse_BhwF is not None and stage + 1 == len(self.stages):
                if self.last_norm is not None:
                    x = self.last_norm(x) + told_BhwC
                x = self.statistics.write(x, coarse_BhwF)
            residuals.append(x)
            if stage < len(self.merges):
                x = self.merges[stage](x)
        return residuals

    def to_store(self, residuals: list[Tensor]) -> list[Tensor]:
        """Return residuals as they are rounded and kept, of the shapes `Preset.stored_shapes`.

        What the last one carries goes beside it: it is small, and would be lost in the rounding of large values. The
        dark channel is parted from its mean, since its differences count.
        """
        kept = list(residuals)
        if self.dark_stride:
            dark_BhwC = kept.pop(0)
            mean_B11C = dark_BhwC.mean((1, 2), keepdim=True)
            kept = [dark_BhwC - mean_B11C, mean_B11C, *kept]
        return kept if self.statistics is None else [*kept, read_carried(kept[-1], self.statistics.carrier)]

    def from_store(self, kept: list[Tensor]) -> list[Tensor]:
        """Undo :meth:`to_store`."""
        residuals = list(kept)
        if self.dark_stride:
            apart_BhwC, mean_B11C, *residuals = residuals
            residuals = [apart_BhwC + mean_B11C, *residuals]
        if self.statistics is not None:
            *residuals, last, coarse_BhwF = residuals
            residuals = [*residuals, self.statistics.write(last, coarse_BhwF)]
        return residuals
