"""How outputs are packed, which bands they have, and what a profile must not break."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rio_cogeo.cogeo import cog_validate

from infdehaze_cli.errors import UsageError
from infdehaze_cli.raster.cog import make_cog
from infdehaze_cli.raster.profiles import cog_options, gtiff_options, intermediate_options

Make = Callable[..., Path]
Run = Callable[..., Path]
RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def predictor(path: Path) -> int:
    """Return the predictor of a little-endian classic TIFF's first directory, 1 where it has none."""
    data = path.read_bytes()
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for i in range(count):
        tag, _, _, value = struct.unpack_from("<HHIH", data, start + 2 + 12 * i)
        if tag == 317:
            return int(value)
    return 1


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "float32", "float64"])
@pytest.mark.parametrize(
    ("profile", "packing"), [("cog-deflate", "deflate"), ("cog-zstd", "zstd"), ("gtiff", "deflate")]
)
def test_a_lossless_profile_keeps_every_bit_and_uses_the_predictor_of_the_type(
    make_tiff: Make, restore: Run, unchanged: Any, load: Any, rng: Any, dtype: str, profile: str, packing: str
) -> None:
    pixels = rng.integers(0, 100, (3, 600, 620)).astype(dtype)

    path = restore(make_tiff(pixels, photometric="RGB"), change=unchanged, profile=profile)

    after = load(path)
    assert after.pixels.tobytes() == pixels.tobytes()
    assert after.profile["compress"] == packing
    assert predictor(path) == (3 if dtype.startswith("float") else 2)
    with rasterio.open(path) as dataset:
        assert (dataset.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG") == profile.startswith("cog")


@pytest.mark.parametrize("count", [1, 3])
def test_jpeg_keeps_the_picture_nearly_and_the_mask_exactly(
    make_tiff: Make, restore: Run, unchanged: Any, load: Any, count: int
) -> None:
    row, col = np.mgrid[:300, :420]
    pixels = np.stack([(40 + row // 4 + col // 5 + 10 * band) for band in range(count)]).astype(np.uint8)
    pixels[:, 40:90, 100:180] = 0
    source = make_tiff(pixels, nodata=0, photometric="RGB" if count == 3 else "MINISBLACK")

    path = restore(source, change=unchanged, profile="cog-jpeg")

    after = load(path)
    hidden = (pixels == 0).all(axis=0)
    assert after.profile["compress"] == "jpeg"
    assert after.nodata is None
    assert np.array_equal(after.mask == 0, hidden)
    error = np.abs(after.pixels.astype(int) - pixels)[:, ~hidden]
    assert error.mean() < 2
    assert cog_validate(path)[0]


@pytest.mark.parametrize(
    ("shape", "dtype", "colours"),
    [
        ((4, 40, 40), "uint8", None),
        ((3, 40, 40), "uint16", None),
        ((4, 40, 40), "uint8", (*RGB, ColorInterp.alpha)),
        ((2, 40, 40), "uint8", (ColorInterp.gray, ColorInterp.alpha)),
    ],
)
def test_jpeg_is_refused_for_what_it_cannot_hold(
    make_tiff: Make, restore: Run, tmp_path: Path, shape: Any, dtype: str, colours: Any
) -> None:
    source = make_tiff(np.ones(shape, dtype), colours=colours)

    with pytest.raises(UsageError, match="cog-zstd"):
        restore(source, profile="cog-jpeg")

    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


def test_an_unknown_profile_is_refused(make_tiff: Make, restore: Run) -> None:
    with pytest.raises(UsageError, match="cog-jpeg"):
        restore(make_tiff(np.ones((3, 8, 8), np.uint8)), profile="cog-gif")


def test_dropped_bands_leave_red_green_blue_and_alpha(make_tiff: Make, restore: Run, rng: Any, tmp_path: Path) -> None:
    colours = (ColorInterp.blue, ColorInterp.nir, ColorInterp.green, ColorInterp.red, ColorInterp.alpha)
    pixels = rng.integers(1, 255, (5, 60, 70), dtype=np.uint8)
    pixels[4, :20] = 0
    source = make_tiff(pixels, colours=colours)
    with rasterio.open(source, "r+") as dataset:
        dataset.descriptions = ("b", "n", "g", "r", "a")
        dataset.scales, dataset.offsets = (1, 2, 3, 4, 5), (0, 1, 2, 3, 4)
        dataset.update_tags(4, made="of red")

    with rasterio.open(restore(source, other_bands="drop")) as after:
        found = after.read()
        assert after.colorinterp == (*RGB, ColorInterp.alpha)
        assert after.descriptions == ("r", "g", "b", "a")
        assert (after.scales, after.offsets) == ((4, 3, 1, 5), (3, 2, 0, 4))
        assert after.tags(1)["made"] == "of red"
    expected = restore(source, dst=tmp_path / "whole.tif")
    with rasterio.open(expected) as whole:
        assert np.array_equal(found, whole.read((4, 3, 1, 5)))
    assert np.array_equal(found[:, :20], pixels[[3, 2, 0, 4], :20])


def test_named_bands_come_out_as_red_green_and_blue_when_others_are_dropped(
    make_tiff: Make, restore: Run, unchanged: Any, rng: Any
) -> None:
    pixels = rng.integers(1, 3000, (13, 40, 50)).astype(np.uint16)

    path = restore(make_tiff(pixels), bands=(4, 3, 2), change=unchanged, other_bands="drop")

    with rasterio.open(path) as after:
        assert after.colorinterp == RGB
        assert np.array_equal(after.read(), pixels[[3, 2, 1]])


def test_nothing_is_dropped_from_grey(make_tiff: Make, restore: Run, load: Any, rng: Any) -> None:
    source = make_tiff(rng.integers(1, 255, (1, 30, 30), dtype=np.uint8), colours=(ColorInterp.gray,))

    assert load(restore(source, other_bands="drop")).colours == (ColorInterp.gray,)


@pytest.mark.parametrize("profile", ["cog-deflate", "gtiff"])
def test_a_mosaic_that_is_mostly_empty_may_become_a_sparse_file_of_the_same_pixels(
    make_tiff: Make, restore: Run, unchanged: Any, load: Any, rng: Any, profile: str
) -> None:
    pixels = np.zeros((3, 1100, 1100), np.uint8)
    pixels[:, :200, :200] = rng.integers(1, 255, (3, 200, 200), dtype=np.uint8)
    source = make_tiff(pixels, nodata=0)

    path = restore(source, change=unchanged, profile=profile, creation_options={"SPARSE_OK": "TRUE"})

    assert load(path).pixels.tobytes() == pixels.tobytes()
    with rasterio.open(path) as dataset:
        first, last = (dataset.get_tag_item(f"BLOCK_OFFSET_{i}_{i}", "TIFF", bidx=1) for i in (0, 2))
    assert (bool(first), bool(last)) == (True, False)


@pytest.mark.parametrize(("side", "magic"), [(300, 42), (47_000, 43)])
def test_a_file_that_could_pass_four_gigabytes_is_a_bigtiff(tmp_path: Path, side: int, magic: int) -> None:
    raw, cog, plain = (tmp_path / f"{name}.tif" for name in ("raw", "cog", "plain"))
    shape = {"driver": "GTiff", "count": 1, "height": side, "width": side, "dtype": "uint8", "crs": "EPSG:32633"}
    sparse = {"transform": rasterio.Affine(2, 0, 5e5, 0, -2, 5e6), "SPARSE_OK": "YES"}

    # nothing but headers and empty overviews: two gigabytes that take no place
    rasterio.open(raw, "w", **shape, **sparse, **intermediate_options()).close()
    rasterio.open(plain, "w", **shape, **sparse, **gtiff_options(np.dtype("uint8"), {})).close()
    make_cog(raw, cog, cog_options({"SPARSE_OK": "YES"}))

    # libtiff closes one of these safely whatever it meets; nobody else reads it
    for path, expected in ((raw, 43), (cog, magic), (plain, magic)):
        with path.open("rb") as file:
            assert file.read(4)[2] == expected, path.name
