"""The demo: make a landscape, put haze over it, clean it, score it, draw it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import rasterio
from infdehaze.weights import resolve_weights
from rasterio.errors import RasterioError

from infdehaze_cli.api import RunResult, dehaze
from infdehaze_cli.engine import Reporter
from infdehaze_cli.errors import StorageError, UsageError
from infdehaze_cli.geometry import split_windows
from infdehaze_cli.plan import RunConfig
from infdehaze_cli.scores import Scores, compare_rasters
from infdehaze_cli.synth import synthesise
from infdehaze_cli.training.haze import named_style

from .before_after import draw_before_after
from .landscape import BLOCK, SOURCE, write_landscape

NAMES = ("clear.tif", "hazy.tif", "transmission.tif", "restored.tif", "before-after.png")
"""What a demo makes."""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo made and measured."""

    clear: Path
    hazy: Path
    restored: Path
    picture: Path
    before: Scores
    after: Scores
    run: RunResult


def run_demo(folder: Path, *, size: int, seed: int, style: str, config: RunConfig, reporter: Reporter) -> DemoResult:
    """Make everything below ``folder``, replacing an earlier demo.

    Parameters
    ----------
    folder : Path
        Made if it is missing.
    size : int
        Side of the scene in pixels.
    seed : int
        Which landscape, and which haze over it.
    style : str
        Kind of haze.

    Raises
    ------
    StorageError
        When the folder cannot be made or written.
    UsageError
        When there is no such style, or the folder has files of these names that no demo has made.
    """
    named_style(style)  # a wrong name is said at once, not after the landscape
    # before the minutes of work that would be lost
    resolve_weights(config.weights)
    _check_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"The folder {folder} cannot be made ({error.strerror}). Name another with -o.") from error
    clear, hazy, transmission, restored, drawn = (folder / name for name in NAMES)
    reporter.phase("landscape", len(list(split_windows(size, size, BLOCK, BLOCK))))
    try:
        write_landscape(clear, size, size, seed=seed, progress=lambda done, total: reporter.advance())
    except (RasterioError, OSError) as error:
        raise StorageError(f"{clear} cannot be written ({error}). Check the folder and its free space.") from error
    synthesise(clear, hazy, style=style, seed=seed, transmission=transmission, overwrite=True, reporter=reporter)
    run = dehaze(hazy, restored, config=config, overwrite=True, reporter=reporter)
    reporter.phase("score", 2)
    before = compare_rasters(hazy, clear)
    reporter.advance()
    after = compare_rasters(restored, clear, hazy=hazy)
    reporter.advance()
    picture = draw_before_after({"hazy": hazy, "infdehaze": restored, "truth": clear}, drawn)
    return DemoResult(clear, hazy, restored, picture, before, after, run)


def _check_folder(folder: Path) -> None:
    """Check that what would be replaced is an earlier demo, which is told by its landscape."""
    there = [path for name in NAMES if (path := folder / name).is_file()]
    if not there:
        return
    try:
        with rasterio.open(folder / NAMES[0]) as clear:
            made = clear.tags().get("source") == SOURCE
    except RasterioError:
        made = False
    if not made:
        raise UsageError(
            f"{there[0]} is there, without the {NAMES[0]} of an earlier demo. Name another folder with -o."
        )
