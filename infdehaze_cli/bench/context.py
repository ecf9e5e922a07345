"""Does the size of a scene matter? The same ground and haze, alone and inside large scenes, scored alike."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import Affine
from rasterio.windows import Window as RasterWindow

from infdehaze_cli.api import dehaze
from infdehaze_cli.engine import Reporter
from infdehaze_cli.errors import UsageError
from infdehaze_cli.plan import RunConfig
from infdehaze_cli.sample import write_landscape
from infdehaze_cli.scores import Scores, compare_rasters, mean_scores
from infdehaze_cli.synth import synthesise

PLACES = ((0.5, 0.5), (0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75))
"""Where parts are cut out, as shares of the scene: its centre, and the centres of its quarters."""


@dataclass(frozen=True, slots=True)
class ContextRow:
    """Mean PSNR in dB over the parts, under one style of haze."""

    style: str
    hazy: float
    alone: float
    """Each part cleaned as a scene of its own."""
    repeated: float
    """The same pixels, cut out of a cleaned scene of mirrored copies of the part: larger, with nothing else to see."""
    within: float
    """The same pixels, cut out of the cleaned large scene, which has more ground and haze to see."""

    @property
    def size_alone(self) -> float:
        """What size alone changes: quality must not depend on it."""
        return self.repeated - self.alone

    @property
    def difference(self) -> float:
        """What the large scene is better by."""
        return self.within - self.alone

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-ready values."""
        return {**asdict(self), "size_alone": self.size_alone, "difference": self.difference}


def bench_context(
    size: int, part: int, styles: Sequence[str], *, seed: int, config: RunConfig, reporter: Reporter, scratch: Path
) -> list[ContextRow]:
    """Clean a made-up scene, five parts of it, and scenes that repeat one part; score the parts in each.

    Parameters
    ----------
    size, part : int
        Sides in pixels. Haze has structures as large as a part, so that parts differ.
    styles : sequence of str
        Of the haze.

    Raises
    ------
    UsageError
        When the parts do not fit into the scene.
    StorageError
        When the scratch folder cannot hold the scenes.
    """
    if not 1 <= part <= size // 2:
        raise UsageError(f"Parts of {part} px do not fit into a scene of {size} px. Give at most {size // 2}.")
    rows = []
    with tempfile.TemporaryDirectory(prefix="infdehaze-bench-", dir=scratch) as temporary:
        folder = Path(temporary)
        clear, hazy, cleaned = (folder / f"{name}.tif" for name in ("clear", "hazy", "cleaned"))
        write_landscape(clear, size, size, seed=seed)
        for style in styles:
            synthesise(clear, hazy, style=style, seed=seed, feature=part, format="gtiff", overwrite=True)
            dehaze(hazy, cleaned, config=config, reporter=reporter, format="gtiff", overwrite=True)
            scores: dict[str, list[Scores]] = {"hazy": [], "alone": [], "repeated": [], "within": []}
            for place in PLACES:
                row, col = (int(share * size) - part // 2 for share in place)
                truth, there, inside, alone = (
                    folder / f"{name}.tif" for name in ("part-clear", "part-hazy", "part-cleaned", "alone")
                )
                for source, target in ((clear, truth), (hazy, there), (cleaned, inside)):
                    _cut(source, target, row, col, part)
                dehaze(there, alone, config=config, format="gtiff", overwrite=True)
                for name, result in (("hazy", there), ("alone", alone), ("within", inside)):
                    scores[name].append(compare_rasters(result, truth))
                mosaic, clean_mosaic = folder / "mosaic.tif", folder / "clean-mosaic.tif"
                corner = repeat(there, mosaic, size // part)
                dehaze(mosaic, clean_mosaic, config=config, reporter=reporter, format="gtiff", overwrite=True)
                _cut(clean_mosaic, inside, corner, corner, part)
                scores["repeated"].append(compare_rasters(inside, truth))
            rows.append(ContextRow(style, **{name: mean_scores(each).psnr for name, each in scores.items()}))
    return rows


def repeat(src: Path, dst: Path, count: int) -> int:
    """Write so many copies of a square raster a side, every second one mirrored; return where one near the middle is.

    Of that one, which is not mirrored, the first row is returned, which is its first column too.
    """
    with rasterio.open(src) as source:
        picture, profile = source.read(), source.profile
    side = int(picture.shape[1])
    # a row of copies at a time, or large scenes would fill the memory
    row = np.pad(picture, ((0, 0), (0, 0), (0, (count - 1) * side)), mode="symmetric")
    with rasterio.open(dst, "w", **{**profile, "height": count * side, "width": count * side}) as target:
        for i in range(count):
            target.write(row[:, :: -1 if i % 2 else 1], window=RasterWindow(0, i * side, count * side, side))
    return count // 4 * 2 * side


def _cut(src: Path, dst: Path, row: int, col: int, side: int) -> None:
    """Copy the colours of a square of a raster."""
    window = RasterWindow(col, row, side, side)
    with rasterio.open(src) as source:
        profile = {
            **source.profile,
            "driver": "GTiff",
            "height": side,
            "width": side,
            "count": 3,
            "photometric": "RGB",
            "transform": source.transform @ Affine.translation(col, row),
        }
        with rasterio.open(dst, "w", **profile) as target:
            target.write(source.read((1, 2, 3), window=window))
