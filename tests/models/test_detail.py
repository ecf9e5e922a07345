"""Detail that the dark channel gives back to the smoothed depth: edges of haze, and nothing of ground."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from infdehaze.detail import add_detail, dark_channel, relative
from infdehaze.smoothing import settle, smooth_fields, smooth_look, smoothing_reach

TEXTURE = 0.0005


def scene(depth_hw, ground_hw):
    """Return fields whose depth is known only from afar, the dark channel of such a scene, and their weight."""
    blurred = torch.nn.functional.avg_pool2d(depth_hw[None, None], 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    fields = torch.cat([blurred.expand(1, 3, -1, -1), torch.full((1, 3, *depth_hw.shape), 0.8), 0 * blurred], 1)
    fields = torch.cat([fields, fields[:, :2] * 0], 1)
    light = torch.exp(-depth_hw)
    dark = ground_hw * light + 0.8 * (1 - light)
    return torch.cat([fields, dark[None, None]], 1), torch.ones(1, 1, *depth_hw.shape)


def error(fields_BFhw, depth_hw):
    return (fields_BFhw[0, :3] - depth_hw).square().mean().sqrt().item()


def test_the_dark_channel_is_the_mean_of_the_darkest_of_patches():
    tile = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    patches = tile.unfold(2, 8, 8).unfold(3, 8, 8).amin((1, 4, 5))

    torch.testing.assert_close(dark_channel(tile, 8)[..., 0], patches)
    torch.testing.assert_close(dark_channel(tile, 32)[0, 1, 0, 0], patches[0, 4:, :4].mean())
    assert dark_channel(tile, 4).shape == (1, 16, 16, 1)


def test_the_edge_of_a_patch_of_haze_comes_back():
    depth = torch.zeros(40, 60)
    depth[10:25, 18:41] = 0.8
    ground = 0.1 + 0.03 * torch.rand(40, 60, generator=torch.Generator().manual_seed(1))
    fields, weight = scene(depth, ground)

    plain = smooth_fields(fields[:, :9], weight, 3.0)
    detailed = smooth_fields(fields, weight, 3.0, texture=TEXTURE)

    assert error(detailed, depth) < 0.6 * error(plain, depth)
    assert torch.equal(detailed[:, 3:], plain[:, 3:])


def test_ground_that_has_nothing_to_do_with_the_depth_gives_none():
    depth = torch.linspace(0.2, 0.8, 60).expand(40, 60)
    ground = 0.4 * (torch.rand(40, 60, generator=torch.Generator().manual_seed(2)) > 0.5)
    fields, weight = scene(depth, ground)

    plain, detailed = smooth_fields(fields[:, :9], weight, 3.0), smooth_fields(fields, weight, 3.0, texture=TEXTURE)

    assert error(detailed, depth) < error(plain, depth) + 0.01


@settings(deadline=None, max_examples=30)
@given(depth=st.floats(0, 3), holes=st.floats(0, 0.8), seed=st.integers(0, 99))
def test_an_even_depth_stays_even_whatever_the_ground(depth, holes, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = (torch.rand(1, 1, 13, 17, generator=generator) >= holes).float()
    dark = torch.rand(1, 1, 13, 17, generator=generator)
    fields = torch.cat([torch.full((1, 9, 13, 17), depth), dark], 1) * weight

    found = smooth_fields(fields, weight, 1.5, texture=TEXTURE)

    known = (weight > 0).expand_as(found)
    torch.testing.assert_close(found[known], torch.full_like(found, depth)[known], atol=2e-3, rtol=1e-3)


@settings(deadline=None, max_examples=30)
@given(sigma=st.sampled_from([0.5, 1.0, 2.0]), row=st.integers(0, 20), col=st.integers(0, 20))
def test_a_window_with_the_reach_of_the_detail_agrees_with_the_whole(sigma, row, col):
    generator = torch.Generator().manual_seed(row)
    fields, weight = torch.randn(1, 10, 40, 44, generator=generator), torch.ones(1, 1, 40, 44)
    reach = smoothing_reach(sigma, 0.0, TEXTURE)
    top, left, bottom, right = max(0, row - reach), max(0, col - reach), row + 8 + reach, col + 6 + reach

    seen = smooth_look(fields[..., top:bottom, left:right], weight[..., top:bottom, left:right], sigma, None, TEXTURE)
    whole = smooth_look(fields, weight, sigma, None, TEXTURE)

    inner = seen[..., row - top : row - top + 8, col - left : col - left + 6]
    torch.testing.assert_close(inner, whole[..., row : row + 8, col : col + 6], atol=1e-4, rtol=1e-4)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 99), size=st.floats(0, 5))
def test_no_depth_becomes_negative_or_changes_where_there_is_none(seed, size):
    generator = torch.Generator().manual_seed(seed)
    fields = torch.randn(1, 9, 6, 7, generator=generator)
    fields[:, :3, :2] = 0

    found = add_detail(fields, size * torch.randn(1, 1, 6, 7, generator=generator))

    assert not found[:, :3, :2].any()
    assert (found[:, :3] >= fields[:, :3].clamp(max=0)).all()
    assert torch.equal(found[:, 3:], fields[:, 3:])


def test_bands_share_the_detail_as_they_share_the_depth():
    fields = torch.tensor([0.6, 0.8, 1.0]).view(1, 3, 1, 1).repeat(1, 3, 1, 1)

    found = add_detail(fields, relative(torch.full((1, 1, 1, 1), 0.4), fields))

    torch.testing.assert_close(found[0, :3, 0, 0], torch.tensor([0.9, 1.2, 1.5]))


def test_a_look_is_settled_with_and_without_detail():
    look = torch.rand(1, 11, 5, 6) + 0.5

    assert torch.equal(settle(look[:, :10], (0.0, 0.0)), look[:, :9])
    detailed = add_detail(look[:, :9], relative(look[:, 10:], look[:, :9]))
    assert torch.equal(settle(look, (0.0, 0.0), TEXTURE), detailed)


def test_texture_makes_no_haze_of_clear_ground():
    depth, detail = torch.full((1, 1, 5, 6), 0.08), 0.5 * torch.randn(1, 1, 5, 6)
    look = torch.cat([depth.expand(-1, 3, -1, -1), torch.full((1, 3, 5, 6), 0.8), 0 * depth.expand(-1, 3, -1, -1)], 1)

    found = settle(torch.cat([look, depth, detail], 1), (0.1, 0.3), TEXTURE)

    assert not found[:, :3].any()


def test_a_network_with_texture_restores_and_learns_through_it(make_model, scene):
    model, hazy = make_model(smoothing=8.0, texture=TEXTURE), scene(100, 150)
    plain = make_model(smoothing=8.0)

    with torch.no_grad():
        restored, without = model(hazy), plain(hazy)
    model.train()(hazy).image_B3HW.square().mean().backward()

    assert restored.fields_B9HW.shape[1] == 9
    assert not torch.equal(restored.fields_B9HW[:, :3], without.fields_B9HW[:, :3])
    torch.testing.assert_close(restored.fields_B9HW[:, 3:], without.fields_B9HW[:, 3:])
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.decoder.parameters())


@pytest.mark.parametrize(
    "changes",
    [
        {"texture": -0.1},
        {"texture": 1.0},
        {"texture": 0.1, "smoothing": 0.0},
        {"texture": 0.1, "stem_stride": 12, "field_stride": 12, "tile": 192, "overlap": 0},
    ],
)
def test_texture_that_cannot_be_is_refused(make_model, changes):
    with pytest.raises(ValueError, match="texture"):
        make_model(**{"smoothing": 8.0, **changes})
