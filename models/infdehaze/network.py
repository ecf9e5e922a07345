"""The whole network on a scene in memory: the plain form that the streamed engine must equal.

Axes: B scenes, M tiles of a scene, C channels, F fields, H W rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .bottleneck import Bottleneck
from .decoder import Decoder, share_of_others
from .encoder import Encoder
from .filling import fill_and_weigh
from .norm import centre_norms
from .presets import FIELDS, Preset
from .sfca import SFCA
from .smoothing import settle, smooth_look
from .swin import WindowAttention
from .tiling import (
    TileGrid,
    cut_tiles,
    double_cells,
    enlarge,
    halve,
    join_fields,
    join_latents,
    mirror_pad,
    mix_looks,
    scatter,
    split_latents,
)


@dataclass(frozen=True, slots=True)
class Restored:
    """What the network says of a scene."""

    image_B3HW: Tensor
    """The picture without haze."""
    fields_B9HW: Tensor
    """Optical depth, airlight and residual of the three bands, in full size."""
    balance: Tensor
    """Load-balancing loss of LMMoE (zero in inference)."""


class InfDehaze(nn.Module):
    """Inf-Dehaze: tiles through the encoder, all latents through one bottleneck, tiles through the decoder.

    Parameters
    ----------
    preset : Preset
        The sizes of everything.
    """

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset = preset
        self.encoder = Encoder(preset)
        self.bottleneck = Bottleneck(
            preset.widths[-1],
            preset.bottleneck_heads,
            preset.bottleneck_depth,
            preset.block_tokens,
            preset.hash_bits,
            preset.neighbours,
            preset.expert_expansion,
            attention=preset.attention,
            moe=preset.moe,
        )
        self.decoder = Decoder(preset)
        for stage, centred in enumerate(preset.centred_norms):
            if centred:
                centre_norms(self._stage(stage))
        self.apply(_initialise)
        self.decoder.head.linear.apply(_zero)
        if self.decoder.head.correct is not None:
            self.decoder.head.correct.apply(_zero)
        if self.encoder.statistics is not None:
            self.encoder.statistics.mlp[-1].apply(_zero)
        for module in self.modules():
            if isinstance(module, SFCA):
                module.restore.apply(_zero)

    def forward(
        self, hazy_B3HW: Tensor, *, valid_BHW: Tensor | None = None, overlap: int | None = None, coarse: bool = True
    ) -> Restored:
        """Restore whole scenes of any height and width (algorithm 1 without any streaming).

        Parameters
        ----------
        hazy_B3HW : Tensor
            Pictures, float, values around 0..1.
        valid_BHW : Tensor, optional
            bool; False where there is no data. Such pixels influence nothing. Without it all are valid, but for black
            edges, see :mod:`infdehaze.filling`, and in training.
        overlap : int, optional
            Pixels by which tiles overlap; the preset's by default.
        coarse : bool
            Whether to look at the scene at half its size too, where the preset does. A network in training does not.

        Returns
        -------
        Restored
        """
        preset = self.preset
        H, W = hazy_B3HW.shape[2:]
        share = preset.coarse_share_for(H, W) if coarse and not self.training else 0.0
        # a network that finds no haze yet would get no gradient
        thin_haze = (0.0, 0.0) if self.training else preset.thin_haze
        look, balance = self._look(hazy_B3HW, valid_BHW, overlap)
        if share:
            valid = torch.ones_like(hazy_B3HW[:, 0], dtype=torch.bool) if valid_BHW is None else valid_BHW
            coarse_look, _ = self._look(*halve(hazy_B3HW, valid), overlap)
            look = mix_looks(look, double_cells(coarse_look[:, : FIELDS + 1], *look.shape[2:]), share)
        fields = settle(look, thin_haze, preset.texture)
        large = enlarge(fields, preset.field_stride)[:, :, :H, :W]
        return Restored(scatter(hazy_B3HW, large), large, balance)

    def _stage(self, stage: int) -> nn.ModuleList:
        """Return what belongs to a stage, its way in and out and, for the last one, the bottleneck."""
        mirrored = len(self.encoder.stages) - 1 - stage
        parts = [self.encoder.stages[stage], self.decoder.stages[mirrored]]
        if stage:
            parts += [self.encoder.merges[stage - 1], self.decoder.expands[mirrored]]
        if not mirrored:
            parts.append(self.bottleneck)
        return nn.ModuleList(parts)

    def _look(self, hazy_B3HW: Tensor, valid_BHW: Tensor | None, overlap: int | None) -> tuple[Tensor, Tensor]:
        """Return the smoothed look (B, L, h, w) at scenes, and the balance loss."""
        preset = self.preset
        B, _, H, W = hazy_B3HW.shape
        grid = TileGrid(H, W, preset.tile, preset.overlap if overlap is None else overlap)
        if grid.overlap % preset.field_stride:
            raise ValueError(f"overlap must be a multiple of {preset.field_stride}")
        tiles = cut_tiles(mirror_pad(hazy_B3HW, grid.padded_height, grid.padded_width), grid).flatten(0, 1)
        weight_BM111: Tensor | None = None
        occupied_Bhw: Tensor | None = None
        others: Tensor | float = share_of_others(grid.count)
        if valid_BHW is None and not self.training:
            valid_BHW = torch.ones_like(hazy_B3HW[:, 0], dtype=torch.bool)
        if valid_BHW is not None:
            valid = mirror_pad(valid_BHW[:, None], grid.padded_height, grid.padded_width)
            valid_tiles = cut_tiles(valid, grid).flatten(0, 1)[:, 0]
            # a tile of nothing but 0 is no ground
            shown = valid_tiles & (tiles != 0).any(1)
            tiles, share = fill_and_weigh(tiles, valid_tiles)
            side = preset.latent_side
            occupied = shown.flatten(1).any(1).view(B, grid.count, 1, 1, 1)
            counts = occupied.flatten(1).sum(1).tolist()
            others = tiles.new_tensor([share_of_others(count) for count in counts for _ in range(grid.count)])
            others = others.view(-1, 1, 1, 1)
            weight_BM111 = share.view_as(occupied) * occupied
            occupied_Bhw = join_latents(occupied.expand(-1, -1, side, side, 1), grid)[..., 0]

        residuals = self.encoder(tiles)
        latent = join_latents(residuals[-1].unflatten(0, (B, grid.count)), grid)
        latent, balance = self.bottleneck.with_balance(latent, occupied_Bhw)
        modelled = split_latents(latent, grid).flatten(0, 1)
        fields = self.decoder(modelled, residuals, others).unflatten(0, (B, grid.count))
        ones = torch.ones_like(fields[:, :, :1])
        if weight_BM111 is not None:
            fields, ones = fields * weight_BM111, ones * weight_BM111

        joined, weight = (join_fields(each, grid, preset.field_stride) for each in (fields, ones))
        return smooth_look(joined, weight, *preset.field_sigmas, preset.texture), balance


def _initialise(module: nn.Module) -> None:
    if any(p.is_meta for p in module.parameters(recurse=False)):
        # loading fills it; on meta tensors a random fill would make torch import its compiler
        return
    if isinstance(module, WindowAttention):
        nn.init.normal_(module.bias_table, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _zero(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.weight)


def count_parameters_of(preset: Preset) -> int:
    """Return the number of trainable values of a preset's network, without making it."""
    with torch.device("meta"):
        return count_parameters(InfDehaze(preset))


def count_parameters(module: nn.Module) -> int:
    """Return the number of trainable values."""
    return sum(p.numel() for p in module.parameters())
