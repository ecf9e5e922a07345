"""The whole network on scenes in memory: any size, no trace of missing data, the identity until it is trained."""

from dataclasses import replace

import pytest
import torch
from infdehaze.network import InfDehaze
from infdehaze.sfca import SFCA
from infdehaze.tiling import halve

SIZES = [(1, 1), (1, 65), (3, 700), (700, 3), (64, 64), (65, 64), (112, 113), (333, 217)]


def largest(first, second):
    return float((first - second).abs().max())


@pytest.mark.parametrize(("height", "width"), SIZES)
@torch.inference_mode()
def test_any_width_and_height_come_out_as_they_went_in(make_model, scene, height, width):
    hazy = scene(height, width, batch=2)
    restored = make_model()(hazy)
    assert restored.image_B3HW.shape == hazy.shape
    assert restored.fields_B9HW.shape == (2, 9, height, width)
    assert restored.image_B3HW.isfinite().all()
    assert restored.balance == 0
    assert largest(restored.image_B3HW, hazy) > 1e-2


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 200), (150, 131)])
@torch.no_grad()
def test_a_fresh_network_is_the_identity_bit_for_bit(make_model, height, width, training):
    model = make_model(lively=False).train(training)
    hazy = torch.randn(2, 3, height, width) * 2
    assert torch.equal(model(hazy).image_B3HW, hazy)
    valid = torch.rand(2, height, width) < 0.5
    assert torch.equal(model(hazy, valid_BHW=valid).image_B3HW, hazy)


def test_a_fresh_network_starts_with_an_sfca_that_adds_nothing(make_model):
    restores = [m.restore for m in make_model(lively=False).modules() if isinstance(m, SFCA)]
    assert len(restores) == 4
    assert all(bool((p == 0).all()) for restore in restores for p in restore.parameters())


@torch.inference_mode()
def test_the_picture_follows_from_the_fields(make_model, scene):
    hazy = scene(100, 90)
    restored = make_model()(hazy)
    depth, airlight, residual = restored.fields_B9HW.chunk(3, 1)
    expected = airlight + (hazy - airlight) * depth.exp() + residual
    torch.testing.assert_close(restored.image_B3HW, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("block_tokens", [16, 1000])
@torch.no_grad()
def test_evaluation_equals_training(make_model, scene, block_tokens, masked):
    model = make_model(block_tokens=block_tokens)
    hazy = scene(330, 290)
    valid = None
    if masked:
        valid = torch.ones(1, 330, 290, dtype=torch.bool)
        valid[:, :140, :150] = False
    evaluated = model(hazy, valid_BHW=valid)
    trained = model.train()(hazy, valid_BHW=valid)
    assert largest(evaluated.image_B3HW, trained.image_B3HW) < 1e-4
    assert largest(evaluated.fields_B9HW, trained.fields_B9HW) < 1e-4
    assert trained.balance > 0


@torch.inference_mode()
def test_a_batch_of_scenes_equals_the_scenes_one_by_one(make_model, scene):
    model = make_model()
    hazy = scene(330, 250, batch=3)
    valid = torch.ones(3, 330, 250, dtype=torch.bool)
    valid[1, :200] = False
    valid[2, 100:, 30:] = False
    for mask in (None, valid):
        together = model(hazy, valid_BHW=mask).image_B3HW
        for index in range(3):
            one = slice(index, index + 1)
            alone = model(hazy[one], valid_BHW=None if mask is None else mask[one]).image_B3HW
            assert largest(together[one], alone) < 1e-5


@pytest.mark.parametrize("rubbish", [0.0, 1e4, float("nan"), float("inf")])
@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_missing_pixels_influence_no_valid_one(make_model, scene, rubbish, training):
    clean, dirty = (make_model().train(training) for _ in range(2))
    hazy = scene(220, 190)
    valid = torch.rand(1, 220, 190) < 0.8
    valid[:, :130, :120] = False
    valid[:, 170:] = False
    spoilt = torch.where(valid[:, None], hazy, rubbish)
    here = valid[:, None].expand_as(hazy)
    assert torch.equal(clean(hazy, valid_BHW=valid).image_B3HW[here], dirty(spoilt, valid_BHW=valid).image_B3HW[here])
    # nor what norms learn of the mean
    learned = dirty.state_dict()
    assert [key for key, value in clean.state_dict().items() if not torch.equal(value, learned[key])] == []


@torch.inference_mode()
def test_tiles_without_data_are_left_out_of_attention(make_model, scene):
    model = make_model(overlap=0)
    hazy = scene(192, 256)
    valid = torch.ones(1, 192, 256, dtype=torch.bool)
    valid[:, :, 128:] = False
    whole = model(hazy, valid_BHW=valid)
    cut = model(hazy[..., :128])
    # the last pixels before the border are enlarged from a cell beyond it
    assert largest(whole.image_B3HW[..., :126], cut.image_B3HW[..., :126]) < 1e-5
    assert (whole.fields_B9HW[..., 132:] == 0).all()
    assert largest(whole.image_B3HW[..., :126], model(hazy).image_B3HW[..., :126]) > 1e-4


@torch.inference_mode()
def test_a_scene_without_any_data_comes_out_as_it_went_in(make_model, scene):
    hazy = scene(100, 140)
    restored = make_model()(hazy, valid_BHW=torch.zeros(1, 100, 140, dtype=torch.bool))
    assert torch.equal(restored.image_B3HW, hazy)
    assert (restored.fields_B9HW == 0).all()


@torch.inference_mode()
def test_a_mask_that_leaves_nothing_out_changes_nothing(make_model, scene):
    model, hazy = make_model(), scene(150, 170)
    masked = model(hazy, valid_BHW=torch.ones(1, 150, 170, dtype=torch.bool))
    assert largest(masked.image_B3HW, model(hazy).image_B3HW) < 1e-5


@torch.inference_mode()
def test_what_stands_in_a_scene_moves_with_it_by_whole_tiles(make_model):
    # one layer of experts sees two tiles around; attention over all tokens knows no positions
    model = make_model(bottleneck_depth=1, block_tokens=1000, overlap=0)
    ground = torch.full((1, 3, 8 * 64, 8 * 64), 0.4)
    thing = torch.rand(3, 64, 64)
    depths = []
    for row, col in ((3, 3), (4, 3)):
        hazy = ground.clone()
        hazy[0, :, row * 64 : row * 64 + 64, col * 64 : col * 64 + 64] = thing
        fields = model(hazy).fields_B9HW
        # the outermost pixels of a tile are enlarged from cells of the next one
        rows, cols = (slice((i - 1) * 64 + 2, (i + 2) * 64 - 2) for i in (row, col))
        depths.append(fields[0, :, rows, cols])
    assert largest(depths[0], depths[1]) < 1e-5
    assert float(depths[0].std()) > 1e-3


@torch.inference_mode()
def test_a_changed_tile_reaches_the_far_end_of_the_scene(make_model, scene):
    model = make_model(block_tokens=1000)
    hazy = scene(64, 700)
    changed = hazy.clone()
    changed[..., :64] = 1 - changed[..., :64]
    assert largest(model(hazy).image_B3HW[..., -40:], model(changed).image_B3HW[..., -40:]) > 1e-6


@pytest.mark.parametrize("overlap", [0, 8, 32])
@torch.inference_mode()
def test_the_overlap_of_the_call_counts(make_model, scene, overlap):
    hazy = scene(130, 200)
    named, default = make_model()(hazy, overlap=overlap), make_model(overlap=overlap)(hazy)
    assert torch.equal(named.image_B3HW, default.image_B3HW)


def test_the_overlap_of_the_call_must_suit_the_fields(make_model, scene):
    with pytest.raises(ValueError, match="overlap"):
        make_model()(scene(64, 120), overlap=6)


def test_every_parameter_learns(make_model, scene):
    model = make_model().train()
    restored = model(scene(150, 140))
    (restored.image_B3HW.square().mean() + restored.fields_B9HW.square().mean() + restored.balance).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_the_same_seed_makes_the_same_network(make_model):
    first, second, other = (make_model(lively=False, seed=seed).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["decoder.expands.0.linear.weight"], other["decoder.expands.0.linear.weight"])


def test_biases_of_linear_layers_start_at_zero(make_model):
    biases = [m.bias for m in make_model(lively=False).modules() if isinstance(m, torch.nn.Linear)]
    assert all(bool((bias == 0).all()) for bias in biases if bias is not None)


def test_thin_haze_is_learned_from_though_it_is_left(tiny, scene):
    model = InfDehaze(replace(tiny, thin_haze=(0.1, 0.3), smoothing=8.0))
    hazy = scene(64, 64)

    model.train()(hazy).image_B3HW.sum().backward()

    # depth, the first third of the head
    assert model.decoder.head.linear.bias.grad[: len(model.decoder.head.linear.bias) // 3].abs().max() > 0
    assert torch.equal(model.eval()(hazy).image_B3HW, hazy)


@torch.inference_mode()
def test_a_look_at_half_the_size_has_its_share_of_the_fields(make_model, scene):
    fine, both = make_model(), make_model(coarse_share=0.3)
    hazy = scene(256, 320)
    half, _ = halve(hazy, torch.ones(1, 256, 320, dtype=torch.bool))
    seen, coarse = fine(hazy).fields_B9HW, fine(half).fields_B9HW

    found = both(hazy).fields_B9HW

    # fields enlarged twice by two differ from those enlarged at once only between the centres of cells
    expected = 0.7 * seen + 0.3 * torch.nn.functional.interpolate(coarse, scale_factor=2, mode="bilinear")
    change = largest(found, seen)
    assert change > 0.01
    assert largest(found, expected) < 0.3 * change
    assert torch.equal(both(hazy, coarse=False).fields_B9HW, seen)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (95, 500)])
@torch.inference_mode()
def test_a_scene_of_hardly_more_than_a_tile_is_looked_at_once(make_model, scene, height, width):
    hazy = scene(height, width)
    assert torch.equal(make_model(coarse_share=0.3)(hazy).image_B3HW, make_model()(hazy).image_B3HW)


@torch.no_grad()
def test_a_network_in_training_looks_once(make_model, scene):
    hazy = scene(200, 200)
    models = make_model(coarse_share=0.3).train(), make_model().train()
    assert torch.equal(*(model(hazy).image_B3HW for model in models))


@torch.inference_mode()
def test_missing_data_leaves_no_trace_in_the_look_at_half_the_size(make_model, scene):
    model, hazy = make_model(coarse_share=0.5), scene(200, 230)
    valid = torch.ones(1, 200, 230, dtype=torch.bool)
    valid[:, 31:120, 17:140] = False
    other = torch.where(valid[:, None], hazy, torch.nan)
    first, second = (model(x, valid_BHW=valid).image_B3HW for x in (hazy, other))
    assert torch.equal(first[:, :, valid[0]], second[:, :, valid[0]])
