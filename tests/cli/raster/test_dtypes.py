"""Every data type: what the network leaves alone stays bit for bit, and what it changes keeps its detail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from infdehaze_cli.raster import Limits, Scene
from infdehaze_cli.raster.bands import SUPPORTED_DTYPES
from infdehaze_cli.raster.scaling import dark_value, scale, unscale

Make = Callable[..., Path]
Run = Callable[..., Path]


def extreme(dtype: str, rng: np.random.Generator) -> NDArray[Any]:
    """Return four bands with every kind of value that a type can hold: ends, near ends, noise, and no numbers."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        pixels = rng.normal(0.3, 0.1, (4, 90, 110)).astype(kind)
        odd = [np.nan, np.inf, -np.inf, 0.0, -0.0, np.finfo(kind).max, np.finfo(kind).min, np.finfo(kind).tiny, 1e-40]
    else:
        ends = np.iinfo(kind)
        pixels = rng.integers(ends.min, ends.max, (4, 90, 110), dtype=kind, endpoint=True)
        odd = [ends.min, ends.max, 0, ends.max - 1, ends.min + 1, 1]
    pixels[:, :9, : len(odd)] = np.array(odd).astype(kind)
    return pixels


@pytest.mark.parametrize("dtype", SUPPORTED_DTYPES)
@pytest.mark.parametrize("format", ["cog", "gtiff"])
def test_no_strength_is_bit_for_bit_the_input_for_every_type(
    cli: Any,
    make_tiff: Make,
    load: Any,
    rng: Any,
    tmp_path: Path,
    dtype: str,
    format: str,  # noqa: A002
) -> None:
    pixels = extreme(dtype, rng)
    source, dst = make_tiff(pixels), tmp_path / "same.tif"

    ended = cli("run", source, "-o", dst, "--strength", "0", "--format", format, "--scale-range", "0,1", "-q")

    assert (ended.code, ended.err) == (0, "")
    assert load(dst).pixels.tobytes() == pixels.tobytes()


@pytest.mark.parametrize("dtype", SUPPORTED_DTYPES)
def test_pixels_without_data_stay_bit_for_bit_at_full_strength(
    cli: Any, make_tiff: Make, load: Any, rng: Any, tmp_path: Path, dtype: str
) -> None:
    pixels = extreme(dtype, rng)
    mask = np.where(rng.random(pixels.shape[1:]) < 0.3, 0, 255).astype(np.uint8)
    source, dst = make_tiff(pixels, mask=mask), tmp_path / "clean.tif"
    limits = "-1e9,4e9" if dtype in ("uint32", "int32") else "0,255"

    ended = cli("run", source, "-o", dst, "--scale-range", limits, "-q")

    assert ended.code == 0, ended.err
    after = load(dst).pixels
    assert after[:, mask == 0].tobytes() == pixels[:, mask == 0].tobytes()
    assert after[3].tobytes() == pixels[3].tobytes()
    assert (after[:3] != pixels[:3]).any()
    infinite = ~np.isfinite(pixels[:3].astype(np.float64)).all(axis=0)
    assert after[:, infinite].tobytes() == pixels[:, infinite].tobytes()


@pytest.mark.parametrize(("kind", "seed"), [("mask", 1), ("alpha", 2), ("nodata", 3)])
def test_what_lies_under_the_mask_changes_no_valid_pixel_of_the_output(
    cli: Any, make_tiff: Make, load: Any, rng: Any, tmp_path: Path, kind: str, seed: int
) -> None:
    from rasterio.enums import ColorInterp

    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    base = rng.integers(300, 3000, (3, 150, 170)).astype(np.uint16)
    hidden = rng.random((150, 170)) < 0.2
    hidden[40:110, 20:140] = True

    def clean(under: NDArray[Any], name: str) -> NDArray[Any]:
        pixels = np.where(hidden, under, base).astype(np.uint16)
        shown = np.where(hidden, 0, 65535)
        if kind == "alpha":
            pixels = np.concatenate([pixels, shown[None]]).astype(np.uint16)
            source = make_tiff(pixels, name=name, colours=(*colours, ColorInterp.alpha))
        elif kind == "mask":
            source = make_tiff(pixels, name=name, mask=np.where(hidden, 0, 255).astype(np.uint8))
        else:
            # one colour without data hides the others
            pixels[0, hidden] = 7
            source = make_tiff(pixels, name=name, nodata=7)
        assert cli("run", source, "-o", tmp_path / f"clean-{name}", "-q").code == 0
        return np.asarray(load(tmp_path / f"clean-{name}").pixels)[:3, ~hidden]

    first = clean(np.zeros_like(base), "dark.tif")
    second = clean(np.random.default_rng(seed).integers(0, 65536, base.shape), "noise.tif")

    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("dtype", ["uint32", "int32", "float64"])
def test_neighbours_that_float32_cannot_tell_apart_stay_apart(dtype: str) -> None:
    native = (2_000_000_000 + np.arange(64)).astype(dtype).reshape(8, 8)
    limits = Limits(0.0, 4e9)
    values = scale(native, limits)
    assert len(np.unique(values)) < 5

    fresh = unscale(values * np.float32(0.5), values, native, limits)

    assert len(np.unique(fresh)) == 64
    assert np.abs(fresh.astype(np.float64) - 1e9).max() < 400


def test_twelve_bits_in_sixteen_stay_twelve(make_tiff: Make, restore: Run, load: Any, rng: Any) -> None:
    pixels = rng.integers(0, 4096, (3, 80, 90)).astype(np.uint16)
    source = make_tiff(pixels, nbits=12)
    with Scene.open(source) as scene:
        assert scene.bits == 12

    after = load(restore(source, change=lambda values: values * np.float32(3)))

    assert after.pixels.max() == 4095
    assert after.pixels.dtype == np.uint16


@pytest.mark.parametrize(
    ("scales", "offsets", "dark"),
    [
        ((1.0,), (0.0,), 0.0),
        ((1e-4,) * 3, (-0.1,) * 3, 1000.0),
        ((0.5, 0.5, 1.0), (0.0, 0.0, 1.0), 0.0),
        ((0.0,), (5.0,), 0.0),
        ((-1.0,), (5.0,), 0.0),
        ((1.0,), (float("nan"),), 0.0),
    ],
)
def test_the_dark_value_follows_scale_and_offset(scales: Any, offsets: Any, dark: float) -> None:
    assert dark_value(scales, offsets) == pytest.approx(dark)


@pytest.mark.parametrize(("offset", "lowest"), [(-0.1, 1000.0), (0.0, 0.0), (300.0, 0.0)])
def test_an_offset_moves_the_dark_limit_unless_it_lies_far_from_all_values(
    make_tiff: Make, rng: Any, offset: float, lowest: float
) -> None:
    import rasterio

    source = make_tiff(rng.integers(1500, 4000, (3, 90, 90)).astype(np.uint16))
    with rasterio.open(source, "r+") as dataset:
        dataset.scales, dataset.offsets = (1e-4,) * 3, (offset,) * 3

    with Scene.open(source) as scene:
        assert scene.limits.lo == pytest.approx(lowest)
