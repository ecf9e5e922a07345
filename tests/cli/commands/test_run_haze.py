"""`infdehaze run`: the haze map, and other bands corrected by it."""

import numpy as np
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate

from infdehaze_cli import RunConfig, dehaze


@pytest.fixture
def naip(make_raster, landscape_pixels):
    """Make a scene with near infrared, and a hole."""
    pixels = landscape_pixels(bands=4, height=150, width=180)
    pixels[:, 20:60, 30:90] = 0
    return make_raster(pixels=pixels, profile={"nodata": 0})


def test_the_haze_map_is_a_cog_on_the_grid_of_the_scene(cli, naip, tmp_path):
    haze = tmp_path / "haze.tif"

    ended = cli("run", naip, "-o", tmp_path / "clean.tif", "--haze-map", haze)

    assert ended.code == 0
    assert cog_validate(haze, quiet=True)[0]
    with rasterio.open(naip) as source, rasterio.open(haze) as result:
        assert (result.count, result.dtypes) == (3, ("float32",) * 3)
        assert (result.crs, result.transform, result.shape) == (source.crs, source.transform, source.shape)
        assert result.descriptions == tuple(f"optical depth, {name}" for name in ("red", "green", "blue"))
        depth, valid = result.read(), source.dataset_mask() > 0
    assert np.isfinite(depth[:, valid]).all()
    assert np.isnan(depth[:, ~valid]).all()
    assert np.abs(depth[:, valid]).max() > 0
    assert sorted(path.name for path in tmp_path.glob("*.tif")) == ["clean.tif", "haze.tif", "scene.tif"]


def test_without_strength_the_map_is_zero(cli, naip, tmp_path):
    cli("run", naip, "-o", tmp_path / "clean.tif", "--haze-map", tmp_path / "haze.tif", "--strength", "0")

    with rasterio.open(tmp_path / "haze.tif") as result:
        depth = result.read()
    assert (depth[np.isfinite(depth)] == 0).all()


def test_a_grey_scene_has_a_map_of_one_band(cli, make_raster, tmp_path):
    cli("run", make_raster(bands=1), "-o", tmp_path / "clean.tif", "--haze-map", tmp_path / "haze.tif")

    with rasterio.open(tmp_path / "haze.tif") as result:
        assert result.descriptions == ("optical depth, grey",)


def test_physics_corrects_near_infrared_and_copy_does_not(cli, naip, tmp_path):
    waves = ("--wavelengths", "0.66,0.56,0.48,0.84")
    copied, corrected = tmp_path / "copied.tif", tmp_path / "corrected.tif"

    ended = [
        cli("run", naip, "-o", copied),
        cli("run", naip, "-o", corrected, "--other-bands", "physics", *waves),
    ]

    assert [e.code for e in ended] == [0, 0]
    with rasterio.open(naip) as source, rasterio.open(copied) as first, rasterio.open(corrected) as second:
        before, same, changed = source.read(), first.read(), second.read()
    assert np.array_equal(same[3], before[3])
    assert np.array_equal(changed[:3], same[:3])
    assert not np.array_equal(changed[3], before[3])
    invalid = (before == 0).all(0)
    assert np.array_equal(changed[:, invalid], before[:, invalid])


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (["--haze-map", "{dst}"], 2, "Name two files"),
        (["--haze-map", "{dst.parent}/../{dst.parent.name}/{dst.name}"], 2, "Name two files"),
        (["--haze-map", "{src}"], 2, "clean.tif"),
        (["--haze-map", "{dst}/none/map.tif"], 2, "none"),
        (["--other-bands", "physics", "--wavelengths", "0.5"], 2, "4"),
        (["--other-bands", "physics", "--wavelengths", "red,green"], 2, "wavelength"),
    ],
    ids=str,
)
def test_nonsense_is_refused_before_the_run(cli, naip, tmp_path, options, code, word):
    dst = tmp_path / "clean.tif"

    ended = cli("run", naip, "-o", dst, *(option.format(src=naip, dst=dst) for option in options))

    assert ended.code == code
    assert ended.err.count("\n") <= 1
    assert not dst.exists()


def test_a_map_may_have_the_name_of_the_output_but_for_its_suffix(cli, naip, tmp_path):
    ended = cli("run", naip, "-o", tmp_path / "clean.tif", "--format", "gtiff", "--haze-map", tmp_path / "clean.tiff")

    assert ended.code == 0
    with rasterio.open(tmp_path / "clean.tif") as clean, rasterio.open(tmp_path / "clean.tiff") as haze:
        assert (clean.dtypes[0], haze.dtypes[0]) == ("uint8", "float32")


def test_a_map_that_comes_meanwhile_is_kept(cli, naip, tmp_path, monkeypatch):
    def announce(self, name, total):
        if name == "finish":
            (tmp_path / "haze.tif").write_text("somebody else's")

    monkeypatch.setattr("infdehaze_cli.api.Silent.phase", announce)

    ended = cli("run", naip, "-o", tmp_path / "clean.tif", "--haze-map", tmp_path / "haze.tif", "-q")

    assert ended.code == 5
    assert (tmp_path / "haze.tif").read_text() == "somebody else's"
    assert not (tmp_path / "clean.tif").exists()


def test_a_map_that_exists_is_kept(cli, naip, tmp_path):
    haze = tmp_path / "haze.tif"
    haze.write_text("mine")

    ended = cli("run", naip, "-o", tmp_path / "clean.tif", "--haze-map", haze)

    assert ended.code == 2
    assert haze.read_text() == "mine"


def test_the_api_writes_the_map_too(naip, tmp_path, tiny_checkpoint):
    dehaze(naip, tmp_path / "c.tif", config=RunConfig(weights=str(tiny_checkpoint)), haze_map=tmp_path / "h.tif")

    assert (tmp_path / "h.tif").is_file()
