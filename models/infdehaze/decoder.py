"""The decoder of one tile, a mirror of the encoder without SFCA (paper, section 4), and the head (decided here).

Axes: B tiles, H W rows and columns, C channels, F fields (9: optical depth, airlight and residual of three bands).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .encoder import BLOCKS
from .presets import FIELDS as FIELDS
from .presets import Preset
from .statistics import default_carrier, read_carried

MAX_DEPTH = 4.0
"""Bound of the optical depth: beyond it (2 % of the light left) there is nothing to restore but noise."""
MEAN_AIRLIGHT = 0.8


def share_of_others(tiles: int) -> float:
    """Return how much a correction by the scene counts (decided here): a tile learns nothing from itself."""
    return 1 - 1 / max(1, tiles)


class PatchExpanding(nn.Module):
    """Split each cell into 2x2, with a norm and a linear layer to the finer width: the inverse of patch merging."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.linear = nn.Linear(dim, 4 * out_dim)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, 2 H, 2 W, C')."""
        B, H, W, _ = x_BHWC.shape
        y: Tensor = self.linear(self.norm(x_BHWC)).view(B, H, W, 2, 2, -1)
        return y.transpose(2, 3).reshape(B, 2 * H, 2 * W, -1)


class Head(nn.Module):
    """Predict the fields of the scattering model at ``field_stride``.

    It starts at zero, where optical depth and residual are zero and the network is the identity. With ``coarse_dim``
    the encoder's latent, of so many channels, carries coarse fields, and both are added up before they are bounded.
    With ``corrects`` what the bottleneck makes of the latent is read as well: a correction of depth and airlight.
    """

    carrier: Tensor | None

    def __init__(
        self, dim: int, stem_stride: int, field_stride: int, coarse_dim: int | None = None, *, corrects: bool = False
    ) -> None:
        super().__init__()
        self.correct: nn.Sequential | None = None
        if corrects and coarse_dim:
            self.correct = nn.Sequential(nn.LayerNorm(coarse_dim), nn.Linear(coarse_dim, 2 * FIELDS // 3))
        self.register_buffer("carrier", default_carrier(FIELDS, coarse_dim) if coarse_dim else None)
        self.factor = max(1, stem_stride // field_stride)
        self.pool = max(1, field_stride // stem_stride)
        self.norm = nn.LayerNorm(dim)
        self.linear = nn.Linear(dim, FIELDS * self.factor**2)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(
        self,
        x_BHWC: Tensor,
        latent_BHWC: Tensor | None = None,
        modelled_BHWC: Tensor | None = None,
        others: Tensor | float = 1.0,
    ) -> Tensor:
        """Map (B, H, W, C) to float32 fields (B, F, h, w) at the field stride.

        With them go the encoder's latent, what the bottleneck made of it, and how much a correction by that counts.
        """
        x = self.norm(x_BHWC).permute(0, 3, 1, 2)
        if self.pool > 1:
            x = F.avg_pool2d(x, self.pool)
        raw = self.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        raw = F.pixel_shuffle(raw, self.factor).float()
        if self.carrier is not None and latent_BHWC is not None:
            coarse_BhwF = read_carried(latent_BHWC.float(), self.carrier)
            if self.correct is not None and modelled_BHWC is not None:
                with torch.autocast(x_BHWC.device.type, enabled=False):
                    more_BhwF: Tensor = self.correct(modelled_BHWC.float())
                # of the residual nothing can be told from so far
                coarse_BhwF = coarse_BhwF + others * F.pad(more_BhwF, (0, FIELDS - more_BhwF.shape[-1]))
            coarse_BFhw = coarse_BhwF.permute(0, 3, 1, 2)
            # repeated, not interpolated: the smoothing across the scene is for steps
            raw = raw + F.interpolate(coarse_BFhw, size=raw.shape[2:], mode="nearest")
        depth, airlight, residual = raw.chunk(3, 1)
        return torch.cat(
            [
                MAX_DEPTH * torch.tanh(depth / MAX_DEPTH),
                MEAN_AIRLIGHT + 0.5 * torch.tanh(airlight),
                0.1 * residual,
            ],
            1,
        )


class Decoder(nn.Module):
    """Decode tiles one by one from the modelled latent and the encoder's residuals."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        build = BLOCKS[preset.block]
        self.stages, self.expands = nn.ModuleList(), nn.ModuleList()
        for stage in reversed(range(len(preset.widths))):
            self.stages.append(nn.Sequential(*(build(preset, stage, i) for i in range(preset.depths[stage]))))
            if stage:
                self.expands.append(PatchExpanding(preset.widths[stage], preset.widths[stage - 1]))
        self.has_dark = preset.texture > 0
        coarse_dim = preset.widths[-1] if preset.tile_statistics else None
        self.head = Head(
            preset.widths[0],
            preset.stem_stride,
            preset.field_stride,
            coarse_dim,
            corrects=preset.bottleneck_corrects,
        )

    def forward(self, latent_BHWC: Tensor, residuals: list[Tensor], others: Tensor | float = 1.0) -> Tensor:
        """Decode tiles.

        Parameters
        ----------
        latent_BHWC : Tensor
            The bottleneck's output for these tiles.
        residuals : list of Tensor
            What the encoder says of the same tiles: r1..r4 from fine to coarse, and the dark channel before them.
        others : Tensor or float
            :func:`share_of_others` of the scene, or (B, 1, 1, 1) of the scene of each tile.

        Returns
        -------
        Tensor
            float32 fields (B, F, h, w) at the preset's field stride, with the dark channel as the last one where the
            preset has ``texture``.
        """
        x = latent_BHWC
        for i, layers in enumerate(self.stages):
            x = layers(x + residuals[-1 - i])
            if i < len(self.expands):
                x = self.expands[i](x)
        fields: Tensor = self.head(x, residuals[-1], latent_BHWC, others)
        return torch.cat([fields, residuals[0].float().permute(0, 3, 1, 2)], 1) if self.has_dark else fields
