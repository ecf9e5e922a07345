"""Real rasters with real oddities, where a folder of them lies beside the checkout."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio.enums import ColorInterp
from rio_cogeo.cogeo import cog_validate

from infdehaze_cli.errors import InputError
from infdehaze_cli.geometry import Window
from infdehaze_cli.raster import Scene
from infdehaze_cli.raster._gdal import open_quietly

Odd = Callable[[str], Path]
Run = Callable[..., Path]


def test_bands_in_blue_green_red_order_are_found(odd: Odd, restore: Run, load: Any) -> None:
    source = odd("RGBA.uint16.tif")
    with Scene.open(source) as scene:
        assert scene.colour_bands == (3, 2, 1)
    before, after = load(source), load(restore(source))
    assert after.colours == (ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.alpha)
    assert np.array_equal(after.pixels[3], before.pixels[3])
    hidden = before.pixels[3] == 0
    assert np.array_equal(after.pixels[:, hidden], before.pixels[:, hidden])


def test_a_rotated_geotransform_is_kept(odd: Odd, restore: Run, load: Any) -> None:
    source = odd("rotated.tif")
    before, after = load(source), load(restore(source))
    assert before.transform.b != 0
    assert (after.transform, after.crs) == (before.transform, before.crs)


def test_ground_control_points_are_kept(odd: Odd, restore: Run) -> None:
    source = odd("RGB.byte.gcp.vrt")
    with open_quietly(source) as before, open_quietly(restore(source)) as after:
        assert [(p.row, p.col, p.x, p.y, p.z) for p in after.gcps[0]] == [
            (p.row, p.col, p.x, p.y, p.z) for p in before.gcps[0]
        ]
        assert after.gcps[1] == before.gcps[1]


def test_rational_polynomials_are_kept(odd: Odd, restore: Run) -> None:
    source = odd("RGB.byte.rpc.vrt")
    with open_quietly(source) as before, open_quietly(restore(source)) as after:
        expected, found = before.rpcs.to_dict(), after.rpcs.to_dict()
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-14)


def test_a_scene_without_any_data_stays_as_it_is(odd: Odd, restore: Run, load: Any) -> None:
    source = odd("all-nodata.tif")
    with Scene.open(source) as scene:
        block = scene.read(Window(0, 0, scene.height, scene.width))
        assert not block.valid.any()
        assert not block.values.any()
    assert load(restore(source)).pixels.tobytes() == load(source).pixels.tobytes()


def test_a_corrupt_block_is_named_and_leaves_nothing(odd: Odd, restore: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="rows 512 to 767"):
        restore(odd("corrupt.tif"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["RGB2.byte.tif", "201404_13SED190110_201404_0x1500m_CL_1_extmask.tif"])
def test_external_masks_become_internal_ones(odd: Odd, restore: Run, load: Any, name: str) -> None:
    source = odd(name)
    before, after = load(source), load(restore(source))
    assert 0 < (before.mask == 0).mean() < 1
    assert np.array_equal(after.mask, before.mask)
    hidden = before.mask == 0
    assert np.array_equal(after.pixels[:, hidden], before.pixels[:, hidden])
    assert (after.pixels != before.pixels).any()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("slc.tif", "complex"),
        ("palette-1c-8b.tiff", "expand rgb"),
        ("palette-1c-4b.tiff", "expand rgb"),
        ("miniswhite-1c-1b.tiff", "expand rgb"),
        ("cmyk-3c-16b.tiff", "RGB"),
        ("gradient-3c-64b.tiff", "uint64"),
        ("cog_scale.tif", "--bands"),
    ],
)
def test_what_cannot_be_dehazed_is_refused_with_advice(odd: Odd, name: str, hint: str) -> None:
    with pytest.raises(InputError, match=hint) as caught:
        Scene.open(odd(name))
    assert "\n" not in str(caught.value)


def test_fuzzed_files_are_refused_or_read_and_never_crash(shared: Path, capfd: Any) -> None:
    files = [path for path in (shared / "rasters" / "image-tiff-fuzz").rglob("*") if path.is_file()]
    for path in files:
        with suppress(InputError), Scene.open(path) as scene:
            scene.read(Window(0, 0, min(scene.height, 256), min(scene.width, 256)))
    assert files
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "name",
    [
        "image_with_offsets.tif",
        "float_nan.tif",
        "float_raster_with_nodata.tif",
        "inverted_lat.tif",
        "image_51px.tif",
        "image_rgba_nodata.tif",
        "image_no_overview.tif",
        "image_geos.tif",
        "BigTIFFMotorola.tif",
        "12bit.cropped.rgb.tiff",
        "goes.tif",
        "ROIs1970_fall_139_p839.tif",
    ],
)
@pytest.mark.parametrize("format", ["cog", "gtiff"])
def test_an_untouched_odd_raster_comes_out_bit_for_bit(
    odd: Odd,
    restore: Run,
    unchanged: Any,
    load: Any,
    name: str,
    format: str,  # noqa: A002
) -> None:
    source = odd(name)
    before, after = load(source), load(restore(source, change=unchanged, format=format))
    assert after.pixels.tobytes() == before.pixels.tobytes()
    assert (after.crs, after.transform, after.flags) == (before.crs, before.transform, before.flags)
    assert after.colours == before.colours
    assert repr(after.nodata) == repr(before.nodata)
    assert (after.mask is None) == (before.mask is None)
    assert after.mask is None or np.array_equal(after.mask, before.mask)


def test_four_band_scenes_change_in_colour_and_keep_near_infrared(
    shared: Path, restore: Run, load: Any, tmp_path: Path
) -> None:
    scenes = sorted((shared / "scenes").glob("m_*.tif"))
    assert scenes
    for source in scenes:
        dst = restore(source, dst=tmp_path / source.name)
        before, after = load(source), load(dst)
        assert np.array_equal(after.pixels[3], before.pixels[3])
        assert (after.pixels[:3] != before.pixels[:3]).mean() > 0.5
        assert (after.crs, after.transform, after.nodata) == (before.crs, before.transform, before.nodata)
        assert (after.colours, after.flags) == (before.colours, before.flags)
        hidden = (before.pixels[:3] == 0).any(axis=0)
        assert np.array_equal(after.pixels[:, hidden], before.pixels[:, hidden])
        assert np.array_equal((after.pixels[:3] == 0).any(axis=0), hidden)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            valid, errors, _ = cog_validate(str(dst), strict=True)
        assert valid, errors
