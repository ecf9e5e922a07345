"""The wavelength law, where wavelengths come from, and what becomes of near infrared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

from infdehaze_cli.errors import UsageError
from infdehaze_cli.geometry import Window
from infdehaze_cli.raster import OutputWriter, Scene
from infdehaze_cli.raster.spectral import correct_band, depth_at
from infdehaze_cli.raster.wavelengths import parse_wavelengths, wavelengths_of

Make = Callable[..., Path]
RGB = (0.66, 0.56, 0.48)
COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def law(level: float, steepness: float, wavelengths: Any) -> Any:
    """Return the depths of a haze at wavelengths, as three planes of one pixel."""
    return (level * np.asarray(wavelengths) ** -steepness).astype(np.float32).reshape(-1, 1, 1)


@given(level=st.floats(0.01, 3), steepness=st.floats(0, 4), wavelength=st.floats(0.4, 2.5))
def test_a_depth_that_follows_the_law_is_carried_on_exactly(level: float, steepness: float, wavelength: float) -> None:
    found = depth_at(law(level, steepness, RGB), RGB, wavelength)

    assert found[0, 0] == pytest.approx(level * wavelength**-steepness, rel=2e-3)


@given(st.lists(st.floats(-1, 5, width=32), min_size=3, max_size=3), st.floats(0.4, 2.5))
def test_whatever_is_estimated_the_depth_is_sensible(depths: list[float], wavelength: float) -> None:
    depth = np.array(depths, np.float32).reshape(3, 1, 1)

    found = float(depth_at(depth, RGB, wavelength)[0, 0])

    assert np.isfinite(found)
    assert found >= 0
    if wavelength >= max(RGB):
        # beyond red there is never more haze than in the colours' mean
        assert found <= max(float(np.maximum(depth, 0).mean()), 0) * (1 + 1e-5) + 1e-9
    if not (depth > 0).any():
        assert found == 0


def test_without_haze_a_band_stays_bit_for_bit(rng: Any) -> None:
    values = rng.normal(size=(20, 30)).astype(np.float32)

    clear = correct_band(values, np.zeros((20, 30), np.float32), np.full((20, 30), 0.8, np.float32))

    assert clear.tobytes() == values.tobytes()


@pytest.mark.parametrize("wavelengths", [(0.6, 0.6, 0.5), (0.6, 0.5, 0.0), (0.6, 0.5)])
def test_impossible_wavelengths_are_a_mistake(wavelengths: Any) -> None:
    with pytest.raises(ValueError, match="above 0"):
        depth_at(np.ones((3, 1, 1), np.float32), wavelengths, 0.8)


@pytest.mark.parametrize(
    ("text", "expected"), [("0.66,0.56,0.48", (0.66, 0.56, 0.48)), ("660, 560 ,480", (0.66, 0.56, 0.48))]
)
def test_wavelengths_are_parsed_in_both_units(text: str, expected: tuple[float, ...]) -> None:
    assert parse_wavelengths(text, 3) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "0.6,0.5", "0.6,red,0.5", "0.6,0.5,-1", "0.6,0.5,nan"])
def test_wrong_wavelengths_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="3 bands"):
        parse_wavelengths(text, 3)


@pytest.mark.parametrize(
    ("band_tags", "tags", "descriptions", "expected"),
    [
        ({}, {}, (None,) * 4, (0.66, 0.56, 0.48, None)),
        ({}, {}, (None, None, None, "Near Infrared"), (0.66, 0.56, 0.48, 0.84)),
        ({"wavelength": "842", "wavelength_units": "Nanometers"}, {}, (None,) * 4, (0.842,) * 4),
        ({"CENTRAL_WAVELENGTH_UM": "0.8"}, {}, (None,) * 4, (0.8,) * 4),
        ({"wavelength": "no number"}, {}, (None,) * 4, (0.66, 0.56, 0.48, None)),
        ({}, {}, ("B04", "B03", "B02", "B8A"), (0.665, 0.56, 0.492, 0.865)),
        ({}, {}, ("B4", "B3", "B2", "B5"), (0.66, 0.56, 0.48, None)),
        ({}, {"MISSION": "Sentinel-2"}, ("B4", "B3", "B2", "B12 SWIR"), (0.665, 0.56, 0.492, 2.194)),
        (
            {},
            {"eo:bands": json.dumps([{"center_wavelength": w} for w in (0.6, 0.5, 0.4, 1.6)])},
            (None,) * 4,
            (0.6, 0.5, 0.4, 1.6),
        ),
        ({}, {"eo:bands": "[1, 2"}, (None,) * 4, (0.66, 0.56, 0.48, None)),
    ],
)
def test_files_tell_wavelengths_in_many_ways(
    make_tiff: Make, band_tags: Any, tags: Any, descriptions: Any, expected: Any
) -> None:
    path = make_tiff(np.ones((4, 8, 8), np.uint8), colours=(*COLOURS, ColorInterp.undefined), tags=tags)
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = descriptions
        for band in range(1, 5):
            dataset.update_tags(band, **band_tags)

    with Scene.open(path) as scene:
        assert wavelengths_of(scene.metadata) == expected


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_near_infrared_under_the_law_is_brought_back(
    make_tiff: Make, rng: Any, tmp_path: Path, load: Any, dtype: str
) -> None:
    bands, air = np.array([*RGB, 0.84]), 0.8
    depth = 0.5 * bands**-1.3
    clear = rng.uniform(0.05, 0.6, (4, 40, 50))
    hazy = clear * np.exp(-depth)[:, None, None] + air * (1 - np.exp(-depth))[:, None, None]
    unit = 10_000 if dtype == "uint16" else 1
    pixels = (np.rint(hazy * unit) if dtype == "uint16" else hazy).astype(dtype)
    pixels[:, :5] = 0
    source = make_tiff(pixels, nodata=0, colours=(*COLOURS, ColorInterp.undefined))
    haze = np.concatenate([np.broadcast_to(depth[:3, None, None], (3, 40, 50)), np.full((3, 40, 50), air)])

    with (
        Scene.open(source, scale_range=(0, unit)) as scene,
        OutputWriter(scene, tmp_path / "out.tif", other_bands="physics", wavelengths=tuple(bands)) as writer,
    ):
        block = scene.read(Window(0, 0, 40, 50))
        writer.write(block, block.values.copy(), haze.astype(np.float32))
        writer.finish()

    after = load(tmp_path / "out.tif").pixels
    assert after[:, :5].tobytes() == pixels[:, :5].tobytes()
    assert after[:3].tobytes() == pixels[:3].tobytes()
    assert np.abs(after[3, 5:] / unit - clear[3, 5:]).max() < 2 / 10_000


@pytest.mark.parametrize(
    ("count", "wavelengths", "hint"),
    [(1, None, "grey"), (4, None, "--wavelengths"), (4, (0.6, 0.6, 0.5, 0.8), "share a wavelength")],
)
def test_what_the_law_cannot_do_is_refused(
    make_tiff: Make, tmp_path: Path, count: int, wavelengths: Any, hint: str
) -> None:
    source = make_tiff(np.ones((count, 8, 8), np.uint8))

    with Scene.open(source) as scene, pytest.raises(UsageError, match=hint):
        OutputWriter(scene, tmp_path / "out.tif", other_bands="physics", wavelengths=wavelengths)


def test_no_haze_is_a_mistake(make_tiff: Make, tmp_path: Path) -> None:
    source = make_tiff(np.ones((4, 8, 8), np.uint8))
    with (
        Scene.open(source) as scene,
        OutputWriter(scene, tmp_path / "out.tif", other_bands="physics", wavelengths=(0.66, 0.56, 0.48, 0.8)) as writer,
    ):
        block = scene.read(Window(0, 0, 8, 8))
        with pytest.raises(ValueError, match="without the haze"):
            writer.write(block, block.values)
