"""Haze over a clear raster: physical, seeded, the same whatever windows it is made in."""

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint

from infdehaze_cli import InputError, StorageError, UsageError, synth
from infdehaze_cli.raster import MapWriter, OutputWriter
from infdehaze_cli.synth import synthesise
from infdehaze_cli.training.haze import STYLES

UNPLACED = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def airlight_limits(clear, hazy, t, error):
    """Return the least and the largest A, by band, with which hazy = clear * t + A * (1 - t) at every pixel."""
    open_ended = hazy >= 1  # cut off at white: A may be anything above
    low = (hazy - error - clear * t) / (1 - t)
    high = np.where(open_ended, np.inf, (hazy + error - clear * t) / (1 - t))
    return low.max((1, 2)), high.min((1, 2))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("dtype", "top", "rounding"), [("float32", 1.0, 0), ("uint8", 255.0, 0.5 / 255)])
def test_haze_follows_the_scattering_model(make_raster, read_raster, tmp_path, style, dtype, top, rounding):
    src = make_raster(dtype=dtype, height=130, width=150)

    synthesise(src, tmp_path / "hazy.tif", style=style, transmission=tmp_path / "t.tif", scale_range=(0, top))

    clear, hazy = (read_raster(path).pixels / top for path in (src, tmp_path / "hazy.tif"))
    t = read_raster(tmp_path / "t.tif").pixels
    assert ((t > 0) & (t <= 1)).all()
    t = t.astype(np.float64).clip(max=1 - 1e-9)
    least, largest = airlight_limits(clear, hazy, t, rounding + 1e-6)
    assert (least <= largest).all()
    assert ((largest > 0.3) & (least <= 1)).all()
    # short waves are scattered most: red passes best
    assert (t[0] >= t[1]).all()
    assert (t[1] >= t[2]).all()
    assert (hazy != clear).any()


def test_the_transmission_lies_where_the_scene_lies(make_raster, read_raster, tmp_path):
    src = make_raster(bands=4)

    synthesise(src, tmp_path / "hazy.tif", transmission=tmp_path / "t.tif")

    before, t = read_raster(src), read_raster(tmp_path / "t.tif")
    assert t.place[:2] == before.place[:2]
    assert t.bands[0] == ("float32",) * 3
    assert t.bands[2] == ("transmission, red", "transmission, green", "transmission, blue")


def test_windows_do_not_change_a_pixel(make_raster, read_raster, tmp_path, monkeypatch):
    src = make_raster(height=130, width=150)
    synthesise(src, tmp_path / "whole.tif", seed=4, transmission=tmp_path / "whole-t.tif")
    monkeypatch.setattr(synth, "BLOCK_ROWS", 32)
    monkeypatch.setattr(synth, "BLOCK_COLS", 64)

    synthesise(src, tmp_path / "parts.tif", seed=4, transmission=tmp_path / "parts-t.tif")

    whole, parts = (read_raster(tmp_path / f"{name}.tif").pixels for name in ("whole", "parts"))
    np.testing.assert_array_equal(whole, parts)
    whole, parts = (read_raster(tmp_path / f"{name}-t.tif").pixels for name in ("whole", "parts"))
    np.testing.assert_allclose(whole, parts, rtol=0, atol=1e-6)


def test_a_seed_names_one_haze(make_raster, read_raster, tmp_path):
    src = make_raster()

    first, second, other = (
        read_raster(synthesise(src, tmp_path / f"{number}.tif", seed=seed)).pixels
        for number, seed in enumerate((9, 9, 10))
    )

    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


@pytest.mark.parametrize("bands", [1, 4])
def test_grey_gets_haze_and_further_bands_none(make_raster, read_raster, tmp_path, bands):
    src = make_raster(bands=bands, dtype="uint16")

    synthesise(src, tmp_path / "hazy.tif", style="veil")

    before, after = read_raster(src), read_raster(tmp_path / "hazy.tif")
    assert (after.place, after.bands) == (before.place, before.bands)
    assert (after.pixels[0] != before.pixels[0]).any()
    np.testing.assert_array_equal(after.pixels[3:], before.pixels[3:])


def test_pixels_without_data_stay_as_they_are(make_raster, landscape_pixels, read_raster, tmp_path):
    pixels = landscape_pixels()
    pixels[:, 20:50, 30:70] = 0
    src = make_raster(pixels=pixels, profile={"nodata": 0})

    synthesise(src, tmp_path / "hazy.tif", style="dense")

    after = read_raster(tmp_path / "hazy.tif")
    assert after.place[2] == 0
    assert (after.pixels[:, 20:50, 30:70] == 0).all()
    assert (after.pixels[:, :20] != 0).all()


@UNPLACED
def test_control_points_place_the_transmission_too(make_raster, tmp_path):
    src = make_raster(profile={"transform": None, "crs": None})
    points = [GroundControlPoint(r, c, 463_000 + c, 5_571_000 - r) for r, c in ((0, 0), (0, 100), (90, 0), (90, 100))]
    with rasterio.open(src, "r+") as file:
        file.gcps = (points, rasterio.CRS.from_epsg(32633))

    synthesise(src, tmp_path / "hazy.tif", transmission=tmp_path / "t.tif")

    with rasterio.open(tmp_path / "t.tif") as file:
        found, crs = file.gcps
    assert crs.to_epsg() == 32633
    assert [(p.row, p.col, p.x, p.y) for p in found] == [(p.row, p.col, p.x, p.y) for p in points]


def test_an_unknown_style_is_refused(make_raster, tmp_path):
    with pytest.raises(UsageError, match="veil, patches, dense"):
        synthesise(make_raster(), tmp_path / "hazy.tif", style="soup")


def test_one_file_cannot_be_both(make_raster, tmp_path):
    (tmp_path / "folder").mkdir()

    with pytest.raises(UsageError, match="Name two files"):
        synthesise(make_raster(), tmp_path / "a.tif", transmission=tmp_path / "folder" / ".." / "a.tif")


@pytest.mark.parametrize("at", [(MapWriter, "write"), (MapWriter, "finish"), (OutputWriter, "write")])
def test_a_failure_leaves_nothing(make_raster, tmp_path, monkeypatch, at):
    src = make_raster()

    def fail(*arguments):
        raise StorageError("The disk is full. Make room.")

    monkeypatch.setattr(*at, fail)

    with pytest.raises(StorageError):
        synthesise(src, tmp_path / "hazy.tif", transmission=tmp_path / "t.tif")

    assert list(tmp_path.iterdir()) == [src]


def test_a_source_that_is_missing_leaves_nothing(tmp_path):
    with pytest.raises(InputError):
        synthesise(tmp_path / "none.tif", tmp_path / "hazy.tif", transmission=tmp_path / "t.tif")

    assert list(tmp_path.iterdir()) == []
