"""Ranked statistics of patches: the values that they claim to be, of cell and tile, and no harm at the start."""

from dataclasses import replace

import pytest
import torch
from infdehaze.network import InfDehaze
from infdehaze.statistics import CELL_RANKS, PATCH, STATISTICS, TILE_RANKS, TileStatistics, patch_statistics, ranked


@pytest.fixture
def tile() -> torch.Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_a_patch_is_told_by_its_extremes_mean_and_deviation(tile):
    statistics = patch_statistics(tile)[1, :, 2, 5]

    patch = tile[1, :, 2 * PATCH : 3 * PATCH, 5 * PATCH : 6 * PATCH].flatten(1)
    low, high, mean = patch.amin(1), patch.amax(1), patch.mean(1)
    levels = torch.cat([low, low.amin()[None], high, high.amax()[None], mean]) * 2 - 1
    deviation = 4 * patch.std(1, correction=0)
    torch.testing.assert_close(
        statistics, torch.cat([levels, 2 * (mean.amax() - mean.amin())[None], deviation]), atol=1e-4, rtol=1e-4
    )


def test_ranks_are_values_of_the_row_itself():
    row = torch.tensor([[[5.0, 1.0, 3.0, 2.0, 4.0]]])

    assert ranked(row, (0.0, 0.5, 0.75, 1.0)).tolist() == [[[1.0, 3.0, 4.0, 5.0]]]


def test_features_are_those_of_the_cell_and_then_those_of_the_tile(tile):
    module = TileStatistics(side=4, dim=8)

    features = module.features(tile)

    own = STATISTICS * len(CELL_RANKS)
    assert features.shape == (2, 4, 4, own + STATISTICS * len(TILE_RANKS))
    maps = patch_statistics(tile)
    cell = maps[0, :, 2:4, 6:8].flatten(1)
    torch.testing.assert_close(features[0, 1, 3, :own], ranked(cell, CELL_RANKS).flatten())
    assert torch.equal(features[0, 0, 0, own:], features[0, 3, 2, own:])
    assert not torch.equal(features[0, 0, 0, own:], features[1, 0, 0, own:])


@pytest.mark.parametrize("added", [{"tile_statistics": True}, {"coarse_head": True}])
@torch.inference_mode()
def test_a_part_that_is_added_changes_nothing_until_it_is_trained(tiny, make_model, scene, added):
    trained = make_model()
    wider = InfDehaze(replace(trained.preset, **added)).eval()
    missing, unexpected = wider.load_state_dict(trained.state_dict(), strict=False)
    assert missing
    assert not unexpected

    picture = scene(96, 130)

    torch.testing.assert_close(wider(picture).image_B3HW, trained(picture).image_B3HW, atol=0, rtol=0)


@torch.inference_mode()
def test_statistics_reach_the_latent(tiny, tile):
    model = InfDehaze(replace(tiny, tile=64, tile_statistics=True)).eval()
    before = model.encoder(tile)[-1]
    torch.nn.init.normal_(model.encoder.statistics.mlp[-1].weight)

    assert not torch.allclose(model.encoder(tile)[-1], before)
