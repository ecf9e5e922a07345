"""What becomes of ground that is all of one colour, as water, sand and snow are: a table for ``docs/faq.md``.

python tools/even_ground.py
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import Affine

from infdehaze_cli import RunConfig, dehaze

GROUND = {"dark water": (40, 70, 90), "grey water": (120, 130, 135), "sand": (215, 195, 160), "snow": (240, 242, 246)}
SIDE, NOISE = 512, 4
"""Pixels of a side, and the deviation of each value."""


def rows(strengths: tuple[float, ...] = (1.0, 0.5)) -> Iterator[tuple[str, ...]]:
    """Yield the name of a ground, its mean colour, and that of the output at each strength."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for name, colour in GROUND.items():
            noisy = np.array(colour)[:, None, None] + rng.normal(0, NOISE, (3, SIDE, SIDE))
            src, dst = Path(folder) / "src.tif", Path(folder) / "dst.tif"
            shape = {"count": 3, "height": SIDE, "width": SIDE, "dtype": "uint8", "photometric": "RGB"}
            place = {"crs": "EPSG:32633", "transform": Affine(1, 0, 463_000, 0, -1, 5_571_000)}
            with rasterio.open(src, "w", driver="GTiff", **shape, **place) as file:
                file.write(noisy.clip(0, 255).astype(np.uint8))
            found = [_mean(src)]
            for strength in strengths:
                dehaze(src, dst, config=RunConfig(strength=strength), overwrite=True)
                found.append(_mean(dst))
            yield name, *found


def _mean(path: Path) -> str:
    with rasterio.open(path) as file:
        return ", ".join(f"{value:.0f}" for value in file.read().mean(axis=(1, 2)))


if __name__ == "__main__":
    for row in rows():
        print(f"| {' | '.join(row)} |", flush=True)
