"""Clear pictures for training: folders of rasters, one source a folder, cut and varied as they are read."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from torch import Tensor

from infdehaze_cli.errors import InputError

PICTURES = {".tif", ".tiff", ".png", ".jpg", ".jpeg", ".webp", ".jp2", ".vrt"}


MIN_SIDE = 8

EVEN_SHARE = 0.14
"""Share of the samples that even ground is laid over."""


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read an 8-bit picture as (3, rows, cols); grey is repeated, further bands are left out.

    Raises
    ------
    InputError
        When the file cannot be read, is not of 8 bits, has a colour table or is tiny.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as source:
                if source.colorinterp[0] is ColorInterp.palette:
                    raise InputError(f"{path} has a colour table. Expand it first, with gdal_translate -expand rgb.")
                if source.width < MIN_SIDE or source.height < MIN_SIDE:
                    raise InputError(f"{path} is smaller than {MIN_SIDE} px. Use larger pictures.")
                picture = source.read([1, 2, 3] if source.count >= 3 else [1, 1, 1])
    except (RasterioError, OSError, MemoryError) as error:
        raise InputError(f"{path} cannot be read as a picture ({error}). Leave it out or replace it.") from error
    if picture.dtype != np.uint8:
        raise InputError(f"{path} holds {picture.dtype}, not uint8. Convert it to 8 bits a band first.")
    return np.asarray(picture, dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class ClearFolder:
    """Clear pictures by source: ``root/source/*.webp``; pictures directly in ``root`` are a source of their own.

    They stay in memory as uint8. A source is drawn with a weight of the square root of its number of pictures, so
    that a large one does not drown the rest.
    """

    sources: dict[str, list[NDArray[np.uint8]]]

    @classmethod
    def open(cls, root: Path, on_skip: Callable[[str], None]) -> ClearFolder:
        """Read all pictures below ``root``; broken ones are named to ``on_skip`` and left out.

        Raises
        ------
        InputError
            When the folder is missing or holds no readable picture.
        """
        if not root.is_dir():
            raise InputError(f"There is no folder {root}. Name a folder with clear pictures.")
        sources: dict[str, list[NDArray[np.uint8]]] = {}
        for path in sorted(p for p in root.rglob("*") if p.suffix.lower() in PICTURES):
            try:
                picture = read_picture(path)
            except InputError as error:
                on_skip(str(error))
                continue
            sources.setdefault(path.parent.relative_to(root).as_posix(), []).append(picture)
        if not sources:
            raise InputError(f"No readable picture lies below {root}. Name a folder with clear pictures.")
        return cls(sources)

    @property
    def count(self) -> int:
        """Number of pictures."""
        return sum(len(pictures) for pictures in self.sources.values())

    def draw(self, side: int, rng: np.random.Generator, down_weight: tuple[str, ...] = ()) -> NDArray[np.float32]:
        """Draw one varied crop (3, side, side), values 0..1."""
        names = list(self.sources)
        weight = np.array([len(self.sources[n]) ** 0.5 * (0.3 if n in down_weight else 1.0) for n in names])
        pictures = self.sources[names[rng.choice(len(names), p=weight / weight.sum())]]
        zoom = 1.0 if rng.random() < 0.5 else float(np.exp(rng.uniform(np.log(0.8), np.log(5.0))))
        need = max(8, round(side * zoom))
        crop = torch.from_numpy(_mosaic(pictures, need, rng)).float()[None] / 255
        if need != side:
            mode = "area" if need > side else "bicubic"
            crop = F.interpolate(crop, size=(side, side), mode=mode)
        return vary_colours(crop[0], rng).numpy()


def _mosaic(pictures: list[NDArray[np.uint8]], side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Cut ``side`` x ``side`` from one picture, or from several of the same source put side by side."""
    first = pictures[rng.integers(len(pictures))]
    if min(first.shape[1:]) >= side:
        row = rng.integers(first.shape[1] - side + 1)
        col = rng.integers(first.shape[2] - side + 1)
        return _turn(first[:, row : row + side, col : col + side], rng)
    canvas = np.empty((3, side, side), np.uint8)
    # half of the time one picture mirrored on, without edges; else several, as in a landscape of different parts
    alone = rng.random() < 0.5
    row = 0
    step = min(min(p.shape[1:]) for p in (first,))
    while row < side:
        col = 0
        while col < side:
            picture = first if alone else pictures[rng.integers(len(pictures))]
            part = picture[:, :step, :step]
            if alone:
                part = part[:, :: -1 if (row // step) % 2 else 1, :: -1 if (col // step) % 2 else 1]
            else:
                part = _turn(part, rng)
            part = part[:, : side - row, : side - col]
            # a smaller picture than the first leaves a gap, which its mirror image closes
            grow = (min(step, side - row) - part.shape[1], min(step, side - col) - part.shape[2])
            part = np.pad(part, ((0, 0), (0, max(0, grow[0])), (0, max(0, grow[1]))), mode="symmetric")
            canvas[:, row : row + part.shape[1], col : col + part.shape[2]] = part
            col += step
        row += step
    return _turn(canvas, rng)


def _turn(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn by a multiple of 90 degrees and mirror at random (paper, section 3: random rotation)."""
    turned = np.rot90(picture, int(rng.integers(4)), axes=(1, 2))
    return np.ascontiguousarray(turned[:, :, ::-1] if rng.random() < 0.5 else turned)


def vary_colours(picture_3HW: Tensor, rng: np.random.Generator) -> Tensor:
    """Vary brightness, contrast, saturation and colour balance; at times down to nearly even ground."""
    x = picture_3HW.clamp(0, 1)
    if rng.random() < 0.5:
        x = x ** float(np.exp(rng.uniform(-0.25, 0.25)))
        grey = x.mean(0, keepdim=True)
        x = grey + (x - grey) * float(rng.uniform(0.7, 1.3))
        gain = torch.tensor(rng.uniform(0.94, 1.06, (3, 1, 1)) * rng.uniform(0.8, 1.12), dtype=torch.float32)
        x = x * gain
    if rng.random() < 0.06:
        mean = x.mean((1, 2), keepdim=True)
        x = mean * float(rng.uniform(0.6, 1.6)) + (x - mean) * float(rng.uniform(0.05, 0.5))
    if rng.random() < EVEN_SHARE:
        x = lay_even_ground(x, rng)
    return x.clamp(0, 1)


def lay_even_ground(picture_3HW: Tensor, rng: np.random.Generator) -> Tensor:
    """Cover a part of a picture, or all of it, with water, sand or snow: even ground, which most data sets lack.

    Haze over it is told by its colour alone, and steps of brightness show most there.
    """
    side = max(picture_3HW.shape[1:])

    def smooth(cells: int, channels: int = 1) -> Tensor:
        coarse = torch.from_numpy(rng.standard_normal((1, channels, cells, cells), dtype=np.float32))
        full = F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)[0]
        return full[:, : picture_3HW.shape[1], : picture_3HW.shape[2]]

    if rng.random() < 0.7:
        # water: red, green and blue rise in this order, and turbid water is brighter and greener
        red = rng.uniform(0.01, 0.16)
        green = red + rng.uniform(0.01, 0.2)
        colour = [red, green, max(0.0, green + rng.uniform(-0.06, 0.14))]
    else:
        bright = rng.uniform(0.45, 0.95)
        colour = [bright, bright * rng.uniform(0.86, 1.0), bright * rng.uniform(0.68, 1.0)]
    colour_311 = torch.tensor(colour, dtype=torch.float32)[:, None, None]
    shade = smooth(int(rng.integers(4, 9))) * rng.uniform(0, 0.12)
    ripple = smooth(max(4, round(side / rng.uniform(1.5, 6)))) * rng.uniform(0.0, 0.06)
    ground = colour_311 * (1 + shade + ripple) + smooth(4, 3) * 0.005
    shore = (smooth(int(rng.integers(4, 9))) - rng.uniform(-2.5, 0.6)) * side / 16
    cover = shore.clamp(0, 1)
    return cover * ground + (1 - cover) * picture_3HW
