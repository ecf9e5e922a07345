"""`infdehaze eval`: scores whose values are known."""

import json
import math

import numpy as np
import pytest


@pytest.fixture
def pair(make_raster, landscape_pixels):
    """A clear raster, and one that is 10 brighter everywhere."""
    clear = landscape_pixels(height=64, width=80) // 2
    return make_raster("brighter.tif", clear + np.uint8(10)), make_raster("clear.tif", clear)


def test_a_constant_difference_has_its_psnr(cli, pair):
    ended = cli("eval", *pair, "--json")

    scores = json.loads(ended.out)
    assert (ended.code, ended.err) == (0, "")
    assert set(scores) == {"mean", "each"}
    assert scores["each"] == {"brighter.tif": scores["mean"]}
    assert scores["mean"]["psnr"] == pytest.approx(20 * math.log10(255 / 10), abs=1e-3)
    assert scores["mean"]["pixels"] == 64 * 80
    assert scores["mean"]["seam"] is None


def test_equal_rasters_are_perfect(cli, pair):
    scores = json.loads(cli("eval", pair[1], pair[1], "--json").out)["mean"]

    # JSON knows no infinity
    assert scores["psnr"] is None
    assert scores["ssim"] == pytest.approx(1)
    assert (scores["ciede2000"], scores["sam"]) == (0, pytest.approx(0, abs=1e-3))


def test_a_peak_is_the_value_that_counts_as_1(cli, pair):
    scores = json.loads(cli("eval", *pair, "--peak", "100", "--json").out)["mean"]

    assert scores["psnr"] == pytest.approx(20, abs=1e-3)


def test_the_hazy_input_gives_the_seam_index(cli, make_raster, landscape_pixels):
    hazy = landscape_pixels(height=64, width=96) // 2
    smooth, seamed = hazy.copy(), hazy.copy()
    smooth[:, :, ::2] += 3
    seamed[:, :, 32:64] += 20
    clear, haze = make_raster("clear.tif", hazy - np.uint8(9)), make_raster("hazy.tif", hazy)
    tiles = ["--tile", "32", "--overlap", "0", "--hazy", haze, "--json"]

    even = json.loads(cli("eval", make_raster("even.tif", smooth), clear, *tiles).out)["mean"]["seam"]
    bad = json.loads(cli("eval", make_raster("bad.tif", seamed), clear, *tiles).out)["mean"]["seam"]

    # columns differ by 3 at every step, borders or not; the other raster changes at its borders alone
    assert even == pytest.approx(1, abs=0.2)
    assert bad is None or bad > 5


def test_the_table_has_a_row_a_raster_and_their_mean(cli, make_raster, tmp_path):
    for folder in ("results", "truth"):
        (tmp_path / folder).mkdir()
        for name in ("a [1]", "b"):
            make_raster(f"{folder}/{name}.tif")

    ended = cli("eval", tmp_path / "results", tmp_path / "truth")

    assert ended.code == 0
    for words in ("a [1]", "b", "mean", "PSNR dB", "inf"):
        assert words in ended.out


@pytest.mark.parametrize("names", [("a.tif", "none.tif"), ("none.tif", "a.tif"), (".", "a.tif")])
def test_what_is_missing_is_3(cli, make_raster, tmp_path, names):
    make_raster("a.tif")

    ended = cli("eval", *(tmp_path / name for name in names))

    assert (ended.code, ended.out, ended.err.count("\n")) == (3, "", 1)


@pytest.mark.parametrize("options", [["--peak", "0"], ["--tile", "32", "--overlap", "32"], ["--bands", "x"]])
def test_wrong_usage_is_2(cli, pair, options):
    ended = cli("eval", *pair, *options)

    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
