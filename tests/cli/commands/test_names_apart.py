"""No file that is read is replaced, and no two files that are written have one name, however they are spelled."""

import os
import shutil
import zipfile

import numpy as np
import pytest
import rasterio
from rasterio.shutil import copy as copy_raster


@pytest.fixture
def folder(make_raster, tmp_path):
    """A scene, a mosaic that reads a part, an archive, a clear reference, and links."""
    scene = make_raster()
    shutil.copy(scene, tmp_path / "part.tif")
    copy_raster(str(tmp_path / "part.tif"), str(tmp_path / "mosaic.vrt"), driver="VRT")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(scene, "scene.tif")
    shutil.copy(scene, tmp_path / "clear.tif")
    shutil.copy(scene, tmp_path / "other.tif.ovr")
    (tmp_path / "link.tif").symlink_to(tmp_path / "aim.tif")
    os.link(scene, tmp_path / "hard.html")
    return tmp_path


def kept(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    "arguments",
    [
        ("scene.tif", "-o", "n.tif", "--stac", "scene.tif"),
        ("scene.tif", "-o", "n.tif", "--report", "hard.html"),
        ("mosaic.vrt", "-o", "n.tif", "--preview", "part.tif"),
        ("mosaic.vrt", "-o", "n.tif", "--report", "part.tif"),
        ("mosaic.vrt", "-o", "n.tif", "--stac", "part.tif"),
        ("other.tif.ovr", "-o", "other.tif"),
        ("other.tif.ovr", "-o", "n.tif", "--haze-map", "other.tif"),
        ("/vsizip/{folder}/a.zip/scene.tif", "-o", "a.zip"),
        ("/vsisubfile/0_9999999,{folder}/scene.tif", "-o", "scene.tif"),
        ("scene.tif", "-o", "clear.tif", "--reference", "clear.tif", "--report", "r.html"),
        ("scene.tif", "-o", "n.tif", "--haze-map", "clear.tif", "--reference", "clear.tif", "--report", "r.html"),
        ("scene.tif", "-o", "n.tif", "--haze-map", "../{folder.name}/n.tif"),
        ("scene.tif", "-o", "link.tif", "--haze-map", "aim.tif"),
        ("scene.tif", "-o", "n.tif", "--report", "x", "--stac", "x"),
        ("scene.tif", "-o", "n.tif", "--preview", "x.png", "--stac", "x.png"),
        ("scene.tif", "-o", "n.tif", "--haze-map", "x.tif", "--stac", "x.tif"),
        ("scene.tif", "-o", "n.tif", "--haze-map", "x.tif", "--stac", "x.qml"),
        ("scene.tif", "--vrt", "k.vrt", "--haze-map", "k.gain.tif"),
        ("scene.tif", "--vrt", "k.vrt", "--preview", "k.offset.tif"),
    ],
    ids=" ".join,
)
def test_it_is_refused_and_all_files_stay(cli, folder, monkeypatch, arguments):
    monkeypatch.chdir(folder)
    (folder / "aim.tif").write_bytes(b"mine")
    before = kept(folder)

    ended = cli("run", *(each.format(folder=folder) for each in arguments), "--overwrite", "-q")

    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert kept(folder) == before


@pytest.mark.parametrize("length", [100, 236])
def test_a_long_name_is_a_name(cli, make_raster, tmp_path, length):
    dst = tmp_path / f"{'n' * (length - 4)}.tif"

    assert cli("run", make_raster(), "-o", dst, "-q").code == 0
    assert dst.is_file()


def test_a_name_that_is_too_long_is_refused(cli, make_raster, tmp_path):
    ended = cli("run", make_raster(), "-o", tmp_path / f"{'n' * 250}.tif", "-q")

    assert ended.code == 2
    assert "too long" in ended.err


def test_nodata_values_of_all_bands_together_are_a_mask(cli, make_raster, landscape_pixels, tmp_path):
    pixels = landscape_pixels()
    pixels[:, 30:60, 40:90] = np.array([7, 8, 9], np.uint8)[:, None, None]
    pixels[0, 70:80, 10:30] = 7
    scene = make_raster(pixels=pixels)
    with rasterio.open(scene, "r+") as dataset:
        dataset.update_tags(NODATA_VALUES="7 8 9")
    masked = np.zeros(pixels.shape[1:], bool)
    masked[30:60, 40:90] = True

    ended = cli("run", scene, "-o", tmp_path / "clean.tif", "-q")

    assert ended.code == 0
    with rasterio.open(tmp_path / "clean.tif") as dataset:
        found, mask = dataset.read(), dataset.dataset_mask()
    assert np.array_equal(found[:, masked], pixels[:, masked])
    assert np.array_equal(mask == 0, masked)
