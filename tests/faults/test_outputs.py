"""Outputs that are something else already: refused, or written as ``cp`` would, and the input is never damaged."""

import os
import sys

import pytest
import rasterio
from rasterio.shutil import copy as copy_raster

from infdehaze_cli import StorageError, UsageError, dehaze

links = pytest.mark.skipif(sys.platform == "win32", reason="links take rights there")


def folder(src, dst):
    dst.mkdir()


def same_file(src, dst):
    os.link(src, dst)


def link_to_source(src, dst):
    dst.symlink_to(src)


def link_to_nothing(src, dst):
    dst.symlink_to(dst.with_name("nothing.tif"))


def read_only(src, dst):
    dst.write_bytes(b"precious")
    dst.chmod(0o444)


def pipe(src, dst):
    os.mkfifo(dst)


def facts(path):
    """Return what reading leaves as it is: the time of the last access is not among it."""
    found = os.lstat(path)
    owner = (found.st_uid, found.st_gid)
    return found.st_mode, found.st_ino, found.st_dev, found.st_nlink, *owner, found.st_size, found.st_mtime_ns


REFUSED = {
    folder: "folder",
    same_file: "source itself",
    link_to_source: "source itself",
    link_to_nothing: "leads nowhere",
    read_only: "read-only",
    pipe: "no file",
}


@links
@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
@pytest.mark.parametrize("kind", ["output", "haze map", "vrt"])
def test_what_cannot_be_replaced_is_refused_and_stays(src, dst, config, scratch, make, kind):
    dst = dst.with_suffix(".vrt") if kind == "vrt" else dst
    make(src, dst)
    before = src.read_bytes(), facts(dst), sorted(dst.parent.iterdir())

    other = {"dst": dst.with_name("other.tif"), "haze_map": dst} if kind == "haze map" else {"dst": dst}
    with pytest.raises(UsageError, match=REFUSED[make]):
        dehaze(src, **other, config=config(), overwrite=True, vrt=kind == "vrt")

    assert (src.read_bytes(), facts(dst), sorted(dst.parent.iterdir())) == before
    assert list(scratch.iterdir()) == []


@links
@pytest.mark.parametrize("layout", ["cog", "gtiff"])
def test_through_a_link_the_file_that_it_leads_to_is_replaced(src, dst, config, whole, tmp_path, layout):
    real = tmp_path / "elsewhere" / "real.tif"
    real.parent.mkdir()
    real.write_bytes(b"old")
    dst.symlink_to(real)

    dehaze(src, dst, config=config(), format=layout, overwrite=True)

    assert dst.is_symlink()
    assert [path.name for path in (*dst.parent.iterdir(), *real.parent.iterdir())] == ["clean.tif", "real.tif"]
    with rasterio.open(real) as found:
        assert found.shape == (230, 290)
    assert (real.read_bytes() == whole) == (layout == "cog")


@pytest.mark.parametrize("part", ["tile.tif", "tile.tif.ovr", "tile.tif.aux.xml"])
def test_a_part_of_the_source_is_not_written_over(src, config, tmp_path, part):
    """A mosaic names others: its tiles, their overviews and what lies beside them."""
    tile = tmp_path / "tile.tif"
    tile.write_bytes(src.read_bytes())
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(tile, "r+") as file:
        file.build_overviews([2])
    (tmp_path / "tile.tif.aux.xml").write_text("<PAMDataset/>")
    copy_raster(tile, tmp_path / "mosaic.vrt", driver="VRT")
    source = tmp_path / "mosaic.vrt" if part == "tile.tif" else tile
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}

    with pytest.raises(UsageError, match="a part of the source"):
        dehaze(source, tmp_path / part, config=config(), overwrite=True)

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("key", ["s3://bucket/../other/clean.tif", "s3://bucket/a/./clean.tif", "/vsis3/bucket/a/../b"])
def test_a_key_that_steps_out_of_its_place_is_refused(src, config, scratch, key):
    with pytest.raises(UsageError, match="full key"):
        dehaze(src, key, config=config())

    assert list(scratch.iterdir()) == []


def test_a_missing_folder_is_not_made(src, dst, config, scratch):
    with pytest.raises(UsageError, match="make it first"):
        dehaze(src, dst.parent / "no" / "clean.tif", config=config())

    assert list(dst.parent.iterdir()) == []


def test_two_dots_in_a_local_path_mean_the_folder_above(src, dst, config, whole):
    (dst.parent / "below").mkdir()

    dehaze(src, dst.parent / "below" / ".." / "clean.tif", config=config())

    assert dst.read_bytes() == whole


@pytest.mark.skipif(sys.platform != "linux", reason="it takes tmpfs")
def test_a_read_only_file_system_is_5(src, config, scratch, mount):
    place = mount("1m")
    mount.read_only(place)

    with pytest.raises(StorageError, match="check that its folder can be written"):
        dehaze(src, place / "clean.tif", config=config(), format="gtiff")

    assert list(place.iterdir()) == []
    assert list(scratch.iterdir()) == []
