"""How folders of hazy and clear pictures are laid out, which picture belongs to which, and what is kept for tests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infdehaze_cli.errors import InputError

from .data import pictures_below, walk

SPLIT_SEED = 2026
"""Of the choice of test samples. The paper's own choice is random and was not published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Folder names in lower case; they are found in any case.

    Attributes
    ----------
    clear, hazy : tuple of str
        Names that the folder of clear pictures, and each of hazy ones, can have.
    held_out : int
        Test samples of the paper (supplement, section 3).
    ending : str
        Regular expression of what file names end in beside the name that both pictures of a pair share.
    """

    clear: tuple[str, ...]
    hazy: tuple[str, ...]
    held_out: int = 0
    ending: str = ""


LAYOUTS: dict[str, Layout] = {
    "pairs": Layout(clear=("clear",), hazy=("hazy",)),
    # four levels of haze in the large release, five in the small one; a clear picture has one hazy one in each
    "8kdehaze": Layout(
        clear=("clear",),
        hazy=(*(f"cloud_l{level}" for level in range(1, 5)), *(f"cloud_{level}" for level in range(5))),
        held_out=100,
    ),
    # assumed: its authors' training code reads `haze` (their README says `hazy`) and `gt`, with equal names in both;
    # the archive is not public any more. The paper tests on daytime frames, so name the folder of the daytime subset
    "4kid": Layout(clear=("gt",), hazy=("hazy", "haze"), held_out=100),
    "o-haze": Layout(clear=("gt",), hazy=("hazy",), held_out=5, ending=r"_outdoor_(hazy|GT)$"),
}
"""Layouts of paired data sets by name."""

_HAZY = {"input", "cloud"}.union(*(layout.hazy for layout in LAYOUTS.values()))
"""What folders of hazy pictures are called, in these layouts and others."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A clear picture and the hazy ones of the same scene: one, or one for each level of haze."""

    name: str
    clear: Path
    hazy: tuple[Path, ...]


def _folders(root: Path) -> dict[str, Path]:
    if not root.is_dir():
        raise InputError(f"There is no folder {root}. Name a folder of pictures.")
    return {path.name.lower(): path for path in sorted(root.iterdir()) if path.is_dir()}


def detect(root: Path) -> str:
    """Return the name of the layout that a folder has: one of ``LAYOUTS``, or ``clear`` when it is none of them.

    Raises
    ------
    InputError
        When there is no such folder.
    """
    there = set(_folders(root))
    for name in ("8kdehaze", "pairs", "4kid"):
        layout = LAYOUTS[name]
        if there & set(layout.clear) and there & set(layout.hazy):
            break
    else:
        if looks := sorted({name for _, folders, _ in walk(root) for name in folders if name.lower() in _HAZY}):
            # as clear ground they would teach that haze is to be left
            raise InputError(
                f"{root} has folders called {', '.join(looks)}, and is no layout of pairs that is known. Name the "
                "folder that holds hazy/ and clear/, or say --dataset clear if there is no haze in them."
            )
        return "clear"
    if name == "4kid":
        # the same folders; the names of the files tell them apart
        ending = re.compile(LAYOUTS["o-haze"].ending)
        if any(ending.search(path.stem) for path in pictures_below(_folders(root)["gt"])):
            return "o-haze"
    return name


def find_pairs(root: Path, name: str) -> list[Pair]:
    """Match the pictures of a layout by their names, which may differ in the suffix of their format alone.

    Parameters
    ----------
    root : Path
        The data set.
    name : str
        One of ``LAYOUTS``.

    Returns
    -------
    list of Pair
        Sorted by name.

    Raises
    ------
    InputError
        When a folder is missing or empty, or a picture of a pair is missing.
    """
    layout, there = LAYOUTS[name], _folders(root)
    clear = [there[folder] for folder in layout.clear if folder in there]
    hazy = [there[folder] for folder in layout.hazy if folder in there]
    if not clear or not hazy:
        raise InputError(
            f"{root} has not the folders of the layout {name!r} (clear pictures in {' or '.join(layout.clear)}, hazy "
            f"ones in {', '.join(layout.hazy)}). Name another folder, or another --dataset."
        )
    truth = _by_name(clear[0], layout)
    if not truth:
        raise InputError(f"No picture lies below {clear[0]}. Put the clear pictures there.")
    levels = [_by_name(folder, layout) for folder in hazy]
    for folder, level in zip(hazy, levels, strict=True):
        if odd := sorted(set(level) - set(truth)):
            raise InputError(
                f"{level[odd[0]]} has no clear picture {odd[0]!r} in {clear[0]}. Add it or remove this one."
            )
        if odd := sorted(set(truth) - set(level)):
            raise InputError(f"{truth[odd[0]]} has no hazy picture {odd[0]!r} in {folder}. Add it or remove this one.")
    return [Pair(key, truth[key], tuple(level[key] for level in levels)) for key in sorted(truth)]


def _by_name(folder: Path, layout: Layout) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in pictures_below(folder):
        relative = path.relative_to(folder)
        stem = re.sub(layout.ending, "", relative.stem) if layout.ending else relative.stem
        key = relative.with_name(stem).as_posix()
        if key in found:
            raise InputError(f"{found[key]} and {path} have the same name. Remove one of them.")
        found[key] = path
    return found


def split(pairs: Sequence[Pair], held_out: int) -> tuple[list[Pair], list[Pair]]:
    """Choose the test samples at random, but always the same: (training, test).

    ``held_out`` are taken, or a fifth of what is there if that is less, so that a part of a data set can be used.
    """
    count = min(held_out, len(pairs) // 5)
    chosen = set(np.random.default_rng(SPLIT_SEED).choice(len(pairs), count, replace=False).tolist())
    parts: tuple[list[Pair], list[Pair]] = ([], [])
    for index, pair in enumerate(pairs):
        parts[index in chosen].append(pair)
    return parts
