"""Pairs of hazy and clear pictures: the same crop of both, turned alike, colours as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infdehaze_cli.errors import InputError

from .data import IN_MEMORY, TRIES, Batch, Once, Picture, open_pictures, turn
from .layouts import LAYOUTS, Pair, find_pairs, split


@dataclass(frozen=True, slots=True)
class Scene:
    """A clear picture and the hazy ones of the same ground, all of one size."""

    clear: Picture
    hazy: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class PairedFolder:
    """Scenes of a paired data set, without its test samples; see :mod:`infdehaze_cli.training.layouts`.

    Every scene is drawn alike, and every level of its haze. Nothing is known about the haze but the pictures.
    """

    scenes: list[Scene]
    held_out: tuple[str, ...]
    """Names of the scenes that are kept for tests."""
    on_skip: Callable[[str], None]

    @classmethod
    def open(
        cls, root: Path, on_skip: Callable[[str], None], *, layout: str = "pairs", limit: int = IN_MEMORY
    ) -> PairedFolder:
        """Open the training part of a data set; broken pictures are named to ``on_skip`` and left out.

        Raises
        ------
        InputError
            When a folder is missing, pictures do not make pairs or differ in size, or no pair can be read.
        """
        skips = Once(on_skip)
        chosen, held_out = split(find_pairs(root, layout), LAYOUTS[layout].held_out)
        paths = [path for pair in chosen for path in (pair.clear, *pair.hazy)]
        pictures = open_pictures(paths, skips, limit)
        scenes = [scene for pair in chosen if (scene := _scene(pair, pictures))]
        if not scenes:
            raise InputError(f"No pair below {root} can be read. Name a folder with pairs of pictures.")
        return cls(scenes, tuple(pair.name for pair in held_out), skips)

    @property
    def count(self) -> int:
        """Number of clear pictures."""
        return len(self.scenes)

    def cut(self, side: int, count: int, rng: np.random.Generator) -> Tensor:
        """Draw crops of both pictures, uint8, hazy first; see :class:`~infdehaze_cli.training.data.TrainingData`."""
        return torch.from_numpy(np.stack([self.draw(side, rng) for _ in range(count)]))

    def prepare(self, crops_BCHW: Tensor, generator: torch.Generator) -> Batch:
        """Scale crops to 0..1 and take them apart; see :class:`~infdehaze_cli.training.data.TrainingData`."""
        hazy_B3HW, clear_B3HW = (crops_BCHW.float() / 255).chunk(2, 1)
        return Batch(clear_B3HW.contiguous(), hazy_B3HW.contiguous())

    def draw(self, side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Draw one crop (6, side, side), hazy above clear; files that turn out to be broken are named and passed."""
        for _ in range(TRIES):
            scene = self.scenes[rng.integers(len(self.scenes))]
            hazy = scene.hazy[rng.integers(len(scene.hazy))]
            row, col = (int(rng.integers(max(0, size - side) + 1)) for size in scene.clear.shape[1:])
            place = (slice(None), slice(row, row + side), slice(col, col + side))
            try:
                both = np.concatenate([hazy[place], scene.clear[place]])
            except InputError as error:
                self.on_skip(str(error))
                continue
            # pictures smaller than the crop go on mirrored
            missing = [(0, side - size) for size in both.shape[1:]]
            return turn(np.pad(both, ((0, 0), *missing), mode="symmetric"), rng)
        raise InputError(f"{TRIES} crops in a row could not be read. Check the pictures that were named before.")


def _scene(pair: Pair, pictures: dict[Path, Picture]) -> Scene | None:
    """Put a scene together; None when what is left of it makes no pair."""
    clear = pictures.get(pair.clear)
    hazy = [path for path in pair.hazy if path in pictures]
    if clear is None or not hazy:
        return None
    for path in hazy:
        if pictures[path].shape != clear.shape:
            (_, rows, cols), (_, clear_rows, clear_cols) = pictures[path].shape, clear.shape
            raise InputError(
                f"{path} has {cols} x {rows} px, and its clear picture {pair.clear} has {clear_cols} x {clear_rows}. "
                "Give both the same size, or remove the pair."
            )
    return Scene(clear, tuple(pictures[path] for path in hazy))
