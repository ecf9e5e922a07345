"""Fractal noise that can be sampled at any rows and columns, so that a scene's haze can be made window by window.

Axes: B samples, i j rows and columns of a lattice, n m sampled rows and columns.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def spline_weights(position_n: Tensor, size: int) -> Tensor:
    """Return the cubic B-spline weights (n, size) of lattice points for sampling positions in 1..size - 2."""
    first = position_n.floor()
    f = (position_n - first)[:, None]
    taps = torch.cat([(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3], 1) / 6
    index = first.long()[:, None] + torch.arange(-1, 3, device=position_n.device)
    # positions beyond the last cell repeat its edge
    index = index.clamp(0, size - 1)
    return torch.zeros(len(position_n), size, device=position_n.device).scatter_add_(1, index, taps)


class FractalNoise:
    """Sum of octaves of smooth random lattices, about unit variance, over an area of ``height`` x ``width`` pixels.

    Parameters
    ----------
    batch : int
        Independent samples.
    height, width : float
        Size of the area in pixels.
    coarsest, finest : float
        Wavelengths in pixels of the first octave and a lower bound for the last one.
    gain : float or Tensor
        Ratio of the amplitudes of an octave and the one before; a number or one for each sample (B,).
    stretch : tuple of float
        Factors on the wavelengths along rows and columns, for streaks.
    generator : torch.Generator
        The source of all randomness; the lattices live on its device.
    """

    def __init__(
        self,
        batch: int,
        height: float,
        width: float,
        *,
        coarsest: float,
        finest: float,
        gain: float | Tensor,
        stretch: tuple[float, float] = (1.0, 1.0),
        generator: torch.Generator,
    ) -> None:
        if not 0 < finest <= coarsest < math.inf:
            raise ValueError("finest must be positive and not above coarsest, which must be finite")
        device = generator.device
        gain_B = torch.as_tensor(gain, device=device, dtype=torch.float32).expand(batch)
        amplitude_B = torch.ones(batch, device=device)
        total_B = torch.zeros(batch, device=device)
        self._octaves: list[tuple[float, float, Tensor, Tensor]] = []
        offsets = []
        wavelength = coarsest
        while wavelength >= finest:
            step_row, step_col = wavelength * stretch[0], wavelength * stretch[1]
            shape = (batch, int(height / step_row) + 5, int(width / step_col) + 5)
            lattice_Bij = torch.randn(shape, device=device, generator=generator)
            offsets.append(torch.rand(2, device=device, generator=generator))
            self._octaves.append((step_row, step_col, lattice_Bij, amplitude_B))
            total_B = total_B + amplitude_B**2
            amplitude_B = amplitude_B * gain_B
            wavelength /= 2
        # to the host at once, because a GPU is waited for each time
        self._offsets: list[list[float]] = torch.stack(offsets).tolist()
        # cubic B-splines along both axes leave white noise about 0.48 of its standard deviation
        self._scale_B11 = (1 / (0.48 * total_B.sqrt()))[:, None, None]

    def sample(self, row_n: Tensor, col_m: Tensor) -> Tensor:
        """Return the noise (B, n, m) at pixel positions, which are float32 on the host.

        They are the same values whatever else is sampled with them, on the device of the generator.
        """
        total: Tensor | float = 0.0
        for (step_row, step_col, lattice_Bij, amplitude_B), offset in zip(self._octaves, self._offsets, strict=True):
            left_ni, lattice = _touched(row_n / step_row + 1 + offset[0], lattice_Bij, 1)
            right_mj, lattice = _touched(col_m / step_col + 1 + offset[1], lattice, 2)
            total = total + amplitude_B[:, None, None] * (left_ni @ lattice @ right_mj.T)
        assert isinstance(total, Tensor)
        return total * self._scale_B11


def _touched(position_n: Tensor, lattice_Bij: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Cut the lattice to the points that these positions need, so that windows of huge areas stay cheap."""
    low = max(0, int(position_n.min()) - 1)
    high = min(lattice_Bij.shape[axis], int(position_n.max()) + 3)
    weights_ni = spline_weights((position_n - low).to(lattice_Bij.device), high - low)
    return weights_ni, lattice_Bij.narrow(axis, low, high - low)
