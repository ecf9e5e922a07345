"""Quality through the whole tool: our weights beside the hazy input and the classical methods, against the truth."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from infdehaze.weights import read_info

from infdehaze_cli.api import dehaze
from infdehaze_cli.engine import Reporter
from infdehaze_cli.errors import InputError, StorageError, UsageError
from infdehaze_cli.plan import RunConfig
from infdehaze_cli.scores import Scores, compare_rasters, mean_scores
from infdehaze_cli.synth import synthesise
from infdehaze_cli.training.data import pictures_below
from infdehaze_cli.training.haze import STYLES

from .classical import CLASSICAL, clean_classically
from .deeper import narrow, widen
from .pairs import find_pairs, list_pictures
from .sheet import ROWS, SheetRow, read_panels, spread

INPUT, OURS, TRUTH = "input", "infdehaze", "truth"
METHODS = (INPUT, OURS, *CLASSICAL)
SCORED = (*METHODS, TRUTH)
"""The truth is scored too: its seam index is that of a perfect result, which the ground alone makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One picture to be cleaned."""

    group: str
    """``clear``, a style of haze, ``pairs`` or ``hazy``: what means are taken over."""
    name: str
    hazy: Path | None
    """None when haze of the style ``group`` is to be made over ``clear``."""
    clear: Path | None
    """The truth, where there is one."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Quality:
    """What a benchmark found."""

    scores: dict[str, dict[str, dict[str, Scores]]]
    """By group, picture and method (`SCORED`); nothing for pictures without a truth."""
    sheet: list[SheetRow]
    """Rows of the pictures that were chosen for a contact sheet."""

    def means(self, group: str) -> dict[str, Scores]:
        """Return the mean scores over a group, by method."""
        return {method: mean_scores(each[method] for each in self.scores[group].values()) for method in SCORED}

    def gain(self, group: str) -> float:
        """Return by how many dB the mean PSNR of ours is above that of the input."""
        means = self.means(group)
        return means[OURS].psnr - means[INPUT].psnr

    def mean_gain(self) -> float | None:
        """Return the mean gain over the styles of made-up haze in dB, None without one."""
        gains = [self.gain(group) for group in self.scores if group in STYLES]
        return sum(gains) / len(gains) if gains else None

    def to_dict(self) -> dict[str, Any]:
        """Return means by group and method, and scores by group, picture and method, as JSON-ready values."""
        return {
            group: {
                "means": {method: scores.to_dict() for method, scores in self.means(group).items()},
                "pictures": {
                    name: {method: scores.to_dict() for method, scores in each.items()}
                    for name, each in pictures.items()
                },
            }
            for group, pictures in self.scores.items()
        }


def clear_cases(folder: Path, seed: int) -> list[Case]:
    """List every picture below a folder of clear ones as it is, and under every style of haze.

    Picture number ``i`` gets the haze of seed ``seed + i``. As it is, scores say how well clear ground is left alone.

    Raises
    ------
    InputError
        When there is none.
    """
    pictures = pictures_below(folder) if folder.is_dir() else []
    if not pictures:
        raise InputError(f"No picture lies below {folder}. Name a folder with clear pictures.")
    return [
        Case(
            group=group,
            name=f"{i:04d}-{path.stem}",
            hazy=path if group == "clear" else None,
            clear=path,
            seed=seed + i,
        )
        for group in ("clear", *STYLES)
        for i, path in enumerate(pictures)
    ]


def pair_cases(folder: Path) -> list[Case]:
    """List the pairs of a folder; see `find_pairs` for its layouts and errors."""
    return [Case(group="pairs", name=pair.name, hazy=pair.hazy, clear=pair.clear) for pair in find_pairs(folder)]


def hazy_cases(folder: Path) -> list[Case]:
    """List pictures under real haze without a truth: as many of a folder, evenly chosen, as a sheet holds.

    Raises
    ------
    InputError
        When there is none.
    """
    pictures = list_pictures(folder)
    chosen = (pictures[i] for i in spread(len(pictures), ROWS))
    return [Case(group="hazy", name=path.stem, hazy=path, clear=None) for path in chosen]


def bench_quality(
    cases: Sequence[Case],
    *,
    config: RunConfig,
    reporter: Reporter,
    keep: Path | None = None,
    sheet: bool = False,
    bits: int = 8,
) -> Quality:
    """Clean every picture by every method, and score what came out.

    Parameters
    ----------
    cases : sequence of Case
        Grouped: those of a group follow each other.
    keep : Path, optional
        Folder for hazy and restored rasters, by group; nothing is kept otherwise.
    sheet : bool
        Whether rows for a contact sheet are wanted: `ROWS` of them at most, evenly chosen.
    bits : int
        8 to clean pictures as they are; up to 16 to clean uint8 pictures as uint16 of so many bits. What comes out is
        scored with 8 bits.

    Raises
    ------
    InputError
        When a picture cannot be read or processed.
    UsageError
        When a picture that is to get more bits has more than 8.
    StorageError
        When ``keep`` cannot be made or written.
    """
    preset = read_info(config.weights).preset
    tiling = (preset.tile, preset.overlap if config.overlap is None else config.overlap)
    shown = set(spread(len(cases), ROWS)) if sheet else set()
    quality = Quality({}, [])
    group = None
    for i, case in enumerate(cases):
        if case.group != group:
            group = case.group
            reporter.phase(group, sum(other.group == group for other in cases))
        with tempfile.TemporaryDirectory(prefix="infdehaze-bench-") as temporary:
            rasters = _clean(case, _folder(keep, case.group) if keep else Path(temporary), config, bits)
            scores = _score(rasters, *tiling) if TRUTH in rasters else {}
            if scores:
                quality.scores.setdefault(case.group, {})[case.name] = scores
            if i in shown:
                quality.sheet.append(_row(case, rasters, scores))
        reporter.advance()
    return quality


def check_places(cases: Sequence[Case], keep: Path | None, sheet: Path | None) -> None:
    """Check that nothing which is scored would be replaced.

    Raises
    ------
    UsageError
        When rasters would be kept where pictures are read, and so be read the next time, or a sheet is a picture.
    """
    read = {path.resolve() for case in cases for path in (case.hazy, case.clear) if path is not None}
    folders = {path.parent for path in read}
    for folder in () if keep is None else sorted({(keep / case.group).resolve() for case in cases}):
        if any(folder in (other, *other.parents) or other in folder.parents for other in folders):
            raise UsageError(f"{folder} is, holds or lies in a folder of pictures. Name another with --keep.")
    if sheet is not None and sheet.resolve() in read:
        raise UsageError(f"{sheet} is one of the pictures. Name another file with --sheet.")


def _folder(keep: Path, group: str) -> Path:
    folder = keep / group
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"The folder {folder} cannot be made ({error.strerror}). Name another with --keep."
        ) from error
    return folder


def _clean(case: Case, folder: Path, config: RunConfig, bits: int) -> dict[str, Path]:
    """Return the rasters of a case: by method, and the truth where there is one."""

    def place(what: str) -> Path:
        return folder / f"{case.name}-{what}.tif"

    hazy = case.hazy
    if hazy is None:
        assert case.clear is not None, "haze is made over a clear picture"
        hazy = place("hazy")
        synthesise(case.clear, hazy, style=case.group, seed=case.seed, format="gtiff", overwrite=True)
    rasters = {INPUT: hazy, OURS: place("restored"), **{name: place(name) for name in CLASSICAL}}
    for method in METHODS[1:]:
        _apply(method, hazy, rasters[method], config, bits)
    return rasters if case.clear is None else {**rasters, TRUTH: case.clear}


def _apply(method: str, hazy: Path, result: Path, config: RunConfig, bits: int) -> None:
    """Write what a method makes of a raster, with 8 bits again if it was given more."""
    if bits > 8:
        with tempfile.TemporaryDirectory(prefix="infdehaze-bench-") as temporary:
            given, found = Path(temporary) / "given.tif", Path(temporary) / "found.tif"
            widen(hazy, given, bits)
            _apply(method, given, found, config, 8)
            narrow(found, result, bits)
    elif method == OURS:
        dehaze(hazy, result, config=config, format="gtiff", overwrite=True)
    else:
        clean_classically(hazy, result, CLASSICAL[method])


def _score(rasters: Mapping[str, Path], tile: int, overlap: int) -> dict[str, Scores]:
    """Score each method. The classical ones have no tiles: their seam index is what the ground alone gives."""
    hazy, truth = rasters[INPUT], rasters[TRUTH]
    scores = {INPUT: compare_rasters(hazy, truth)}
    for method in SCORED[1:]:
        scores[method] = compare_rasters(rasters[method], truth, hazy=hazy, tile=tile, overlap=overlap)
    return scores


def _row(case: Case, rasters: Mapping[str, Path], scores: Mapping[str, Scores]) -> SheetRow:
    return SheetRow(
        f"{case.group} {case.name}",
        {name.replace("_", " "): panel for name, panel in read_panels(rasters).items()},
        {name.replace("_", " "): _caption(s) for name, s in scores.items() if name != TRUTH},
    )


def _caption(scores: Scores) -> str:
    return f"{scores.psnr:.1f} dB, SSIM {scores.ssim:.3f}" if isfinite(scores.psnr) else "equal"
