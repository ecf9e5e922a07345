"""The streamed attribution equals that of the plain network with all activations at once."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from infdehaze.attribution import attribute
from infdehaze.field_window import FieldWindow
from infdehaze.network import count_parameters
from infdehaze.tiling import TileGrid

from infdehaze_cli.attribution import Ends, plan_attribution, stream_attribution
from infdehaze_cli.engine import Silent
from infdehaze_cli.host_memory import SourceFacts
from infdehaze_cli.plan import RunConfig

HEIGHT, WIDTH = 120, 140


@pytest.fixture(scope="module")
def model(make_model):
    smoothing = {"smoothing": 4.0, "airlight_smoothing": 8.0, "texture": 0.01}
    return make_model(block_tokens=4, depths=(1, 1, 1, 1), **smoothing).requires_grad_(False)


@pytest.fixture
def stream(engine):
    """Attribute a window of a scene in memory through the tiles: the map, and what was found beside it."""

    def run(model, hazy, clear, window, valid=None, *, overlap=None, objective="light", steps=2, piece=None, **config):
        valid = np.ones(hazy.shape[1:], bool) if valid is None else valid
        preset = model.preset
        grid = TileGrid(*valid.shape, preset.tile, preset.overlap if overlap is None else overlap)
        part = FieldWindow(preset, grid, *window)
        config = RunConfig(**config)
        plan = plan_attribution(config, part, count_parameters(model), "cpu", steps, SourceFacts())
        plan = plan if piece is None else replace(plan, chunk_tokens=piece)
        found = np.full(hazy.shape, np.nan, np.float32)

        def take(window, values):
            assert np.isnan(found[:, window.row : window.row_end]).all()
            found[:, window.row : window.row_end] = values

        ends = Ends(engine.reader(np.where(valid, hazy, 0), valid), engine.reader(clear, np.ones_like(valid)))
        settings = {"objective": objective, "steps": steps, "budget": config.gpu_mem, "reporter": Silent()}
        beside = stream_attribution(plan, model, ends, part, take, **settings)
        assert beside.peak_device_bytes <= plan.predicted_device_bytes
        return found, beside

    return run


def plain(model, hazy, clear, window, valid=None, **options):
    mask = None if valid is None else torch.from_numpy(valid)[None]
    pair = (torch.from_numpy(x)[None] for x in (hazy, clear))
    return attribute(model, *pair, window, valid_BHW=mask, **options)


def assert_equal(found, expected):
    values, beside = found
    whole = expected.map_B3HW[0].numpy()
    assert np.abs(whole).max() > 0
    np.testing.assert_allclose(values, whole, atol=2e-4 * np.abs(whole).max())
    assert beside.at_clear == pytest.approx(expected.at_clear, abs=1e-5)
    assert beside.at_hazy == pytest.approx(expected.at_hazy, abs=1e-5)


@pytest.fixture(scope="module")
def clear(picture):
    return picture(HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def hazy(clear):
    return (0.6 * clear + 0.4 * 0.85).astype(np.float32)


@pytest.mark.parametrize(("batch", "piece", "overlap"), [(1, 64, 0), (3, 1024, 16)])
def test_streaming_equals_autograd_over_the_whole_network(stream, model, hazy, clear, batch, piece, overlap):
    window = (75, 90, 20, 40)

    found = stream(model, hazy, clear, window, overlap=overlap, batch=batch, piece=piece)

    assert_equal(found, plain(model, hazy, clear, window, overlap=overlap, steps=2))


@pytest.mark.parametrize("objective", ["depth", "detail"])
def test_other_objectives_equal_the_plain_one_over_holes(stream, model, hazy, clear, holes, objective):
    window, valid = (60, 80, 40, 50), holes(HEIGHT, WIDTH)

    found = stream(model, hazy, clear, window, valid, objective=objective, steps=1)

    assert_equal(found, plain(model, hazy, clear, window, valid, objective=objective, steps=1))
    assert not found[0][:, ~valid].any()


def test_statistics_of_tiles_get_their_gradient_too(stream, make_model, hazy, clear):
    model = make_model(
        block_tokens=4, depths=(1, 1, 1, 1), tile_statistics=True, bottleneck_corrects=True
    ).requires_grad_(False)
    window = (75, 90, 20, 40)

    found = stream(model, hazy, clear, window, batch=2, steps=1)

    assert_equal(found, plain(model, hazy, clear, window, steps=1))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 70), (530, 40)])
def test_any_size_of_scene_equals_the_plain_network(stream, model, picture, height, width):
    clear = picture(height, width)
    hazy, window = (0.6 * clear + 0.34).astype(np.float32), (height // 2, 0, 1, width)

    found = stream(model, hazy, clear, window, steps=1)

    assert_equal(found, plain(model, hazy, clear, window, steps=1))


def test_nothing_is_attributed_where_the_partner_has_no_data(stream, model, hazy, clear, engine):
    gap = clear.copy()
    gap[:, :, 100:] = hazy[:, :, 100:]

    found, _ = stream(model, hazy, gap, (75, 90, 20, 40), steps=1)

    assert not found[:, :, 100:].any()
    assert found[:, :, :100].any()
