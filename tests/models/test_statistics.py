"""Ranked statistics of patches: the values that they claim to be, of cell and tile, and carried by the latent."""

from dataclasses import replace

import pytest
import torch
from infdehaze.network import InfDehaze
from infdehaze.statistics import (
    CELL_RANKS,
    PATCH,
    STATISTICS,
    TILE_RANKS,
    TileStatistics,
    patch_statistics,
    ranked,
    read_carried,
)
from infdehaze.weights import load_model


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
    module = TileStatistics(side=4, dim=8, fields=3)

    features = module.features(tile)

    own = STATISTICS * len(CELL_RANKS)
    assert features.shape == (2, 4, 4, own + STATISTICS * len(TILE_RANKS))
    maps = patch_statistics(tile)
    cell = maps[0, :, 2:4, 6:8].flatten(1)
    torch.testing.assert_close(features[0, 1, 3, :own], ranked(cell, CELL_RANKS).flatten())
    assert torch.equal(features[0, 0, 0, own:], features[0, 3, 2, own:])
    assert not torch.equal(features[0, 0, 0, own:], features[1, 0, 0, own:])


@torch.inference_mode()
def test_the_latent_carries_fields_and_keeps_all_else(tile):
    module = TileStatistics(side=4, dim=12, fields=3)
    # any orthogonal rows of one length will do
    module.carrier.copy_(torch.linalg.qr(torch.randn(12, 12)).Q[:3] / 0.7)
    latent, fields = torch.randn(2, 4, 4, 12), torch.randn(2, 4, 4, 3)

    carrying = module.write(latent, fields)

    torch.testing.assert_close(read_carried(carrying, module.carrier), fields)
    others = torch.linalg.svd(module.carrier).Vh[3:]
    torch.testing.assert_close(carrying @ others.T, latent @ others.T)


@torch.inference_mode()
def test_a_fresh_network_predicts_no_coarse_fields(tiny, scene):
    model = InfDehaze(replace(tiny, tile_statistics=True)).eval()
    picture = scene(96, 130)

    assert torch.equal(model(picture).image_B3HW, picture)


@torch.inference_mode()
def test_coarse_fields_reach_the_head_whatever_else_is_in_the_latent(tiny, tile):
    model = InfDehaze(replace(tiny, tile=64, tile_statistics=True)).eval()
    model.encoder.statistics.mlp[-1].bias.copy_(torch.arange(9) / 10)

    residuals = model.encoder(tile)
    fields = model.decoder(residuals[-1], residuals)

    torch.testing.assert_close(
        fields[:, :3].mean((0, 2, 3)), 4 * torch.tanh(torch.arange(3) / 40), atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(fields[:, 6:].mean((0, 2, 3)), torch.arange(6, 9) / 100, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_latents_tell_what_fields_were_read_from_and_the_bottleneck_corrects_them(make_model, scene):
    model, picture = make_model(tile_statistics=True, bottleneck_corrects=True), scene(96, 130)
    before = model(picture).fields_B9HW

    latents = model.encoder(picture[:, :, :64, :64])[-1]
    model.decoder.head.correct[1].weight.data.zero_()
    after = model(picture).fields_B9HW

    other = make_model(tile_statistics=True).encoder(picture[:, :, :64, :64])[-1]
    assert latents.shape == other.shape
    assert (before - after)[:, :6].abs().amax((0, 2, 3)).min() > 0.01
    # no correction of the residual
    torch.testing.assert_close(before[:, 6:], after[:, 6:])


@torch.inference_mode()
def test_rounding_of_large_latents_leaves_what_they_carry(tiny, tile):
    encoder = InfDehaze(replace(tiny, tile=64, tile_statistics=True)).encoder
    encoder.statistics.carrier.mul_(7)
    residuals = encoder(tile)
    residuals[-1] = encoder.statistics.write(residuals[-1] + 100, torch.full_like(residuals[-1][..., :9], 0.3))

    rounded = encoder.from_store([kept.half().float() for kept in encoder.to_store(residuals)])

    assert len(rounded) == len(residuals)
    carried = read_carried(rounded[-1], encoder.statistics.carrier)
    torch.testing.assert_close(carried, torch.full_like(carried, 0.3), atol=5e-4, rtol=0)


def test_encoder_and_head_of_the_shipped_weights_agree_on_the_carrier():
    model = load_model("lite")

    assert torch.equal(model.encoder.statistics.carrier, model.decoder.head.carrier)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.bfloat16, 1.0), (torch.float16, 0.2)])
@torch.inference_mode()
def test_half_precision_loses_less_than_a_digital_number_on_average(dtype, limit):
    model = load_model("lite").eval()
    ground = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(2)) * 0.5
    clear = torch.nn.functional.interpolate(ground, size=(384, 320), mode="bicubic")
    hazy = clear * 0.5 + 0.85 * 0.5

    full = model(hazy).image_B3HW
    with torch.autocast("cpu", dtype):
        half = model(hazy).image_B3HW

    assert (full - hazy).abs().mean() > 0.03
    assert 0 < (half.float() - full).abs().mean() * 255 < limit
