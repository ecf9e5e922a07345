"""Physically based haze: ``I = J t + A (1 - t)``, ``t_c = exp(-d (lambda_c / lambda_green) ** -gamma)``.

Axes: B samples, H W rows and columns, three bands (red, green, blue).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from infdehaze_cli.errors import UsageError

from .noise import FractalNoise

WAVELENGTHS = (0.665, 0.560, 0.490)
"""Micrometres of red, green and blue; optical depth is stated for green."""

STRIDE = 4
"""Optical depth is drawn at every fourth pixel and enlarged bilinearly: haze has no finer structure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HazeStyle:
    """Ranges that one kind of haze is drawn from, each (low, high), uniform."""

    base: tuple[float, float]
    """Optical depth that is there everywhere."""
    extra: tuple[float, float]
    """Optical depth added where the pattern is 1."""
    coverage: tuple[float, float]
    """Share of the scene that the pattern covers: 1 is a smooth veil, below that there are gaps."""
    gain: tuple[float, float] = (0.35, 0.6)
    """Roughness of the pattern: the ratio of the amplitudes of successive octaves."""
    airlight: tuple[float, float] = (0.6, 1.0)
    gamma: tuple[float, float] = (0.0, 1.0)
    """Exponent of the wavelength law: 0 for droplets, above 1 for fine aerosol."""


STYLES: dict[str, HazeStyle] = {
    "veil": HazeStyle(base=(0.25, 0.8), extra=(0.1, 0.5), coverage=(1.0, 1.0)),
    "patches": HazeStyle(base=(0.0, 0.25), extra=(0.8, 2.2), coverage=(0.3, 0.75), gamma=(0.0, 0.5)),
    "dense": HazeStyle(base=(0.8, 1.5), extra=(0.2, 0.9), coverage=(0.6, 1.0), gamma=(0.0, 0.6)),
}
"""The styles that users name, and that the benchmark scores."""

TRAINING_STYLES: tuple[tuple[float, HazeStyle], ...] = (
    (0.2, HazeStyle(base=(0, 0), extra=(0, 0), coverage=(1, 1))),
    (
        0.25,
        HazeStyle(base=(0.1, 1.0), extra=(0.0, 0.7), coverage=(0.9, 1.0), airlight=(0.45, 1.0), gamma=(0, 1.6)),
    ),
    (
        0.11,
        HazeStyle(base=(0.2, 1.4), extra=(0.0, 0.3), coverage=(1.0, 1.0), airlight=(0.42, 0.75), gamma=(0, 0.8)),
    ),
    (
        0.26,
        HazeStyle(base=(0.0, 0.4), extra=(0.4, 2.6), coverage=(0.2, 0.9), gain=(0.35, 0.7), gamma=(0, 0.8)),
    ),
    (
        0.18,
        HazeStyle(base=(0.6, 1.8), extra=(0.0, 1.0), coverage=(0.5, 1.0), airlight=(0.5, 1.0), gamma=(0, 1.0)),
    ),
)
"""Shares and styles of the training mix: clear, veils, grey veils, patches, dense."""


@dataclass(frozen=True, slots=True)
class Haze:
    """Haze over a batch of pictures: optical depth and airlight of each band."""

    depth_B3HW: Tensor
    airlight_B311: Tensor

    @property
    def transmission_B3HW(self) -> Tensor:
        """Share of the light that passes, 0..1."""
        return torch.exp(-self.depth_B3HW)

    def over(self, clear_B3HW: Tensor) -> Tensor:
        """Put the haze over clear pictures with values 0..1."""
        t = self.transmission_B3HW
        return clear_B3HW * t + self.airlight_B311 * (1 - t)


class HazeField:
    """The haze of one scene or a batch of scenes, drawn once and evaluated at any window.

    Parameters
    ----------
    styles : list of HazeStyle
        One for each sample.
    height, width : int
        Size of the scenes in pixels.
    generator : torch.Generator
        The source of all randomness.
    feature : float, optional
        Size in pixels of the largest structures; by default about the scene, so that few structures fill it.
    """

    def __init__(
        self,
        styles: list[HazeStyle],
        height: int,
        width: int,
        generator: torch.Generator,
        feature: float | None = None,
    ) -> None:
        self._device = generator.device
        self._shape = (height, width)

        def draw(name: str) -> Tensor:
            low, high = torch.tensor([getattr(s, name) for s in styles], device=self._device).T
            drawn: Tensor = low + (high - low) * torch.rand(len(styles), device=self._device, generator=generator)
            return drawn

        self._base_B = draw("base")
        self._extra_B = draw("extra")
        self._coverage_B = draw("coverage")
        self._gain_B = draw("gain")
        coarsest = feature if feature is not None else max(height, width) * _uniform(0.3, 1.2, generator)
        stretch = (1.0, _uniform(0.4, 2.5, generator))
        self._noise = FractalNoise(
            len(styles),
            height,
            width,
            coarsest=coarsest,
            finest=min(coarsest, max(16.0, coarsest / 64)),
            gain=self._gain_B,
            stretch=stretch,
            generator=generator,
        )
        slope_B = torch.rand(len(styles), device=self._device, generator=generator) * 1.2
        angle_B = torch.rand(len(styles), device=self._device, generator=generator) * 2 * torch.pi
        self._slope_2B = slope_B * torch.stack([angle_B.sin(), angle_B.cos()])
        gamma_B = draw("gamma")
        ratio_3 = torch.tensor(WAVELENGTHS, device=self._device) / WAVELENGTHS[1]
        self._law_B311 = (ratio_3 ** -gamma_B[:, None])[:, :, None, None]
        cast_B3 = torch.randn(len(styles), 3, device=self._device, generator=generator) * 0.025
        bluish_B1 = torch.rand(len(styles), 1, device=self._device, generator=generator) * 0.04
        cast_B3 = cast_B3 + bluish_B1 * torch.tensor([-1.0, 0.0, 1.0], device=self._device)
        self._airlight_B311 = (draw("airlight")[:, None] * (1 + cast_B3)).clamp(0.3, 1.0)[:, :, None, None]

    def window(self, row: int, col: int, height: int, width: int) -> Haze:
        """Return the haze of a window; windows agree wherever they overlap (rows and columns multiples of 4)."""
        if row % STRIDE or col % STRIDE:
            raise ValueError(f"row and col must be multiples of {STRIDE}")
        # one coarse cell of halo on each side makes the bilinear enlargement independent of the window
        row_n = _coarse_positions(row, height)
        col_m = _coarse_positions(col, width)
        pattern = self._pattern(row_n, col_m)
        depth_B1nm = (self._base_B[:, None, None] + self._extra_B[:, None, None] * pattern)[:, None]
        full = F.interpolate(depth_B1nm, scale_factor=STRIDE, mode="bilinear", align_corners=False)
        depth_B1HW = full[:, :, STRIDE : STRIDE + height, STRIDE : STRIDE + width]
        return Haze(depth_B1HW * self._law_B311, self._airlight_B311)

    def _pattern(self, row_n: Tensor, col_m: Tensor) -> Tensor:
        """Return the pattern (B, n, m), 0..1, zero outside of what the coverage asks for."""
        noise = self._noise.sample(row_n, col_m)
        height, width = self._shape
        slope_row, slope_col = self._slope_2B[:, :, None, None]
        row_n1, col_m = row_n.to(self._device)[:, None], col_m.to(self._device)
        noise = noise + slope_row * (row_n1 / height - 0.5) + slope_col * (col_m / width - 0.5)
        # where a standard normal exceeds the threshold is the share asked for
        share = self._coverage_B.clamp(max=0.995)
        threshold = -torch.special.ndtri(share)[:, None, None]
        soft_B11 = torch.where(self._coverage_B > 0.9, 3.2, 1.8)[:, None, None]
        edge: Tensor = ((noise - threshold) / soft_B11).clamp(0, 1)
        return edge * edge * (3 - 2 * edge)


def _coarse_positions(start: int, size: int) -> Tensor:
    first = start // STRIDE - 1
    last = -(-(start + size) // STRIDE) + 1
    return (torch.arange(first, last) * STRIDE + STRIDE / 2).float().clamp(min=0)


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), device=generator.device, generator=generator))


def draw_training_styles(batch: int, generator: torch.Generator) -> list[HazeStyle]:
    """Draw a style of the training mix for each sample."""
    shares = torch.tensor([share for share, _ in TRAINING_STYLES], device=generator.device)
    picked = torch.multinomial(shares, batch, replacement=True, generator=generator)
    return [TRAINING_STYLES[i][1] for i in picked.tolist()]


def named_style(name: str) -> HazeStyle:
    """Return the style that a user named.

    Raises
    ------
    UsageError
        When there is no such style.
    """
    if name not in STYLES:
        raise UsageError(f"There is no haze style {name!r}. Use one of {', '.join(STYLES)}.")
    return STYLES[name]


def add_noise(picture_B3HW: Tensor, generator: torch.Generator, sigma: float) -> Tensor:
    """Add sensor noise: each sample gets a standard deviation between 0 and ``sigma``."""
    level = torch.rand(len(picture_B3HW), 1, 1, 1, device=picture_B3HW.device, generator=generator) * sigma
    noise = torch.randn(picture_B3HW.shape, device=picture_B3HW.device, generator=generator)
    return picture_B3HW + level * noise
