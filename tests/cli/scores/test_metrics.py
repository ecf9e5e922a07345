"""The streamed scores: known values, windows that do not matter, invalid pixels that take no part."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.image import structural_similarity_index_measure

from infdehaze_cli.errors import InputError
from infdehaze_cli.geometry import Window, split_windows
from infdehaze_cli.scores import ScoreAccumulator, Scores, mean_scores
from infdehaze_cli.scores.metrics import SSIM_HALO


def pair(height, width, seed=0, noise=0.1):
    rng = np.random.default_rng(seed)
    reference = rng.random((3, height, width), dtype=np.float32)
    result = np.clip(reference + noise * rng.standard_normal(reference.shape, dtype=np.float32), 0, 1)
    return result, reference


def whole(result, reference, valid=None):
    scores = ScoreAccumulator()
    scores.add(result, reference, np.ones(result.shape[1:], dtype=bool) if valid is None else valid)
    return scores.result()


def streamed(result, reference, valid, block_height, block_width):
    height, width = valid.shape
    scores = ScoreAccumulator()
    for core in split_windows(height, width, block_height, block_width):
        grown = Window(
            core.row - SSIM_HALO,
            core.col - SSIM_HALO,
            core.height + 2 * SSIM_HALO,
            core.width + 2 * SSIM_HALO,
        )
        halo = grown.intersect(Window(0, 0, height, width))
        rows, cols = slice(halo.row, halo.row_end), slice(halo.col, halo.col_end)
        scores.add(result[:, rows, cols], reference[:, rows, cols], valid[rows, cols], core.relative_to(halo))
    return scores.result()


def assert_same(found, expected):
    assert found.pixels == expected.pixels
    assert found.psnr == pytest.approx(expected.psnr, rel=1e-10)
    assert found.ssim == pytest.approx(expected.ssim, abs=2e-6)
    assert found.ciede2000 == pytest.approx(expected.ciede2000, rel=1e-10)
    assert found.sam == pytest.approx(expected.sam, rel=1e-10)


@pytest.mark.parametrize("value", [None, 0.0, 0.73, 1.0])
def test_identical_pictures_score_perfectly(value):
    _, picture = pair(40, 30)
    if value is not None:
        picture[:] = value
    assert whole(picture, picture.copy()) == Scores(math.inf, 1.0, 0.0, 0.0, None, 1200)


@given(st.floats(0.001, 0.4))
@settings(max_examples=20, deadline=None)
def test_psnr_of_a_constant_offset_is_known(offset):
    reference = np.full((3, 12, 13), 0.5, dtype=np.float32)
    scores = whole(reference + np.float32(offset), reference)
    assert scores.psnr == pytest.approx(-20 * math.log10(offset), abs=1e-3)


def test_ssim_equals_torchmetrics_over_the_whole_picture():
    result, reference = pair(300, 70)
    expected = structural_similarity_index_measure(
        torch.from_numpy(result)[None], torch.from_numpy(reference)[None], data_range=1.0
    )
    assert whole(result, reference).ssim == pytest.approx(float(expected), abs=2e-6)


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    block_height=st.integers(1, 23),
    block_width=st.integers(1, 23),
    invalid=st.sampled_from([0.0, 0.01, 0.3]),
)
@settings(max_examples=60, deadline=None)
def test_windows_of_any_size_give_the_scores_of_the_whole(height, width, block_height, block_width, invalid):
    result, reference = pair(height, width)
    valid = np.random.default_rng(1).random((height, width)) >= invalid
    valid[0, 0] = True
    expected = whole(result, reference, valid)
    assert_same(streamed(result, reference, valid, block_height, block_width), expected)


def test_windows_taller_than_a_torchmetrics_strip_give_the_scores_of_the_whole():
    result, reference = pair(613, 31)
    valid = np.ones((613, 31), dtype=bool)
    assert_same(streamed(result, reference, valid, 523, 17), whole(result, reference))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (5, 6), (6, 5), (3, 2)])
def test_rasters_smaller_than_the_ssim_window_are_scored(shape):
    result, reference = pair(*shape)
    assert -1 <= whole(result, reference).ssim < 1
    assert whole(reference, reference.copy()).ssim == 1


def test_a_small_raster_is_mirrored_without_repeating_its_edge():
    result, reference = pair(4, 20)
    mirrored = [np.pad(x, [(0, 0), (30, 30), (0, 0)], mode="reflect") for x in (result, reference)]
    _, image = structural_similarity_index_measure(
        *(torch.from_numpy(x)[None] for x in mirrored), data_range=1.0, return_full_image=True
    )
    assert whole(result, reference).ssim == pytest.approx(float(image[..., 30:34, :].mean()), abs=2e-6)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -9999.0])
def test_invalid_pixels_take_no_part(garbage):
    result, reference = pair(60, 50)
    valid = np.ones((60, 50), dtype=bool)
    valid[:, 20:30] = False
    expected = whole(result, reference, valid)
    result[:, ~valid], reference[:, ~valid] = garbage, -1.0
    found = whole(result, reference, valid)
    assert found == expected
    assert found.pixels == 60 * 40


def test_ssim_next_to_invalid_pixels_is_not_flattered_by_their_filling():
    result, reference = pair(60, 50, noise=0.3)
    valid = np.ones((60, 50), dtype=bool)
    valid[:, 20:30] = False
    maps = structural_similarity_index_measure(
        *(torch.from_numpy(x)[None] for x in (result, reference)), data_range=1.0, return_full_image=True
    )[1].numpy()[0]
    untouched = np.concatenate([maps[:, :, :15], maps[:, :, 35:]], axis=2).mean()
    assert whole(result, reference, valid).ssim == pytest.approx(float(untouched), abs=2e-6)


def test_the_spectral_angle_ignores_brightness_and_leaves_black_out():
    reference = np.zeros((3, 12, 12), dtype=np.float32)
    reference[0] = 0.5
    assert whole(reference * 2, reference).sam == 0
    result = reference.copy()
    result[1] = result[0]
    result[:, :6] = 0
    assert whole(result, reference).sam == pytest.approx(45)
    assert whole(np.zeros_like(reference), reference).sam == 0


def test_no_valid_pixel_is_an_error_that_says_what_to_do():
    with pytest.raises(InputError, match="No pixel is valid in both"):
        whole(*pair(8, 8), valid=np.zeros((8, 8), dtype=bool))


def test_mean_scores_weigh_rasters_alike_and_skip_unknown_seams():
    first, second = Scores(20, 0.5, 4, 2, None, 10), Scores(30, 0.7, 2, 4, 1.5, 30)
    found = mean_scores([first, second])
    assert (found.psnr, found.ciede2000, found.sam, found.seam, found.pixels) == (25, 3, 3, 1.5, 40)
    assert found.ssim == pytest.approx(0.6)
    assert mean_scores([first]) == first
    with pytest.raises(ValueError, match="no scores"):
        mean_scores([])
