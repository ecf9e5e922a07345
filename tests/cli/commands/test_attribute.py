"""`infdehaze attribute`: the Dehazing Attribution Map of a window."""

import json

import numpy as np
import pytest
import rasterio

from infdehaze_cli.commands.attribute import parse_window
from infdehaze_cli.errors import UsageError
from infdehaze_cli.geometry import Window

QUICK = ("--steps", 1)


@pytest.fixture
def clear(make_raster, landscape_pixels):
    """A partner on the grid of the scene, with less haze."""
    return make_raster("clear.tif", np.clip((landscape_pixels() - 84.0) / 0.6, 0, 255).astype(np.uint8))


def test_the_map_lies_on_the_grid_of_the_scene_and_adds_up(cli, make_raster, read_raster, clear, tmp_path):
    src, dst = make_raster(), tmp_path / "map.tif"

    ended = cli("attribute", src, "--window", "30,20,16,24", "-o", dst, "--reference", clear, "--json", *QUICK)

    found, scene, says = read_raster(dst), read_raster(src), json.loads(ended.out)
    assert ended.code == 0
    assert found.place[:2] == scene.place[:2]
    assert found.bands[0] == ("float32",) * 3
    assert found.bands[2] == ("attribution, red", "attribution, green", "attribution, blue")
    assert found.pixels.shape == scene.pixels.shape
    assert says["attributed"] == pytest.approx(float(found.pixels.sum()), rel=1e-3)
    assert says["window"] == [30, 20, 16, 24]
    assert 0 < says["outside_share"] < 1
    assert 0 < says["outside_area"] < 1
    assert says["median_distance"] >= 0
    assert says["peak_device_bytes"] <= says["predicted_device_bytes"]


def test_without_a_reference_the_path_begins_at_the_own_output(cli, make_raster, tmp_path, scratch):
    ended = cli("attribute", make_raster(), "--window", "0,0,9,9", "-o", tmp_path / "map.tif", "--json", *QUICK)

    assert ended.code == 0
    assert json.loads(ended.out)["reference"] is None
    assert "decode: " in ended.err
    assert {path.name for path in tmp_path.iterdir()} == {"scene.tif", "map.tif"}
    assert list(scratch.iterdir()) == []


def test_a_line_says_how_far_attributions_lie(cli, make_raster, clear, tmp_path):
    src, dst = make_raster(), tmp_path / "map.tif"

    ended = cli("attribute", src, "--window", "0,0,9,9", "-o", dst, "--reference", clear, *QUICK)

    assert ended.out.startswith(f"{dst}: ")
    assert "outside of the window's tiles" in ended.out
    assert ended.err.startswith("path: ")


def test_a_grey_scene_has_a_map_of_one_band(cli, make_raster, read_raster, tmp_path):
    ended = cli("attribute", make_raster(bands=1), "--window", "0,0,9,9", "-o", tmp_path / "map.tif", "-q", *QUICK)

    found = read_raster(tmp_path / "map.tif")
    assert (ended.code, ended.out) == (0, "")
    assert found.bands[2] == ("attribution, grey",)
    assert found.pixels.any()


def test_pixels_without_data_are_nan_in_the_map(cli, make_raster, landscape_pixels, read_raster, clear, tmp_path):
    pixels = landscape_pixels()
    pixels[:, 40:60] = 0
    src = make_raster(pixels=pixels, profile={"nodata": 0})

    cli("attribute", src, "--window", "30,30,16,24", "-o", tmp_path / "map.tif", "--reference", clear, *QUICK)

    found = read_raster(tmp_path / "map.tif").pixels
    np.testing.assert_array_equal(np.isnan(found), np.broadcast_to((pixels == 0).any(0), found.shape))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_the_picture_shows_the_scene_and_the_map_with_the_window_outlined(cli, make_raster, clear, tmp_path):
    src, picture = make_raster(), tmp_path / "map.png"
    options = ["-o", tmp_path / "map.tif", "--reference", clear, "--preview", picture]

    ended = cli("attribute", src, "--window", "30,20,16,24", *options, *QUICK)

    with rasterio.open(picture) as file:
        pixels = file.read()
    assert ended.code == 0
    assert pixels.shape == (3, 96, 120 + 8 + 120)
    for left in (0, 128):
        corner = pixels[:, 18, left + 28]
        assert corner.tolist() == [255, 40, 40]
    assert (pixels[:, :, 128:] != pixels[:, :, :120]).any()


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,2,3,4", "1,2,0,4", "1,2,3,-4", "-1,2,3,4", "1.5,2,3,4"])
def test_what_is_no_window_is_refused(text):
    with pytest.raises(UsageError, match="no window"):
        parse_window(text)


def test_a_window_is_left_top_width_and_height():
    assert parse_window("7, 8,30,40") == Window(8, 7, 40, 30)


@pytest.mark.parametrize(
    ("options", "code", "hint"),
    [
        (["--window", "1,2,3"], 2, "no window"),
        (["--window", "110,20,16,16"], 2, "leaves the scene"),
        (["--window", "500,500,1,1"], 2, "leaves the scene"),
        (["--steps", "0"], 2, "steps"),
        (["--objective", "beauty"], 2, "light"),
        (["--objective", "detail", "--window", "3,3,1,9"], 2, "2 px"),
        (["--preview", "{folder}"], 2, "no place"),
        (["--preview", "{dst}"], 2, "two files"),
        (["--reference", "{src}"], 2, "clear raster"),
        (["--reference", "{folder}/none.tif"], 3, "none.tif"),
        (["--reference", "{other}"], 3, "onto one grid"),
        (["--overlap", "7"], 2, "multiple of 4"),
        (["--gpu-mem", "1M"], 4, "--gpu-mem at least"),
        (["--ram", "8M"], 4, "--ram at least"),
        (["--scratch", "{folder}/none"], 5, "--scratch"),
    ],
)
def test_a_wrong_call_is_one_line_and_leaves_nothing(cli, make_raster, listing, tmp_path, options, code, hint):
    src, dst, other = make_raster(), tmp_path / "map.tif", make_raster("other.tif", height=50)
    names = {"src": src, "dst": dst, "other": other, "folder": tmp_path}
    given = [] if "--window" in options else ["--window", "0,0,9,9"]
    before = listing(tmp_path)

    ended = cli("attribute", src, "-o", dst, *given, *(option.format(**names) for option in options))

    assert (ended.code, ended.out, ended.err.count("\n")) == (code, "", 1)
    assert hint in ended.err
    assert listing(tmp_path) == before


def test_a_window_without_data_is_bad_input(cli, make_raster, landscape_pixels, listing, tmp_path):
    pixels = landscape_pixels()
    pixels[:, 40:60] = 0
    src = make_raster(pixels=pixels, profile={"nodata": 0})
    before = listing(tmp_path)

    ended = cli("attribute", src, "--window", "5,42,10,10", "-o", tmp_path / "map.tif")

    assert (ended.code, ended.err.count("\n")) == (3, 1)
    assert "holds no data" in ended.err
    assert listing(tmp_path) == before


@pytest.mark.parametrize("kind", ["exists", "folder", "source"])
def test_an_output_that_may_not_be_written_is_refused_before_the_work(cli, make_raster, listing, tmp_path, kind):
    src = make_raster()
    dst = {"exists": tmp_path / "map.tif", "folder": tmp_path, "source": src}[kind]
    if kind == "exists":
        dst.write_text("precious")
    before = listing(tmp_path)

    ended = cli("attribute", src, "--window", "0,0,9,9", "-o", dst)

    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert listing(tmp_path) == before


def test_overwrite_replaces_the_map_and_the_picture(cli, make_raster, clear, tmp_path):
    dst, picture = tmp_path / "map.tif", tmp_path / "map.png"
    for path in (dst, picture):
        path.write_text("old")
    options = ["-o", dst, "--preview", picture, "--reference", clear, "--overwrite"]

    ended = cli("attribute", make_raster(), "--window", "0,0,9,9", *options, *QUICK)

    assert ended.code == 0
    assert b"old" not in (dst.read_bytes()[:3], picture.read_bytes()[:3])


def test_a_failing_read_leaves_nothing(cli, make_raster, clear, listing, tmp_path, monkeypatch):
    src, calls = make_raster(), []
    before = listing(tmp_path)

    def fail(*arguments, **options):
        calls.append(1)
        raise OSError("the disk is gone")

    monkeypatch.setattr("infdehaze_cli.raster.maps.sync_and_rename", fail)
    ended = cli("attribute", src, "--window", "0,0,9,9", "-o", tmp_path / "map.tif", "--reference", clear, "-q", *QUICK)

    assert (ended.code, ended.out, calls) == (5, "", [1])
    assert listing(tmp_path) == before


def test_a_picture_that_fails_leaves_the_map(cli, make_raster, clear, tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr("infdehaze_cli.attribute.attribution_picture", fail)
    options = ["-o", tmp_path / "map.tif", "--preview", tmp_path / "map.png", "--reference", clear, "-q"]
    ended = cli("attribute", make_raster(), "--window", "0,0,9,9", *options, *QUICK)

    assert (ended.code, ended.err.count("\n")) == (5, 1)
    assert "is written and whole, but its picture" in ended.err
    assert {path.name for path in tmp_path.iterdir()} == {"scene.tif", "clear.tif", "map.tif"}


def test_a_window_of_black_is_refused(cli, make_raster, tmp_path):
    src = make_raster(pixels=np.zeros((3, 120, 160), np.uint8))

    ended = cli("attribute", src, "--window", "0,0,9,9", "-o", tmp_path / "map.tif", *QUICK)

    assert ended.code == 3
    assert "black" in ended.err
    assert not (tmp_path / "map.tif").exists()
