"""The seam index: tile steps raise it, anything else leaves it at 1."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infdehaze_cli.geometry import Window, split_windows
from infdehaze_cli.scores import SeamAccumulator, border_positions, seam_index


def noise(height, width, seed=0):
    return np.random.default_rng(seed).standard_normal((3, height, width), dtype=np.float32)


def streamed(delta, rows, cols, block_height, block_width, valid=None):
    accumulator = SeamAccumulator(rows, cols)
    for core in split_windows(*delta.shape[1:], block_height, block_width):
        where = (
            slice(max(core.row - 1, 0), core.row_end),
            slice(max(core.col - 1, 0), core.col_end),
        )
        accumulator.add(core, delta[:, where[0], where[1]], None if valid is None else valid[where])
    return accumulator.result()


def test_borders_are_begin_middle_and_end_of_each_overlap():
    assert border_positions(700, 256, 32) == (224, 240, 256, 448, 464, 480)
    assert border_positions(705, 256, 32) == (224, 240, 256, 448, 464, 480, 672, 688, 704)
    assert border_positions(600, 256, 0) == (256, 512)
    assert border_positions(256, 256, 32) == ()
    assert border_positions(257, 256, 32) == (224, 240, 256)
    with pytest.raises(ValueError, match="smaller than the tile"):
        border_positions(100, 32, 32)


@given(size=st.integers(1, 3000), tile=st.integers(1, 300), share=st.floats(0, 0.999))
def test_borders_lie_between_two_pixels(size, tile, share):
    overlap = int(tile * share)
    found = border_positions(size, tile, overlap)
    assert list(found) == sorted(set(found))
    assert all(0 < position < size for position in found)
    assert bool(found) == (size > tile)


def test_a_step_between_tiles_raises_the_index():
    delta = 0.01 * noise(128, 128)
    delta[:, :, 64:] += 0.5
    found = seam_index(delta, [64], [64])
    assert found is not None
    assert found > 10
    delta[:, :, 64:] -= 0.5
    delta[:, 64:] += 0.5
    assert seam_index(delta, [64], [64]) == pytest.approx(found, rel=0.1)


def test_noise_and_a_smooth_ramp_leave_the_index_at_one():
    rows, cols = border_positions(300, 64, 16), border_positions(320, 64, 16)
    assert seam_index(noise(300, 320), rows, cols) == pytest.approx(1, abs=0.05)
    row, col = np.mgrid[0:300, 0:320]
    ramp = np.broadcast_to((row + col) / 1024, (3, 300, 320)).astype(np.float32)
    assert seam_index(ramp, rows, cols) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("block", [8, 16])
def test_blocks_of_a_codec_are_no_seams(block):
    blocks = np.random.default_rng(1).standard_normal((3, 512 // block, 512 // block), dtype=np.float32)
    delta = 0.2 * noise(512, 512) + 0.2 * blocks.repeat(block, 1).repeat(block, 2)
    borders = border_positions(512, 64, 0)
    assert seam_index(delta, borders, borders) == pytest.approx(1, abs=0.05)

    delta += 0.5 * (np.arange(512) // 64 % 2).astype(np.float32)
    assert seam_index(delta, borders, borders) > 1.2


def test_a_raster_too_small_for_lines_alike_is_compared_with_all_others():
    delta = np.zeros((3, 1, 9), dtype=np.float32)
    delta[:, 0, 4:] += 2
    delta[:, 0, 6:] += 1
    assert seam_index(delta, [], [4]) == pytest.approx(2 / (1 / 7))


def test_the_index_of_a_constant_is_one():
    assert seam_index(np.full((3, 20, 20), 0.3, dtype=np.float32), [10], [10]) == 1.0


def test_a_picture_that_is_smooth_but_for_its_borders_has_no_finite_index():
    delta = np.zeros((3, 20, 20), dtype=np.float32)
    delta[:, 10:] = 1
    assert seam_index(delta, [10], []) == math.inf


def test_without_a_border_there_is_no_index():
    assert seam_index(noise(20, 20), [], []) is None
    assert seam_index(noise(1, 2), [], [1]) is None


def test_a_known_index():
    delta = np.zeros((3, 1, 5), dtype=np.float32)
    delta[:, 0] = [0, 1, 4, 5, 6]
    assert seam_index(delta, [], [2]) == pytest.approx(3)


@given(block_height=st.integers(1, 50), block_width=st.integers(1, 50), masked=st.booleans())
@settings(max_examples=30, deadline=None)
def test_windows_of_any_size_give_the_index_of_the_whole(block_height, block_width, masked):
    delta = noise(43, 37)
    delta[:, :, 16:] += 1
    valid = np.random.default_rng(1).random((43, 37)) > 0.2 if masked else None
    rows, cols = border_positions(43, 16, 4), border_positions(37, 16, 4)
    expected = seam_index(delta, rows, cols, valid)
    assert streamed(delta, rows, cols, block_height, block_width, valid) == pytest.approx(expected, rel=1e-9)


def test_steps_from_or_to_invalid_pixels_are_not_counted():
    delta = noise(40, 40)
    valid = np.ones((40, 40), dtype=bool)
    valid[10:20, 15:17] = False
    expected = seam_index(delta, [16], [16], valid)
    delta[:, ~valid] = np.nan
    assert seam_index(delta, [16], [16], valid) == expected


def test_a_delta_that_does_not_fit_its_window_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        SeamAccumulator([], []).add(Window(0, 0, 4, 4), noise(4, 7))
