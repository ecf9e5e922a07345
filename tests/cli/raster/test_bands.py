"""Which bands are dehazed, and which rasters are refused."""

from __future__ import annotations

import pytest
from rasterio.enums import ColorInterp

from infdehaze_cli.errors import InputError, UsageError
from infdehaze_cli.raster.bands import check_dtype, colour_bands

R, G, B, A = ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha
GREY, OTHER = ColorInterp.gray, ColorInterp.undefined


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([R, G, B], (1, 2, 3)),
        ([B, G, R, A], (3, 2, 1)),
        ([A, OTHER, R, G, B], (3, 4, 5)),
        ([GREY, OTHER, OTHER, OTHER], (1, 2, 3)),
        ([A, GREY, OTHER, OTHER], (2, 3, 4)),
        ([GREY], (1,)),
        ([OTHER], (1,)),
        ([GREY, A], (1,)),
    ],
)
def test_colour_interpretation_decides_then_the_order(kinds: list[ColorInterp], expected: tuple[int, ...]) -> None:
    assert colour_bands("scene", kinds, None) == expected


def test_named_bands_win_over_the_interpretation() -> None:
    assert colour_bands("scene", [R, G, B, OTHER], (4, 3, 2)) == (4, 3, 2)
    assert colour_bands("scene", [R, G, B, OTHER], (4,)) == (4,)


def test_two_bands_are_refused_until_one_is_named() -> None:
    with pytest.raises(InputError, match="--bands"):
        colour_bands("scene", [GREY, OTHER], None)
    assert colour_bands("scene", [GREY, OTHER], (2,)) == (2,)


@pytest.mark.parametrize("requested", [(), (1, 2), (1, 2, 3, 4), (0,), (5,), (1, 1, 2), (-1, 2, 3), (4,)])
def test_impossible_bands_are_refused(requested: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="--bands"):
        colour_bands("scene", [R, G, B, A], requested)


def test_palettes_are_refused_with_the_way_out() -> None:
    with pytest.raises(InputError, match="gdal_translate -expand rgb"):
        colour_bands("scene", [ColorInterp.palette], None)


def test_other_colour_models_are_refused() -> None:
    kinds = [ColorInterp.cyan, ColorInterp.magenta, ColorInterp.yellow, ColorInterp.black]
    with pytest.raises(InputError, match="convert it to RGB"):
        colour_bands("scene", kinds, None)


def test_a_lone_alpha_band_is_refused() -> None:
    with pytest.raises(InputError, match="alpha"):
        colour_bands("scene", [A], None)


@pytest.mark.parametrize("dtypes", [("complex64",), ("complex_int16",), ("uint64",), ("uint8", "uint16"), ()])
def test_unsupported_types_are_refused(dtypes: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        check_dtype("scene", dtypes)
