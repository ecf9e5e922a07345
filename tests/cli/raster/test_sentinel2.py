"""Sentinel-2 with its 13 bands of 16 bits, through the whole program: which bands change, and which never do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

Make = Callable[..., Path]

NAMES = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
REAL = Path(__file__).parents[4] / "shared/rasters/sentinel2_13band/data/s2_cloudfree/ROIs1970_fall_139_p839.tif"
WAVELENGTHS = "443,492,560,665,704,740,781,833,865,944,1375,1612,2194"


@pytest.fixture
def sentinel(make_tiff: Make, rng: np.random.Generator) -> Path:
    """Write a small scene under an even veil, with a strip without data, as a downloaded product names its bands."""
    clear = rng.integers(300, 2500, (13, 90, 100))
    pixels = (0.7 * clear + 900).astype(np.uint16)
    pixels[:, :, :20] = 0
    path = make_tiff(pixels, nodata=0, tags={"MISSION": "Sentinel-2"})
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = NAMES
    return path


def clean(cli: Any, load: Any, src: Path, dst: Path, *options: str) -> tuple[Any, Any]:
    ended = cli("run", src, "-o", dst, "--bands", "4,3,2", "-q", *options)
    assert (ended.code, ended.err) == (0, "")
    return load(src), load(dst)


def changed(before: Any, after: Any) -> set[str]:
    return {name for name, old, new in zip(NAMES, before.pixels, after.pixels, strict=True) if (old != new).any()}


def test_copied_bands_stay_bit_for_bit(cli: Any, load: Any, sentinel: Path, tmp_path: Path) -> None:
    before, after = clean(cli, load, sentinel, tmp_path / "clean.tif")

    assert changed(before, after) == {"B2", "B3", "B4"}


def test_physics_corrects_every_band_that_haze_reaches(cli: Any, load: Any, sentinel: Path, tmp_path: Path) -> None:
    before, after = clean(cli, load, sentinel, tmp_path / "clean.tif", "--other-bands", "physics")

    assert changed(before, after) == set(NAMES)
    assert after.pixels[:, :, :20].tobytes() == before.pixels[:, :, :20].tobytes()
    assert (after.pixels[:, :, 20:] != 0).all()
    moved = np.abs(after.pixels.astype(float) - before.pixels)[:, :, 20:].mean((1, 2))
    # the law of optical depth over wavelength: short waves change most
    assert moved[NAMES.index("B12")] < moved[NAMES.index("B8")] < moved[NAMES.index("B2")]


@pytest.mark.parametrize("options", [(), ("--other-bands", "physics")])
def test_no_strength_changes_none_of_the_bands(
    cli: Any, load: Any, sentinel: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    before, after = clean(cli, load, sentinel, tmp_path / "clean.tif", "--strength", "0", *options)

    assert after.pixels.tobytes() == before.pixels.tobytes()


@pytest.mark.skipif(not REAL.exists(), reason="the folder of samples is not here")
def test_a_real_scene_needs_its_wavelengths_named_and_is_corrected(cli: Any, load: Any, tmp_path: Path) -> None:
    refused = cli("run", REAL, "-o", tmp_path / "none.tif", "--bands", "4,3,2", "--other-bands", "physics", "-q")
    assert (refused.code, "--wavelengths" in refused.err) == (2, True)

    options = ("--other-bands", "physics", "--wavelengths", WAVELENGTHS)
    before, after = clean(cli, load, REAL, tmp_path / "clean.tif", *options)

    assert changed(before, after) >= {"B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A"}
    assert after.pixels.dtype == np.uint16
