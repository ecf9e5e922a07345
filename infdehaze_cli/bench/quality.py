"""Quality on clear pictures with seeded synthetic haze, through the whole tool: the hazy input beside our output."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infdehaze_cli.api import dehaze
from infdehaze_cli.engine import Reporter
from infdehaze_cli.errors import InputError, StorageError
from infdehaze_cli.plan import RunConfig
from infdehaze_cli.scores import Scores, compare_rasters, mean_scores
from infdehaze_cli.synth import synthesise
from infdehaze_cli.training.data import PICTURES
from infdehaze_cli.training.haze import STYLES


@dataclass(frozen=True, slots=True)
class QualityRow:
    """Mean scores over all pictures of one kind of haze."""

    before: Scores
    after: Scores


def bench_quality(
    clear: Path, *, config: RunConfig, seed: int, reporter: Reporter, keep: Path | None = None
) -> dict[str, QualityRow]:
    """Score every picture under every style of haze, and without any.

    Parameters
    ----------
    clear : Path
        Folder of clear pictures, searched deeply.
    seed : int
        Picture number ``i`` gets the haze of seed ``seed + i``.
    keep : Path, optional
        Folder for hazy and restored rasters, by style; a temporary one otherwise.

    Returns
    -------
    dict
        By style; ``clear`` is the picture as it is, where ``after`` says how well clear ground is left alone.

    Raises
    ------
    InputError
        When there is no picture, or one cannot be read.
    StorageError
        When ``keep`` cannot be made or written.
    """
    pictures = sorted(p for p in clear.rglob("*") if p.suffix.lower() in PICTURES) if clear.is_dir() else []
    if not pictures:
        raise InputError(f"No picture lies below {clear}. Name a folder with clear pictures.")
    rows: dict[str, QualityRow] = {}
    with tempfile.TemporaryDirectory(prefix="infdehaze-bench-") as temporary:
        for style in ("clear", *STYLES):
            folder = (keep or Path(temporary)) / style
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError(
                    f"The folder {folder} cannot be made ({error.strerror}). Name another with --keep."
                ) from error
            reporter.phase(style, len(pictures))
            pairs = [_score(path, i, style, seed, folder, config, reporter.advance) for i, path in enumerate(pictures)]
            before, after = zip(*pairs, strict=True)
            rows[style] = QualityRow(mean_scores(before), mean_scores(after))
    return rows


def _score(
    path: Path, number: int, style: str, seed: int, folder: Path, config: RunConfig, advance: Callable[[], None]
) -> tuple[Scores, Scores]:
    name = f"{number:04d}-{path.stem}"
    hazy, restored = folder / f"{name}-hazy.tif", folder / f"{name}-restored.tif"
    if style == "clear":
        hazy = path
    else:
        synthesise(path, hazy, style=style, seed=seed + number, format="gtiff", overwrite=True)
    dehaze(hazy, restored, config=config, format="gtiff", overwrite=True)
    scores = compare_rasters(hazy, path), compare_rasters(restored, path, hazy=hazy, overlap=config.overlap or 0)
    advance()
    return scores
