"""`infdehaze plan`: what a run would do, without doing it."""

import json
from dataclasses import fields

import numpy as np
import pytest
from infdehaze.weights import save_weights

from infdehaze_cli import Plan

KEYS = {field.name for field in fields(Plan)} | {"batches"}


def test_json_is_one_object_with_every_field(cli, make_raster):
    ended = cli("plan", make_raster(height=300, width=400), "--json")

    plan = json.loads(ended.out)
    assert (ended.code, ended.err) == (0, "")
    assert set(plan) == KEYS
    assert (plan["height"], plan["width"], plan["tiles"]) == (300, 400, plan["tile_rows"] * plan["tile_cols"])


def test_the_table_says_what_matters(cli, make_raster):
    ended = cli("plan", make_raster(height=300, width=400), "--gpu-mem", "1G", "--residuals", "ssd")

    assert (ended.code, ended.err) == (0, "")
    for words in ("400 x 300 px", "tiny, fp32, on cpu", "ssd, fp16", "device memory", "host memory", "scratch"):
        assert words in ended.out


def test_nothing_is_written(cli, make_raster, listing, tmp_path, scratch):
    src = make_raster()
    before = listing(tmp_path, scratch)

    cli("plan", src, "--residuals", "ssd")

    assert listing(tmp_path, scratch) == before


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--batch", "3"], {"batch": 3}),
        (["--overlap", "8"], {"overlap": 8}),
        (["--precision", "bf16"], {"precision": "bf16"}),
        (["--residual-dtype", "fp32"], {"residual_dtype": "fp32"}),
        (["--residuals", "recompute"], {"tier": "recompute", "scratch_bytes": 0}),
        (["--residuals", "ssd", "--codec", "zstd"], {"tier": "ssd", "codec": "zstd", "batches_in_memory": 0}),
        (["--device", "cpu"], {"device": "cpu"}),
    ],
)
def test_each_option_reaches_the_plan(cli, make_raster, options, expected):
    ended = cli("plan", make_raster(height=400, width=400), "--json", *options)

    assert expected.items() <= json.loads(ended.out).items()


def test_a_smaller_budget_makes_smaller_batches_and_is_kept(cli, make_raster, make_model, tmp_path):
    # tiles so large that a batch of them takes more than anything else
    wide = {"stem_stride": 4, "widths": (64, 64, 64, 64), "heads": (4, 4, 4, 4), "tile": 256, "fixed_batch": 64}
    save_weights(tmp_path / "wide.safetensors", make_model(**wide), {})
    src = make_raster(pixels=np.zeros((3, 300, 4200), np.uint8))
    arguments = ("plan", src, "--json", "--weights", tmp_path / "wide.safetensors")

    free = json.loads(cli(*arguments).out)
    budget = free["predicted_device_bytes"] // 2
    tight = json.loads(cli(*arguments, "--gpu-mem", budget).out)

    assert 0 < tight["predicted_device_bytes"] <= budget
    assert 1 <= tight["batch"] < free["batch"]


def test_a_run_does_what_its_plan_says(cli, make_raster, tmp_path):
    src, options = make_raster(height=200, width=300), ("--gpu-mem", "512M", "--residuals", "ssd", "--json")

    plan = json.loads(cli("plan", src, *options).out)
    result = json.loads(cli("run", src, "-o", tmp_path / "clean.tif", *options).out)

    for key in ("width", "height", "tiles", "preset", "device", "precision", "batch", "tier", "predicted_device_bytes"):
        assert result[key] == plan[key]
    assert result["scratch_bytes"] == plan["scratch_bytes"]
