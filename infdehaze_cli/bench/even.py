"""Seams where they show most: sea, dunes and snow under an even haze, and how such ground is treated without any.

Axes: H W rows and columns.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from infdehaze.weights import read_info
from rasterio.transform import Affine

from infdehaze_cli.api import dehaze
from infdehaze_cli.engine import Reporter
from infdehaze_cli.plan import RunConfig
from infdehaze_cli.scores import compare_rasters, mean_scores
from infdehaze_cli.training.haze import Haze
from infdehaze_cli.training.noise import FractalNoise

NOISE = 0.004
"""Standard deviation of the sensor noise: one digital number of 255."""

AIRLIGHT = (0.82, 0.84, 0.86)


@dataclass(frozen=True, slots=True)
class EvenGround:
    """Ground of nearly one colour."""

    colour: tuple[float, float, float]
    shade: float
    """Relative deviation of its brightness over hundreds of pixels."""
    ripple: float
    """The same over some pixels: waves, drifts."""


GROUNDS = {
    "sea": EvenGround((0.07, 0.16, 0.22), 0.04, 0.03),
    "dunes": EvenGround((0.78, 0.68, 0.52), 0.05, 0.02),
    "snow": EvenGround((0.90, 0.92, 0.94), 0.015, 0.008),
}


@dataclass(frozen=True, slots=True)
class EvenRow:
    """What became of one ground under one haze."""

    ground: str
    depth: float
    """Optical depth of the haze."""
    hazy: float
    """PSNR of the input in dB."""
    restored: float
    seam: float | None
    """Mean seam index; where hardly anything is changed, that of one scene is mostly chance."""

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-ready values."""
        return asdict(self)


def even_scene(ground: EvenGround, side: int, seed: int) -> torch.Tensor:
    """Draw ground of nearly one colour: float32 (1, 3, side, side), values 0..1."""
    generator = torch.Generator().manual_seed(seed)
    position = torch.arange(side, dtype=torch.float32)

    def noise(coarsest: float, finest: float) -> torch.Tensor:
        field = FractalNoise(1, side, side, coarsest=coarsest, finest=finest, gain=0.6, generator=generator)
        return field.sample(position, position)

    light_1HW = 1 + ground.shade * noise(600, 100) + ground.ripple * noise(24, 4)
    return (torch.tensor(ground.colour)[:, None, None] * light_1HW)[None].clamp(0, 1)


def bench_even(
    side: int, depths: Sequence[float], *, repeats: int, seed: int, config: RunConfig, reporter: Reporter
) -> list[EvenRow]:
    """Clean each ground under each haze, and look for the borders of tiles.

    Parameters
    ----------
    side : int
        Of the scenes, in pixels.
    depths : sequence of float
        Optical depths of the haze, the same everywhere; 0 leaves the ground clear.
    repeats : int
        Scenes of each ground, over which figures are means.
    """
    preset = read_info(config.weights).preset
    overlap = preset.overlap if config.overlap is None else config.overlap
    rows = []
    with tempfile.TemporaryDirectory(prefix="infdehaze-bench-") as temporary:
        clear, hazy, restored = (Path(temporary) / f"{name}.tif" for name in ("clear", "hazy", "restored"))
        for name, ground in GROUNDS.items():
            for depth in depths:
                haze = Haze(torch.full((1, 3, 1, 1), depth), torch.tensor(AIRLIGHT).view(1, 3, 1, 1))
                before, after = [], []
                for number in range(repeats):
                    truth = even_scene(ground, side, seed + number)
                    generator = torch.Generator().manual_seed(seed + number)
                    _write(clear, truth)
                    _write(hazy, haze.over(truth) + NOISE * torch.randn(truth.shape, generator=generator))
                    dehaze(hazy, restored, config=config, reporter=reporter, format="gtiff", overwrite=True)
                    before.append(compare_rasters(hazy, clear))
                    after.append(compare_rasters(restored, clear, hazy=hazy, tile=preset.tile, overlap=overlap))
                mean = mean_scores(after)
                rows.append(EvenRow(name, depth, mean_scores(before).psnr, mean.psnr, mean.seam))
    return rows


def _write(path: Path, picture_13HW: torch.Tensor) -> None:
    values = (picture_13HW[0].clamp(0, 1) * 255).round().numpy().astype(np.uint8)
    shape = {"height": values.shape[1], "width": values.shape[2], "count": 3, "dtype": "uint8", "photometric": "RGB"}
    placed = {"crs": "EPSG:32633", "transform": Affine(10, 0, 463_000, 0, -10, 5_571_000)}
    with rasterio.open(path, "w", driver="GTiff", **shape, **placed) as file:
        file.write(values)
