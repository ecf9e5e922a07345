"""A landscape must not depend on how it is read, and must hold what a real one holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from infdehaze_cli.geometry import Window
from infdehaze_cli.sample import Landscape, write_landscape
from infdehaze_cli.sample import landscape as module
from infdehaze_cli.sample.noise import Frame, spline_weights, unit

HEIGHT, WIDTH = 600, 700
SCENE = Landscape(height=HEIGHT, width=WIDTH, seed=11)


@pytest.fixture(scope="module")
def whole() -> NDArray[np.uint8]:
    return SCENE.window(Window(0, 0, HEIGHT, WIDTH))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_window_equals_the_crop_of_the_whole_scene(whole: NDArray[np.uint8], data: st.DataObject) -> None:
    row, col = data.draw(st.integers(0, HEIGHT - 1)), data.draw(st.integers(0, WIDTH - 1))
    height, width = data.draw(st.integers(1, HEIGHT - row)), data.draw(st.integers(1, WIDTH - col))
    window = SCENE.window(Window(row, col, height, width))
    np.testing.assert_array_equal(window, whole[:, row : row + height, col : col + width])


def test_blocks_drawn_afresh_in_another_order_are_the_same(whole: NDArray[np.uint8]) -> None:
    module._draw_block.cache_clear()
    corner = SCENE.window(Window(500, 500, 100, 200))
    np.testing.assert_array_equal(corner, whole[:, 500:, 500:])


@pytest.mark.parametrize("metres_per_pixel", [1.0, 0.5, 2.0])
def test_neighbouring_blocks_agree_where_they_meet(monkeypatch: pytest.MonkeyPatch, metres_per_pixel: float) -> None:
    # the same ground, once across the border of two blocks and once inside one
    scene = Landscape(height=4096, width=4096, seed=4, metres_per_pixel=metres_per_pixel)
    seam = Window(1984, 1984, 128, 128)
    cut = scene.window(seam).astype(int)
    monkeypatch.setattr(module, "BLOCK", 640)
    module._draw_block.cache_clear()
    uncut = scene.window(seam).astype(int)
    module._draw_block.cache_clear()
    assert np.abs(cut - uncut).max() <= 1


def test_seeds_make_different_landscapes(whole: NDArray[np.uint8]) -> None:
    other = Landscape(height=HEIGHT, width=WIDTH, seed=12).window(Window(0, 0, HEIGHT, WIDTH))
    assert np.mean(other != whole) > 0.9


@pytest.mark.parametrize("seed", range(6))
def test_small_scene_holds_water_plants_roofs_and_shadow(seed: int) -> None:
    picture = Landscape(height=HEIGHT, width=WIDTH, seed=seed).window(Window(0, 0, HEIGHT, WIDTH)).astype(int)
    red, green, blue, infrared = picture
    assert 85 <= np.median(picture[:3]) <= 115
    assert 0.005 < np.mean(infrared < 20) < 0.4, "water is nearly black in the near infrared"
    assert np.mean((infrared > 120) & (green > red) & (green > blue)) > 0.2, "plants"
    assert np.mean(picture[:3].min(0) > 165) > 5e-4, "bright roofs and roads"
    assert np.mean((red - blue > 45) & (infrared < 140) & (red > green + 30)) > 3e-4, "tiles"
    assert np.mean(picture[:3].max(0) < 50) > 5e-3, "shadow"
    assert np.percentile(picture[:3], 0.01) > 5


def test_fine_noise_has_no_lattice_and_no_period() -> None:
    noise = Frame(-300, 70, 256, 5, 1.0).noise(16, 1)
    assert 0.7 < noise.std() < 1.3
    by_phase = [np.abs(noise[phase::16]).mean() for phase in range(16)]
    assert max(by_phase) < 1.5 * min(by_phase)
    assert abs(np.corrcoef(noise[:, :128].ravel(), noise[:, 128:].ravel())[0, 1]) < 0.35


@given(st.integers(-100_000, 100_000), st.integers(1, 80), st.integers(1, 90))
def test_spline_weights_sum_to_one(start: int, count: int, spacing: int) -> None:
    _, weights = spline_weights(start, count, spacing)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)


def test_hash_is_even_and_takes_negative_places() -> None:
    values = unit(3, np.arange(-500, 500)[:, None], np.arange(-50, 50))
    assert values.shape == (1000, 100)
    assert np.histogram(values, 10, (0, 1))[0].min() > 9_500


def test_far_corner_of_a_huge_scene_is_drawn_alone() -> None:
    scene = Landscape(height=30_000, width=30_000, seed=1)
    corner = scene.window(Window(29_990, 29_980, 10, 20))
    assert corner.shape == (4, 10, 20)
    assert corner[:3].std() > 1


@pytest.mark.parametrize("bad", [{"height": 0}, {"width": -3}, {"metres_per_pixel": 0.0}])
def test_impossible_scenes_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"landscape needs|metres_per_pixel"):
        Landscape(**({"height": 10, "width": 10} | bad))  # type: ignore[arg-type]


@pytest.mark.parametrize("window", [Window(-1, 0, 5, 5), Window(0, 0, 601, 5), Window(0, 699, 1, 2)])
def test_windows_outside_the_scene_are_refused(window: Window) -> None:
    with pytest.raises(ValueError, match="does not lie inside"):
        SCENE.window(window)


@pytest.mark.parametrize("bands", [3, 4])
def test_file_holds_the_pixels_and_the_map(tmp_path: Path, whole: NDArray[np.uint8], bands: int) -> None:
    seen: list[tuple[int, int]] = []
    path = write_landscape(
        tmp_path / "scene.tif",
        HEIGHT,
        WIDTH,
        seed=11,
        crs="EPSG:32632",
        bands=bands,
        progress=lambda done, total: seen.append((done, total)),
    )
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.nir)
    with rasterio.open(path) as source:
        np.testing.assert_array_equal(source.read(), whole[:bands])
        assert source.crs.to_epsg() == 32632
        assert source.res == (1.0, 1.0)
        assert source.colorinterp == colours[:bands]
        assert source.descriptions == ("red", "green", "blue", "near infrared")[:bands]
        assert source.block_shapes == [(512, 512)] * bands
        assert source.nodata is None
    assert seen[-1] == (HEIGHT * WIDTH, HEIGHT * WIDTH)
    assert [item.name for item in tmp_path.iterdir()] == ["scene.tif"]


def test_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_landscape(tmp_path / "scene.tif", 64, 64, progress=stop)
    assert not list(tmp_path.iterdir())


def test_scene_smaller_than_a_tile_is_written(tmp_path: Path) -> None:
    path = write_landscape(tmp_path / "tiny.tif", 1, 3, metres_per_pixel=0.5, compress="none")
    with rasterio.open(path) as source:
        assert source.shape == (1, 3)
        assert source.res == (0.5, 0.5)


def test_other_band_counts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 or 4 bands"):
        write_landscape(tmp_path / "scene.tif", 8, 8, bands=2)
