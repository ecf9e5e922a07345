"""Scores of raster files and of folders of them, read in windows so that any size fits."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from rasterio.transform import rowcol, xy

from infdehaze_cli.errors import InputError, UsageError
from infdehaze_cli.geometry import Window, split_windows
from infdehaze_cli.scores.metrics import SSIM_HALO, ScoreAccumulator, Scores
from infdehaze_cli.scores.picture import Picture, open_picture
from infdehaze_cli.scores.seam import SeamAccumulator, border_positions

PathLike = str | os.PathLike[str]

_FULL_SCALE: Mapping[np.dtype[np.generic], float] = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}
_SUFFIXES = frozenset((".tif", ".tiff", ".png", ".webp", ".jpg", ".jpeg", ".jp2", ".vrt", ".img"))


def compare_rasters(
    result: PathLike,
    reference: PathLike,
    *,
    hazy: PathLike | None = None,
    peak: float | None = None,
    bands: Sequence[int] | None = None,
    window_size: int = 1024,
    tile: int = 256,
    overlap: int = 0,
) -> Scores:
    """Score a dehazed raster against a clear one of the same size.

    Parameters
    ----------
    result, reference : str or path
        Anything GDAL opens. Pixels that are invalid in either are left out.
    hazy : str or path, optional
        The input of the dehazing; without it there is no seam index.
    peak : float, optional
        The stored value that becomes 1, in all rasters. By default 255 for uint8 and 65535 for uint16, and
        for other types the largest absolute valid value of the reference.
    bands : sequence of int, optional
        Red, green and blue (or grey), counted from 1, in all rasters; see `open_picture`.
    window_size : int
        Side of the windows that are read, in pixels. It changes memory (0.5 GB at 1024), not scores.
    tile, overlap : int
        How the result was tiled, in pixels, for the seam index.

    Returns
    -------
    Scores
    """
    if peak is not None and not (math.isfinite(peak) and peak > 0):
        raise UsageError(f"A peak of {peak} cannot scale a raster. Give a positive number.")
    if window_size < 1:
        raise UsageError(f"A window of {window_size} pixels is empty. Give at least 1.")
    if not 0 <= overlap < tile:
        raise UsageError(f"Tiles of {tile} cannot overlap by {overlap}. Give an overlap from 0 to {tile - 1}.")
    with ExitStack() as stack:
        paths = [result, reference] if hazy is None else [result, reference, hazy]
        pictures = [stack.enter_context(open_picture(path, bands)) for path in paths]
        for picture in pictures:
            _check_size(picture, pictures[1])
        scales = _scales(pictures, peak, window_size)
        return _score(pictures, scales, window_size, tile, overlap)


def check_pair(
    first: PathLike, first_bands: Sequence[int] | None, second: PathLike, second_bands: Sequence[int] | None
) -> None:
    """Check that `compare_rasters` would take two rasters, without reading pixels.

    Parameters
    ----------
    first, second : str or path
        A raster of the result's grid and type, and the reference.
    first_bands, second_bands : sequence of int, optional
        As `compare_rasters`, of each.

    Raises
    ------
    InputError
        If one cannot be opened, they differ in size, lie more than half a pixel apart on Earth, or mix types.
    UsageError
        If one has no such band.
    """
    with open_picture(first, first_bands) as one, open_picture(second, second_bands) as two:
        _check_size(one, two)
        _check_place(one, two)
        _check_types((one, two))


def _check_place(one: Picture, two: Picture) -> None:
    """Check that two rasters that know their place lie on one grid."""
    if one.crs is None or two.crs is None:
        return
    rows, cols = np.array([0, 0, one.height, one.height]), np.array([0, one.width, 0, one.width])
    there = rowcol(one.transform, *xy(two.transform, rows, cols, offset="ul"), op=np.asarray)
    if one.crs != two.crs or float(np.abs(np.array(there) - (rows, cols)).max()) > 0.5:
        raise InputError(
            f"{two.name} does not lie on the grid of {one.name}. Bring it onto that grid, for example with gdalwarp."
        )


def _check_types(pictures: Sequence[Picture]) -> None:
    """Check that the values of rasters can be matched without a peak."""
    fixed = [picture.dtype in _FULL_SCALE for picture in pictures]
    if any(fixed) and not all(fixed):
        kinds = " and ".join(sorted({str(picture.dtype) for picture in pictures}))
        raise InputError(
            f"{pictures[0].name} and its partners mix {kinds} values, whose ranges cannot be matched. "
            "Convert them to one type, or give the peak value that they share."
        )


def _score(pictures: Sequence[Picture], scales: Sequence[float], window_size: int, tile: int, overlap: int) -> Scores:
    """Stream result, reference and, if it is there, the hazy input through the accumulators."""
    height, width = pictures[0].height, pictures[0].width
    scores = ScoreAccumulator()
    seams = SeamAccumulator(border_positions(height, tile, overlap), border_positions(width, tile, overlap))
    raster = Window(0, 0, height, width)
    for core in split_windows(height, width, window_size, window_size):
        halo = Window(
            core.row - SSIM_HALO,
            core.col - SSIM_HALO,
            core.height + 2 * SSIM_HALO,
            core.width + 2 * SSIM_HALO,
        ).intersect(raster)
        assert halo is not None
        (output, output_valid), (clear, clear_valid), *rest = (
            picture.read(halo, scale) for picture, scale in zip(pictures, scales, strict=True)
        )
        scores.add(output, clear, output_valid & clear_valid, core.relative_to(halo))
        for haze, haze_valid in rest:
            # One more row above and column left, so that steps between windows are counted too.
            top, left = int(core.row > 0), int(core.col > 0)
            grown = Window(core.row - top, core.col - left, core.height + top, core.width + left)
            rows, cols = grown.relative_to(halo)
            seams.add(core, (output - haze)[:, rows, cols], (output_valid & haze_valid)[rows, cols])
    return scores.result(seam=seams.result())


def _check_size(picture: Picture, reference: Picture) -> None:
    if (picture.width, picture.height) != (reference.width, reference.height):
        raise InputError(
            f"{picture.name} is {picture.width} x {picture.height} pixels but {reference.name} is "
            f"{reference.width} x {reference.height}. Bring them onto one grid, for example with gdalwarp."
        )


def _scales(pictures: Sequence[Picture], peak: float | None, window_size: int) -> list[float]:
    """Return the stored value that becomes 1, for each raster."""
    if peak is not None:
        return [peak] * len(pictures)
    reference = pictures[1]
    _check_types(pictures)
    if reference.dtype in _FULL_SCALE:
        return [_FULL_SCALE[picture.dtype] for picture in pictures]
    largest = 0.0
    for window in split_windows(reference.height, reference.width, window_size, window_size):
        # Scaled by 1: the values are 0 where invalid, so they cannot win.
        values, _ = reference.read(window, 1.0)
        largest = max(largest, float(np.abs(values).max()))
    return [largest or 1.0] * len(pictures)


def compare_folders(
    result_dir: PathLike,
    reference_dir: PathLike,
    *,
    hazy_dir: PathLike | None = None,
    peak: float | None = None,
    bands: Sequence[int] | None = None,
    window_size: int = 1024,
    tile: int = 256,
    overlap: int = 0,
) -> dict[str, Scores]:
    """Score the rasters of a folder against those of the same name, whatever their suffix, in another.

    Parameters
    ----------
    result_dir, reference_dir : str or path
        Folders with a raster each for the same names. Other files and subfolders are ignored.
    hazy_dir : str or path, optional
        The hazy inputs, under the same names.
    peak, bands, window_size, tile, overlap
        See `compare_rasters`.

    Returns
    -------
    dict of str to Scores
        By name without suffix, sorted; `mean_scores` of the values sums them up.
    """
    folders = [Path(result_dir), Path(reference_dir)]
    if hazy_dir is not None:
        folders.append(Path(hazy_dir))
    found = [_rasters(folder) for folder in folders]
    if not found[0].keys() & found[1].keys():
        raise InputError(
            f"{folders[0]} and {folders[1]} share no raster name. Give folders whose files pair up by name."
        )
    for folder, files in zip(folders, found, strict=True):
        for other, others in zip(folders, found, strict=True):
            for name in sorted(files.keys() - others.keys()):
                raise InputError(
                    f"{files[name]} has no partner in {other}. Add {name} there, or take it out of {folder}."
                )
    return {
        name: compare_rasters(
            found[0][name],
            found[1][name],
            hazy=found[2][name] if hazy_dir is not None else None,
            peak=peak,
            bands=bands,
            window_size=window_size,
            tile=tile,
            overlap=overlap,
        )
        for name in sorted(found[0])
    }


def _rasters(folder: Path) -> dict[str, Path]:
    """Return the rasters of a folder by name without suffix."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder. Check the path.")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in _SUFFIXES or not path.is_file():
            continue
        if path.stem in files:
            raise InputError(f"{path} and {files[path.stem]} have the same name. Remove or rename one of them.")
        files[path.stem] = path
    return files
