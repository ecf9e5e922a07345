"""Smoothing of the joined fields: edges, holes, airlight, patches, and clear ground that is left."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from infdehaze.smoothing import leave_clear, smooth_fields, smoothing_radius


@given(
    sigma=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    value=st.floats(-3, 3, width=32),
    holes=st.floats(0, 0.8),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=40)
def test_smoothing_keeps_a_constant_up_to_edges_and_holes(sigma, value, holes, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = (torch.rand(1, 1, 13, 17, generator=generator) >= holes).float()
    smooth = smooth_fields(value * weight.expand(1, 4, -1, -1), weight, sigma)
    known = (weight > 0).expand_as(smooth)
    torch.testing.assert_close(smooth[known], torch.full_like(smooth, value)[known], atol=1e-5, rtol=1e-5)


def test_smoothing_evens_out_a_step_and_keeps_the_mean():
    step = torch.zeros(1, 1, 40, 40)
    step[..., 20:] = 1
    smooth = smooth_fields(step, torch.ones_like(step), 2.0)
    assert (smooth.diff(dim=3).abs() < 0.25).all()
    assert smooth.mean().item() == pytest.approx(0.5, abs=1e-5)


@given(sigma=st.sampled_from([0.5, 1.0, 2.0]), row=st.integers(0, 20), col=st.integers(0, 20))
@settings(deadline=None, max_examples=30)
def test_a_window_with_the_halo_of_the_smoothing_agrees_with_the_whole(sigma, row, col):
    generator = torch.Generator().manual_seed(row)
    fields = torch.randn(1, 3, 40, 44, generator=generator)
    weight = torch.ones(1, 1, 40, 44)
    reach = smoothing_radius(sigma)
    top, left, bottom, right = max(0, row - reach), max(0, col - reach), row + 8 + reach, col + 6 + reach
    seen = smooth_fields(fields[..., top:bottom, left:right], weight[..., top:bottom, left:right], sigma)
    inner = seen[..., row - top : row - top + 8, col - left : col - left + 6]
    whole = smooth_fields(fields, weight, sigma)[..., row : row + 8, col : col + 6]
    torch.testing.assert_close(inner, whole, atol=1e-5, rtol=1e-5)


def nine(depth, airlight, height=12, width=40):
    """Fields with a depth and an airlight that are functions of the column."""
    col = torch.arange(width, dtype=torch.float32).expand(1, 3, height, width)
    return torch.cat([depth(col), airlight(col), torch.zeros_like(col)], 1), torch.ones(1, 1, height, width)


def test_the_airlight_is_smoothed_further_than_the_depth():
    fields, weight = nine(lambda col: 1.0 + (col % 8 < 4), lambda col: 0.6 + 0.2 * (col % 8 < 4))
    smooth = smooth_fields(fields, weight, 0.5, 12.0)
    depth, airlight = smooth[:, :3], smooth[:, 3:6]
    assert depth.std() > 0.3
    assert airlight.std() < 0.02


def test_the_airlight_counts_where_there_is_haze():
    fields, weight = nine(lambda col: 3.0 * (col < 20), lambda col: torch.where(col < 20, 0.6, 1.0))
    smooth = smooth_fields(fields, weight, 0.5, 40.0)
    assert smooth[:, 3:6].max() < 0.65


@given(value=st.floats(0.3, 1.2), holes=st.floats(0, 0.8), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_an_even_airlight_stays_even_whatever_the_depth_and_the_holes(value, holes, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = (torch.rand(1, 1, 13, 17, generator=generator) >= holes).float()
    depth = torch.randn(1, 3, 13, 17, generator=generator)
    fields = torch.cat([depth, torch.full_like(depth, value), depth], 1) * weight
    smooth = smooth_fields(fields, weight, 1.0, 5.0)[:, 3:6]
    known = (weight > 0).expand_as(smooth)
    torch.testing.assert_close(smooth[known], torch.full_like(smooth, value)[known], atol=1e-5, rtol=1e-5)


def test_one_sigma_for_all_is_plain_smoothing():
    fields, weight = nine(lambda col: col / 20, lambda col: col / 40)
    assert torch.equal(smooth_fields(fields, weight, 2.0, 2.0), smooth_fields(fields, weight, 2.0))


def test_haze_below_the_first_depth_is_left_and_beyond_the_second_taken():
    depth = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.9, 0.1]).view(1, 1, 1, 6)
    around = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.1, 0.3]).view(1, 1, 1, 6)
    fields = torch.cat([depth.expand(1, 3, 1, 6), torch.full((1, 3, 1, 6), 0.7), torch.full((1, 3, 1, 6), 0.05)], 1)

    found = leave_clear(fields, around, 0.1, 0.3)

    torch.testing.assert_close(found[0, 0, 0], torch.tensor([0.0, 0.0, 0.1, 0.3, 0.9, 0.1]))
    torch.testing.assert_close(found[0, 6, 0], torch.tensor([0.0, 0.0, 0.025, 0.05, 0.05, 0.05]))
    assert torch.equal(found[:, 3:6], fields[:, 3:6])


@pytest.mark.parametrize(("here", "around", "taken"), [(0.14, 0.1, 0.0), (0.2, 0.1, 0.0208), (0.43, 0.1, 0.43)])
def test_a_cell_counts_less_than_what_is_around_it(here, around, taken):
    fields = torch.cat([torch.full((1, 3, 1, 1), here), torch.full((1, 6, 1, 1), 0.5)], 1)

    found = leave_clear(fields, torch.full((1, 1, 1, 1), around), 0.1, 0.3)

    torch.testing.assert_close(found[0, :3].flatten(), torch.full((3,), taken), atol=1e-6, rtol=0)


def test_without_a_threshold_all_haze_is_taken():
    fields, weight = torch.rand(1, 9, 8, 8) * 0.1, torch.ones(1, 1, 8, 8)

    assert torch.equal(smooth_fields(fields, weight, 1.0, 2.0, (0.0, 0.0)), smooth_fields(fields, weight, 1.0, 2.0))
    assert not smooth_fields(fields, weight, 1.0, 2.0, (0.2, 0.4))[:, :3].any()
