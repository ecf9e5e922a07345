"""Which pixels are data, and that the others stay out of everything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

from infdehaze_cli.geometry import Window
from infdehaze_cli.raster import Block, Scene
from infdehaze_cli.raster._gdal import open_quietly
from infdehaze_cli.raster.validity import Validity, equals_nodata, representable

Make = Callable[..., Path]
RGB = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]


def read_all(path: Path, **options: object) -> Block:
    with Scene.open(path, **options) as scene:  # type: ignore[arg-type]
        return scene.read(Window(0, 0, scene.height, scene.width))


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        ("uint8", 0),
        ("uint8", 255),
        ("uint16", 0),
        ("int16", -32768),
        ("float32", -9999.0),
        ("float32", -3.4e38),
        ("float32", float("nan")),
        ("float64", 1e-30),
    ],
)
def test_nodata_in_any_colour_makes_a_pixel_invalid(make_tiff: Make, dtype: str, nodata: float) -> None:
    pixels = np.full((4, 4, 4), 7, dtype)
    pixels[:, 0, 0] = nodata
    pixels[1, 1, 1] = nodata
    pixels[3, 2, 2] = nodata
    block = read_all(make_tiff(pixels, nodata=nodata))
    expected = np.ones((4, 4), bool)
    expected[0, 0] = expected[1, 1] = False
    assert np.array_equal(block.valid, expected)
    assert (block.values[:, ~expected] == 0).all()
    assert np.isfinite(block.values).all()


def test_numbers_that_are_none_are_invalid_without_any_nodata(make_tiff: Make) -> None:
    pixels = np.ones((3, 2, 2), np.float32)
    pixels[0, 0, 0], pixels[1, 0, 1], pixels[2, 1, 0] = np.nan, np.inf, -np.inf
    assert read_all(make_tiff(pixels)).valid.tolist() == [[False, False], [False, True]]


def test_alpha_zero_is_invalid_and_any_other_alpha_valid(make_tiff: Make) -> None:
    pixels = np.ones((4, 1, 3), np.uint8)
    pixels[3, 0] = (0, 1, 255)
    block = read_all(make_tiff(pixels, colours=[*RGB, ColorInterp.alpha]))
    assert block.valid.tolist() == [[False, True, True]]
    assert block.mask is None


@pytest.mark.parametrize("external", [False, True], ids=["internal", "external"])
@pytest.mark.parametrize("bands", [1, 3])
def test_a_mask_decides_and_stands_above_nodata(make_tiff: Make, external: bool, bands: int) -> None:
    pixels = np.full((bands, 32, 32), 5, np.uint8)
    pixels[:, 3, 3] = 0
    mask = np.full((32, 32), 255, np.uint8)
    mask[0] = 0
    block = read_all(make_tiff(pixels, mask=mask, external_mask=external, nodata=0))
    assert np.array_equal(block.valid, mask != 0)
    assert block.mask is not None
    assert np.array_equal(block.mask, mask)


def test_a_mask_beside_an_alpha_band_counts_too(make_tiff: Make) -> None:
    pixels = np.full((4, 2, 2), 9, np.uint8)
    pixels[3, 0, 0] = 0
    mask = np.array([[255, 0], [255, 255]], np.uint8)
    block = read_all(make_tiff(pixels, mask=mask, colours=[*RGB, ColorInterp.alpha]))
    assert block.valid.tolist() == [[False, False], [True, True]]
    assert block.mask is not None
    assert np.array_equal(block.mask, mask)


def test_bands_with_different_nodata_are_judged_one_by_one(make_tiff: Make, tmp_path: Path) -> None:
    pixels = np.full((3, 1, 4), 50, np.uint8)
    pixels[0, 0, 0], pixels[1, 0, 1], pixels[2, 0, 2] = 1, 1, 1
    source = make_tiff(pixels)
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><NoDataValue>{nodata}</NoDataValue><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">{source.name}</SourceFilename><SourceBand>{band}</SourceBand>'
        "</SimpleSource></VRTRasterBand>"
        for band, nodata in ((1, 1), (2, 2), (3, 1))
    )
    mosaic = tmp_path / "mosaic.vrt"
    mosaic.write_text(f'<VRTDataset rasterXSize="4" rasterYSize="1">{bands}</VRTDataset>')
    block = read_all(mosaic)
    assert block.valid.tolist() == [[False, True, False, True]]
    assert block.mask is not None
    assert np.array_equal(block.mask != 0, block.valid)


def test_a_band_mask_of_its_own_is_read(make_tiff: Make, tmp_path: Path) -> None:
    source = make_tiff(np.full((1, 2, 2), 9, np.uint8))
    shape = make_tiff(np.array([[[255, 0], [255, 255]]], np.uint8), name="shape.tif")
    simple = (
        '<SimpleSource><SourceFilename relativeToVRT="1">{}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>'
    )
    picture = tmp_path / "masked.vrt"
    picture.write_text(
        '<VRTDataset rasterXSize="2" rasterYSize="2"><VRTRasterBand dataType="Byte" band="1">'
        f'{simple.format(source.name)}<MaskBand><VRTRasterBand dataType="Byte">{simple.format(shape.name)}'
        "</VRTRasterBand></MaskBand></VRTRasterBand></VRTDataset>"
    )
    assert read_all(picture).valid.tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize("nodata", [-9999.0, -3.4e38, 0.0, 1e-30, 255.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_near_nodata_are_judged_as_gdal_judges_them(make_tiff: Make, dtype: str, nodata: float) -> None:
    steps = [np.dtype(dtype).type(nodata)]
    for _ in range(3):
        steps.append(np.nextafter(steps[-1], steps[-1].dtype.type(1e30)))
    pixels = np.array([[[*steps, -nodata * 0.5 + 1, 1.0]]], dtype)
    path = make_tiff(pixels, nodata=nodata)
    with open_quietly(path) as dataset:
        expected = dataset.read_masks(1) != 0
    assert np.array_equal(read_all(path).valid, expected)


@pytest.mark.parametrize(
    ("dtype", "nodata", "expected"),
    [
        ("uint8", -9999.0, None),
        ("uint8", 0.5, None),
        ("uint8", 255.0, 255.0),
        ("int16", None, None),
        ("float32", float("nan"), None),
        ("float32", -1.7976931348623157e308, None),
        ("float32", -3.40282306074e38, -3.40282306074e38),
    ],
)
def test_nodata_that_no_pixel_can_have_is_left_out(dtype: str, nodata: float | None, expected: float | None) -> None:
    assert representable(nodata, np.dtype(dtype)) == expected


def test_the_lowest_float_matches_its_rounded_text() -> None:
    plane = np.array([np.finfo(np.float32).min, 0.0], np.float32)
    assert equals_nodata(plane, -3.40282306074e38).tolist() == [True, False]


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(["mask", "alpha", "nan"]))
def test_what_lies_under_the_mask_changes_no_valid_value(make_tiff: Make, seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.normal(100, 30, (4, 16, 16)).astype(np.float32)
    hidden = rng.random((16, 16)) < 0.4
    pixels[3] = np.where(hidden, 0, 1)
    other = pixels.copy()
    other[:3, hidden] = np.nan if kind == "nan" else rng.normal(0, 1e6, (3, int(hidden.sum())))
    colours = [*RGB, ColorInterp.alpha if kind != "mask" else ColorInterp.undefined]
    mask = np.where(hidden, 0, 255).astype(np.uint8) if kind == "mask" else None
    first = read_all(make_tiff(pixels, colours=colours, mask=mask, name="a.tif"))
    second = read_all(make_tiff(other, colours=colours, mask=mask, name="b.tif"))
    assert np.array_equal(first.valid, ~hidden)
    assert np.array_equal(second.valid, ~hidden)
    assert first.values.tobytes() == second.values.tobytes()


def test_the_rule_can_be_moved_to_a_part_of_the_bands() -> None:
    rule = Validity(colours=(4, 3, 2), nodata=(0.0, None, None), alpha=5, mask_bands=(), shared_mask=False)
    assert rule.bands_needed == (4, 3, 2, 5)
    moved = rule.for_bands(rule.bands_needed)
    assert (moved.colours, moved.alpha) == ((1, 2, 3), 4)
