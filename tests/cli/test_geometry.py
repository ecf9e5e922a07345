"""Windows and mirrored positions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infdehaze_cli.geometry import Window, mirror_index, split_windows

windows = st.builds(Window, st.integers(0, 40), st.integers(0, 40), st.integers(1, 40), st.integers(1, 40))


def painted(*drawn):
    """Count for each pixel of a canvas the windows that cover it."""
    canvas = np.zeros((80, 80), int)
    for window in drawn:
        canvas[window.row : window.row_end, window.col : window.col_end] += 1
    return canvas


@given(windows, windows)
def test_the_common_part_is_what_both_cover(first, second):
    common = first.intersect(second)
    both = painted(first, second) == 2
    if common is None:
        assert not both.any()
    else:
        assert np.array_equal(painted(common) == 1, both)
        assert common.pixels == both.sum()


@given(windows, windows)
def test_the_common_part_does_not_depend_on_the_order(first, second):
    assert first.intersect(second) == second.intersect(first)


@given(windows)
def test_a_window_shares_all_of_itself(window):
    assert window.intersect(window) == window


@given(windows, windows)
def test_relative_slices_cut_a_window_out_of_one_around_it(first, second):
    common = first.intersect(second)
    if common is not None:
        position = np.arange(80 * 80).reshape(80, 80)
        around = position[first.relative_to(Window(0, 0, 80, 80))]
        expected = position[common.row : common.row_end, common.col : common.col_end]
        assert np.array_equal(around[common.relative_to(first)], expected)


@given(st.integers(1, 80), st.integers(1, 80), st.integers(1, 90), st.integers(1, 90))
def test_a_grid_covers_each_pixel_once_in_row_major_order(height, width, rows, cols):
    grid = list(split_windows(height, width, rows, cols))
    assert (painted(*grid)[:height, :width] == 1).all()
    assert painted(*grid).sum() == height * width
    assert [(w.row, w.col) for w in grid] == sorted((w.row, w.col) for w in grid)
    assert all(w.height <= rows and w.width <= cols for w in grid)
    assert all(w.row % rows == 0 and w.col % cols == 0 for w in grid)


@given(st.integers(1, 20), st.integers(0, 90), st.integers(0, 90))
def test_mirroring_is_what_numpy_calls_symmetric(size, before, after):
    expected = np.pad(np.arange(size), (before, after), mode="symmetric")
    assert np.array_equal(mirror_index(-before, size + after, size), expected)


@given(st.integers(1, 20), st.integers(-100, 100), st.integers(0, 50))
def test_mirrored_positions_lie_inside_and_are_one_step_apart_at_most(size, start, length):
    index = mirror_index(start, start + length, size)
    assert index.shape == (length,)
    assert ((index >= 0) & (index < size)).all()
    assert (np.abs(np.diff(index)) <= 1).all()


def test_positions_inside_are_themselves():
    assert mirror_index(3, 9, 10).tolist() == [3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("size", [0, -1])
def test_nothing_cannot_be_mirrored(size):
    with pytest.raises(ValueError, match="size"):
        mirror_index(0, 1, size)
