"""Folders of hazy and clear pictures of the same places, as data sets are laid out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from infdehaze_cli.errors import InputError
from infdehaze_cli.raster import Scene
from infdehaze_cli.training.data import PICTURES

HAZY_FOLDERS = ("hazy", "haze", "input", "cloud")
CLEAR_FOLDERS = ("clear", "gt", "target", "label")
"""What the two folders of a data set are called, in any case: 8KDehaze, RICE, O-HAZE and most others."""

_ENDING = re.compile(r"[-_ ](hazy|haze|input|cloud|cloudy|clear|gt|target|label)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pair:
    """A hazy picture and the clear one of the same place."""

    name: str
    hazy: Path
    clear: Path


def list_pictures(folder: Path) -> list[Path]:
    """Return the pictures directly in a folder, by name.

    Raises
    ------
    InputError
        When it is missing or holds none.
    """
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [p for p in files if p.suffix.lower() in PICTURES and p.is_file() and not p.name.startswith(".")]
    if not found:
        raise InputError(f"No picture lies in {folder}. Name a folder with pictures.")
    return found


def find_pairs(root: Path) -> list[Pair]:
    """Match the pictures of ``root/hazy`` and ``root/clear``, or what these folders are called in other data sets.

    Names match without their file type, and then without an ending such as ``_hazy``, ``_GT`` or ``_clear``.

    Raises
    ------
    InputError
        When a folder is missing or there are two of a kind, a picture has no partner or several, or the two of a pair
        differ in size or number of bands. The message names the folder or the pair.
    """
    hazy_folder, clear_folder = _folder(root, HAZY_FOLDERS), _folder(root, CLEAR_FOLDERS)
    hazy, clear = _by_stem(list_pictures(hazy_folder)), _by_stem(list_pictures(clear_folder))
    same = hazy.keys() & clear.keys()
    pairs = [Pair(name, hazy.pop(name), clear.pop(name)) for name in sorted(same)]
    hazy, clear = _without_ending(hazy), _without_ending(clear)
    for files, others, other_folder in ((hazy, clear, clear_folder), (clear, hazy, hazy_folder)):
        for name in sorted(files.keys() - others.keys()):
            raise InputError(f"{files[name]} has no partner in {other_folder}. Add it there, or take this one out.")
    for name in sorted(hazy.keys() & same):
        raise InputError(f"{hazy[name]} claims a partner, {name}, that has one already. Take one of them out.")
    pairs += [Pair(name, hazy[name], clear[name]) for name in hazy]
    for pair in pairs:
        _check(pair)
    return sorted(pairs, key=lambda pair: pair.name)


def _folder(root: Path, names: tuple[str, ...]) -> Path:
    found = [p for p in sorted(root.iterdir()) if p.is_dir() and p.name.lower() in names] if root.is_dir() else []
    if len(found) != 1:
        what = "none" if not found else " and ".join(p.name for p in found)
        raise InputError(f"{root} needs one folder called {', '.join(names[:-1])} or {names[-1]}, and has {what}.")
    return found[0]


def _by_stem(files: list[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in files:
        if path.stem in found:
            raise InputError(f"{found[path.stem]} and {path} have the same name. Take one of them out.")
        found[path.stem] = path
    return found


def _without_ending(files: dict[str, Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for stem, path in files.items():
        name = _ENDING.sub("", stem)
        if name in found:
            raise InputError(f"{found[name]} and {path} claim the same partner, {name}. Take one of them out.")
        found[name] = path
    return found


def _check(pair: Pair) -> None:
    with Scene.open(pair.hazy) as hazy, Scene.open(pair.clear) as clear:
        shapes = [f"{s.width} x {s.height} px in {s.count} bands" for s in (hazy, clear)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"The pair {pair.name} does not match: {pair.hazy} has {shapes[0]}, {pair.clear} has {shapes[1]}. "
            "Bring them onto one grid, or take the pair out."
        )
