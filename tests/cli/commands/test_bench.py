"""`infdehaze bench`: quality and speed, measured through the whole tool."""

import json
import math

import pytest

from infdehaze_cli.training.haze import STYLES


@pytest.fixture
def clear(make_raster, tmp_path):
    (tmp_path / "clear" / "deep").mkdir(parents=True)
    make_raster("clear/a.tif", height=72, width=80)
    make_raster("clear/deep/a.tif", height=80, width=64)
    return tmp_path / "clear"


@pytest.mark.slow
def test_quality_scores_every_style_before_and_after(cli, clear, listing, tmp_path):
    before = listing(tmp_path)

    ended = cli("bench", "quality", "--clear", clear, "--json", "-q")

    rows = json.loads(ended.out)
    assert (ended.code, ended.err) == (0, "")
    assert set(rows) == {"clear", *STYLES}
    assert rows["clear"]["before"]["psnr"] is None
    for style in STYLES:
        assert rows[style]["before"]["psnr"] > 0
        assert rows[style]["after"]["pixels"] == 72 * 80 + 80 * 64
    assert listing(tmp_path) == before


def test_quality_prints_a_row_a_style_and_the_mean_gain(cli, clear):
    ended = cli("bench", "quality", "--clear", clear)

    assert ended.code == 0
    for words in ("clear", *STYLES, "PSNR in", "gain dB", "mean gain "):
        assert words in ended.out
    assert [line.split(":")[0] for line in ended.err.splitlines()] == ["clear", *STYLES]


@pytest.mark.slow
def test_quality_keeps_its_rasters_on_demand_and_a_seed_names_them(cli, clear, read_raster, tmp_path):
    folders = (tmp_path / "one", tmp_path / "two")
    for folder in folders:
        cli("bench", "quality", "--clear", clear / "deep", "--keep", folder, "--seed", "3", "-q")

    one, two = (sorted(path.relative_to(folder) for path in folder.rglob("*.tif")) for folder in folders)
    assert one == two
    # a hazy and a restored raster of each style, and the clear one restored
    assert len(one) == 2 * len(STYLES) + 1
    for path in one:
        first, second = read_raster(tmp_path / "one" / path), read_raster(tmp_path / "two" / path)
        assert (first.pixels == second.pixels).all()


def test_quality_without_pictures_is_3(cli, tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        ended = cli("bench", "quality", "--clear", folder)
        assert (ended.code, ended.out, ended.err.count("\n")) == (3, "", 1)


def test_quality_that_cannot_keep_its_rasters_is_5(cli, clear, make_raster):
    ended = cli("bench", "quality", "--clear", clear, "--keep", make_raster("file.tif"), "-q")

    assert (ended.code, ended.out, ended.err.count("\n")) == (5, "", 1)


@pytest.mark.parametrize("size", [256, 512])
def test_speed_prints_the_ratio_to_a_bare_forward_pass(cli, size):
    ended = cli("bench", "speed", "--size", size, "--json", "-q")

    measured = json.loads(ended.out)
    assert (ended.code, ended.err) == (0, "")
    assert measured["bare_seconds"] > 0
    assert math.isclose(measured["ratio"], measured["run"]["seconds"]["total"] / measured["bare_seconds"])
    assert (measured["run"]["width"], measured["run"]["height"]) == (size, size)


def test_speed_prints_tables(cli):
    ended = cli("bench", "speed", "--size", "256", "--residuals", "recompute", "--gpu-mem", "1G")

    assert ended.code == 0
    for words in ("256 x 256 px", "recompute", "bare forward pass", "ratio", "encode", "predicted, RSS"):
        assert words in ended.out
    assert "bare forward: 1 in" in ended.err


def test_speed_refuses_a_scene_smaller_than_a_tile(cli):
    ended = cli("bench", "speed", "--size", "100")

    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
