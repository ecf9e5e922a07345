"""Clear pictures for training: folders of rasters, one source a folder, cut, varied and hazed as they are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from infdehaze_cli.errors import InputError

from .data import IN_MEMORY, TRIES, Batch, Once, Picture, open_pictures, pictures_below, turn
from .even_ground import lay_even_ground, smooth_noise
from .haze import Haze, HazeField, add_noise, draw_training_styles
from .jpeg import compress_some

MIXED_SHARE = 0.5
"""Share of the samples in which ground of several sources meets: that of one picture is more alike than a scene's."""

MOST_GROUNDS = 4
"""Up to so many crops meet in one."""

VARIED_SHARE = 0.75
"""Share of the samples whose colours are varied."""

REMIXED_SHARE = 0.5
"""Share of the samples each of whose bands takes some of the others."""

JPEG_SHARE = 0.25
"""Share of the samples that have been through JPEG."""

EVEN_SHARE = 0.22
"""Share of the crops that even ground is laid over."""

LIFTED_SHARE = 0.15
"""Share of the samples whose ground has no black: many orthophotos are delivered with lifted shadows, and are clear."""

LIFT = 0.17

GREY_SHARE = 0.1
"""Share of the samples that are grey, as panchromatic scenes: paleness then says nothing of haze."""

FEATURES = (96.0, 1600.0)
"""Range of the size in pixels of the haze's largest structures, the same for a whole batch."""

NOISE = 0.01
"""Largest standard deviation of the sensor noise."""


def _say_nothing(line: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class ClearFolder:
    """Clear pictures by source: ``root/source/*.webp``; pictures directly in ``root`` are a source of their own.

    Haze is made up over each crop, so its true optical depth and airlight are known. A source is drawn with a weight
    of the square root of its number of pictures, so that a large one does not drown the rest.
    """

    sources: dict[str, list[Picture]]
    down_weight: tuple[str, ...] = ()
    """Sources that are drawn less often than their number of pictures asks for."""
    colours: float = 1.0
    """How widely colours vary, 0..1; 0 leaves them, and then what is learned of a few sources holds less for others."""
    on_skip: Callable[[str], None] = _say_nothing
    mixed: bool = True
    """Whether ground of several sources may share a crop."""

    @classmethod
    def open(
        cls,
        root: Path,
        on_skip: Callable[[str], None],
        *,
        down_weight: tuple[str, ...] = (),
        colours: float = 1.0,
        limit: int = IN_MEMORY,
    ) -> ClearFolder:
        """Open all pictures below ``root``; broken ones are named to ``on_skip`` and left out.

        Raises
        ------
        InputError
            When the folder is missing or holds no readable picture.
        """
        if not root.is_dir():
            raise InputError(f"There is no folder {root}. Name a folder with clear pictures.")
        skips = Once(on_skip)
        sources: dict[str, list[Picture]] = {}
        for path, picture in open_pictures(pictures_below(root), skips, limit).items():
            sources.setdefault(path.parent.relative_to(root).as_posix(), []).append(picture)
        if not sources:
            raise InputError(f"No readable picture lies below {root}. Name a folder with clear pictures.")
        return cls(sources, down_weight, colours, skips)

    @property
    def count(self) -> int:
        """Number of pictures."""
        return sum(len(pictures) for pictures in self.sources.values())

    @property
    def held_out(self) -> tuple[str, ...]:
        """Nothing: clear pictures are tested with others (`infdehaze bench quality`)."""
        return ()

    def cut(self, side: int, count: int, rng: np.random.Generator) -> Tensor:
        """Draw varied crops, uint8; see :class:`~infdehaze_cli.training.data.TrainingData`."""
        return torch.from_numpy(np.stack([self.draw(side, rng) for _ in range(count)]))

    def prepare(self, crops_BCHW: Tensor, generator: torch.Generator) -> Batch:
        """Put haze over crops, on their device; see :class:`~infdehaze_cli.training.data.TrainingData`."""
        clear_B3HW = crops_BCHW.float() / 255
        count, _, height, width = clear_B3HW.shape
        low, high = np.log(FEATURES)
        drawn = torch.rand((), generator=generator, device=generator.device)
        feature = float(np.exp(low + (high - low) * float(drawn)))
        haze = HazeField(draw_training_styles(count, generator), height, width, generator, feature)
        grey_B111 = (crops_BCHW == crops_BCHW[:, :1]).flatten(1).all(1)[:, None, None, None]
        window = _of_one_band(haze.window(0, 0, height, width), grey_B111)
        hazy = add_noise(window.over(clear_B3HW), generator, NOISE).clamp(0, 1)
        # what a file holds is rounded to 8 bits, and often compressed
        stored_B3HW = compress_some((hazy * 255).round(), JPEG_SHARE, generator)
        stored_B3HW = torch.where(grey_B111, stored_B3HW[:, :1], stored_B3HW)
        return Batch(clear_B3HW, stored_B3HW / 255, window.depth_B3HW, window.airlight_B311)

    def draw(self, side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Draw one varied crop (3, side, side), which ground of several sources may share.

        Files that turn out to be broken are named and passed.
        """
        crop = self._draw_readable(side, rng)
        if self.mixed and rng.random() < MIXED_SHARE:
            for _ in range(int(rng.integers(1, MOST_GROUNDS))):
                crop = beside(crop, self._draw_readable(side, rng), rng)
        if rng.random() < LIFTED_SHARE:
            crop = lift_shadows(crop, rng)
        if rng.random() < GREY_SHARE * self.colours:
            crop = make_grey(crop, rng)
        return crop

    def _draw_readable(self, side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        for _ in range(TRIES):
            try:
                return self._draw(side, rng)
            except InputError as error:
                self.on_skip(str(error))
        raise InputError(f"{TRIES} crops in a row could not be read. Check the pictures that were named before.")

    def _draw(self, side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        names = list(self.sources)
        weight = np.array([len(self.sources[n]) ** 0.5 * (0.3 if n in self.down_weight else 1.0) for n in names])
        pictures = self.sources[names[rng.choice(len(names), p=weight / weight.sum())]]
        zoom = 1.0 if rng.random() < 0.5 else float(np.exp(rng.uniform(np.log(0.8), np.log(5.0))))
        need = max(8, round(side * zoom))
        crop = _mosaic(pictures, need, rng)
        if need != side:
            # of 8 bits this takes a tenth of the time that floats do
            wide = torch.from_numpy(np.ascontiguousarray(crop))[None]
            crop = F.interpolate(wide, size=(side, side), mode="bicubic", antialias=True)[0].numpy()
        varied_3HW = vary_colours(torch.from_numpy(turn(crop, rng)).float() / 255, rng, self.colours)
        # a fourth of the memory of floats goes from a worker to the device
        return (varied_3HW * 255).round().byte().numpy()


def _mosaic(pictures: list[Picture], side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Cut ``side`` x ``side`` from one picture, or from several of the same source put side by side."""
    first = pictures[rng.integers(len(pictures))]
    if min(first.shape[1:]) >= side:
        row = rng.integers(first.shape[1] - side + 1)
        col = rng.integers(first.shape[2] - side + 1)
        return first[:, row : row + side, col : col + side]
    canvas = np.empty((3, side, side), np.uint8)
    # half of the time one picture mirrored on, without edges; else several, as in a landscape of different parts
    alone = rng.random() < 0.5
    row = 0
    step = min(first.shape[1:])
    corner = first[:, :step, :step]
    while row < side:
        col = 0
        while col < side:
            if alone:
                part = corner[:, :: -1 if (row // step) % 2 else 1, :: -1 if (col // step) % 2 else 1]
            else:
                part = turn(pictures[rng.integers(len(pictures))][:, :step, :step], rng)
            part = part[:, : side - row, : side - col]
            # a smaller picture than the first leaves a gap, which its mirror image closes
            grow = (min(step, side - row) - part.shape[1], min(step, side - col) - part.shape[2])
            part = np.pad(part, ((0, 0), (0, max(0, grow[0])), (0, max(0, grow[1]))), mode="symmetric")
            canvas[:, row : row + part.shape[1], col : col + part.shape[2]] = part
            col += step
        row += step
    return canvas


def beside(first: NDArray[np.uint8], second: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Put a part of the second of two crops into the first, along a sharp or soft border."""
    side = first.shape[1]
    part = smooth_noise(rng, side, int(rng.integers(3, 8)))[0] + rng.uniform(-1.0, 1.0)
    cover = (part * side / float(rng.choice([4.0, 16.0, 64.0]))).clamp(0, 1)
    mixed = torch.from_numpy(first).float().lerp(torch.from_numpy(second).float(), cover)
    return mixed.round().byte().numpy()


def vary_colours(picture_3HW: Tensor, rng: np.random.Generator, width: float = 1.0) -> Tensor:
    """Vary hues, gamma, saturation, balance and brightness by ``width``, 0..1; at times down to nearly even ground."""
    x = picture_3HW.clamp(0, 1)
    if rng.random() < REMIXED_SHARE:
        mix_33 = np.eye(3) + width * rng.normal(0, 0.12, (3, 3))
        # grey stays grey
        mix_33 /= mix_33.sum(1, keepdims=True)
        x = (torch.tensor(mix_33, dtype=torch.float32) @ x.flatten(1)).view_as(x).clamp(0, 1)
    if rng.random() < VARIED_SHARE:
        x = x ** float(np.exp(width * rng.uniform(-0.5, 0.5)))
        grey = x.mean(0, keepdim=True)
        x = grey + (x - grey) * (1 + width * float(rng.uniform(-0.6, 0.6)))
        balance_311, brightness = width * rng.uniform(-0.15, 0.15, (3, 1, 1)), width * rng.uniform(-0.4, 0.25)
        x = (x * torch.tensor((1 + balance_311) * (1 + brightness), dtype=torch.float32)).clamp(0, 1)
    if rng.random() < 0.06:
        mean = x.mean((1, 2), keepdim=True)
        x = mean * float(rng.uniform(0.6, 1.6)) + (x - mean) * float(rng.uniform(0.05, 0.5))
    if rng.random() < EVEN_SHARE:
        x = lay_even_ground(x, rng)
    return x.clamp(0, 1)


def lift_shadows(crop_3HW: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Let a crop have no black, as its whole orthophoto: ground that is lifted here and not there would say less."""
    lift_311 = rng.uniform(0, LIFT) * rng.uniform(0.85, 1.15, (3, 1, 1))
    return np.asarray(np.round(255 * lift_311 + (1 - lift_311) * crop_3HW), dtype=np.uint8)


def make_grey(crop_3HW: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a crop with three equal bands, as of one wide band that takes of each colour at random."""
    share_3 = rng.dirichlet([2.0, 2.0, 2.0]).astype(np.float32)
    grey_HW = np.round(np.tensordot(share_3, crop_3HW, 1)).astype(np.uint8)
    return np.repeat(grey_HW[np.newaxis], 3, axis=0)


def _of_one_band(haze: Haze, grey_B111: Tensor) -> Haze:
    """Give some samples haze that is the same in all bands: that of green, and the mean airlight."""
    depth_B3HW = torch.where(grey_B111, haze.depth_B3HW[:, 1:2], haze.depth_B3HW)
    airlight_B311 = torch.where(grey_B111, haze.airlight_B311.mean(1, keepdim=True), haze.airlight_B311)
    return Haze(depth_B3HW, airlight_B311)
