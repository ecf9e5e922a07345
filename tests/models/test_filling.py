"""What stands in for pixels without data: ground of the same tile, whatever lies under them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from infdehaze.filling import black_edges, fill_and_weigh, fill_invalid
from infdehaze.statistics import TILE_RANKS, patch_statistics, ranked


def patches(tile, side=8):
    """Return the patches of a tile (C, H, W), row by row, as (N, C, side, side)."""
    return tile.unfold(1, side, side).unfold(2, side, side).permute(1, 2, 0, 3, 4).flatten(0, 1)


@st.composite
def masked_tiles(draw):
    """Return a tile and a mask of rectangles, specks or both, at times of everything."""
    side = draw(st.sampled_from([8, 20, 64, 128]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9999)))
    valid = torch.rand(side, side, generator=generator) >= draw(st.sampled_from([0.0, 0.1, 0.6, 0.99, 1.1]))
    row, col = draw(st.integers(0, side)), draw(st.integers(0, side))
    valid[:row, :col] = False
    valid = torch.rot90(valid, draw(st.integers(0, 3)))
    return torch.rand(3, side, side, generator=generator), valid


def test_a_few_missing_pixels_take_the_mean_of_the_known_ones_around():
    tiles = torch.tensor([[1.0, 3.0, float("nan"), float("inf")], [7.0, 7.0, 7.0, 7.0]]).view(2, 1, 2, 2)
    valid = torch.tensor([[True, True, False, False], [False] * 4]).view(2, 2, 2)
    assert fill_invalid(tiles, valid).flatten().tolist() == [1, 3, 2, 2, 0, 0, 0, 0]


def test_tiles_that_are_all_valid_are_returned_as_they_are():
    tiles = torch.rand(2, 3, 16, 16)
    assert fill_invalid(tiles, torch.ones(2, 16, 16, dtype=torch.bool)) is tiles


@settings(deadline=None, max_examples=60)
@given(masked_tiles())
def test_a_tile_weighs_as_much_as_it_has_data(case):
    tile, valid = case
    tiles, masks = torch.stack([tile + 0.1, tile + 0.1]), torch.stack([valid, torch.ones_like(valid)])
    filled, weight = fill_and_weigh(tiles, masks)
    assert weight.tolist() == pytest.approx([max(1, int(valid.sum())) / valid.numel(), 1.0])
    assert torch.equal(filled, fill_invalid(tiles, masks))


def test_black_edges_weigh_nothing():
    tile = torch.rand(3, 64, 64) + 0.1
    tile[:, :, :31] = 0
    _, weight = fill_and_weigh(tile[None], torch.ones(1, 64, 64, dtype=torch.bool))
    # the edge, and a pixel beside it
    assert weight.item() == 0.5


@settings(deadline=None, max_examples=60)
@given(masked_tiles(), st.sampled_from([0.0, 1e30, float("nan"), float("-inf")]))
def test_what_lies_under_missing_pixels_influences_nothing(case, garbage):
    tile, valid = case
    spoilt = torch.where(valid, tile, garbage)
    filled = fill_invalid(tile[None], valid[None])
    assert torch.equal(fill_invalid(spoilt[None], valid[None]), filled)
    assert filled.isfinite().all()
    if not valid.any():
        assert (filled == 0).all()


@settings(deadline=None, max_examples=60)
@given(masked_tiles())
def test_tiles_are_filled_each_by_itself(case):
    tile, valid = case
    tiles, masks = torch.stack([tile, tile.flip(1)]), torch.stack([valid, torch.ones_like(valid)])
    together = fill_invalid(tiles, masks)
    assert torch.equal(together[:1], fill_invalid(tile[None], valid[None]))
    assert torch.equal(together[1], tiles[1])


@settings(deadline=None, max_examples=60)
@given(masked_tiles().filter(lambda case: case[0].shape[1] % 8 == 0))
def test_patches_with_data_stay_and_others_show_one_of_them(case):
    tile, valid = case
    count = patches(valid[None].float()).sum((1, 2, 3))
    enough = count >= 32 if (count >= 32).any() else count > 0

    filled = patches(fill_invalid(tile[None], valid[None])[0])

    before, known = patches(tile), patches(valid[None])
    kept = torch.where(known, before, filled)
    assert torch.equal(filled[enough], kept[enough])
    if enough.any():
        alike = (filled[:, None] == filled[enough][None]).flatten(2).all(2)
        assert alike.any(1).all()


def test_patches_are_taken_from_the_same_64_pixels_and_else_evenly_from_the_tile():
    tile = torch.arange(256.0).view(1, 16, 16).repeat_interleave(8, 1).repeat_interleave(8, 2)
    valid = torch.ones(128, 128, dtype=torch.bool)
    valid[:64, :64] = False
    valid[64:96, 64:] = False

    filled = fill_invalid(tile[None], valid[None])[0, 0, ::8, ::8]

    own = filled[8:12, 8:]
    assert sorted(own.flatten().tolist()) == sorted(tile[0, ::8, ::8][12:, 8:].flatten().tolist())
    others = filled[:8, :8].flatten()
    givers = tile[0, ::8, ::8].flatten()[valid[::8, ::8].flatten()]
    assert torch.equal(others, givers[torch.arange(64) * len(givers) // 64])


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_ranked_statistics_of_a_tile_are_those_of_its_data(share):
    generator = torch.Generator().manual_seed(7)
    # bright and rough to the right, where nothing is known of it
    ground = torch.rand(3, 256, 256, generator=generator) * torch.linspace(0.2, 0.9, 256)
    valid = torch.ones(256, 256, dtype=torch.bool)
    first = int(256 * share) // 64 * 64
    valid[:, first:] = False

    found = ranked(patch_statistics(fill_invalid(ground[None], valid[None])).flatten(2), TILE_RANKS)
    known = ranked(patch_statistics(ground[None, :, :, :first]).flatten(2), TILE_RANKS)

    assert torch.equal(found[..., [0, -1]], known[..., [0, -1]])
    assert (found - known).abs().max() < 0.05


def test_gradients_reach_data_alone():
    tile = torch.rand(1, 3, 16, 16, requires_grad=True)
    valid = torch.ones(1, 16, 16, dtype=torch.bool)
    valid[0, :8, :13] = False

    fill_invalid(tile, valid).square().sum().backward()

    assert (tile.grad[0, :, ~valid[0]] == 0).all()
    # what is left of a patch whose greater part is missing is not shown
    assert (tile.grad[0, :, 8:] > 0).all()


def slanting(side=128):
    """Return a mask whose left part is missing, down to a sliver that leaves the tile at the bottom."""
    return torch.arange(side) + 0.3 * torch.arange(side)[:, None] > 40


@pytest.mark.parametrize("turned", range(4))
def test_black_edges_are_missing_whether_the_file_says_so_or_not(turned):
    valid = torch.rot90(slanting(), turned)
    ground = 0.1 + 0.9 * torch.rand(1, 3, 128, 128)
    ground[..., ~valid] = 0.0

    everywhere = torch.ones_like(valid)
    edges = black_edges(ground[0], everywhere)

    assert edges[~valid].all()
    # and one pixel around
    assert 0 < edges[valid].sum() < 4 * 128
    assert torch.equal(fill_invalid(ground, everywhere[None]), fill_invalid(ground, ~edges[None]))


def test_dark_ground_is_ground():
    ground = torch.rand(3, 64, 64) + 0.1
    ground[:, 10:17, 5:40] = 0.0
    ground[:, 30:60, 30:60] = torch.rand(3, 30, 30).round()
    ground[:2, 40:, :20] = 0.0
    everywhere = torch.ones(64, 64, dtype=torch.bool)
    assert not black_edges(ground, everywhere).any()
    assert torch.equal(fill_invalid(ground[None], everywhere[None])[0], ground)


@settings(deadline=None, max_examples=40)
@given(masked_tiles())
def test_a_tile_with_black_pixels_is_left_or_filled_from_itself(case):
    tile, valid = case
    black = torch.where(valid, tile + 0.01, 0.0)
    edges = black_edges(black, torch.ones_like(valid))
    filled = fill_invalid(black[None], torch.ones_like(valid)[None])[0]
    assert torch.equal(filled, fill_invalid(black[None], ~edges[None])[0])
    if not edges.any():
        assert torch.equal(filled, black)
    if valid.all():
        assert not edges.any()
