"""The bottleneck mixes a whole scene, and leaves out tokens without data."""

import pytest
import torch
from infdehaze.bottleneck import Bottleneck


def make(block=16, depth=2, seed=0):
    torch.manual_seed(seed)
    module = Bottleneck(16, 4, depth, block, 8, neighbours=False, expansion=2)
    for layer in module.layers:
        # as after training: the norm of nothing is not nothing
        torch.nn.init.normal_(layer.norm1.bias)
        torch.nn.init.normal_(layer.norm2.bias)
    return module.eval()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 37), (9, 9), (17, 5)])
@torch.inference_mode()
def test_any_grid_keeps_its_shape(height, width):
    y, balance = make().with_balance(torch.randn(2, height, width, 16))
    assert y.shape == (2, height, width, 16)
    assert balance == 0


@pytest.mark.parametrize("masked", [False, True])
def test_evaluation_equals_training(masked):
    module, x = make(), torch.randn(2, 9, 10, 16)
    valid = torch.rand(2, 9, 10) < 0.7 if masked else None
    with torch.no_grad():
        torch.testing.assert_close(module(x, valid), module.train()(x, valid), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_training_reports_the_mean_balance_of_its_layers():
    module = make(depth=3).train()
    for layer in module.layers:
        layer.moe.gate.weight.zero_()
        layer.moe.gate.bias.zero_()
    assert float(module.with_balance(torch.randn(1, 6, 6, 16))[1]) == pytest.approx(1)


@torch.inference_mode()
def test_a_token_reaches_the_far_end_of_the_scene():
    module, x = make(block=1000, depth=1), torch.randn(1, 1, 60, 16)
    changed = x.clone()
    changed[0, 0, 0, 0] += 3
    assert (module(x) - module(changed))[0, 0, -1].abs().max() > 1e-6


@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_tokens_without_data_influence_nothing_and_come_out_as_zeros(training):
    module, x = make().train(training), torch.randn(2, 8, 9, 16)
    valid = torch.ones(2, 8, 9, dtype=torch.bool)
    valid[0, :3, :5] = valid[1, 7:] = valid[1, 0, 0] = False
    changed = torch.where(valid[..., None], x, 9 * torch.randn(2, 8, 9, 16))
    y = module(x, valid)
    assert torch.equal(y, module(changed, valid))
    assert (y[~valid] == 0).all()


@torch.inference_mode()
def test_attention_among_tokens_with_data_is_that_of_the_cut_scene():
    module, x = make(), torch.randn(1, 8, 8, 16)
    valid = torch.zeros(1, 8, 8, dtype=torch.bool)
    valid[:, :, :5] = True
    # beyond the edge of a scene there are zeros, as there are beyond the data
    torch.testing.assert_close(module(x, valid)[:, :, :5], module(x[:, :, :5]), atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_a_mask_that_leaves_nothing_out_changes_nothing():
    module, x = make(), torch.randn(2, 8, 9, 16)
    valid = torch.ones(2, 8, 9, dtype=torch.bool)
    torch.testing.assert_close(module(x, valid), module(x), atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_a_scene_without_any_data_is_zeros():
    valid = torch.zeros(1, 4, 4, dtype=torch.bool)
    assert (make()(torch.randn(1, 4, 4, 16), valid) == 0).all()


@torch.inference_mode()
def test_scenes_of_a_batch_do_not_see_each_other():
    module, x = make(), torch.randn(3, 7, 9, 16)
    torch.testing.assert_close(module(x), torch.cat([module(one[None]) for one in x]), atol=1e-5, rtol=1e-4)
