"""The parts of a streamed attribution: folding, figures, and what is predicted to fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from infdehaze.field_window import FieldWindow
from infdehaze.presets import PRESETS
from infdehaze.tiling import TileGrid, cut_tiles, mirror_pad

from infdehaze_cli.attribution import Spread, plan_attribution
from infdehaze_cli.attribution.budget import LEAST_CHUNK
from infdehaze_cli.attribution.fold import FoldedBands
from infdehaze_cli.errors import BudgetError
from infdehaze_cli.geometry import Window
from infdehaze_cli.host_memory import SourceFacts
from infdehaze_cli.plan import RunConfig

GiB = 1024**3
LITE = PRESETS["lite"]


@settings(max_examples=15, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 60),
    overlap=st.sampled_from([0, 4, 8]),
    rows=st.sampled_from([1, 7, 32, 1000]),
    skipped=st.integers(0, 5),
)
def test_folding_is_the_adjoint_of_cutting_tiles(height, width, overlap, rows, skipped):
    grid = TileGrid(height, width, 16, overlap)
    picture = torch.rand(1, 3, height, width, dtype=torch.float64).requires_grad_()
    tiles = cut_tiles(mirror_pad(picture, grid.padded_height, grid.padded_width), grid)[0]
    given = torch.rand(tiles.shape, dtype=torch.float64)
    given[:skipped] = 0
    (expected,) = torch.autograd.grad(tiles, picture, given)
    found = np.full((3, height, width), np.nan)

    def take(window, values):
        assert np.isnan(found[:, window.row : window.row_end]).all()
        found[:, window.row : window.row_end] = values

    bands = FoldedBands(grid, take, rows)
    for index in range(skipped, grid.count):
        bands.add(index, given[index].float().numpy())
    bands.finish()

    np.testing.assert_allclose(found, expected[0].numpy(), rtol=1e-5, atol=1e-6)


def spread_of(values, window=(20, 24, 4, 2), grid=(64, 64)):
    """Gather a map in two bands; tiles of 16 px."""
    spread = Spread(TileGrid(*grid, 16, 0), Window(*window))
    for row in (0, 40):
        spread.add(Window(row, 0, 40 if row == 0 else 24, 64), values[:, row : row + 40 if row == 0 else 64])
    return spread


def test_an_attribution_inside_of_the_window_lies_at_distance_zero():
    values = np.zeros((3, 64, 64), np.float32)
    values[:, 21, 25] = 0.5

    spread = spread_of(values)

    assert (spread.outside_share, spread.median_distance, spread.total) == (0.0, 0, 1.5)
    assert spread.outside_area == 1 - 1 / 16


def test_half_of_the_weight_lies_within_the_median_distance():
    values = np.zeros((3, 64, 64), np.float32)
    # ten columns right of the window, in the next tile; four rows and three columns beyond its corner, in its own tile
    values[0, 21, 35], values[0, 27, 28], values[0, 21, 24] = -0.4, 0.3, 0.3

    spread = spread_of(values)

    assert spread.median_distance == 5
    assert spread.outside_share == pytest.approx(0.4)
    assert spread.total == pytest.approx(0.2)


def test_bands_of_a_pixel_that_cancel_have_no_weight():
    values = np.zeros((3, 64, 64), np.float32)
    values[0, 60, 60], values[1, 60, 60], values[2, 21, 24] = 0.5, -0.5, 0.1

    assert spread_of(values).outside_share == 0.0


def test_nothing_attributed_is_nowhere():
    spread = spread_of(np.zeros((3, 64, 64), np.float32))

    assert (spread.outside_share, spread.median_distance) == (0.0, 0)


def plan(side, steps=8, preset=LITE, **config):
    part = FieldWindow(preset, TileGrid(side, side, preset.tile, preset.overlap), side // 2, side // 2, 64, 64)
    return plan_attribution(RunConfig(**config), part, 6_200_000, "cpu", steps, SourceFacts())


def test_less_is_done_at_a_time_where_the_budget_is_small():
    # experts so wide that they are what does not fit
    wide, budget = replace(LITE, expert_expansion=64), 150 * 1024**2

    roomy, small = plan(1024, preset=wide), plan(1024, preset=wide, gpu_mem=budget)

    assert small.batch < roomy.batch
    assert LEAST_CHUNK <= small.chunk_tokens < roomy.chunk_tokens
    assert small.predicted_device_bytes <= budget < roomy.predicted_device_bytes


def test_the_device_holds_the_same_whatever_the_size_of_the_scene():
    small, large = plan(4096, ram=64 * GiB), plan(30_000, ram=64 * GiB)

    assert large.predicted_device_bytes == small.predicted_device_bytes
    assert large.predicted_host_bytes > 4 * small.predicted_host_bytes


def test_a_bottleneck_that_does_not_fit_is_refused_with_the_least_budget():
    wide = replace(LITE, expert_expansion=256)
    with pytest.raises(BudgetError, match=r"gradient of the bottleneck.*--gpu-mem at least (\d+)M") as caught:
        plan(1024, preset=wide, gpu_mem=80 * 1024**2)
    least = int(str(caught.value).split("at least ")[1].split("M")[0]) * 1024**2

    assert plan(1024, preset=wide, gpu_mem=least).predicted_device_bytes <= least
    with pytest.raises(BudgetError):
        plan(1024, preset=wide, gpu_mem=least - 2 * 1024**2)


def test_gradients_that_do_not_fit_the_host_are_refused_with_the_least_budget():
    with pytest.raises(BudgetError, match=r"--ram at least (\d+)M") as caught:
        plan(16_384, ram=GiB // 2)
    roomy = plan(16_384, ram=2 * GiB)
    least = int(str(caught.value).split("at least ")[1].split("M")[0]) * 1024**2

    tight = plan(16_384, ram=least)

    assert tight.predicted_host_bytes <= least
    assert (tight.batch, roomy.batch) == (1, 16)
    assert tight.gdal_cache_bytes < roomy.gdal_cache_bytes


@pytest.mark.parametrize("objective", ["window", "batch"])
def test_what_cannot_shrink_is_refused(objective):
    part = FieldWindow(LITE, TileGrid(4096, 4096, 256, 0), 0, 0, *((4096, 4096) if objective == "window" else (9, 9)))
    batch = 64 if objective == "batch" else None

    with pytest.raises(BudgetError, match="--gpu-mem at least"):
        plan_attribution(RunConfig(gpu_mem=GiB, batch=batch), part, 6_200_000, "cpu", 8, SourceFacts())
