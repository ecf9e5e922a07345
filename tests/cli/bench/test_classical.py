"""The classical methods do what their papers say, and leave data alone that is none."""

import numpy as np
import pytest
import rasterio

from infdehaze_cli.bench.classical import CLASSICAL, clean_classically, colour_attenuation, dark_channel

AIRLIGHT = np.array([0.80, 0.85, 0.90], np.float32).reshape(3, 1, 1)


@pytest.fixture
def ground():
    """Clear ground with a black object in every patch of the dark channel: (3, 320, 320), float32, 0..1."""
    picture = np.random.default_rng(0).uniform(0.1, 0.6, (3, 320, 320)).astype(np.float32)
    picture[:, ::6, ::6] = 0
    return picture


def everywhere(picture):
    return np.ones(picture.shape[1:], bool)


def test_the_dark_channel_finds_airlight_and_transmission_of_a_veil(ground):
    transmission = np.full(ground.shape[1:], 0.5, np.float32)
    # nothing but airlight in a corner, for the method to find
    transmission[:40, :40] = 0
    hazy = ground * transmission + AIRLIGHT * (1 - transmission)

    restored = dark_channel(hazy, everywhere(hazy))

    # omega keeps a twentieth of the haze
    expected = AIRLIGHT + (ground - AIRLIGHT) * 0.5 / (1 - 0.95 * 0.5)
    far = (slice(None), slice(180, None), slice(180, None))
    assert np.abs(restored - expected)[far].max() < 0.005
    assert np.abs(restored - ground)[far].mean() < 0.12 * np.abs(hazy - ground)[far].mean()
    # an average over the corner's 0.1 % is exactly its colour, so the corner stays what it is
    assert np.abs(restored - AIRLIGHT)[:, :20, :20].max() < 1e-5


def test_the_dark_channel_leaves_clear_ground_with_dark_objects_alone(ground):
    assert np.abs(dark_channel(ground, everywhere(ground)) - ground).max() < 1e-5


def test_colour_attenuation_inverts_the_depth_of_its_linear_model():
    near, far = np.array([0.3, 0.5, 0.4], np.float32), np.array([0.85, 0.9, 0.88], np.float32)
    hazy = np.empty((3, 200, 400), np.float32)
    hazy[:, :, :200], hazy[:, :, 200:] = near[:, None, None], far[:, None, None]

    restored = colour_attenuation(hazy, everywhere(hazy))

    # value 0.5 and saturation 0.4; the pale half is deepest and its colour the airlight
    transmission = np.exp(-(0.121779 + 0.959710 * 0.5 - 0.780245 * 0.4))
    expected = (near - far) / transmission + far
    assert np.abs(restored[:, 100, 20] - expected).max() < 1e-4
    assert np.abs(restored[:, 100, 380] - far).max() < 1e-4


def test_colour_attenuation_brings_ground_under_a_veil_nearer_to_the_truth(landscape_pixels):
    veiled = landscape_pixels(height=200, width=240).astype(np.float32) / 255
    # the fixture's veil: 0.6 of the ground and 0.4 of a grey of 210
    clear = np.clip((veiled - 0.4 * 210 / 255) / 0.6, 0, 1)

    restored = colour_attenuation(veiled, everywhere(veiled))

    assert np.abs(restored - clear).mean() < 0.8 * np.abs(veiled - clear).mean()


@pytest.mark.parametrize("method", CLASSICAL.values(), ids=CLASSICAL)
@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (70, 90)])
def test_any_picture_comes_out_finite_in_its_shape_and_range(method, shape):
    rng = np.random.default_rng(4)
    for picture in (np.zeros((3, *shape)), np.ones((3, *shape)), rng.random((3, *shape))):
        restored = method(picture.astype(np.float32), np.ones(shape, bool))

        assert (restored.shape, restored.dtype) == ((3, *shape), np.float32)
        assert ((restored >= 0) & (restored <= 1)).all()


@pytest.mark.parametrize("method", CLASSICAL.values(), ids=CLASSICAL)
def test_what_lies_in_pixels_without_data_changes_nothing_elsewhere(method, ground):
    hazy = 0.5 * ground + 0.4
    valid = everywhere(hazy)
    valid[100:140, :] = False

    one, other = (method(np.where(valid, hazy, np.float32(fill)), valid) for fill in (0, 1))

    assert np.abs(one - other)[:, valid].max() < 1e-5


@pytest.mark.parametrize("method", CLASSICAL.values(), ids=CLASSICAL)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_raster_keeps_dtype_nodata_and_further_bands(method, dtype, make_raster, landscape_pixels, tmp_path):
    pixels = landscape_pixels(bands=3, dtype=dtype)
    pixels = np.concatenate([pixels, pixels[:1]])
    pixels[:, 10:20, 30:60] = 0
    src, dst = make_raster(pixels=pixels, profile={"nodata": 0}), tmp_path / "out.tif"

    clean_classically(src, dst, method)

    with rasterio.open(dst) as file:
        restored = file.read()
        assert (file.dtypes[0], file.nodata) == (dtype, 0)
    assert (restored[:, 10:20, 30:60] == 0).all()
    assert (restored[3] == pixels[3]).all()
    changed = (restored[:3] != pixels[:3]).mean()
    assert changed > 0.5


def test_a_raster_without_any_data_comes_out_as_it_is(make_raster, tmp_path):
    src, dst = make_raster(pixels=np.zeros((3, 20, 20), np.uint8), profile={"nodata": 0}), tmp_path / "out.tif"

    clean_classically(src, dst, dark_channel)

    with rasterio.open(dst) as file:
        assert not file.read().any()
