"""Presets are data: the sizes of a network and how it likes to be run (paper, supplement section 4)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .errors import CheckpointError

FIELDS = 9
"""What the network predicts: optical depth, airlight and residual of three bands."""

MAX_SIZE = 65_536
_SIZES = (
    "stem_stride", "window", "sfca_dim", "bottleneck_depth", "bottleneck_heads", "block_tokens", "hash_bits",
    "statistics_width", "expert_expansion", "field_stride", "tile",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Everything that the shape of a network follows from. Widths, depths and heads are per stage, fine to coarse."""

    name: str
    block: str = "swin"
    """Name of the encoder and decoder block in :data:`infdehaze.encoder.BLOCKS`."""
    stem_stride: int = 4
    """Pixels of a patch's side."""
    patch_statistics: bool = False
    """Whether minimum, maximum and deviation of a patch are embedded with its pixels."""
    tile_statistics: bool = False
    """Whether ranks of patch statistics, of each latent cell and of the tile, predict coarse fields."""
    statistics_width: int = 256
    """Width of the two layers that read these ranks."""
    bottleneck_corrects: bool = False
    """Whether latents also tell what the fields were read from, and the bottleneck corrects the fields by the scene."""
    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int] = (2, 3, 4, 2)
    heads: tuple[int, int, int, int] = (4, 4, 8, 16)
    window: int = 8
    mlp_ratio: float = 4.0
    sfca: tuple[bool, bool, bool, bool] = (True, True, True, True)
    """Stages of the encoder that begin with SFCA."""
    sfca_dim: int = 32
    residual_norms: bool = False
    """Whether the residuals r2 to r4 are normalised, so that they do not drown what the decoder has from below."""
    centred_norms: tuple[bool, bool, bool, bool] = (False, False, False, False)
    """Stages of encoder and decoder that normalise what varies alone; the bottleneck goes with the last."""
    bottleneck_depth: int = 4
    bottleneck_heads: int = 16
    block_tokens: int = 256
    """Tokens of an attention block in the bottleneck."""
    hash_bits: int = 8
    neighbours: bool = False
    attention: bool = True
    """Whether the bottleneck has IBSSA; without it, it sees what its convolutions reach and no more."""
    moe: bool = True
    """Whether the bottleneck chooses among experts; without, its shared expert works alone."""
    expert_expansion: int = 4
    field_stride: int = 2
    """Pixels between predicted values of optical depth, airlight and residual; they are enlarged bilinearly."""
    smoothing: float = 0.0
    """Standard deviation, in pixels, of the Gaussian that smooths the joined fields across the whole scene."""
    airlight_smoothing: float = 0.0
    """The same for the airlight, where that is more."""
    texture: float = 0.0
    """Variance of the dark channel that is taken for ground where it gives the depth its detail; 0 for no detail."""
    thin_haze: tuple[float, float] = (0.0, 0.0)
    """Mean optical depths up to the first are taken for clear ground, from the second on for haze, a part between."""
    coarse_share: float = 0.0
    """Share of the fields that a look at the scene at half its size has; 0 for none."""
    tile: int = 256
    overlap: int = 32
    """Pixels by which neighbouring tiles overlap by default; their fields are feathered there."""
    fixed_batch: int | None = None
    """Tiles at a time; None follows the paper's rule by the size of the scene."""
    gpu_batch: int | None = None
    """The same on a GPU, where that is more."""
    cache_residuals: bool = True

    def __post_init__(self) -> None:
        per_stage = {"widths": self.widths, "depths": self.depths, "heads": self.heads, "sfca": self.sfca}
        per_stage["centred_norms"] = self.centred_norms
        sizes = {
            **{f"{key}[{i}]": value for key in ("widths", "depths", "heads") for i, value in enumerate(per_stage[key])},
            **{key: getattr(self, key) for key in _SIZES},
        }
        for key, values in per_stage.items():
            if len(values) != 4:
                raise ValueError(f"{key} must have four values")
        for key, value in sizes.items():
            if type(value) is not int or not 1 <= value <= MAX_SIZE:
                raise ValueError(f"{key} must be a whole number from 1 to {MAX_SIZE}")
        for key, batch in (("fixed_batch", self.fixed_batch), ("gpu_batch", self.gpu_batch)):
            if batch is not None and (type(batch) is not int or not 1 <= batch <= MAX_SIZE):
                raise ValueError(f"{key} must be none or a whole number from 1 to {MAX_SIZE}")
        if any(width % head for width, head in zip(self.widths, self.heads, strict=True)):
            raise ValueError("widths must be multiples of heads")
        if self.widths[-1] % self.bottleneck_heads:
            raise ValueError("the last width must be a multiple of bottleneck_heads")
        if self.hash_bits > 16:
            raise ValueError("hash_bits must be at most 16")
        if type(self.overlap) is not int or not 0 <= self.overlap <= self.tile // 2 or self.overlap % self.field_stride:
            raise ValueError("overlap must be a multiple of field_stride, at most half a tile")
        if self.stem_stride % self.field_stride and self.field_stride % self.stem_stride:
            raise ValueError("one of stem_stride and field_stride must be a multiple of the other")
        if self.tile % self.field_stride:
            raise ValueError("tile must be a multiple of field_stride")
        if not 0 <= self.smoothing <= self.tile:
            raise ValueError("smoothing must be between 0 and the side of a tile")
        if not 0 <= self.airlight_smoothing <= 4 * self.tile:
            raise ValueError("airlight_smoothing must be between 0 and four tiles")
        if not 0 <= self.texture < 1 or (self.texture and not self.smoothing):
            raise ValueError("texture must be at least 0 and below 1, and goes with smoothing")
        if self.texture and self.field_stride % 8 and 8 % self.field_stride:
            raise ValueError("with texture, field_stride must divide 8 or be a multiple of it")
        if len(self.thin_haze) != 2 or not 0 <= self.thin_haze[0] <= self.thin_haze[1] < 1:
            raise ValueError("thin_haze must be two optical depths below 1, the lower first")
        if not 0 <= self.coarse_share < 1:
            raise ValueError("coarse_share must be at least 0 and below 1")
        if self.tile % (self.stem_stride * 8):
            raise ValueError("tile must be a multiple of eight patches")
        if self.tile_statistics and self.stem_stride * 8 % self.field_stride:
            raise ValueError("with tile_statistics a cell of the latent must be a multiple of field_stride")
        if self.bottleneck_corrects and not self.tile_statistics:
            raise ValueError("bottleneck_corrects goes with tile_statistics")
        if self.tile_statistics and self.widths[-1] < FIELDS:
            raise ValueError(
                f"with tile_statistics the last width must be at least {FIELDS}: each field has a direction"
            )

    @property
    def latent_side(self) -> int:
        """Tokens of a tile's latent along one side."""
        return self.tile // (self.stem_stride * 8)

    @property
    def field_sigmas(self) -> tuple[float, float]:
        """Standard deviations, in cells, of the smoothing of the fields and of the airlight among them."""
        return self.smoothing / self.field_stride, max(self.smoothing, self.airlight_smoothing) / self.field_stride

    @property
    def planes(self) -> int:
        """Numbers of a cell that tiles are joined by: the fields, and the dark channel where it is asked."""
        return FIELDS + bool(self.texture)

    def coarse_share_for(self, height: int, width: int) -> float:
        """Return the share of the look at half the size: none where that fills less than three quarters of a tile."""
        return self.coarse_share if 2 * min(height, width) >= 3 * self.tile else 0.0

    @property
    def residual_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """Shapes (H, W, C) of a tile's residuals r1..r4."""
        sides = [self.tile // (self.stem_stride * 2**stage) for stage in range(4)]
        return tuple((side, side, width) for side, width in zip(sides, self.widths, strict=True))

    @property
    def stored_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """Shapes (H, W, C) of what is kept of a tile.

        The dark channel beside its mean, and the mean; the residuals; the coarse fields in the last of these.
        """
        side = self.tile // self.field_stride
        dark = ((side, side, 1), (1, 1, 1)) if self.texture else ()
        coarse = ((self.latent_side, self.latent_side, FIELDS),) if self.tile_statistics else ()
        return dark + self.residual_shapes + coarse

    @property
    def residual_values(self) -> int:
        """Numbers that the residuals of one tile hold together."""
        return sum(h * w * c for h, w, c in self.residual_shapes)

    def batch_for(self, side: int, on_gpu: bool = False) -> int:
        """Return the paper's batch for a scene whose longer side is ``side`` px: 1, 4 or 16 (64 for `fast`).

        The supplement leaves 4096 to 8192 px open; 16 begins at 4096 here. `lite` takes 16 tiles at a
        time, and 64 on a GPU.
        """
        batch = self.fixed_batch or (1 if side < 1024 else 4 if side <= 4096 else 16)
        return max(batch, self.gpu_batch or 1) if on_gpu else batch

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Preset:
        """Rebuild a preset from :meth:`to_dict`.

        Raises
        ------
        CheckpointError
            When a field is missing, unknown or of the wrong kind.
        """
        try:
            values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
            return cls(**values)
        except (AttributeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"The checkpoint describes a network that this version does not know ({error}). "
                "Use the version of infdehaze that wrote it."
            ) from error


BASE = Preset(name="base", widths=(256, 256, 512, 1024))
FAST = Preset(
    name="fast",
    block="convnext",
    widths=(256, 256, 512, 1024),
    depths=(2, 2, 2, 2),
    fixed_batch=64,
    cache_residuals=False,
)
LITE = Preset(
    name="lite",
    stem_stride=8,
    patch_statistics=True,
    tile_statistics=True,
    bottleneck_corrects=True,
    widths=(48, 64, 96, 128),
    heads=(3, 4, 6, 8),
    mlp_ratio=3.0,
    sfca=(False, True, True, True),
    # the shipped weights were trained without either (docs/training.md)
    residual_norms=True,
    centred_norms=(True, True, True, True),
    bottleneck_heads=8,
    block_tokens=128,
    field_stride=16,
    smoothing=64.0,
    airlight_smoothing=256.0,
    texture=0.0005,
    thin_haze=(0.15, 0.3),
    coarse_share=0.4,
    # without overlap: the smoothing joins tiles as well, at three quarters of the time (docs/model-card.md)
    overlap=0,
    fixed_batch=16,
    # so small a network computes 16 tiles sooner than a processor has launched them
    gpu_batch=64,
)

PRESETS = {preset.name: preset for preset in (BASE, FAST, LITE)}
