"""Values go to the network's range and come back, exactly where nothing was changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from infdehaze_cli.errors import InputError, UsageError
from infdehaze_cli.raster.bands import SUPPORTED_DTYPES
from infdehaze_cli.raster.scaling import BRIGHTEST, EXTREME, Limits, full_limits, limits_from_sample, scale, unscale
from infdehaze_cli.raster.validity import equals_nodata

DTYPES = [np.dtype(name) for name in SUPPORTED_DTYPES]


@st.composite
def planes(draw: st.DrawFn) -> NDArray[Any]:
    """Bands of any supported dtype, with any finite values."""
    dtype = draw(st.sampled_from(DTYPES))
    elements: st.SearchStrategy[Any]
    if dtype.kind == "f":
        elements = st.floats(allow_nan=False, allow_infinity=False, width=32)
    else:
        bounds = np.iinfo(dtype)
        elements = st.integers(int(bounds.min), int(bounds.max))
    return draw(arrays.arrays(dtype, arrays.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=elements))


@given(planes())
def test_untouched_values_come_back_bit_for_bit(native: NDArray[Any]) -> None:
    limits = limits_from_sample("scene", native, native.dtype)
    values = scale(native, limits)
    back = unscale(values.copy(), values, native, limits)
    assert np.isfinite(values).all()
    assert back.tobytes() == native.tobytes()
    assert back.dtype == native.dtype


@given(planes(), st.integers(0, 2**32 - 1))
def test_values_change_only_where_the_network_changed_them(native: NDArray[Any], seed: int) -> None:
    limits = limits_from_sample("scene", native, native.dtype)
    values = scale(native, limits)
    touched = np.random.default_rng(seed).random(native.shape) < 0.5
    restored = np.where(touched, values + np.float32(0.25), values).astype(np.float32)
    back = unscale(restored, values, native, limits)
    assert back[~touched].tobytes() == native[~touched].tobytes()


@given(planes(), st.sampled_from(["min", "max", "middle"]), st.floats(-0.5, 1.5, width=32))
def test_restored_values_never_become_nodata(native: NDArray[Any], where: str, level: float) -> None:
    bounds = np.finfo(native.dtype) if native.dtype.kind == "f" else np.iinfo(native.dtype)
    nodata = {"min": float(bounds.min), "max": float(bounds.max), "middle": 7.0}[where]
    valid = ~equals_nodata(native, nodata)
    limits = limits_from_sample("scene", native[valid], native.dtype)
    values = scale(native, limits)
    back = unscale(np.full_like(values, level), values, native, limits, nodata=nodata)
    assert not equals_nodata(back, nodata)[valid].any()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("nodata", [0, 100, 255])
def test_a_value_that_lands_on_nodata_moves_by_the_least_step(dtype: str, nodata: int) -> None:
    native = np.full((2, 2), 50, dtype=dtype)
    limits = Limits(0.0, 255.0)
    values = scale(native, limits)
    back = unscale(np.full_like(values, nodata / 255.0), values, native, limits, nodata=float(nodata))
    assert (back != nodata).all()
    assert np.abs(back.astype(np.float64) - nodata).max() <= (1 if dtype != "float32" else 1e-3)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_integers_are_rounded_and_clipped_to_their_type(dtype: np.dtype[Any]) -> None:
    native = np.array([[10, 20, 30]], dtype=dtype)
    limits = Limits(0.0, 100.0)
    values = scale(native, limits)
    back = unscale(np.array([[0.106, -1e8, 1e8]], dtype=np.float32), values, native, limits)
    if dtype.kind == "f":
        assert back[0, 0] == pytest.approx(10.6)
    else:
        assert back.tolist() == [[11, np.iinfo(dtype).min, np.iinfo(dtype).max]]
    assert np.isfinite(back).all()


def test_fewer_used_bits_bound_the_output() -> None:
    native = np.array([[4000]], dtype=np.uint16)
    limits = full_limits(native.dtype, 12)
    values = scale(native, limits)
    assert limits == Limits(0.0, 4095.0)
    assert unscale(values * 2, values, native, limits, top=4095).tolist() == [[4095]]


def test_a_restored_value_that_is_no_number_keeps_the_native_one() -> None:
    native = np.array([[10, 20, 30, 40]], dtype=np.uint8)
    limits = Limits(0.0, 255.0)
    values = scale(native, limits)
    restored = np.array([[np.nan, np.inf, -np.inf, 1.0]], dtype=np.float32)
    assert unscale(restored, values, native, limits).tolist() == [[10, 20, 30, 255]]


def test_outliers_are_clipped_for_the_network_and_kept_in_the_output() -> None:
    native = np.array([[1e30, 0.5]], dtype=np.float32)
    limits = Limits(0.0, 1.0)
    values = scale(native, limits)
    back = unscale(values * np.float32(0.5), values, native, limits)
    assert values[0, 0] == np.float32(EXTREME)
    assert back.tolist() == [[native[0, 0], 0.25]]


def test_limits_ignore_the_outermost_thousandth() -> None:
    sample = np.arange(100_000, dtype=np.float64) / 100_000
    sample[-1] = 1e9
    limits = limits_from_sample("scene", sample, np.dtype("float64"))
    assert limits.lo == 0.0
    assert scale(np.array([0.999]), limits) == pytest.approx(BRIGHTEST, abs=1e-4)


def test_limits_reach_below_zero_only_for_negative_values() -> None:
    positive = limits_from_sample("scene", np.array([300, 500], dtype=np.int16), np.dtype("int16"))
    negative = limits_from_sample("scene", np.array([-300, 500], dtype=np.int16), np.dtype("int16"))
    assert positive == Limits(0.0, 500 / BRIGHTEST)
    assert negative == Limits(-300.0, -300 + 800 / BRIGHTEST)


@given(st.sampled_from(DTYPES), st.data())
def test_a_constant_scene_still_has_limits_that_differ(dtype: np.dtype[Any], data: st.DataObject) -> None:
    bounds = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    value = data.draw(st.sampled_from([0, 1, bounds.min, bounds.max]))
    limits = limits_from_sample("scene", np.full(5, value, dtype=dtype), dtype)
    assert limits.hi > limits.lo


@pytest.mark.parametrize("offset", [-0.5, 0.0, 0.3, 0.5])
def test_limits_of_thick_haze_do_not_depend_on_how_values_are_tagged(offset: float) -> None:
    light = np.linspace(0.43, 0.53, 5000)
    limits = limits_from_sample("scene", light - offset, np.dtype("float64"), 0.0 - offset)
    assert limits.lo + offset == pytest.approx(0.0)
    assert limits.hi + offset == pytest.approx(0.53 / BRIGHTEST, rel=0.01)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_scene_without_valid_pixels_gets_the_range_of_its_type(dtype: np.dtype[Any]) -> None:
    assert limits_from_sample("scene", np.empty(0, dtype=dtype), dtype) == full_limits(dtype)


def test_a_span_beyond_any_float_is_refused_with_advice() -> None:
    sample = np.array([-1.7e308, 1.7e308])
    with pytest.raises(InputError, match="--scale-range"):
        limits_from_sample("scene", sample, sample.dtype)


@pytest.mark.parametrize("pair", [(1.0, 1.0), (2.0, 1.0), (0.0, np.inf), (np.nan, 1.0), (-1.7e308, 1.7e308)])
def test_an_empty_scale_range_is_refused(pair: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="scale range"):
        Limits(*pair)


def test_limits_are_written_so_that_they_can_be_given_again() -> None:
    limits = Limits(0.1, 1 / 3)
    assert tuple(map(float, str(limits).split(","))) == (limits.lo, limits.hi)
