"""One raster in, one raster out: the pixels of the plain network, the map untouched."""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from infdehaze_cli import dehaze, plan_run

HEIGHT, WIDTH = 170, 205
CRS, TRANSFORM = "EPSG:32633", Affine(2.0, 0.0, 500_000.0, 0.0, -2.0, 5_000_000.0)


def load(path):
    with rasterio.open(path) as file:
        return file.read()


def steps_apart(first, second):
    return np.abs(first.astype(int) - second.astype(int))


@pytest.mark.parametrize("format", ["cog", "gtiff"])
@pytest.mark.parametrize("residuals", ["dram", "ssd", "recompute"])
def test_the_pixels_are_those_of_the_plain_network(
    engine,
    model,
    config,
    raster,
    dst,
    pixels,
    residuals,
    format,  # noqa: A002
):
    dehaze(raster(pixels), dst, config=config(residuals=residuals), format=format)
    plain = engine.plain(model, (pixels / np.float32(255)).astype(np.float32))
    expected = (plain * 255).round().clip(0, 255).astype(np.uint8)
    apart = steps_apart(load(dst), expected)
    assert apart.max() <= 1
    assert (apart > 0).mean() <= 0.001
    assert steps_apart(expected, pixels).mean() > 5


def test_budget_batch_and_tier_do_not_change_the_pixels(config, raster, dst, pixels):
    src, results = raster(pixels), []
    for changes in (
        {"batch": 1, "residuals": "recompute"},
        {"batch": 16, "residuals": "dram"},
        {"gpu_mem": 80 * 2**20},
    ):
        dehaze(src, dst, config=config(**changes), overwrite=True)
        results.append(load(dst))
    # a value half way between two numbers may go either way when a sum is taken in another order
    assert all(steps_apart(results[0], other).max() <= 1 for other in results[1:])
    assert all((results[0] != other).mean() <= 0.001 for other in results[1:])


def test_the_map_stays_where_it_is_and_our_tags_are_added(config, weights, raster, dst, pixels):
    dehaze(raster(pixels), dst, config=config(strength=0.5, overlap=8))
    with rasterio.open(dst) as file:
        assert (file.crs, file.transform, file.dtypes[0]) == (rasterio.CRS.from_string(CRS), TRANSFORM, "uint8")
        assert (
            file.tags().items()
            >= {
                "INFDEHAZE_VERSION": version("infdehaze"),
                "INFDEHAZE_WEIGHTS": weights.name,
                "INFDEHAZE_PRESET": "tiny",
                "INFDEHAZE_STRENGTH": "0.5",
                "INFDEHAZE_OVERLAP": "8",
            }.items()
        )
        assert "INFDEHAZE_SCALE_RANGE" in file.tags()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_strength_0_gives_the_same_pixels_bit_for_bit(config, raster, dst, pixels, dtype):
    native = pixels.astype(dtype) * (1 if dtype == "uint8" else np.dtype(dtype).type(3.7))
    native = native.astype(dtype)
    dehaze(raster(native), dst, config=config(strength=0.0))
    assert load(dst).tobytes() == native.tobytes()


def test_pixels_without_data_stay_bit_for_bit_and_do_not_bleed(config, raster, dst, pixels, holes):
    valid = holes(HEIGHT, WIDTH)
    results = []
    for rubbish in (0, 255):
        native = np.where(valid, pixels.clip(1, 254), np.uint8(rubbish))
        dehaze(raster(native, nodata=rubbish), dst, config=config(), overwrite=True)
        results.append(load(dst))
        assert (results[-1][:, ~valid] == rubbish).all()
        assert (results[-1][:, valid] != rubbish).all()
    apart = steps_apart(*results)[:, valid]
    # a restored 0 or 255 gives way to whichever of them is no data
    assert apart.max() <= 1


def test_nan_stays_nan(config, raster, dst, pixels, holes):
    native, valid = pixels.astype(np.float32), holes(HEIGHT, WIDTH)
    native[:, ~valid] = np.nan
    dehaze(raster(native, nodata=float("nan")), dst, config=config())
    assert np.array_equal(np.isnan(load(dst)).all(0), ~valid)


def test_a_fourth_band_stays_bit_for_bit(config, raster, dst, pixels):
    near_infrared = np.random.default_rng(0).integers(0, 256, (1, HEIGHT, WIDTH), dtype=np.uint8)
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined)
    dehaze(raster(np.concatenate([pixels, near_infrared]), colours), dst, config=config())
    restored = load(dst)
    assert np.array_equal(restored[3], near_infrared[0])
    assert (restored[:3] != pixels).mean() > 0.5


def test_bands_are_taken_in_the_order_that_was_named(config, raster, dst, pixels):
    src = raster(np.concatenate([pixels[::-1], pixels[:1]]), photometric="minisblack", alpha="no")
    dehaze(src, dst, config=config(), bands=(3, 2, 1))
    turned = load(dst)
    dehaze(raster(pixels), dst, config=config(), overwrite=True)
    assert np.array_equal(turned[:3], load(dst)[::-1])


@pytest.mark.parametrize("count", [1, 3])
def test_a_scene_of_one_pixel_is_dehazed(config, raster, dst, count):
    dehaze(raster(np.full((count, 1, 1), 100, np.uint8)), dst, config=config())
    assert load(dst).shape == (count, 1, 1)


# what is said about a run -------------------------------------------------------------------------------------------


def test_the_result_is_complete_and_json(config, weights, raster, dst, pixels):
    src = raster(pixels)
    result = json.loads(json.dumps(dehaze(src, dst, config=config()).to_dict()))
    chosen = plan_run(src, config=config())
    expected = {
        "src": str(src),
        "dst": str(dst),
        "width": WIDTH,
        "height": HEIGHT,
        "bands": 3,
        "tiles": chosen.tiles,
        "preset": "tiny",
        "weights": str(weights),
        "device": "cpu",
        "precision": "fp32",
        "batch": 4,
        "tier": "ssd",
        "predicted_device_bytes": chosen.predicted_device_bytes,
        "scratch_bytes": chosen.scratch_bytes,
        "checkpoint_bytes": chosen.checkpoint_bytes,
        "not_repeated": {
            look + what: number
            for look in ("", "coarse_")
            for what, number in (("encoded_batches", 0), ("bottleneck", False), ("decoded_batches", 0))
        },
        "resumed": False,
    }
    assert result.items() >= expected.items()
    assert set(result) >= {*expected, "peak_device_bytes", "peak_rss_bytes", "seconds", "megapixels_per_second"}
    assert 0 < result["peak_device_bytes"] <= result["predicted_device_bytes"]
    assert result["peak_rss_bytes"] > 2**20
    assert set(result["seconds"]) >= {"read", "coarse", "encode", "bottleneck", "decode", "write", "finish"}
    assert all(seconds >= 0 for seconds in result["seconds"].values())


def test_phases_are_reported_to_the_end(config, raster, dst, pixels):
    class Listener:
        def __init__(self):
            self.heard = []

        def phase(self, name, total):
            self.heard.append([name, total, 0])

        def advance(self, steps=1):
            self.heard[-1][2] += steps

        def note(self, text):
            self.heard.append(text)

    listener = Listener()
    dehaze(raster(pixels), dst, config=config(), reporter=listener)
    assert [name for name, _, _ in listener.heard] == ["coarse", "encode", "bottleneck", "decode", "finish"]
    assert all(done == total for _, total, done in listener.heard)


def test_planning_writes_nothing(config, raster, pixels, tmp_path):
    src = raster(pixels)
    before = sorted(tmp_path.rglob("*"))
    assert plan_run(src, config=config()).preset == "tiny"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_a_real_scene_with_a_near_infrared_band_comes_through(config, dst):
    folder = Path(__file__).resolve().parents[4] / "shared" / "scenes"
    scenes = sorted(folder.glob("m_*.tif"))
    if not scenes:
        pytest.skip("the folder of sample scenes is not beside this checkout")
    result = dehaze(scenes[0], dst, config=config(batch=16, overlap=0))
    with rasterio.open(scenes[0]) as before, rasterio.open(dst) as after:
        assert (before.crs, before.transform, before.shape) == (after.crs, after.transform, after.shape)
        assert np.array_equal(before.read(4), after.read(4))
        assert not np.array_equal(before.read(1), after.read(1))
    assert result.peak_device_bytes <= result.predicted_device_bytes
