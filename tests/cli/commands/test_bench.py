"""`infdehaze bench speed` and `bench empty`, measured through the whole tool."""

import json
import math

import pytest

from infdehaze_cli.bench.speed import bench_speed
from infdehaze_cli.engine import Silent
from infdehaze_cli.plan import RunConfig


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


def test_the_middle_one_of_several_runs_counts(tiny_checkpoint):
    config = RunConfig(weights=str(tiny_checkpoint), device="cpu")

    found = bench_speed(128, config=config, reporter=Silent(), repeats=3)

    assert len(found.totals) == 3
    assert found.run.seconds["total"] == sorted(found.totals)[1]
    with pytest.raises(ValueError, match="middle"):
        bench_speed(128, config=config, reporter=Silent(), repeats=2)


def test_speed_refuses_a_scene_smaller_than_a_tile(cli):
    ended = cli("bench", "speed", "--size", "100")

    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)


def test_empty_prints_the_ratio_to_a_full_scene(cli):
    ended = cli("bench", "empty", "--size", "512", "--json", "-q")

    measured = json.loads(ended.out)
    assert (ended.code, ended.err) == (0, "")
    full, mosaic = measured["full"], measured["mosaic"]
    assert math.isclose(measured["ratio"], mosaic["seconds"]["total"] / full["seconds"]["total"])
    assert (measured["valid_share"], mosaic["width"], full["width"]) == (0.5, 512, 512)


def test_empty_refuses_an_option_that_gdal_does_not_know(cli):
    ended = cli("bench", "empty", "--size", "256", "--co", "SPARSE_OKAY=TRUE", "-q")

    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "SPARSE_OKAY" in ended.err


def test_empty_refuses_a_mosaic_without_data(cli):
    ended = cli("bench", "empty", "--size", "256", "--share", "0")

    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "--share" in ended.err
