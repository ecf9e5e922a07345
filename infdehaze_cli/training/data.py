"""Pictures that training reads, whole or window by window, and the protocol that every data set fulfils."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window
from torch import Tensor

from infdehaze_cli.errors import InputError

PICTURES = {".tif", ".tiff", ".png", ".jpg", ".jpeg", ".webp", ".jp2", ".vrt"}

MIN_SIDE = 8

IN_MEMORY = 2 * 1024**3
"""Decoded bytes up to which a data set stays in memory; larger ones are read window by window."""

TRIES = 100
"""Unreadable crops in a row after which a data set is given up."""


@dataclass(frozen=True, slots=True)
class PictureFile:
    """An 8-bit picture on disk: ``file[:, 10:20, 30:90]`` reads a window of its (3, rows, cols), and no more.

    Grey is repeated, bands beyond the third are left out. Formats without blocks (PNG, JPEG) are decoded from their
    beginning for every window; tiled GeoTIFF is not.
    """

    path: Path
    shape: tuple[int, int, int]
    _bands: tuple[int, int, int]

    @classmethod
    def open(cls, path: Path) -> PictureFile:
        """Read the header alone.

        Raises
        ------
        InputError
            When the file cannot be opened, is not of 8 bits, has a colour table or is tiny.
        """
        with _opened(path) as source:
            if source.colorinterp[0] is ColorInterp.palette:
                raise InputError(f"{path} has a colour table. Expand it first, with gdal_translate -expand rgb.")
            if source.width < MIN_SIDE or source.height < MIN_SIDE:
                raise InputError(f"{path} is smaller than {MIN_SIDE} px. Use larger pictures.")
            bands = (1, 2, 3) if source.count >= 3 else (1, 1, 1)
            for dtype in {source.dtypes[band - 1] for band in bands}:
                if dtype != "uint8":
                    raise InputError(f"{path} holds {dtype}, not uint8. Convert it to 8 bits a band first.")
            return cls(path, (3, source.height, source.width), bands)

    def __getitem__(self, index: tuple[slice, slice, slice]) -> NDArray[np.uint8]:
        """Read a window; steps other than 1 are not for windows."""
        _, rows, cols = (range(size)[part] for size, part in zip(self.shape, index, strict=True))
        with _opened(self.path) as source:
            window = Window(cols.start, rows.start, len(cols), len(rows))
            picture = source.read(self._bands, window=window)
        return np.asarray(picture[index[0]], dtype=np.uint8)


class _opened:
    """A dataset of rasterio for reading; whatever goes wrong with it is the input's fault."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> rasterio.DatasetReader:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            try:
                self._source = rasterio.open(self._path)
            except (RasterioError, OSError, MemoryError) as error:
                raise self._refusal(error) from error
        return self._source

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._source.close()
        if isinstance(error, RasterioError | OSError | MemoryError):
            raise self._refusal(error) from error

    def _refusal(self, error: BaseException) -> InputError:
        return InputError(f"{self._path} cannot be read as a picture ({error}). Leave it out or replace it.")


Picture = NDArray[np.uint8] | PictureFile
"""(3, rows, cols), in memory or on disk; both are sliced alike."""


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read an 8-bit picture as (3, rows, cols); grey is repeated, further bands are left out.

    Raises
    ------
    InputError
        When the file cannot be read, is not of 8 bits, has a colour table or is tiny.
    """
    return PictureFile.open(path)[:, :, :]


class Once:
    """Says each line once, such as the name of a picture that is left out."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said: set[str] = set()

    def __call__(self, line: str) -> None:
        """Say a line, unless it was said before."""
        if line not in self._said:
            self._said.add(line)
            self._say(line)


def open_pictures(paths: Iterable[Path], on_skip: Callable[[str], None], limit: int) -> dict[Path, Picture]:
    """Open pictures: in memory when all of them decode to at most ``limit`` bytes, else as files.

    Parameters
    ----------
    paths : iterable of Path
        Files.
    on_skip : callable
        Called with a line about each picture that cannot be read. Of pictures that stay on disk only the header is
        looked at here.
    limit : int
        Bytes.
    """
    files: dict[Path, PictureFile] = {}
    for path in paths:
        try:
            files[path] = PictureFile.open(path)
        except InputError as error:
            on_skip(str(error))
    if sum(prod(file.shape) for file in files.values()) > limit:
        return dict(files)
    pictures: dict[Path, Picture] = {}
    for path, file in files.items():
        try:
            pictures[path] = file[:, :, :]
        except InputError as error:
            on_skip(str(error))
    return pictures


def walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield each folder from ``root`` down, with the names of folders and files in it; links are followed.

    A folder that several links lead to comes once, so that a link to a folder above ends.
    """
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        folders.sort()
        if (real := os.path.realpath(folder)) in seen:
            folders.clear()
            continue
        seen.add(real)
        yield Path(folder), folders, files


def pictures_below(root: Path) -> list[Path]:
    """List what has the name of a picture below a folder, sorted, folders too; see `walk`."""
    return sorted(
        folder / name
        for folder, folders, files in walk(root)
        for name in (*folders, *files)
        if Path(name).suffix.lower() in PICTURES
    )


def turn(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn by a multiple of 90 degrees and mirror at random (paper, section 3: random rotation)."""
    turned = np.rot90(picture, int(rng.integers(4)), axes=(1, 2))
    return np.ascontiguousarray(turned[:, :, ::-1] if rng.random() < 0.5 else turned)


@dataclass(frozen=True, slots=True)
class Batch:
    """What a step learns from, values 0..1, all on one device."""

    clear_B3HW: Tensor
    hazy_B3HW: Tensor
    """What a file would hold: rounded to 8 bits."""
    depth_B3HW: Tensor | None = None
    """True optical depth; None where haze is real, and nobody knows."""
    airlight_B311: Tensor | None = None


class TrainingData(Protocol):
    """A data set: anything that draws batches from the two random streams it is given, and from nothing else."""

    @property
    def count(self) -> int:
        """Number of clear pictures."""

    @property
    def held_out(self) -> tuple[str, ...]:
        """Names of the samples that are kept for tests and never drawn."""

    def cut(self, side: int, count: int, rng: np.random.Generator) -> Tensor:
        """Draw ``count`` crops of ``side`` pixels, uint8 (count, C, side, side) on the CPU.

        Raises
        ------
        InputError
            When nothing can be read any more.
        """

    def prepare(self, crops_BCHW: Tensor, generator: torch.Generator) -> Batch:
        """Make a batch of such crops, which are on the device of ``generator``."""


def draw_batch(
    data: TrainingData, side: int, count: int, rng: np.random.Generator, generator: torch.Generator
) -> Batch:
    """Draw a batch of ``count`` crops of ``side`` pixels at once, onto the device of ``generator``."""
    return data.prepare(data.cut(side, count, rng).to(generator.device), generator)
