"""Windows of a source: values, limits, and what cannot be opened or read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rasterio.enums import ColorInterp

from infdehaze_cli.errors import InputError, UsageError
from infdehaze_cli.geometry import Window
from infdehaze_cli.raster import Limits, Scene
from infdehaze_cli.raster._gdal import open_quietly
from infdehaze_cli.raster.sampling import DECIMATED_SIDE
from infdehaze_cli.raster.scaling import BRIGHTEST

Make = Callable[..., Path]


def test_a_scene_tells_its_facts_without_reading_pixels(make_tiff: Make) -> None:
    path = make_tiff(np.zeros((4, 70, 90), np.uint16), tiled=True, blockxsize=32, blockysize=16)
    with Scene.open(path) as scene:
        assert (scene.path, scene.height, scene.width, scene.count) == (str(path), 70, 90, 4)
        assert scene.dtype == np.uint16
        assert scene.block_shape == (16, 32)
        assert scene.colour_bands == (1, 2, 3)


def test_a_block_holds_native_bands_and_scaled_colours(make_tiff: Make, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (4, 40, 50), dtype=np.uint8)
    colours = [ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined]
    window = Window(8, 16, 20, 30)
    with Scene.open(make_tiff(pixels, colours=colours)) as scene:
        block = scene.read(window)
    part = pixels[:, 8:28, 16:46]
    assert block.window == window
    assert np.array_equal(block.native, part)
    assert block.values.dtype == np.float32
    assert np.array_equal(block.values, part[[2, 1, 0]].astype(np.float32) / np.float32(255))
    assert block.valid.all()


def test_a_grey_band_is_repeated_in_memory_of_its_own(make_tiff: Make, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (1, 8, 8), dtype=np.uint8)
    with Scene.open(make_tiff(pixels)) as scene:
        values = scene.read(Window(0, 0, 8, 8)).values
    assert values.shape == (3, 8, 8)
    assert values.flags.writeable
    assert values.flags.c_contiguous
    assert np.array_equal(values[0], values[1])
    assert np.array_equal(values[0], values[2])


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_limits_come_from_the_valid_values_of_all_colours(make_tiff: Make, dtype: str) -> None:
    pixels = np.zeros((4, 32, 32), dtype)
    pixels[0], pixels[1], pixels[2] = 20, 60, 100
    pixels[3] = 127
    pixels[:, 0, 0] = 126
    with Scene.open(make_tiff(pixels, nodata=126)) as scene:
        assert scene.limits == Limits(0.0, 100 / BRIGHTEST)


def test_eight_bits_keep_their_full_range(make_tiff: Make) -> None:
    with Scene.open(make_tiff(np.full((3, 8, 8), 9, np.uint8))) as scene:
        assert scene.limits == Limits(0.0, 255.0)


def test_a_given_scale_range_replaces_the_limits(make_tiff: Make) -> None:
    path = make_tiff(np.full((3, 8, 8), 9, np.uint16))
    with Scene.open(path, scale_range=(1.0, 17.0)) as scene:
        assert scene.limits == Limits(1.0, 17.0)
        assert np.array_equal(scene.read(Window(0, 0, 8, 8)).values, np.full((3, 8, 8), 0.5, np.float32))


@pytest.mark.parametrize("overviews", [False, True])
def test_limits_of_a_long_scene_come_from_a_sample_of_all_of_it(
    make_tiff: Make, rng: np.random.Generator, overviews: bool
) -> None:
    ramp = np.arange(DECIMATED_SIDE * 3, dtype=np.uint16)
    path = make_tiff(np.broadcast_to(ramp, (1, 40, ramp.size)).copy(), tiled=True, blockxsize=64, blockysize=16)
    if overviews:
        with open_quietly(path, "r+") as dataset:
            dataset.build_overviews([4, 8])
    with Scene.open(path) as first, Scene.open(path) as second:
        assert first.limits == second.limits
        assert first.limits.lo == 0.0
        assert first.limits.hi == pytest.approx(ramp.size / BRIGHTEST, rel=0.01)


def test_limits_of_a_mosaic_that_is_mostly_empty_come_from_what_is_there(make_tiff: Make) -> None:
    # patches of 64 px are read every 800 px, and this lies between them
    pixels = np.zeros((1, 40, 12_288), np.uint16)
    pixels[:, :, 6300:6700] = np.linspace(500, 3000, 400).astype(np.uint16)
    path = make_tiff(pixels, nodata=0, tiled=True, blockxsize=64, blockysize=16)
    with Scene.open(path) as scene:
        assert scene.limits.hi == pytest.approx(3000 / BRIGHTEST, rel=0.01)


def test_a_scene_may_be_read_in_another_thread(make_tiff: Make, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (3, 16, 16), dtype=np.uint8)
    found = []
    with Scene.open(make_tiff(pixels)) as scene:
        thread = threading.Thread(target=lambda: found.append(scene.read(Window(0, 0, 16, 16)).native))
        thread.start()
        thread.join()
    assert np.array_equal(found[0], pixels)


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 1, 7), (3, 7, 1)])
def test_tiny_scenes_are_read(make_tiff: Make, shape: tuple[int, int, int]) -> None:
    with Scene.open(make_tiff(np.ones(shape, np.float32))) as scene:
        assert scene.read(Window(0, 0, shape[1], shape[2])).values.shape == (3, *shape[1:])


@pytest.mark.parametrize("window", [Window(0, 0, 9, 8), Window(-1, 0, 2, 2), Window(0, 0, 0, 3)])
def test_windows_outside_the_scene_are_a_mistake(make_tiff: Make, window: Window) -> None:
    with (
        Scene.open(make_tiff(np.ones((3, 8, 8), np.uint8))) as scene,
        pytest.raises(ValueError, match="scene"),
    ):
        scene.read(window)


def test_a_raster_without_georeference_opens_without_a_warning(make_tiff: Make) -> None:
    path = make_tiff(np.ones((3, 8, 8), np.uint8), crs=None, transform=None)
    with Scene.open(path) as scene:
        assert scene.metadata.transform is None


def test_what_is_no_raster_is_refused_in_one_line(tmp_path: Path) -> None:
    text = tmp_path / "notes.tif"
    text.write_text("no raster")
    for source in (tmp_path / "missing.tif", text, tmp_path):
        with pytest.raises(InputError, match="check the path") as caught:
            Scene.open(source)
        assert "\n" not in str(caught.value)
        assert str(source) in str(caught.value)


def test_complex_rasters_are_refused(make_tiff: Make) -> None:
    with pytest.raises(InputError, match="complex64"):
        Scene.open(make_tiff(np.ones((1, 8, 8), np.complex64)))


def test_two_bands_are_refused_and_one_of_them_accepted(make_tiff: Make) -> None:
    path = make_tiff(np.ones((2, 8, 8), np.uint8))
    with pytest.raises(InputError, match="--bands"):
        Scene.open(path)
    with Scene.open(path, bands=(2,)) as scene:
        assert scene.colour_bands == (2,)


def test_a_wrong_scale_range_is_refused(make_tiff: Make) -> None:
    with pytest.raises(UsageError, match="scale range"):
        Scene.open(make_tiff(np.ones((3, 8, 8), np.uint8)), scale_range=(5.0, 5.0))


def test_a_damaged_block_is_named(make_tiff: Make, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (1, 64, 64), dtype=np.uint8)
    path = make_tiff(pixels, tiled=True, blockxsize=32, blockysize=32, compress="deflate")
    whole = path.read_bytes()
    path.write_bytes(whole[:-600])
    with Scene.open(path) as scene:
        scene.read(Window(0, 0, 32, 32))
        with pytest.raises(InputError, match="rows 32 to 63, columns 32 to 63"):
            scene.read(Window(32, 32, 32, 32))


def test_a_damaged_sample_points_to_the_scale_range(make_tiff: Make, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 60_000, (1, 64, 64), dtype=np.uint16)
    path = make_tiff(pixels, tiled=True, blockxsize=32, blockysize=32, compress="deflate")
    path.write_bytes(path.read_bytes()[:-600])
    with Scene.open(path) as scene, pytest.raises(InputError, match="--scale-range"):
        _ = scene.limits
