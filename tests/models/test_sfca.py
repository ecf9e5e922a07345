"""SFCA: three bands that add up, apart from each other in the spectrum; the identity until it is trained."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from infdehaze.sfca import SFCA, band_limits, split_bands

SIDES = st.integers(1, 70)


def lively(dim=6, reduced=4, seed=0):
    torch.manual_seed(seed)
    module = SFCA(dim, reduced)
    torch.nn.init.normal_(module.restore.weight)
    return module


@given(height=SIDES, width=SIDES, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_three_bands_add_up_to_the_map(height, width, seed):
    x = torch.randn(2, height, width, 3, generator=torch.Generator().manual_seed(seed))
    low, middle, high = split_bands(x)
    assert low.shape == middle.shape == high.shape == x.shape
    torch.testing.assert_close(low + middle + high, x)


@given(height=SIDES, width=SIDES)
@settings(deadline=None, max_examples=50)
def test_a_constant_lies_in_the_low_band_alone(height, width):
    x = torch.full((1, height, width, 2), 0.7)
    low, middle, high = split_bands(x)
    torch.testing.assert_close(low, x)
    torch.testing.assert_close(middle, torch.zeros_like(x), atol=1e-5, rtol=0)
    torch.testing.assert_close(high, torch.zeros_like(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (64, 64), (128, 70), (9, 33), (1, 20)])
def test_bands_share_no_frequency(height, width):
    x = torch.randn(1, height, width, 1)
    power = [torch.fft.fft2(band.double(), dim=(1, 2)).abs().squeeze() > 1e-3 for band in split_bands(x)]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert not (power[first] & power[second]).any()
    assert (power[0] | power[1] | power[2]).float().mean() > 0.99


@pytest.mark.parametrize(("side", "limits"), [(8, (0, 1)), (64, (1, 2)), (128, (2, 4)), (256, (4, 8))])
def test_squares_have_a_thirty_second_and_a_sixteenth_of_the_side(side, limits):
    assert band_limits(side) == limits


@pytest.mark.parametrize(("harmonic", "band"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (60, 2)])
def test_a_wave_lies_in_the_band_of_its_frequency(harmonic, band):
    wave = torch.cos(2 * torch.pi * harmonic * torch.arange(128) / 128)
    x = wave[None, :, None, None].expand(1, 128, 128, 1)
    found = [float(part.abs().max()) for part in split_bands(x)]
    assert found[band] > 0.99
    assert sum(found) - found[band] < 1e-4


@given(height=st.integers(1, 20), width=st.integers(1, 20))
@settings(deadline=None, max_examples=30)
def test_a_fresh_module_is_the_identity_on_maps_of_any_size(height, width):
    x = torch.randn(2, height, width, 6)
    with torch.no_grad():
        assert torch.equal(SFCA(6, 4)(x), x)


@torch.no_grad()
def test_it_equals_attention_written_out_band_by_band():
    module, x = lively(), torch.randn(2, 7, 5, 6)
    z = module.reduce(x)
    queries = module.query(z).view(2, 35, 3, 4)
    attended = []
    for band, part in enumerate(split_bands(z)):
        key, value = module.key_value[band](part).view(2, 35, 8).chunk(2, -1)
        weight = (queries[:, :, band] @ key.transpose(1, 2) / 4**0.5).softmax(-1)
        attended.append((weight @ value).view(2, 7, 5, 4))
    logits = torch.stack([module.weight_net(a.permute(0, 3, 1, 2)).flatten() for a in attended])
    fusion = logits.softmax(0)
    torch.testing.assert_close(fusion.sum(0), torch.ones(2))
    fused = sum(fusion[j].view(2, 1, 1, 1) * attended[j] for j in range(3))
    torch.testing.assert_close(module(x), x + module.restore(fused), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_tiles_of_a_batch_do_not_see_each_other():
    module, x = lively(), torch.randn(3, 8, 8, 6)
    apart = torch.cat([module(one[None]) for one in x])
    torch.testing.assert_close(module(x), apart)


def test_all_parameters_learn_once_the_projection_back_has_left_zero():
    module = lively()
    module(torch.randn(1, 8, 8, 6)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in module.parameters())
