"""Layer norms that take the mean away first: constants of any size change nothing."""

from dataclasses import replace

import pytest
import torch
from infdehaze.network import InfDehaze
from infdehaze.norm import CentredNorm, centre_norms
from torch import nn


def settled(inputs, steps=400, rate=0.1):
    """Return a norm that has seen the inputs in training."""
    norm = CentredNorm(inputs.shape[-1], rate=rate).train()
    for _ in range(steps):
        norm(inputs)
    return norm.eval()


@torch.inference_mode()
def test_around_zero_it_is_a_layer_norm():
    x = torch.randn(2, 5, 7, 12)
    plain, norm = nn.LayerNorm(12), CentredNorm(12)
    for layer in (plain, norm):
        layer.weight.copy_(torch.linspace(0.5, 2, 12))
        layer.bias.copy_(torch.linspace(-1, 1, 12))
    assert torch.equal(norm.eval()(x), plain(x))


@pytest.mark.parametrize("size", [1.0, 100.0])
def test_what_varies_comes_through_whatever_the_constants(size):
    torch.manual_seed(0)
    x, constants = torch.randn(64, 12), size * torch.randn(12)

    with torch.no_grad():
        expected, found = settled(x)(x), settled(x + constants)(x + constants)

    assert (expected - found).abs().max() < 1e-3
    # which a plain norm does not do
    assert (nn.LayerNorm(12)(x) - nn.LayerNorm(12)(x + constants)).abs().max() > 0.5


@torch.no_grad()
def test_the_centre_follows_batches_where_it_is_trained_alone():
    norm, x = CentredNorm(4, rate=0.25), torch.randn(3, 5, 4) + 8

    norm.eval()(x)
    assert torch.equal(norm.centre, torch.zeros(4))

    norm.requires_grad_(False).train()(x)
    assert torch.equal(norm.centre, torch.zeros(4))

    norm.requires_grad_(True)(x)
    torch.testing.assert_close(norm.centre, 0.25 * x.mean((0, 1)))


def test_no_gradient_reaches_the_centre():
    norm, x = CentredNorm(4).train(), torch.randn(3, 4, requires_grad=True)

    norm(x).square().sum().backward()

    assert x.grad is not None
    assert not norm.centre.requires_grad
    assert {name for name, _ in norm.named_parameters()} == {"weight", "bias"}


def test_every_norm_inside_is_replaced_once():
    module = nn.Sequential(nn.LayerNorm(4), nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)))

    centre_norms(module)
    first = module[0]
    centre_norms(module)

    assert isinstance(module[1][1], CentredNorm)
    assert module[0] is first


def centred(model):
    """Name the norms inside the stages that are centred; those of residuals always are."""
    norms = {name for name, module in model.named_modules() if isinstance(module, CentredNorm)}
    return {name for name in norms if not name.startswith("encoder.norms.")}


def test_a_preset_says_which_stages_have_them(tiny):
    last = centred(InfDehaze(replace(tiny, centred_norms=(False, False, False, True))))
    first = centred(InfDehaze(replace(tiny, centred_norms=(True, False, False, False))))
    every = centred(InfDehaze(replace(tiny, centred_norms=(True, True, True, True))))

    assert {name.rsplit(".", 1)[0] for name in last if "norm1" not in name and "norm2" not in name} == {
        "encoder.merges.2",
        "decoder.expands.0",
    }
    assert all(name.startswith(("encoder.stages.0.", "decoder.stages.3.")) for name in first)
    assert any(name.startswith("bottleneck.") for name in last)
    norms = {name for name, module in InfDehaze(tiny).named_modules() if isinstance(module, nn.LayerNorm)}
    assert norms - every == {"decoder.head.norm", *(f"encoder.norms.{stage}" for stage in range(3))}
    assert centred(InfDehaze(replace(tiny, centred_norms=(False,) * 4))) == set()
