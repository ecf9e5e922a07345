"""Synthetic haze: the scattering model, the same haze whatever the window, what each style promises."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infdehaze_cli.errors import UsageError
from infdehaze_cli.training.haze import (
    STYLES,
    TRAINING_STYLES,
    HazeField,
    HazeStyle,
    add_noise,
    draw_training_styles,
    named_style,
)

CLEAR = HazeStyle(base=(0, 0), extra=(0, 0), coverage=(1, 1))
ALL = [*STYLES.values(), *(style for _, style in TRAINING_STYLES)]


def make(styles, height=128, width=160, seed=0, feature=None):
    return HazeField(list(styles), height, width, torch.Generator().manual_seed(seed), feature)


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    seed=st.integers(0, 20),
    name=st.sampled_from(sorted(STYLES)),
    data=st.data(),
)
@settings(deadline=None, max_examples=60)
def test_windows_agree_wherever_they_overlap(height, width, seed, name, data):
    field = make([STYLES[name], CLEAR], height, width, seed, feature=data.draw(st.sampled_from([None, 20.0, 500.0])))
    row = 4 * data.draw(st.integers(0, (height - 1) // 4))
    col = 4 * data.draw(st.integers(0, (width - 1) // 4))
    rows = data.draw(st.integers(1, height - row))
    cols = data.draw(st.integers(1, width - col))
    whole, part = field.window(0, 0, height, width), field.window(row, col, rows, cols)
    assert part.depth_B3HW.shape == (2, 3, rows, cols)
    expected = whole.depth_B3HW[:, :, row : row + rows, col : col + cols]
    torch.testing.assert_close(part.depth_B3HW, expected, atol=2e-5, rtol=1e-4)
    assert torch.equal(part.airlight_B311, whole.airlight_B311)


@pytest.mark.parametrize(("row", "col"), [(1, 0), (0, 2), (6, 4)])
def test_windows_off_the_coarse_cells_are_refused(row, col):
    with pytest.raises(ValueError, match="multiples of 4"):
        make([CLEAR]).window(row, col, 8, 8)


@pytest.mark.parametrize("style", ALL)
def test_transmission_is_a_share_and_airlight_is_light(style):
    haze = make([style] * 8).window(0, 0, 128, 160)
    assert haze.depth_B3HW.min() >= 0
    assert haze.transmission_B3HW.min() > 0
    assert haze.transmission_B3HW.max() <= 1
    assert haze.airlight_B311.min() >= 0.3
    assert haze.airlight_B311.max() <= 1


def test_a_clear_style_leaves_pictures_bit_for_bit():
    haze = make([CLEAR] * 3).window(0, 0, 128, 160)
    picture = torch.rand(3, 3, 128, 160)
    assert (haze.depth_B3HW == 0).all()
    assert torch.equal(haze.over(picture), picture)


def test_haze_follows_the_scattering_model():
    haze = make([STYLES["dense"]] * 2).window(0, 0, 128, 160)
    picture = torch.rand(2, 3, 128, 160)
    passed = torch.exp(-haze.depth_B3HW)
    expected = picture * passed + haze.airlight_B311 * (1 - passed)
    torch.testing.assert_close(haze.over(picture), expected)
    restored = haze.airlight_B311 + (expected - haze.airlight_B311) * haze.depth_B3HW.exp()
    torch.testing.assert_close(restored, picture, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 1.6])
def test_depth_follows_the_wavelength_law(gamma):
    style = HazeStyle(base=(0.5, 1.0), extra=(0.1, 0.5), coverage=(1.0, 1.0), gamma=(gamma, gamma))
    red, green, blue = make([style] * 4).window(0, 0, 128, 160).depth_B3HW.unbind(1)
    torch.testing.assert_close(red / green, torch.full_like(red, (0.665 / 0.560) ** -gamma))
    torch.testing.assert_close(blue / green, torch.full_like(blue, (0.490 / 0.560) ** -gamma))
    if gamma:
        assert (blue > green).all()
        assert (green > red).all()


@pytest.mark.parametrize("style", ALL)
def test_blue_is_never_hazed_less_than_red(style):
    red, _, blue = make([style] * 4).window(0, 0, 128, 160).depth_B3HW.unbind(1)
    assert (blue >= red).all()


@pytest.mark.parametrize("coverage", [0.25, 0.5, 0.75])
def test_patches_cover_about_the_share_that_was_asked_for(coverage):
    style = HazeStyle(base=(0, 0), extra=(1, 1), coverage=(coverage, coverage))
    depth = make([style] * 48, 256, 256, feature=64.0).window(0, 0, 256, 256).depth_B3HW
    assert float((depth > 1e-6).float().mean()) == pytest.approx(coverage, abs=0.1)


def test_a_full_veil_leaves_hardly_any_gap():
    style = HazeStyle(base=(0, 0), extra=(1, 1), coverage=(1, 1))
    depth = make([style] * 16, 256, 256, feature=64.0).window(0, 0, 256, 256).depth_B3HW
    assert float((depth > 0).float().mean()) > 0.95


def test_depth_stays_within_base_and_extra():
    style = HazeStyle(base=(0.3, 0.3), extra=(0.8, 0.8), coverage=(0.5, 0.5), gamma=(0, 0))
    depth = make([style] * 16, feature=32.0).window(0, 0, 128, 160).depth_B3HW
    assert float(depth.min()) == pytest.approx(0.3)
    assert 0.7 < float(depth.max()) <= 1.1 + 1e-5


def test_airlight_has_a_small_cast_only():
    airlight = make([STYLES["veil"]] * 200, 8, 8).window(0, 0, 8, 8).airlight_B311
    assert (airlight.amax(1) / airlight.amin(1) - 1).mean() < 0.1
    assert airlight.std() > 0.05


def test_the_seed_alone_decides():
    first, again, other = (make([STYLES["patches"]] * 2, seed=seed).window(0, 0, 64, 64) for seed in (1, 1, 2))
    assert torch.equal(first.depth_B3HW, again.depth_B3HW)
    assert torch.equal(first.airlight_B311, again.airlight_B311)
    assert not torch.equal(first.depth_B3HW, other.depth_B3HW)


def test_samples_of_a_batch_differ():
    depth = make([STYLES["patches"]] * 2).window(0, 0, 64, 64).depth_B3HW
    assert not torch.allclose(depth[0], depth[1])


def test_the_far_corner_of_a_huge_scene_is_drawn_without_the_rest():
    field = make([STYLES["patches"]], 60_000, 80_000)
    depth = field.window(59_900, 79_800, 100, 200).depth_B3HW
    assert depth.shape == (1, 3, 100, 200)
    assert depth.isfinite().all()


def test_training_mixes_clear_and_hazy_samples_by_their_shares():
    styles = draw_training_styles(2000, torch.Generator().manual_seed(0))
    assert sum(share for share, _ in TRAINING_STYLES) == pytest.approx(1)
    for share, style in TRAINING_STYLES:
        assert sum(s is style for s in styles) / 2000 == pytest.approx(share, abs=0.03)
    assert sum(style == CLEAR for style in styles) > 0


def test_styles_go_by_their_names():
    assert named_style("veil") is STYLES["veil"]
    with pytest.raises(UsageError, match=r"no haze style 'fog'. Use one of veil, patches, dense\.") as caught:
        named_style("fog")
    assert caught.value.exit_code == 2


def test_each_sample_gets_noise_of_its_own_strength():
    picture = torch.full((64, 3, 40, 40), 0.5)
    generator = torch.Generator().manual_seed(0)
    noise = (add_noise(picture, generator, 0.02) - picture).flatten(1)
    levels = noise.std(1)
    assert levels.max() < 0.0215
    assert levels.min() < 0.004
    assert float(levels.mean()) == pytest.approx(0.01, abs=0.003)
    assert torch.equal(add_noise(picture, generator, 0.0), picture)
