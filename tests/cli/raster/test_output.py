"""What a restored scene keeps, bit for bit, and what it changes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.rpc import RPC
from rasterio.transform import Affine
from rio_cogeo.cogeo import cog_validate

from infdehaze_cli.geometry import Window
from infdehaze_cli.raster import OutputWriter, Scene
from infdehaze_cli.raster._gdal import open_quietly

Make = Callable[..., Path]
Run = Callable[..., Path]
RGB = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]


def picture(rng: np.random.Generator, dtype: str, bands: int = 3, height: int = 300, width: int = 530) -> Any:
    if np.dtype(dtype).kind == "f":
        return rng.normal(0.4, 0.2, (bands, height, width)).astype(dtype)
    return rng.integers(1, 120, (bands, height, width)).astype(dtype)


def assert_valid_cog(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        valid, errors, _ = cog_validate(str(path), strict=True)
    assert valid, errors


@pytest.mark.parametrize("format", ["cog", "gtiff"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_untouched_scene_comes_out_bit_for_bit(
    make_tiff: Make,
    restore: Run,
    unchanged: Any,
    load: Any,
    rng: np.random.Generator,
    dtype: str,
    format: str,  # noqa: A002
) -> None:
    pixels = picture(rng, dtype, bands=4)
    dst = restore(make_tiff(pixels), change=unchanged, format=format)
    assert load(dst).pixels.tobytes() == pixels.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 3])
def test_a_changed_scene_has_the_restored_values(
    make_tiff: Make, restore: Run, load: Any, rng: np.random.Generator, dtype: str, count: int
) -> None:
    pixels = picture(rng, dtype, bands=count)
    dst = restore(make_tiff(pixels), scale_range=(0.0, 200.0), change=lambda v: v * np.float32(0.5))
    expected = pixels.astype(np.float64) * 0.5
    tolerance = 1e-5 if np.dtype(dtype).kind == "f" else 0.5
    assert load(dst).pixels.dtype == np.dtype(dtype)
    assert np.abs(load(dst).pixels - expected).max() <= tolerance + 1e-4


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_perfectly_black_stays_black(
    make_tiff: Make, restore: Run, load: Any, rng: np.random.Generator, dtype: str
) -> None:
    pixels = picture(rng, dtype)
    pixels[:, :, 400:] = 0
    # dark in one band alone is a colour
    pixels[1, :50] = 0
    result = load(restore(make_tiff(pixels), scale_range=(0.0, 200.0), change=lambda v: v - np.float32(0.1))).pixels
    assert (result[:, :, 400:] == 0).all()
    if np.dtype(dtype).kind != "u":
        assert (result[1, :50, :400] < 0).all()


def test_the_lowest_of_negative_values_is_no_black(make_tiff: Make, restore: Run, load: Any) -> None:
    source = make_tiff(np.full((3, 8, 8), -50, np.int16))
    assert (load(restore(source, scale_range=(-50.0, 50.0), change=lambda v: v - np.float32(0.1))).pixels == -60).all()


def test_bands_that_are_no_colours_come_out_bit_for_bit(
    make_tiff: Make, restore: Run, load: Any, rng: np.random.Generator
) -> None:
    pixels = picture(rng, "uint16", bands=6)
    kinds = [ColorInterp.undefined, ColorInterp.blue, ColorInterp.green, ColorInterp.red]
    source = make_tiff(pixels, colours=[*kinds, ColorInterp.undefined, ColorInterp.alpha])
    result = load(restore(source))
    assert np.array_equal(result.pixels[[0, 4, 5]], pixels[[0, 4, 5]])
    assert (result.pixels[1:4] != pixels[1:4]).mean() > 0.9
    assert result.colours == (*kinds, ColorInterp.undefined, ColorInterp.alpha)


def test_grey_gets_the_mean_of_the_three_channels(make_tiff: Make, restore: Run, load: Any) -> None:
    source = make_tiff(np.full((1, 8, 8), 100, np.uint8))
    shift = np.array([-30, 0, 60], np.float32).reshape(3, 1, 1) / np.float32(255)
    assert (load(restore(source, change=lambda v: v + shift)).pixels == 110).all()


@pytest.mark.parametrize("format", ["cog", "gtiff"])
@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [("uint8", 0), ("uint8", 255), ("int16", -1), ("float32", -9999.0), ("float32", np.nan)],
)
def test_invalid_pixels_stay_and_valid_ones_never_become_nodata(
    make_tiff: Make,
    restore: Run,
    load: Any,
    rng: np.random.Generator,
    dtype: str,
    nodata: float,
    format: str,  # noqa: A002
) -> None:
    pixels = picture(rng, dtype, bands=4)
    pixels[:, :40, :90] = nodata
    pixels[2, 100, 100] = nodata
    limits = (-1.0, 254.0)
    aim = 0.0 if np.isnan(nodata) else (nodata - limits[0]) / (limits[1] - limits[0])
    source = make_tiff(pixels, nodata=nodata)
    result = load(restore(source, scale_range=limits, change=lambda v: np.full_like(v, aim), format=format))
    with Scene.open(source) as scene:
        valid = scene.read(Window(0, 0, 300, 512)).valid
    invalid = ~valid
    assert result.nodata == nodata or (np.isnan(result.nodata) and np.isnan(nodata))
    assert result.pixels[:, :, :512][:, invalid].tobytes() == pixels[:, :, :512][:, invalid].tobytes()
    with Scene.open(restore(source, change=lambda v: np.full_like(v, aim), overwrite=True)) as again:
        assert np.array_equal(again.read(Window(0, 0, 300, 512)).valid, valid)


@pytest.mark.parametrize("format", ["cog", "gtiff"])
@pytest.mark.parametrize("external", [False, True], ids=["internal", "external"])
def test_a_mask_becomes_an_internal_mask_with_the_same_pixels(
    make_tiff: Make,
    restore: Run,
    load: Any,
    rng: np.random.Generator,
    tmp_path: Path,
    external: bool,
    format: str,  # noqa: A002
) -> None:
    pixels = picture(rng, "uint8")
    mask = np.where(rng.random((300, 530)) < 0.3, 0, 255).astype(np.uint8)
    dst = restore(make_tiff(pixels, mask=mask, external_mask=external), format=format)
    result = load(dst)
    assert np.array_equal(result.mask, mask)
    assert np.array_equal(result.pixels[:, mask == 0], pixels[:, mask == 0])
    assert not dst.with_name(dst.name + ".msk").exists()


def describe(path: Path) -> dict[str, Any]:
    with open_quietly(path) as dataset:
        return {
            "crs": dataset.crs,
            "transform": dataset.transform,
            "gcps": ([(p.row, p.col, p.x, p.y, p.z) for p in dataset.gcps[0]], dataset.gcps[1]),
            "rpcs": dataset.rpcs and dataset.rpcs.to_dict(),
            "nodata": dataset.nodata,
            "descriptions": dataset.descriptions,
            "units": dataset.units,
            "scales": dataset.scales,
            "offsets": dataset.offsets,
            "colours": dataset.colorinterp,
            "tags": {k: v for k, v in dataset.tags().items() if not k.startswith(("INFDEHAZE", "OVR_"))},
            "domain": dataset.tags(ns="SENSOR"),
            "xmp": dataset.tags(ns="xml:XMP"),
            "band tags": [dataset.tags(band) for band in dataset.indexes],
            "band domain": dataset.tags(2, ns="SENSOR"),
        }


@pytest.mark.parametrize("format", ["cog", "gtiff"])
@pytest.mark.parametrize(
    "place",
    ["north-up", "rotated", "south-up", "gcps", "rpcs", "nowhere"],
)
def test_everything_but_pixels_is_kept(
    make_tiff: Make,
    restore: Run,
    rng: np.random.Generator,
    place: str,
    format: str,  # noqa: A002
) -> None:
    transforms = {
        "north-up": Affine(0.5, 0, 100.25, 0, -0.5, 200.75),
        "rotated": Affine(1.0, 0.3, 100.0, 0.2, -1.1, 200.0),
        "south-up": Affine(1.0, 0, 100.0, 0, 1.0, 200.0),
    }
    located = place in transforms
    source = make_tiff(
        picture(rng, "int16", bands=4, height=64, width=80),
        nodata=-1,
        crs="EPSG:32633" if located else None,
        transform=transforms.get(place),
    )
    with open_quietly(source, "r+") as dataset:
        if place == "gcps":
            points = [GroundControlPoint(r, c, 10.0 + c, 50.0 - r, 3.0) for r, c in ((0, 0), (0, 80), (64, 0))]
            dataset.gcps = (points, "EPSG:4326")
        if place == "rpcs":
            terms = [1.0, *([0.25] * 19)]
            dataset.rpcs = RPC(1.0, 2.0, 3.0, 4.0, terms, terms, 5.0, 6.0, 7.0, 8.0, terms, terms, 9.0, 10.0)
        dataset.colorinterp = [ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined]
        dataset.descriptions = ("blau", "grün", "rot", None)
        dataset.units = ("W", "W", "W", "K")
        dataset.scales = (0.1, 0.1, 0.1, 2.0)
        dataset.offsets = (0.0, 1.0, 2.0, 3.0)
        dataset.update_tags(AREA_OR_POINT="Point", TIFFTAG_SOFTWARE="camera 3", OWNER="somebody")
        dataset.update_tags(ns="SENSOR", NAME="abc", GAIN="7")
        dataset.update_tags(ns="xml:XMP", **{'<x a="1" b': '"2"/>'})
        dataset.update_tags(2, WAVELENGTH="560")
        dataset.update_tags(2, ns="SENSOR", FILTER="green")
    expected, found = describe(source), describe(restore(source, format=format))
    if not located:
        for described in (expected, found):
            described["tags"].pop("AREA_OR_POINT", None)
    assert found == expected


def test_stale_statistics_are_dropped_and_our_own_tags_added(
    make_tiff: Make, restore: Run, load: Any, rng: np.random.Generator
) -> None:
    source = make_tiff(picture(rng, "uint8"), tags={"STATISTICS_MEAN": "3", "KEPT": "yes"})
    with open_quietly(source, "r+") as dataset:
        dataset.update_tags(1, STATISTICS_MAXIMUM="9", LENS="wide")
    dst = restore(source, tags={"INFDEHAZE_VERSION": "1.2"})
    tags = load(dst).tags
    assert (tags["KEPT"], tags["INFDEHAZE_VERSION"], tags["INFDEHAZE_SCALE_RANGE"]) == (
        "yes",
        "1.2",
        "0.0,255.0",
    )
    assert not any(key.startswith("STATISTICS") for key in tags)
    with open_quietly(dst) as dataset:
        assert dataset.tags(1) == {"LENS": "wide"}


def test_the_written_scale_range_gives_the_same_limits_again(
    make_tiff: Make, restore: Run, load: Any, rng: np.random.Generator
) -> None:
    source = make_tiff(picture(rng, "float32"))
    lo, hi = map(float, load(restore(source)).tags["INFDEHAZE_SCALE_RANGE"].split(","))
    with Scene.open(source) as first, Scene.open(source, scale_range=(lo, hi)) as second:
        assert first.limits == second.limits


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("count", [1, 3, 4, 13])
def test_the_default_output_is_a_valid_cog_with_overviews(
    make_tiff: Make, restore: Run, load: Any, rng: np.random.Generator, dtype: str, count: int
) -> None:
    dst = restore(make_tiff(picture(rng, dtype, bands=count, height=520, width=600)))
    result = load(dst)
    assert_valid_cog(dst)
    assert result.overviews
    assert (result.profile["blockxsize"], result.profile["compress"]) == (512, "deflate")


def test_a_plain_geotiff_is_tiled_and_packed(make_tiff: Make, restore: Run, load: Any, rng: Any) -> None:
    profile = load(restore(make_tiff(picture(rng, "uint16")), format="gtiff")).profile
    assert (profile["tiled"], profile["blockxsize"], profile["compress"]) == (True, 256, "deflate")


@pytest.mark.parametrize(
    ("format", "options", "expected"),
    [
        ("cog", {"compress": "ZSTD", "level": "3", "blocksize": "256"}, ("zstd", 256)),
        ("cog", {"COMPRESS": "JPEG", "QUALITY": "90"}, ("jpeg", 512)),
        ("cog", {"COMPRESS": "NONE"}, (None, 512)),
        ("gtiff", {"COMPRESS": "lzw", "BLOCKXSIZE": "512", "BLOCKYSIZE": "512"}, ("lzw", 512)),
    ],
)
def test_creation_options_replace_the_defaults(
    make_tiff: Make,
    restore: Run,
    load: Any,
    rng: np.random.Generator,
    format: str,  # noqa: A002
    options: dict[str, str],
    expected: tuple[str | None, int],
) -> None:
    source = make_tiff(picture(rng, "uint8", height=600, width=700))
    profile = load(restore(source, format=format, creation_options=options)).profile
    assert (profile.get("compress"), profile["blockxsize"]) == expected


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 1, 700), (3, 257, 1)])
def test_scenes_smaller_than_a_tile_are_written(
    make_tiff: Make, restore: Run, load: Any, unchanged: Any, rng: Any, shape: tuple[int, int, int]
) -> None:
    pixels = picture(rng, "uint8", *shape)
    dst = restore(make_tiff(pixels), change=unchanged)
    assert np.array_equal(load(dst).pixels, pixels)
    assert_valid_cog(dst)


def test_writing_the_same_scene_twice_gives_the_same_file(
    make_tiff: Make, restore: Run, rng: np.random.Generator, tmp_path: Path
) -> None:
    source = make_tiff(picture(rng, "uint16", height=1100, width=600))
    first = restore(source, dst=tmp_path / "a.tif").read_bytes()
    second = restore(source, dst=tmp_path / "b.tif").read_bytes()
    assert first == second


def test_a_picture_of_another_size_than_its_block_is_a_mistake(make_tiff: Make, tmp_path: Path) -> None:
    with (
        Scene.open(make_tiff(np.ones((3, 8, 8), np.uint8))) as scene,
        OutputWriter(scene, tmp_path / "out.tif") as writer,
    ):
        block = scene.read(Window(0, 0, 8, 8))
        wrong: NDArray[np.float32] = np.zeros((3, 8, 7), np.float32)
        with pytest.raises(ValueError, match="shape"):
            writer.write(block, wrong)
