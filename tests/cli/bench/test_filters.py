"""Window filters of the classical methods, against their definitions."""

import numpy as np
import pytest

from infdehaze_cli.bench.filters import box_sum, guided_filter, haziest_colours, invert, minimum_filter


def around(values, row, col, radius):
    return values[max(row - radius, 0) : row + radius + 1, max(col - radius, 0) : col + radius + 1]


@pytest.mark.parametrize("shape", [(1, 1), (5, 40), (40, 5), (33, 34)])
def test_minimum_and_sum_are_those_of_the_window_cut_off_at_the_edges(shape):
    values = np.random.default_rng(0).random(shape)

    lowest, total = minimum_filter(values, 15), box_sum(values, 9)

    for row, col in np.ndindex(shape):
        assert lowest[row, col] == around(values, row, col, 7).min()
        assert total[row, col] == pytest.approx(around(values, row, col, 9).sum())


@pytest.fixture
def guide():
    return np.random.default_rng(1).random((3, 50, 60))


def test_the_guided_filter_keeps_what_is_linear_in_the_colours_of_the_guide(guide):
    valid = np.ones(guide.shape[1:], bool)
    values = 0.2 + 0.5 * guide[0] - 0.3 * guide[1] + 0.1 * guide[2]

    smooth = guided_filter(guide, values, valid, 10)

    # epsilon takes about 1 % of a slope, beside a variance of 1/12
    assert np.abs(smooth - values).max() < 0.02
    assert np.abs(guided_filter(guide, np.full_like(values, 0.7), valid, 10) - 0.7).max() < 1e-9


def test_the_guided_filter_smooths_what_has_nothing_to_do_with_the_guide(guide):
    values = np.random.default_rng(2).random(guide.shape[1:])

    smooth = guided_filter(guide, values, np.ones(values.shape, bool), 10)

    assert smooth.std() < 0.25 * values.std()


def test_pixels_that_hold_no_data_do_not_reach_the_others_through_the_guided_filter(guide):
    valid = np.ones(guide.shape[1:], bool)
    valid[:, 20:30] = False
    values = guide.mean(axis=0)

    one = guided_filter(np.where(valid, guide, 0.0), np.where(valid, values, 0.0), valid, 10)
    other = guided_filter(np.where(valid, guide, 1.0), np.where(valid, values, 9.0), valid, 10)

    assert np.abs(one - other)[valid].max() < 1e-9


def test_the_haziest_colours_are_a_thousandth_of_the_valid_pixels_and_at_least_one():
    haziness = np.arange(4000.0).reshape(40, 100)
    hazy = np.stack([haziness, haziness + 0.1, haziness + 0.2])
    valid = haziness < 3000

    assert sorted(haziest_colours(hazy, haziness, valid)[0]) == [2997, 2998, 2999]
    assert haziest_colours(hazy[:, :1, :5], haziness[:1, :5], valid[:1, :5])[:, 0].tolist() == [4, 4.1, 4.2]


def test_inverting_undoes_the_scattering_model():
    rng = np.random.default_rng(3)
    clear, transmission = rng.random((3, 20, 30)), rng.uniform(0.2, 1.0, (20, 30))
    airlight = np.array([0.8, 0.85, 0.9]).reshape(3, 1, 1)

    restored = invert(clear * transmission + airlight * (1 - transmission), transmission, airlight)

    assert restored.dtype == np.float32
    assert np.abs(restored - clear).max() < 1e-6
