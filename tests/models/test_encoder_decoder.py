"""Encoder and decoder: tile by tile, shapes that the preset promises, fields within their bounds."""

from dataclasses import replace

import pytest
import torch
from infdehaze.decoder import FIELDS, MAX_DEPTH, Decoder, Head, PatchExpanding
from infdehaze.encoder import BLOCKS, Encoder, PatchEmbedding, PatchMerging
from infdehaze.sfca import SFCA
from infdehaze.swin import SwinLayer


@pytest.mark.parametrize("block", ["swin", "convnext"])
@pytest.mark.parametrize(
    ("tile", "stem_stride", "statistics", "field_stride"),
    [(64, 8, True, 4), (128, 8, False, 8), (64, 8, True, 16), (64, 4, True, 2)],
)
@torch.inference_mode()
def test_residuals_and_fields_have_the_shapes_of_the_preset(tiny, block, tile, stem_stride, statistics, field_stride):
    preset = replace(
        tiny,
        block=block,
        tile=tile,
        stem_stride=stem_stride,
        patch_statistics=statistics,
        field_stride=field_stride,
    )
    residuals = Encoder(preset)(torch.rand(2, 3, tile, tile))
    assert tuple(tuple(r.shape[1:]) for r in residuals) == preset.residual_shapes
    assert residuals[-1].shape[1:3] == (preset.latent_side, preset.latent_side)
    assert sum(r[0].numel() for r in residuals) == preset.residual_values
    fields = Decoder(preset)(residuals[-1], residuals)
    assert fields.shape == (2, FIELDS, tile // preset.field_stride, tile // preset.field_stride)


@torch.inference_mode()
def test_nothing_sees_beyond_a_tile(make_model, scene):
    model = make_model()
    tiles = scene(64, 64, batch=3)
    residuals = model.encoder(tiles)
    fields = model.decoder(residuals[-1], residuals)
    for index in range(3):
        alone = model.encoder(tiles[index : index + 1])
        for mine, ours in zip(alone, residuals, strict=True):
            torch.testing.assert_close(mine[0], ours[index], atol=1e-5, rtol=1e-4)
        found = model.decoder(alone[-1], alone)
        torch.testing.assert_close(found[0], fields[index], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("stride", "statistics"), [(2, False), (2, True), (8, True)])
@torch.inference_mode()
def test_a_patch_is_embedded_with_all_that_the_preset_asks_for(stride, statistics):
    embedding = PatchEmbedding(stride, 5, statistics)
    width = embedding.linear.in_features
    embedding.linear = torch.nn.Identity()
    tile = torch.rand(1, 3, 2 * stride, 3 * stride)
    features = embedding(tile)
    assert features.shape == (1, 2, 3, width)
    patch = tile[0, :, stride:, stride : 2 * stride].flatten(1) * 2 - 1
    expected = [patch.flatten()]
    if statistics:
        deviation = (patch.var(1, correction=0) + 1e-6).sqrt()
        expected += [patch.amin(1), patch.amax(1), 4 * deviation, patch.min()[None]]
    torch.testing.assert_close(features[0, 1, 1], torch.cat(expected))


@torch.inference_mode()
def test_brightness_reaches_the_residuals(make_model):
    # a norm right after the embedding would take it away
    model = make_model()
    dark, bright = (model.encoder(torch.full((1, 3, 64, 64), value))[0] for value in (0.2, 0.8))
    assert (dark - bright).abs().max() > 0.1


def test_sfca_stands_where_the_preset_says_and_never_in_the_decoder(tiny):
    preset = replace(tiny, sfca=(False, True, False, True))
    assert [isinstance(stage[0], SFCA) for stage in Encoder(preset).stages] == [False, True, False, True]
    assert not any(isinstance(module, SFCA) for module in Decoder(preset).modules())


def test_the_decoder_mirrors_the_depths_of_the_encoder(tiny):
    assert [len(stage) for stage in Decoder(tiny).stages] == list(reversed(tiny.depths))


@pytest.mark.parametrize("name", sorted(BLOCKS))
@torch.inference_mode()
def test_every_block_keeps_the_shape_of_a_map(tiny, name):
    layer = BLOCKS[name](tiny, 2, 1)
    x = torch.randn(2, 6, 5, tiny.widths[2])
    assert layer(x).shape == x.shape


@torch.no_grad()
def test_merging_and_expanding_keep_neighbours_together():
    merging, expanding = PatchMerging(1, 4), PatchExpanding(4, 1)
    for module in (merging, expanding):
        module.norm = torch.nn.Identity()
        module.linear = torch.nn.Identity()
    x = torch.arange(24.0).view(1, 4, 6, 1)
    merged = merging(x)
    assert merged[0, 0, 0].tolist() == [0, 1, 6, 7]
    assert torch.equal(expanding(merged), x)


@torch.inference_mode()
def test_fields_stay_within_what_air_can_do(tiny):
    head = Head(16, 8, 4)
    torch.nn.init.normal_(head.linear.weight, std=5)
    depth, airlight, residual = head(torch.randn(2, 4, 4, 16)).chunk(3, 1)
    assert depth.abs().max() <= MAX_DEPTH
    assert airlight.min() >= 0.3 - 1e-6
    assert airlight.max() <= 1.3 + 1e-6
    assert residual.abs().max() > 0.1


@torch.inference_mode()
def test_a_fresh_head_says_that_there_is_no_haze():
    depth, airlight, residual = Head(16, 8, 2)(torch.randn(1, 3, 5, 16)).chunk(3, 1)
    assert (depth == 0).all()
    assert (residual == 0).all()
    assert airlight.shape == (1, 3, 12, 20)


@torch.inference_mode()
def test_fields_are_float32_in_lower_precision_too(make_model, scene):
    model = make_model()
    with torch.autocast("cpu", torch.bfloat16):
        residuals = model.encoder(scene(64, 64))
        assert model.decoder(residuals[-1], residuals).dtype == torch.float32


def grown(model, factor=30.0):
    """Let the layers of the encoder add up more and more, as they do in training."""
    for stage in model.encoder.stages:
        for layer in stage:
            if isinstance(layer, SwinLayer):
                layer.mlp.fc2.weight.data *= factor
    return model


@torch.inference_mode()
def test_normalised_residuals_stay_small_whatever_a_stage_adds_up(make_model, scene):
    tiles = scene(64, 64, batch=2)
    fine, *coarse = grown(make_model(residual_norms=True)).encoder(tiles)
    _, *plain = grown(make_model(residual_norms=False)).encoder(tiles)

    assert float(fine.std()) > 10
    assert max(float(x.std()) for x in coarse) < 2
    assert min(float(x.std()) for x in plain) > 10


@torch.inference_mode()
def test_what_the_bottleneck_says_is_heard_beside_normalised_residuals(make_model, scene):
    tiles = scene(64, 64, batch=2)

    def heard(model):
        residuals = model.encoder(tiles)
        latent = residuals[-1]
        other = latent + torch.randn_like(latent)
        return float((model.decoder(other, residuals) - model.decoder(latent, residuals)).abs().mean())

    assert heard(grown(make_model(residual_norms=True))) > 10 * heard(grown(make_model(residual_norms=False)))
