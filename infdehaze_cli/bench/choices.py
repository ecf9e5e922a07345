"""One option of a run, all its values: what each costs and what it does to the pixels, on one made-up hazy scene."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from infdehaze.weights import load_model

from infdehaze_cli.api import dehaze
from infdehaze_cli.engine import Reporter
from infdehaze_cli.geometry import split_windows
from infdehaze_cli.plan import RunConfig
from infdehaze_cli.sample import write_landscape
from infdehaze_cli.scores import compare_rasters
from infdehaze_cli.synth import synthesise

CHOICES: Mapping[str, tuple[Any, ...]] = {
    "residual_dtype": ("fp32", "fp16", "bf16", "int8"),
    "codec": ("none", "lz4", "zstd", "blosc"),
    "overlap": (0, 1 / 16, 1 / 8, 1 / 4, 1 / 2),
    "residuals": ("dram", "ssd", "recompute"),
}
"""Options that can be compared, with their values, which the first of them is the measure for; overlaps are parts of a
tile."""


@dataclass(frozen=True, slots=True)
class ChoiceRow:
    """What a run with one value took and gave."""

    value: str
    tiles: int
    stored_bytes: int
    """What the residuals took on disk, as files; 0 where nothing is stored."""
    seconds: float
    psnr: float
    """dB against the clear scene."""
    seam: float | None
    psnr_lost: float
    """dB that the first value has more."""
    largest_difference: int
    """Digital numbers, from the output of the first value."""
    changed: float
    """Share of the values that differ from it."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self)


class _StoreSize:
    """Looks at the scratch folder when the decoder begins: all residuals are there then."""

    def __init__(self, inner: Reporter, scratch: Path) -> None:
        self._inner, self._scratch, self.bytes = inner, scratch, 0

    def phase(self, name: str, total: int) -> None:
        """Measure, and pass it on."""
        if name == "decode":
            self.bytes = sum(f.stat().st_size for f in self._scratch.glob("*/residuals/c/**/*") if f.is_file())
        self._inner.phase(name, total)

    def advance(self, steps: int = 1) -> None:
        """Pass it on."""
        self._inner.advance(steps)

    def note(self, text: str) -> None:
        """Pass it on."""
        self._inner.note(text)


def bench_choices(
    option: str, size: int, *, style: str, seed: int, config: RunConfig, reporter: Reporter
) -> list[ChoiceRow]:
    """Run one scene with every value of an option.

    Parameters
    ----------
    option : str
        A key of :data:`CHOICES`.
    size : int
        Side of the scene in pixels.
    style, seed
        Of the haze.
    config : RunConfig
        Everything else. Where the option is about what is stored, residuals go to disk.

    Returns
    -------
    list of ChoiceRow
    """
    if option in ("residual_dtype", "codec"):
        config = replace(config, residuals="ssd")
    tile = load_model(config.weights).preset.tile
    rows: list[ChoiceRow] = []
    with tempfile.TemporaryDirectory(prefix="infdehaze-bench-", dir=config.scratch) as temporary:
        folder = Path(temporary)
        clear, hazy, first = (folder / f"{name}.tif" for name in ("clear", "hazy", "first"))
        scratch = folder / "scratch"
        scratch.mkdir()
        write_landscape(clear, size, size, seed=seed)
        synthesise(clear, hazy, style=style, seed=seed)
        for choice in CHOICES[option]:
            value = round(choice * tile) if option == "overlap" else choice
            target = folder / "restored.tif" if rows else first
            chosen = replace(config, scratch=scratch, **{option: value})
            measuring = _StoreSize(reporter, scratch)
            run = dehaze(hazy, target, config=chosen, format="gtiff", overwrite=True, reporter=measuring)
            scores = compare_rasters(target, clear, hazy=hazy, tile=tile, overlap=chosen.overlap or 0)
            largest, changed = _difference(first, target)
            rows.append(
                ChoiceRow(
                    str(value),
                    run.tiles,
                    measuring.bytes,
                    run.seconds["total"],
                    scores.psnr,
                    scores.seam,
                    rows[0].psnr - scores.psnr if rows else 0.0,
                    largest,
                    changed,
                )
            )
    return rows


def _difference(first: Path, second: Path) -> tuple[int, float]:
    """Return the largest difference of two rasters, and the share of values that differ."""
    largest, changed = 0, 0
    with rasterio.open(first) as a, rasterio.open(second) as b:
        for window in split_windows(a.height, a.width, 1024, 1024):
            place = rasterio.windows.Window(window.col, window.row, window.width, window.height)
            step = np.abs(a.read(window=place).astype(int) - b.read(window=place))
            largest, changed = max(largest, int(step.max())), changed + int(np.count_nonzero(step))
        return largest, changed / (a.count * a.height * a.width)


def shown(rows: Sequence[ChoiceRow]) -> list[tuple[str, ...]]:
    """Return rows of words for a table; see :data:`HEADER`."""
    return [
        (
            row.value,
            f"{row.tiles}",
            f"{row.stored_bytes / 1024**2:.2f}",
            f"{row.seconds:.2f}",
            f"{row.psnr:.3f}",
            f"{row.psnr_lost:+.4f}",
            f"{row.largest_difference}",
            f"{100 * row.changed:.3f}",
            "" if row.seam is None else f"{row.seam:.3f}",
        )
        for row in rows
    ]


HEADER = ("", "tiles", "stored MiB", "s", "PSNR", "lost dB", "largest step", "changed %", "seam")
