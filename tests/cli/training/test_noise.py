"""Fractal noise: unit variance, the same at any window, reproducible."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infdehaze_cli.training.noise import FractalNoise, spline_weights


def make(batch=2, size=256, coarsest=64.0, finest=16.0, gain=0.5, seed=0, **more):
    generator = torch.Generator().manual_seed(seed)
    return FractalNoise(batch, size, size, coarsest=coarsest, finest=finest, gain=gain, generator=generator, **more)


def grid(start, stop, step=4):
    return torch.arange(start, stop, step).float()


@pytest.mark.parametrize(
    ("gain", "finest", "stretch"), [(0.5, 8.0, (1, 1)), (0.7, 8.0, (1, 2.5)), (0.3, 64.0, (1, 0.4))]
)
def test_noise_has_unit_variance_and_no_offset(gain, finest, stretch):
    values = make(batch=64, gain=gain, finest=finest, stretch=stretch).sample(grid(0, 256), grid(0, 256))
    assert values.shape == (64, 64, 64)
    assert float(values.std()) == pytest.approx(1, abs=0.1)
    assert float(values.mean()) == pytest.approx(0, abs=0.1)


@given(row=st.integers(0, 60), col=st.integers(0, 60), height=st.integers(1, 40), width=st.integers(1, 40))
@settings(deadline=None, max_examples=40)
def test_values_do_not_depend_on_what_else_is_sampled(row, col, height, width):
    noise = make(size=400)
    whole = noise.sample(grid(0, 400), grid(0, 400))
    part = noise.sample(grid(row * 4, (row + height) * 4), grid(col * 4, (col + width) * 4))
    expected = whole[:, row : row + height, col : col + width]
    torch.testing.assert_close(part[:, : 100 - row, : 100 - col], expected, atol=1e-5, rtol=1e-4)


@given(size=st.integers(5, 30), position=st.floats(1, 27))
@settings(deadline=None)
def test_spline_weights_are_shares(size, position):
    weights = spline_weights(torch.tensor([min(position, size - 2)]), size)
    assert weights.min() >= 0
    assert float(weights.sum()) == pytest.approx(1, abs=1e-5)
    centre = float((weights * torch.arange(size)).sum())
    if position <= size - 3:
        assert centre == pytest.approx(position, abs=1e-3)


def test_noise_is_smooth_at_its_finest_wavelength():
    values = make(finest=32.0).sample(grid(0, 256, 1), grid(0, 256, 1))
    assert float((values[:, 1:] - values[:, :-1]).abs().max()) < 0.4


def test_a_stretch_makes_streaks():
    values = make(batch=32, stretch=(4.0, 1.0)).sample(grid(0, 256), grid(0, 256))
    down = (values[:, 1:] - values[:, :-1]).std()
    across = (values[:, :, 1:] - values[:, :, :-1]).std()
    assert across > 2 * down


def test_a_larger_gain_is_rougher_sample_by_sample():
    values = make(batch=2, finest=8.0, gain=torch.tensor([0.2, 0.9])).sample(grid(0, 256), grid(0, 256))
    smooth, rough = (values[:, 1:] - values[:, :-1]).flatten(1).std(1)
    assert rough > 1.5 * smooth


def test_the_seed_alone_decides():
    first, again, other = (make(seed=seed).sample(grid(0, 99), grid(0, 99)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_a_window_of_a_huge_area_is_as_lively_as_any():
    noise = make(batch=1, size=1_000_000, coarsest=20_000.0, finest=5_000.0)
    values = noise.sample(grid(900_000, 1_000_000, 500), grid(500_000, 600_000, 500))
    assert values.isfinite().all()
    assert 0.5 < float(values.std()) < 1.5


@pytest.mark.parametrize(("coarsest", "finest"), [(16, 32), (16, 0), (16, -1)])
def test_impossible_wavelengths_are_refused(coarsest, finest):
    with pytest.raises(ValueError, match="finest"):
        make(coarsest=coarsest, finest=finest)
