"""`infdehaze run --vrt`: gain and offset in place of pixels, applied by GDAL when it reads."""

import warnings
import zipfile

import numpy as np
import pytest
import rasterio
from infdehaze.weights import load_model
from rasterio.errors import NotGeoreferencedWarning
from rasterio.shutil import copy as copy_raster
from rio_cogeo.cogeo import cog_validate

from infdehaze_cli import RunConfig, dehaze
from infdehaze_cli.raster import Scene
from infdehaze_cli.report import VrtWriter
from infdehaze_cli.scene_plan import plan_scene, source_facts


@pytest.fixture
def config(tiny_checkpoint, scratch):
    return RunConfig(weights=str(tiny_checkpoint), device="cpu", scratch=scratch)


def differences(scene, tmp_path, config, **options):
    """Return VRT minus full run, of the bands in float64, and the valid pixels."""
    dehaze(scene, tmp_path / "full.tif", config=config, **options)
    dehaze(scene, tmp_path / "clean.vrt", config=config, vrt=True, **options)
    with rasterio.open(tmp_path / "full.tif") as full, rasterio.open(tmp_path / "clean.vrt") as vrt:
        assert (vrt.crs, vrt.transform, vrt.shape, vrt.dtypes) == (full.crs, full.transform, full.shape, full.dtypes)
        assert (vrt.nodatavals, vrt.colorinterp) == (full.nodatavals, full.colorinterp)
        return vrt.read().astype(float) - full.read(), full.dataset_mask() > 0


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_pixels_equal_those_of_a_full_run_within_2(make_raster, tmp_path, shipped, bands):
    apart, _ = differences(make_raster(bands=bands, height=300, width=400), tmp_path, shipped)

    assert np.abs(apart).max() <= 2
    if bands == 4:
        assert (apart[3] == 0).all()


@pytest.fixture
def shipped(scratch):
    """Use the weights of the package, whose haze is as smooth as haze is."""
    return RunConfig(weights="lite", device="cpu", scratch=scratch)


def test_values_of_16_bits_keep_their_scale(make_raster, tmp_path, shipped):
    apart, _ = differences(make_raster(dtype="uint16", height=300, width=400), tmp_path, shipped)

    # values run over about 9000
    assert np.abs(apart).max() <= 2 / 255 * 9000


def test_pixels_without_data_stay(make_raster, landscape_pixels, tmp_path, shipped):
    pixels = landscape_pixels(height=300, width=400)
    pixels[:, 50:130, 60:200] = 0
    apart, valid = differences(make_raster(pixels=pixels, profile={"nodata": 0}), tmp_path, shipped)

    assert (apart[:, ~valid] == 0).all()
    assert np.abs(apart[:, valid]).max() <= 2


def test_the_files_are_small_rasters_beside_it_and_move_with_it(cli, make_raster, tmp_path):
    src, folder = make_raster(height=300, width=400), tmp_path / "out"
    folder.mkdir()

    ended = cli("run", src, "--vrt", folder / "clean.vrt", "--report", folder / "clean.html")

    assert ended.code == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "clean.gain.tif",
        "clean.html",
        "clean.offset.tif",
        "clean.vrt",
    ]
    for name in ("gain", "offset"):
        assert cog_validate(folder / f"clean.{name}.tif", quiet=True)[0]
        with rasterio.open(folder / f"clean.{name}.tif") as file:
            assert (file.dtypes, file.shape) == (("float32",) * 3, (19, 25))
            assert file.descriptions == tuple(f"{name}, {colour}" for colour in ("red", "green", "blue"))
    moved = tmp_path / "moved"
    folder.rename(moved)
    copy_raster(moved / "clean.vrt", tmp_path / "copy.tif", driver="GTiff")
    with rasterio.open(tmp_path / "copy.tif") as copied, rasterio.open(moved / "clean.vrt") as vrt:
        assert (copied.read() == vrt.read()).all()


def test_without_strength_nothing_changes(cli, make_raster, tmp_path):
    src = make_raster()

    cli("run", src, "--vrt", tmp_path / "clean.vrt", "--strength", "0")

    with rasterio.open(src) as source, rasterio.open(tmp_path / "clean.vrt") as vrt:
        assert (source.read() == vrt.read()).all()


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (["--vrt", "{folder}/clean.tif"], "End it with .vrt"),
        (["--vrt", "{folder}/clean.vrt", "-o", "{folder}/clean.tif"], "in place of an output"),
        (["--vrt", "{folder}/clean.vrt", "--other-bands", "drop"], "in place of an output"),
        (["--vrt", "{folder}/none/clean.vrt"], "make it first"),
        (["--vrt", "{folder}"], "is a folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_vrt_that_cannot_be_is_refused(cli, make_raster, tmp_path, options, hint):
    ended = cli("run", make_raster(), *(option.format(folder=tmp_path) for option in options))

    assert ended.code == 2
    assert hint in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


def test_files_that_exist_are_kept_without_overwrite(cli, make_raster, tmp_path):
    (tmp_path / "clean.gain.tif").write_text("mine")

    ended = cli("run", make_raster(), "--vrt", tmp_path / "clean.vrt")

    assert ended.code == 2
    assert (tmp_path / "clean.gain.tif").read_text() == "mine"


def with_a_mask(make_raster):
    """Make a raster with a mask of its own."""
    path = make_raster()
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        mask = np.full(file.shape, 255, np.uint8)
        mask[:20] = 0
        file.write_mask(mask)
    return path


def without_a_place(make_raster):
    """Make a plain picture."""
    with warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning):
        return make_raster(profile={"crs": None, "transform": None})


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (with_a_mask, "has a mask"),
        (without_a_place, "no geotransform"),
    ],
    ids=["mask", "no place"],
)
def test_a_source_that_would_read_otherwise_is_refused(cli, make_raster, tmp_path, make, hint):
    ended = cli("run", make(make_raster), "--vrt", tmp_path / "clean.vrt")

    assert ended.code == 3
    assert hint in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


def test_a_nodata_value_within_the_range_is_refused(cli, make_raster, tmp_path):
    ended = cli("run", make_raster(profile={"nodata": 130}), "--vrt", tmp_path / "clean.vrt")

    assert ended.code == 3
    assert "nodata value 130" in ended.err


def test_a_source_in_an_archive_is_named_by_its_absolute_path(cli, make_raster, tmp_path, monkeypatch):
    make_raster()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "scene.tif", "scene.tif")
    monkeypatch.chdir(tmp_path)
    ended = [
        cli("run", f"/vsizip/{place}a.zip/scene.tif", "--vrt", tmp_path / "clean.vrt", "-q")
        for place in ("", f"{tmp_path}/")
    ]

    monkeypatch.chdir("/")
    assert [each.code for each in ended] == [2, 0]
    assert "absolute path" in ended[0].err
    with rasterio.open(tmp_path / "clean.vrt") as vrt:
        assert vrt.read().any()


def test_a_url_of_a_file_is_a_source_too(cli, make_raster, tmp_path):
    assert cli("run", f"file://{make_raster()}", "--vrt", tmp_path / "clean.vrt", "-q").code == 0
    with rasterio.open(tmp_path / "clean.vrt") as vrt:
        assert vrt.read().any()


def test_nothing_is_left_when_writing_fails(cli, make_raster, tmp_path, monkeypatch):
    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(VrtWriter, "_document", full)

    ended = cli("run", make_raster(), "--vrt", tmp_path / "clean.vrt", "-q")

    assert ended.code == 5
    assert "No space left" in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


def test_a_vrt_is_never_read_with_the_gain_of_another(cli, make_raster, tmp_path, monkeypatch):
    scene = make_raster()
    cli("run", scene, "--vrt", tmp_path / "clean.vrt", "-q")
    names = []

    def fails_at_the_second(finished, dst):
        names.append(dst.name)
        if len(names) == 2:
            raise OSError(5, "Input/output error")
        finished.replace(dst)

    monkeypatch.setattr("infdehaze_cli.report.vrt.sync_and_rename", fails_at_the_second)
    ended = cli("run", scene, "--vrt", tmp_path / "clean.vrt", "--strength", 0.2, "--overwrite", "-q")

    assert ended.code == 5
    assert names == ["clean.gain.tif", "clean.offset.tif"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.gain.tif", "clean.offset.tif", "scene.tif"]


def test_files_that_come_meanwhile_stay(cli, make_raster, tmp_path, monkeypatch):
    def announce(self, name, total):
        if name == "finish":
            (tmp_path / "clean.vrt").write_text("somebody else's")

    monkeypatch.setattr("infdehaze_cli.api.Silent.phase", announce)

    ended = cli("run", make_raster(), "--vrt", tmp_path / "clean.vrt", "-q")

    assert ended.code == 5
    assert "meanwhile" in ended.err
    assert (tmp_path / "clean.vrt").read_text() == "somebody else's"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.vrt", "scene.tif"]


def test_haze_and_cells_count_in_the_plan(make_raster, tmp_path, shipped):
    scene = make_raster(height=300, width=400)
    with Scene.open(scene) as opened:
        expected = 4 * 7 * 19 * 25
        assert VrtWriter.host_bytes(opened) == expected
        model = load_model("lite")
        plain, haze, cells = (
            plan_scene(opened, model, shipped, facts=source_facts(opened, wants_haze=wants_haze, beside=beside))
            for wants_haze, beside in ((False, 0), (True, 0), (True, expected))
        )

    # six windows of six values, and 100 bytes a pixel where they are used
    assert haze.predicted_host_bytes == plain.predicted_host_bytes + 512 * 1024 * (6 * 24 + 100)
    assert cells.predicted_host_bytes == haze.predicted_host_bytes + expected


def test_dark_values_do_not_become_nodata(cli, make_raster, landscape_pixels, tmp_path):
    pixels = np.maximum(landscape_pixels(height=300, width=400) // 40, 1).astype(np.uint8)

    cli("run", make_raster(pixels=pixels, profile={"nodata": 0}), "--vrt", tmp_path / "clean.vrt", "--weights", "lite")

    with rasterio.open(tmp_path / "clean.vrt") as vrt:
        assert vrt.nodata == 0
        assert (vrt.read() > 0).all()
