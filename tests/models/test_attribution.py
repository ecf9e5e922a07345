"""The Dehazing Attribution Map: complete, of the right pixels, and the same in parts as at once."""

import pytest
import torch
from infdehaze import load_model
from infdehaze.attribution import OBJECTIVES, attribute, path_points
from infdehaze.field_window import FieldWindow
from infdehaze.filling import fill_and_weigh
from infdehaze.tiling import TileGrid, cut_tiles, join_latents, mirror_pad, split_latents

from infdehaze_cli.geometry import Window
from infdehaze_cli.sample import Landscape


@pytest.fixture(scope="module")
def model(make_model):
    # four tokens a block, so that tokens are sorted; fields smoothed across tiles
    return make_model(block_tokens=4, smoothing=8.0, airlight_smoothing=16.0).requires_grad_(False)


def veiled(clear):
    """Put an uneven veil over a picture."""
    t = torch.linspace(0.5, 0.8, clear.shape[-1])
    return clear * t + 0.85 * (1 - t)


def gap(found):
    """Return by how much attributions miss the difference of the objective, as a share of it."""
    change = found.at_hazy - found.at_clear
    return abs(float(found.map_B3HW.sum()) - change) / abs(change)


@pytest.mark.parametrize("steps", [1, 2, 5, 8])
def test_points_of_the_path_integrate_polynomials_exactly(steps):
    points = path_points(steps)

    for power in range(2 * steps):
        assert sum(weight * position**power for position, weight in points) == pytest.approx(1 / (power + 1))


def test_a_path_without_points_is_refused():
    with pytest.raises(ValueError, match="at least one point"):
        path_points(0)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_attributions_of_a_random_network_add_up_to_the_change_of_the_objective(make_model, scene, objective):
    # without blocks and choice of experts there are no jumps on the path
    model = make_model(moe=False, smoothing=8.0).requires_grad_(False)
    clear = scene(100, 150)

    found = attribute(model, veiled(clear), clear, (40, 70, 20, 30), objective=objective, steps=8)

    assert abs(found.at_hazy - found.at_clear) > 1e-3
    assert gap(found) < 0.05


@pytest.mark.slow
def test_attributions_of_the_shipped_weights_add_up_to_the_change_of_the_objective():
    model = load_model("lite").requires_grad_(False)
    clear = torch.from_numpy(Landscape(height=300, width=400, seed=7).window(Window(0, 0, 300, 400))[:3])[None] / 255

    found = attribute(model, veiled(clear), clear, (100, 200, 40, 60), steps=8)

    assert found.at_hazy - found.at_clear > 0.02
    assert gap(found) < 0.05


def test_pixels_that_the_path_does_not_change_get_nothing(model, scene):
    clear = scene(100, 150)
    hazy = clear.clone()
    hazy[..., 64:] = veiled(clear)[..., 64:]

    found = attribute(model, hazy, clear, (10, 80, 20, 20), steps=2)

    assert not found.map_B3HW[..., :64].any()
    assert found.map_B3HW[..., 64:].any()


def test_pixels_without_data_get_nothing_and_change_nothing(model, scene):
    clear = scene(100, 150)
    hazy, valid = veiled(clear), torch.ones(1, 100, 150, dtype=torch.bool)
    valid[..., 30:70] = False
    other = torch.where(valid[:, None], hazy, 0.3)

    first, second = (attribute(model, x, clear, (10, 80, 20, 20), valid_BHW=valid, steps=2) for x in (hazy, other))

    assert not first.map_B3HW[..., 30:70].any()
    torch.testing.assert_close(first.map_B3HW, second.map_B3HW)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_what_is_not_data_does_not_count_in_the_objective(objective):
    hazy, fields = torch.rand(1, 3, 6, 8), torch.rand(1, 9, 6, 8)
    valid = torch.ones(1, 6, 8, dtype=torch.bool)
    valid[..., 5:] = False
    odd_hazy, odd_fields = hazy.clone(), fields.clone()
    odd_hazy[..., 5:], odd_fields[..., 5:] = torch.nan, torch.nan

    measure = OBJECTIVES[objective]

    torch.testing.assert_close(
        measure(odd_hazy, odd_fields, valid), measure(hazy[..., :5], fields[..., :5], valid[..., :5])
    )


def test_light_is_what_dehazing_takes_away():
    hazy, fields = torch.full((1, 3, 2, 2), 0.7), torch.zeros(1, 9, 2, 2)
    fields[:, :3], fields[:, 3:6] = 0.5, 0.9

    value = OBJECTIVES["light"](hazy, fields, torch.ones(1, 2, 2, dtype=torch.bool))

    assert float(value) == pytest.approx((torch.tensor(0.5).exp() - 1) * 0.2)


@pytest.mark.parametrize("window", [(0, 0, 1, 1), (70, 90, 20, 33), (150, 0, 15, 220), (0, 0, 165, 220)])
@pytest.mark.parametrize(
    "sigmas",
    [
        {},
        {"smoothing": 8.0, "airlight_smoothing": 16.0},
        {"smoothing": 4.0, "texture": 0.01},
    ],
)
@pytest.mark.parametrize("gap", [0, 50])
def test_fields_of_a_window_equal_those_of_the_scene(make_model, scene, window, sigmas, gap):
    model, hazy, valid = make_model(**sigmas), scene(165, 220), torch.ones(1, 165, 220, dtype=torch.bool)
    valid[:, 20:, 100 : 100 + gap] = False
    row, col, height, width = window
    grid = TileGrid(165, 220, model.preset.tile, model.preset.overlap)
    with torch.no_grad():
        whole = model(hazy, valid_BHW=valid).fields_B9HW[..., row : row + height, col : col + width]
        every, weight_M = every_field(model, hazy, valid, grid)
        part = FieldWindow(model.preset, grid, *window)
        found = part.fields(every[list(part.tiles)], part.tiles, weight_M[list(part.tiles)])

    assert len(part.tiles) < grid.count or window[2] == 165
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-4)


def every_field(model, hazy, valid, grid):
    """Return the fields of each tile of a picture, (M, F, h, w), and their weights (M,)."""
    tiles, known = (
        cut_tiles(mirror_pad(x, grid.padded_height, grid.padded_width), grid)[0] for x in (hazy, valid[:, None])
    )
    filled, weight_M = fill_and_weigh(tiles, known[:, 0])
    residuals = model.encoder(filled)
    latent = model.bottleneck(join_latents(residuals[-1][None], grid))
    return model.decoder(split_latents(latent, grid)[0], residuals), weight_M
