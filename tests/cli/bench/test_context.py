"""`infdehaze bench context` and `bench even`: the same pixels alone and within a larger scene; even ground."""

import json

import numpy as np
import pytest
import rasterio
import torch
from infdehaze.network import InfDehaze
from infdehaze.weights import save_weights
from rasterio.transform import Affine

from infdehaze_cli.bench.context import repeat
from infdehaze_cli.bench.even import GROUNDS, even_scene


def test_parts_are_scored_alone_and_within_the_scene(cli, scratch):
    ended = cli("bench", "context", "--size", "512", "--part", "128", "--style", "veil", "--json", "-q",
                "--scratch", scratch)  # fmt: skip

    assert (ended.code, ended.err) == (0, "")
    (row,) = json.loads(ended.out)["rows"]
    assert row["style"] == "veil"
    assert row["difference"] == pytest.approx(row["within"] - row["alone"])
    assert row["size_alone"] == pytest.approx(row["repeated"] - row["alone"])
    assert row["repeated"] != row["within"]
    assert 5 < row["hazy"] < 30
    assert list(scratch.iterdir()) == []


def test_a_fresh_network_makes_no_difference_between_scenes(cli, tiny, tmp_path, scratch):
    fresh_weights = tmp_path / "fresh.safetensors"
    save_weights(fresh_weights, InfDehaze(tiny), {})
    ended = cli("bench", "context", "--size", "256", "--part", "96", "--style", "dense", "--weights", fresh_weights,
                "--json", "-q", "--scratch", scratch)  # fmt: skip

    (row,) = json.loads(ended.out)["rows"]
    assert row["alone"] == row["repeated"] == row["within"] == row["hazy"]


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8])
def test_a_scene_of_copies_is_mirrored_at_their_borders(tmp_path, count):
    picture = np.random.default_rng(0).integers(0, 255, (3, 16, 16), dtype=np.uint8)
    profile = {"driver": "GTiff", "height": 16, "width": 16, "count": 3, "dtype": "uint8"}
    with rasterio.open(tmp_path / "one.tif", "w", transform=Affine.scale(2, -2), **profile) as one:
        one.write(picture)

    corner = repeat(tmp_path / "one.tif", tmp_path / "many.tif", count)

    with rasterio.open(tmp_path / "many.tif") as many:
        copies = many.read()
    expected = np.pad(picture, ((0, 0), (0, 16 * (count - 1)), (0, 16 * (count - 1))), mode="symmetric")
    np.testing.assert_array_equal(copies, expected)
    np.testing.assert_array_equal(copies[:, corner : corner + 16, corner : corner + 16], picture)
    assert abs(corner + 8 - 8 * count) <= 16


def test_parts_larger_than_half_of_the_scene_are_refused(cli):
    ended = cli("bench", "context", "--size", "256", "--part", "200", "-q")

    assert ended.code == 2
    assert "do not fit" in ended.err


@pytest.mark.parametrize("name", GROUNDS)
def test_even_ground_is_nearly_of_one_colour(name):
    scene = even_scene(GROUNDS[name], 300, seed=0)

    assert scene.shape == (1, 3, 300, 300)
    assert 0 <= float(scene.min()) <= float(scene.max()) <= 1
    torch.testing.assert_close(scene.mean((0, 2, 3)), torch.tensor(GROUNDS[name].colour), atol=0.06, rtol=0.05)
    assert 0 < float(scene.std((2, 3)).max()) < 0.08


def test_every_ground_and_depth_has_a_row(cli):
    ended = cli("bench", "even", "--size", "300", "--depths", "0,0.8", "--repeats", "2", "--json", "-q")

    assert (ended.code, ended.err) == (0, "")
    rows = json.loads(ended.out)["rows"]
    assert [(row["ground"], row["depth"]) for row in rows] == [(name, d) for name in GROUNDS for d in (0, 0.8)]
    assert all(row["seam"] is not None for row in rows)
    assert rows[1]["hazy"] < rows[0]["hazy"]


@pytest.mark.parametrize("depths", ["", "a", "1,", "-1", "9"])
def test_depths_that_are_no_numbers_are_wrong_usage(cli, depths):
    assert cli("bench", "even", "--depths", depths).code == 2
