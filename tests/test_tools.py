"""The scripts in tools/ that change weights: what they keep, and what they begin afresh."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module", autouse=True)
def tools():
    sys.path.insert(0, str(ROOT / "tools"))
    yield
    sys.path.remove(str(ROOT / "tools"))


@pytest.mark.parametrize("statistics", [True, False])
def test_renewed_weights_say_what_the_old_ones_said_where_their_coarse_stages_were_silent(
    make_model, scene, statistics
):
    import renew

    trained = make_model(residual_norms=False, centred_norms=(False,) * 4, tile_statistics=statistics)
    with torch.no_grad():
        # silent: the same whatever comes from below
        trained.decoder.expands[-1].linear.weight.zero_()
        trained.decoder.expands[-1].linear.bias.normal_()
    tiles = scene(128, 64)[0][None].view(1, 3, 2, 64, 64).transpose(1, 2).flatten(0, 1)
    with torch.inference_mode():
        before = renew.decode(trained, tiles)
        model = renew.renew(trained, tiles)
        after = renew.decode(model, tiles)
    assert before.std() > 0.01
    assert model.preset.residual_norms
    assert not torch.equal(model.bottleneck.layers[0].moe.gate.weight, trained.bottleneck.layers[0].moe.gate.weight)
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_blended_weights_lie_between_start_and_end(make_model, share):
    from blend import blend

    start, end = make_model(seed=0), make_model(seed=1)
    blended = blend(start, end, share).state_dict()
    first, last = start.state_dict(), end.state_dict()
    assert blended.keys() == first.keys()
    for name, value in blended.items():
        torch.testing.assert_close(value, (1 - share) * first[name] + share * last[name])


def test_weights_of_different_networks_are_not_blended(make_model, tmp_path, monkeypatch, capsys):
    import blend
    from infdehaze.weights import save_weights

    save_weights(tmp_path / "a.safetensors", make_model(), {})
    save_weights(tmp_path / "b.safetensors", make_model(residual_norms=False), {})
    words = ["blend", str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors"), "-o", str(tmp_path / "c")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit):
        blend.main()
    assert "different networks" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_layers_that_were_fitted_to_whitened_statistics_take_them_as_they_are():
    from fit_statistics import fold, whitening

    torch.manual_seed(0)
    features = torch.randn(500, 1, 1, 6) @ torch.randn(6, 6) + 3
    mean, product = whitening(features)
    white = (features - mean) @ product
    layer = torch.nn.Linear(6, 4)
    with torch.inference_mode():
        before = layer(white)
        fold(layer, mean, product)
        after = layer(features)
    torch.testing.assert_close(torch.cov(white.flatten(0, -2).T), torch.eye(6), atol=0.01, rtol=0)
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("statistics", [True, False])
def test_new_statistics_have_their_share_of_the_levels_and_none_of_the_residual(make_model, scene, statistics):
    from fit_statistics import put_in
    from infdehaze.presets import FIELDS
    from infdehaze.statistics import TileStatistics

    trained = make_model(tile_statistics=statistics)
    torch.manual_seed(1)
    module = TileStatistics(trained.preset.latent_side, trained.preset.widths[-1], FIELDS, hidden=24)
    torch.nn.init.normal_(trained.decoder.head.linear.weight, std=0.1)
    if trained.encoder.statistics is not None:
        torch.nn.init.normal_(trained.encoder.statistics.mlp[-1].weight, std=0.1)
    tiles = scene(64, 64)[0][None]
    shares = torch.tensor([0.25] * 6 + [0.0] * 3)
    with torch.inference_mode():
        old = torch.zeros(1, 1) if trained.encoder.statistics is None else trained.encoder.statistics(tiles)[0]
        new, _ = module(tiles)
        model = put_in(trained, module.mlp, 0.25)
        assert model.encoder.statistics is not None
        said, _ = model.encoder.statistics(tiles)
    torch.testing.assert_close(said, (1 - shares) * old + shares * new, atol=1e-5, rtol=1e-5)
    rows = trained.decoder.head.factor**2
    kept = (1 - shares).repeat_interleave(rows)[:, None] * trained.decoder.head.linear.weight
    torch.testing.assert_close(model.decoder.head.linear.weight, kept)
    assert model.preset.statistics_width == 24 + (trained.preset.statistics_width if statistics else 0)


def ground_of(scene, count=12):
    """Statistics of made-up pictures of 128 px, with even haze."""
    from hazy_statistics import Ground
    from infdehaze.statistics import patch_statistics

    pictures = torch.cat([scene(128, 128, seed) for seed in range(count)])
    depth = torch.rand(count, 3, 1, 1).expand(-1, -1, 16, 16).contiguous()
    return Ground(patch_statistics(pictures), depth, 0.6 + 0.3 * torch.rand(count, 3))


def test_haze_over_statistics_is_the_statistics_of_haze(scene):
    from hazy_statistics import lay_haze
    from infdehaze.statistics import patch_statistics

    clear, depth = scene(64, 96), torch.tensor([0.4, 0.5, 0.7]).view(1, 3, 1, 1)
    airlight = torch.tensor([0.7, 0.75, 0.8]).view(1, 3, 1, 1)
    hazy = clear * torch.exp(-depth) - airlight * torch.expm1(-depth)

    found = lay_haze(patch_statistics(clear), depth.expand(1, 3, 8, 12), airlight, torch.zeros(1, 1, 1, 1))

    torch.testing.assert_close(found, patch_statistics(hazy), atol=2e-3, rtol=0)


def test_a_fitted_bottleneck_corrects_scenes_and_leaves_single_tiles(make_model, scene):
    from fit_bottleneck import SCENES, Corrected, Drawer, begin, fresh

    trained = make_model(tile_statistics=True, smoothing=8.0, airlight_smoothing=16.0)
    with torch.no_grad():
        # the coarsest stage is silent, as in the shipped weights: latents tell something else now
        for parameter in trained.decoder.expands[0].linear.parameters():
            parameter.zero_()
    ground, written = ground_of(scene), []
    begin(fresh(trained, 1), ground, 1, own=0, share=1.0, go_on=False).go(0.03, 1e-3, written.append)
    model = written[-1]

    kept = {name: value for name, value in trained.state_dict().items() if not name.startswith("bottleneck.")}
    assert all(torch.equal(model.state_dict()[name], value) for name, value in kept.items())
    assert model.preset.bottleneck_depth == 1
    with torch.inference_mode():
        picture = scene(64, 64)
        torch.testing.assert_close(model(picture).fields_B9HW, trained(picture).fields_B9HW, atol=1e-5, rtol=0)
        picture = scene(128, 128)
        assert (model(picture).fields_B9HW - trained(picture).fields_B9HW)[:, :6].abs().max() > 1e-4
        # what was fitted is what the network does with the same statistics
        module = model.encoder.statistics
        drawn = Drawer(ground, module, 64, 0, 12, seed=3).scenes(*SCENES[0])
        part = Corrected(model, drawn)
        part.mean, part.scale = torch.zeros_like(part.mean), torch.ones_like(part.scale)
        alone, corrected, _ = part.eval()(drawn.features_BhwF)
        assert (corrected - alone)[..., :6].abs().max() > 1e-4


def test_a_fit_of_the_bottleneck_goes_on_where_one_ended(make_model, scene):
    from fit_bottleneck import begin

    trained = make_model(tile_statistics=True, bottleneck_corrects=True).requires_grad_(False)
    correct = trained.decoder.head.correct[1]
    torch.nn.init.normal_(correct.weight)
    picture = scene(128, 128)
    with torch.inference_mode():
        before = trained(picture).fields_B9HW

    run = begin(trained, ground_of(scene), 1, own=0, share=0.5, go_on=True)
    with torch.inference_mode():
        within = run.model(picture).fields_B9HW
    after = run.average().finished()

    assert (within - before).abs().max() > 1e-3
    with torch.inference_mode():
        torch.testing.assert_close(after(picture).fields_B9HW, before, atol=1e-4, rtol=0)


def test_copies_of_maps_are_mirrored_at_their_edges():
    from hazy_statistics import mirrored

    maps = torch.arange(6.0).view(1, 1, 2, 3)
    for copies in (2, 4):
        beyond = ((0, 0), (0, 0), (0, 2 * copies - 2), (0, 3 * copies - 3))
        assert np.array_equal(mirrored(maps, copies), np.pad(maps, beyond, mode="symmetric"))
    assert torch.equal(mirrored(maps, 1), maps)


def test_statistics_that_are_fitted_anew_keep_a_bottleneck_that_corrects(make_model):
    import fit_statistics
    from infdehaze.statistics import TileStatistics

    trained = make_model(tile_statistics=True, bottleneck_corrects=True)
    model = fit_statistics.put_in(trained, TileStatistics(2, 16, 9, hidden=24).mlp, share=0.5)

    width = trained.preset.statistics_width
    tell = model.encoder.statistics.tell.weight
    assert torch.equal(tell[:, :width], trained.encoder.statistics.tell.weight)
    assert not tell[:, width:].any()
