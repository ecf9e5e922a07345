"""`infdehaze bench context` and `bench even`: the same pixels alone and within a larger scene; even ground."""

import json

import pytest
import torch
from infdehaze.network import InfDehaze
from infdehaze.weights import save_weights

from infdehaze_cli.bench.even import GROUNDS, even_scene


def test_parts_are_scored_alone_and_within_the_scene(cli, scratch):
    ended = cli("bench", "context", "--size", "512", "--part", "128", "--style", "veil", "--json", "-q",
                "--scratch", scratch)  # fmt: skip

    assert (ended.code, ended.err) == (0, "")
    (row,) = json.loads(ended.out)["rows"]
    assert row["style"] == "veil"
    assert row["difference"] == pytest.approx(row["within"] - row["alone"])
    assert 5 < row["hazy"] < 30
    assert list(scratch.iterdir()) == []


def test_a_fresh_network_makes_no_difference_between_scenes(cli, tiny, tmp_path, scratch):
    fresh_weights = tmp_path / "fresh.safetensors"
    save_weights(fresh_weights, InfDehaze(tiny), {})
    ended = cli("bench", "context", "--size", "256", "--part", "96", "--style", "dense", "--weights", fresh_weights,
                "--json", "-q", "--scratch", scratch)  # fmt: skip

    (row,) = json.loads(ended.out)["rows"]
    assert row["alone"] == row["within"] == row["hazy"]


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
