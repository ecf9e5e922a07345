"""The geometry of tiles: coverage, feathering, joining, mirroring, enlarging."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from infdehaze.tiling import (
    TileGrid,
    cut_tiles,
    double_cells,
    enlarge,
    feather,
    halve,
    join_fields,
    join_latents,
    mirror_pad,
    mix_looks,
    scatter,
    split_latents,
)


@st.composite
def grids(draw, max_side=200, stride=1):
    tile = draw(st.integers(1, 40 // stride)) * stride
    overlap = draw(st.integers(0, tile // stride // 2)) * stride
    return TileGrid(draw(st.integers(1, max_side)), draw(st.integers(1, max_side)), tile, overlap)


@given(grid=grids(max_side=3000))
@settings(deadline=None)
def test_tiles_cover_the_scene_without_one_too_many(grid):
    for size, count, padded in (
        (grid.height, grid.rows, grid.padded_height),
        (grid.width, grid.cols, grid.padded_width),
    ):
        assert padded >= size
        assert count == 1 or padded - grid.step < size
    last_row, last_col = grid.origin(grid.count - 1)
    assert (last_row + grid.tile, last_col + grid.tile) == (grid.padded_height, grid.padded_width)
    assert grid.origin(0) == (0, 0)


@pytest.mark.parametrize(
    ("height", "width", "tile", "overlap"), [(0, 5, 64, 0), (5, 0, 64, 0), (5, 5, 64, 33), (5, 5, 64, -1)]
)
def test_impossible_grids_are_refused(height, width, tile, overlap):
    with pytest.raises(ValueError, match=r"at least one row|half a tile"):
        TileGrid(height, width, tile, overlap)


@given(height=st.integers(1, 12), width=st.integers(1, 12), more_rows=st.integers(0, 40), more_cols=st.integers(0, 40))
@settings(deadline=None)
def test_mirroring_equals_that_of_numpy_at_any_distance(height, width, more_rows, more_cols):
    x = torch.arange(2.0 * height * width).view(1, 2, height, width)
    found = mirror_pad(x, height + more_rows, width + more_cols)
    expected = np.pad(x.numpy(), ((0, 0), (0, 0), (0, more_rows), (0, more_cols)), mode="symmetric")
    np.testing.assert_array_equal(found.numpy(), expected)


def test_mirroring_works_for_masks_and_leaves_large_pictures_alone():
    mask = torch.tensor([[[[True, False, False]]]])
    assert mirror_pad(mask, 1, 6).flatten().tolist() == [True, False, False, False, False, True]
    assert torch.equal(mirror_pad(mask, 1, 2), mask)


@given(grid=grids(max_side=90))
@settings(deadline=None, max_examples=50)
def test_tiles_are_cut_where_the_grid_says(grid):
    padded = torch.arange(2.0 * grid.padded_height * grid.padded_width).view(
        1, 2, grid.padded_height, grid.padded_width
    )
    tiles = cut_tiles(padded, grid)
    assert tiles.shape == (1, grid.count, 2, grid.tile, grid.tile)
    for index in {0, grid.count // 2, grid.count - 1}:
        row, col = grid.origin(index)
        assert torch.equal(tiles[:, index], padded[:, :, row : row + grid.tile, col : col + grid.tile])


@given(size=st.integers(1, 60), data=st.data(), tiles=st.integers(1, 5))
@settings(deadline=None)
def test_feathered_weights_of_neighbours_add_up_to_one(size, data, tiles):
    overlap = data.draw(st.integers(0, size // 2))
    step = size - overlap
    total = torch.zeros(step * (tiles - 1) + size)
    for index in range(tiles):
        weight = feather(size, overlap, index == 0, index == tiles - 1)
        assert weight.min() >= 0
        total[index * step : index * step + size] += weight
    torch.testing.assert_close(total, torch.ones_like(total))


def test_feathers_are_ramps_between_the_centres_of_cells():
    assert feather(9, 4, first=False, last=False).tolist() == [
        0.125,
        0.375,
        0.625,
        0.875,
        1,
        0.875,
        0.625,
        0.375,
        0.125,
    ]
    assert feather(9, 4, first=True, last=True).tolist() == [1] * 9
    assert feather(5, 2, first=True, last=False).tolist() == [1, 1, 1, 0.75, 0.25]


@given(grid=grids(max_side=120, stride=4), stride=st.sampled_from([1, 2, 4]), value=st.floats(-4, 4, width=32))
@settings(deadline=None, max_examples=50)
def test_equal_fields_of_all_tiles_join_without_a_seam(grid, stride, value):
    side = grid.tile // stride
    joined = join_fields(torch.full((2, grid.count, 3, side, side), value), grid, stride)
    assert joined.shape == (2, 3, grid.padded_height // stride, grid.padded_width // stride)
    torch.testing.assert_close(joined, torch.full_like(joined, value), atol=1e-6, rtol=1e-6)


@given(grid=grids(max_side=120, stride=4))
@settings(deadline=None, max_examples=50)
def test_fields_cut_from_one_field_join_to_it(grid):
    field = torch.rand(1, 2, grid.padded_height, grid.padded_width)
    torch.testing.assert_close(join_fields(cut_tiles(field, grid), grid, 1), field, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("overlap", [2, 4, 8])
def test_fields_that_differ_between_tiles_are_joined_by_a_ramp(overlap):
    grid = TileGrid(16, 30, 16, overlap)
    fields = torch.arange(float(grid.count)).view(1, -1, 1, 1, 1).expand(-1, -1, 1, 16, 16)
    joined = join_fields(fields, grid, 1)[0, 0]
    steps = joined[:, 1:] - joined[:, :-1]
    assert steps.min() > -1e-6
    assert steps.max() <= 1 / overlap + 1e-6


def test_tiles_without_overlap_join_untouched():
    grid = TileGrid(8, 12, 4, 0)
    fields = torch.rand(1, 6, 9, 4, 4)
    joined = join_fields(fields, grid, 1)
    assert torch.equal(cut_tiles(joined, grid), fields)


@given(rows=st.integers(1, 5), cols=st.integers(1, 5), side=st.integers(1, 4), batch=st.integers(1, 3))
@settings(deadline=None)
def test_splitting_undoes_joining_of_latents(rows, cols, side, batch):
    grid = TileGrid(rows * 8, cols * 8, 8, 0)
    latent = torch.rand(batch, grid.count, side, side, 3)
    joined = join_latents(latent, grid)
    assert joined.shape == (batch, rows * side, cols * side, 3)
    assert torch.equal(joined[:, -side:, -side:], latent[:, -1])
    assert torch.equal(joined[:, :side, -side:], latent[:, cols - 1])
    assert torch.equal(split_latents(joined, grid), latent)


@given(height=st.integers(1, 9), width=st.integers(1, 9), stride=st.sampled_from([1, 2, 4, 8]))
@settings(deadline=None, max_examples=40)
def test_enlarging_is_bilinear(height, width, stride):
    fields = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(height * width))
    position = [(np.arange(side * stride) + 0.5) / stride - 0.5 for side in (height, width)]
    rows, cols = (
        np.maximum(0, 1 - np.abs(p.clip(0, side - 1)[:, None] - np.arange(side)))
        for p, side in zip(position, (height, width), strict=True)
    )
    expected = torch.from_numpy(rows @ fields.numpy().astype(float) @ cols.T).float()
    torch.testing.assert_close(enlarge(fields, stride), expected, atol=1e-6, rtol=1e-5)


def assert_enlarges_alike(height, width, stride, top, left, bottom, right, **tolerance):
    fields = torch.rand(1, 2, height, width, generator=torch.Generator().manual_seed(height * width))
    whole = enlarge(fields, stride)[:, :, top * stride : bottom * stride, left * stride : right * stride]
    halo_top, halo_left = max(0, top - 1), max(0, left - 1)
    window = enlarge(fields[:, :, halo_top : bottom + 1, halo_left : right + 1], stride)
    row, col = (top - halo_top) * stride, (left - halo_left) * stride
    part = window[:, :, row : row + whole.shape[2], col : col + whole.shape[3]]
    torch.testing.assert_close(part, whole, **tolerance)


@given(stride=st.sampled_from([1, 2, 4, 8]), data=st.data())
@settings(deadline=None, max_examples=60)
def test_a_window_with_one_cell_of_halo_enlarges_as_the_whole_does(stride, data):
    height, width = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 30))
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))
    assert_enlarges_alike(height, width, stride, top, left, bottom, right, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize(
    "window",
    [
        (0, 0, 128, 128),
        (64, 32, 192, 160),
        (100, 0, 101, 200),
        pytest.param(
            (199, 190, 200, 200),
        ),
        pytest.param(
            (7, 7, 8, 8),
        ),
    ],
)
def test_windows_with_one_cell_of_halo_enlarge_to_the_same_bits(stride, window):
    assert_enlarges_alike(200, 200, stride, *window, atol=0, rtol=0)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_without_depth_and_residual_the_picture_stays_bit_for_bit(strength):
    hazy = torch.randn(2, 3, 9, 7) * 3
    fields = torch.zeros(2, 9, 9, 7)
    fields[:, 3:6] = torch.rand(2, 3, 9, 7)
    assert torch.equal(scatter(hazy, fields, strength), hazy)


def test_no_strength_leaves_the_picture_as_it_was():
    hazy = torch.rand(1, 3, 5, 5)
    assert torch.equal(scatter(hazy, torch.rand(1, 9, 5, 5), 0.0), hazy)


@given(depth=st.floats(0, 4), airlight=st.floats(0.3, 1.3), clear=st.floats(0, 1))
@settings(deadline=None)
def test_the_true_fields_undo_the_scattering_model(depth, airlight, clear):
    assume(np.exp(-depth) > 0.01)
    passed = float(np.exp(-depth))
    hazy = torch.full((1, 3, 1, 1), clear * passed + airlight * (1 - passed), dtype=torch.float64)
    fields = torch.tensor([depth, airlight, 0.0], dtype=torch.float64).repeat_interleave(3).view(1, 9, 1, 1)
    torch.testing.assert_close(scatter(hazy, fields), torch.full_like(hazy, clear), atol=1e-6, rtol=1e-6)


@given(height=st.integers(1, 40), width=st.integers(1, 40), holes=st.floats(0, 1), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_half_a_picture_is_the_mean_of_the_valid_ones_of_four_pixels(height, width, holes, seed):
    generator = torch.Generator().manual_seed(seed)
    picture = torch.rand(2, 3, height, width, generator=generator)
    valid = torch.rand(2, height, width, generator=generator) >= holes
    half, known = halve(torch.where(valid[:, None], picture, torch.nan), valid)
    assert half.shape == (2, 3, -(-height // 2), -(-width // 2))
    for row in range(half.shape[2]):
        for col in range(half.shape[3]):
            here = (slice(2 * row, 2 * row + 2), slice(2 * col, 2 * col + 2))
            for scene in range(2):
                four, ok = picture[scene][:, *here], valid[scene][here]
                assert bool(known[scene, row, col]) == bool(ok.any())
                expected = four[:, ok].mean(1) if ok.any() else torch.zeros(3)
                torch.testing.assert_close(half[scene, :, row, col], expected, atol=1e-6, rtol=1e-6)


@given(row=st.integers(0, 15), col=st.integers(0, 15), height=st.integers(1, 10), width=st.integers(1, 10))
@settings(deadline=None, max_examples=40)
def test_a_window_of_half_a_picture_is_that_of_the_whole_bit_for_bit(row, col, height, width):
    picture = torch.rand(1, 3, 51, 53, generator=torch.Generator().manual_seed(row))
    valid = torch.rand(1, 51, 53, generator=torch.Generator().manual_seed(col)) > 0.3
    whole, known = halve(picture, valid)
    here = (slice(2 * row, 2 * (row + height)), slice(2 * col, 2 * (col + width)))
    part, known_part = halve(picture[..., *here], valid[..., *here])
    rows, cols = slice(row, row + part.shape[2]), slice(col, col + part.shape[3])
    assert torch.equal(part, whole[..., rows, cols])
    assert torch.equal(known_part, known[..., rows, cols])


def test_doubled_cells_lie_over_those_of_the_scene():
    cells = torch.arange(6.0).expand(1, 2, 4, 6)
    doubled = double_cells(cells, 7, 15)
    # centres a quarter of a cell from those of the scene at half its size; the last one repeated beyond the end
    torch.testing.assert_close(doubled[0, 0, 0, :4], torch.tensor([0.0, 0.25, 0.75, 1.25]))
    torch.testing.assert_close(doubled[0, 1, -1, 11:], torch.full((4,), 5.0))
    assert doubled.shape == (1, 2, 7, 15)


def test_looks_are_mixed_by_the_share_of_the_coarse_one():
    fine, coarse = torch.full((1, 10, 3, 3), 2.0), torch.full((1, 10, 3, 3), 4.0)
    torch.testing.assert_close(mix_looks(fine, coarse, 0.25), torch.full((1, 10, 3, 3), 2.5))
