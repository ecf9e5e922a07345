"""What a plan does with the host's memory: tiers of residuals, and what goes to disk."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from infdehaze.presets import PRESETS

from infdehaze_cli.errors import BudgetError
from infdehaze_cli.host_memory import SourceFacts, latent_bytes
from infdehaze_cli.planner import Rates
from infdehaze_cli.sizes import parse_size
from infdehaze_cli.store import row_bytes

MiB, GiB = 1024**2, 1024**3
PHASES = ("encode", "bottleneck", "decode", "compose")


def least_of(text):
    return re.search(r"at least (\w+)", text).group(1)


def least_named(error):
    return least_of(str(error.value))


def residual_bytes(made, preset):
    return made.tiles * row_bytes(PRESETS[preset].residual_shapes, made.residual_dtype)


TIGHT = {"base": 900 * MiB, "fast": 2200 * MiB}
"""Memory for what must be there and some batches, at 4096 px."""


@pytest.mark.parametrize("preset", TIGHT)
def test_auto_takes_ram_where_it_suffices(preset, plan):
    made = plan(4096, preset, ram=64 * GiB)
    assert (made.tier, made.scratch_bytes) == ("dram", 0)
    assert made.batches_in_memory == made.batches


def test_without_rates_auto_does_what_the_preset_is_made_for(plan):
    assert plan(4096, "base", ram=TIGHT["base"]).tier in ("dram", "ssd")
    assert plan(4096, "fast", ram=TIGHT["fast"]).tier == "recompute"


@pytest.mark.parametrize(
    ("rates", "stored"),
    [
        ({}, True),
        ({"encode_tiles": 1e6}, False),
        ({"write_bytes": 1e3}, False),
        ({"read_bytes": 1e3}, False),
        ({"scratch_free": MiB}, False),
    ],
    ids=["fast disk", "fast network", "slow to write", "slow to read", "full disk"],
)
@pytest.mark.parametrize("preset", TIGHT)
def test_auto_takes_what_is_faster_and_fits(preset, rates, stored, plan):
    usual = {"encode_tiles": 5.0, "write_bytes": 1e9, "read_bytes": 2e9, "scratch_free": 1000 * GiB}
    made = plan(4096, preset, ram=TIGHT[preset], rates=Rates(**{**usual, **rates}))
    assert (made.tier != "recompute") == stored


@pytest.mark.parametrize("tier", ["dram", "ssd", "recompute"])
def test_a_tier_that_was_given_is_taken_and_its_bytes_are_said(tier, plan):
    made = plan(residuals=tier)
    latents = latent_bytes(PRESETS["base"], made.grid)
    fields = 4 * 9 * made.tiles * (PRESETS["base"].tile // PRESETS["base"].field_stride) ** 2
    assert made.tier == tier
    assert made.scratch_bytes == (residual_bytes(made, "base") if tier == "ssd" else 0)
    assert made.checkpoint_bytes == fields + latents * (1 if tier == "dram" else 2)
    assert (made.batches_in_memory == made.batches) == (tier == "dram")


@settings(deadline=None, max_examples=200)
@given(
    ram=st.integers(0, 6 * GiB),
    height=st.integers(1, 40_000),
    width=st.integers(1, 40_000),
    preset=st.sampled_from(list(PRESETS)),
    residuals=st.sampled_from(["auto", "dram", "ssd", "recompute"]),
    residual_dtype=st.sampled_from(["fp32", "fp16", "int8"]),
    block=st.sampled_from([(256, 256), (1, 40_000), (512, 512), (40_000, 40_000)]),
)
def test_the_host_budget_is_kept_or_the_error_names_one_that_works(
    ram, height, width, preset, residuals, residual_dtype, block, plan
):
    config = {"height": height, "width": width, "preset": preset, "residuals": residuals}
    config |= {"residual_dtype": residual_dtype, "source": SourceFacts(block_rows=block[0], block_cols=block[1])}
    try:
        made = plan(**config, ram=ram)
    except BudgetError as error:
        least = parse_size(re.search(r"--ram at least (\w+)", str(error)).group(1))
    else:
        assert made.predicted_host_bytes <= ram
        assert made.batches_in_memory <= made.batches
        return
    assert least > ram
    assert plan(**config, ram=least).predicted_host_bytes <= least


def test_less_ram_moves_residuals_then_heads_then_latents_to_disk(plan):
    made = [plan(30_000, "base", ram=ram) for ram in (1024 * GiB, 60 * GiB, 20 * GiB, 4 * GiB, 2 * GiB)]
    assert [p.batches_in_memory for p in made] == sorted((p.batches_in_memory for p in made), reverse=True)
    assert [p.heads_on_disk for p in made] == sorted(p.heads_on_disk for p in made)
    assert [p.latents_on_disk for p in made] == sorted(p.latents_on_disk for p in made)
    assert [p.heads_at_a_time for p in made] == sorted((p.heads_at_a_time for p in made), reverse=True)
    assert not made[0].scratch_bytes
    assert made[-1].latents_on_disk
    assert made[-1].heads_at_a_time < 16


def test_a_file_of_one_strip_costs_its_strip(plan):
    tiled, strip = (
        plan(20_000, "lite", ram=64 * GiB, source=SourceFacts(block_rows=rows, block_cols=20_000))
        for rows in (1, 20_000)
    )
    assert strip.predicted_host_bytes - tiled.predicted_host_bytes > 2.8 * 20_000**2 * 3
    assert strip.gdal_cache_bytes >= 3 * 20_000**2
    with pytest.raises(BudgetError, match=r"the source's blocks of 20000 x 20000 px.*--ram at least"):
        plan(20_000, "lite", ram=2 * GiB, source=SourceFacts(block_rows=20_000, block_cols=20_000))


def test_no_ram_at_all_is_refused_in_a_line(plan):
    with pytest.raises(BudgetError, match=r"A host budget of 0 B cannot hold the .* phase.*--ram at least") as error:
        plan(ram=0)
    assert error.value.exit_code == 4
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("dtype", "size"), [("fp32", 4), ("fp16", 2), ("bf16", 2)])
def test_the_residual_dtype_counts(dtype, size, plan):
    made = plan(residuals="ssd", residual_dtype=dtype)
    assert made.scratch_bytes == made.tiles * PRESETS["base"].residual_values * size


def test_int8_halves_the_bytes_but_for_its_scales(plan):
    made = [plan(residuals="ssd", residual_dtype=dtype) for dtype in ("fp16", "int8")]
    half, eighth = (p.scratch_bytes for p in made)
    assert 0.5 < eighth / half < 0.51
