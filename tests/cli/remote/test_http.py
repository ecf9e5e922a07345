"""Sources on a web server, in archives and in mosaics; what must not be printed."""

import zipfile

import numpy as np
import pytest
from rasterio.shutil import copy as copy_raster

SECRET = "kept-secret-9f3a"


@pytest.fixture
def served(web, make_raster):
    """A scene on the web server: its local path and the server's address."""
    folder, address = web
    local = make_raster(height=300, width=280, profile={"tiled": True, "blockxsize": 64, "blockysize": 64})
    (folder / "scene.tif").write_bytes(local.read_bytes())
    return local, address


@pytest.fixture
def same_as_local(cli, read_raster, tmp_path):
    """Check that a source gives the pixels and the map that a local file gives."""

    def check(src, local, *options):
        assert cli("run", local, "-o", tmp_path / "expected.tif", "-q", "--overwrite").code == 0
        ended = cli("run", src, "-o", tmp_path / "clean.tif", "-q", *options)
        assert ended == type(ended)(0, "", "")
        found, expected = read_raster(tmp_path / "clean.tif"), read_raster(tmp_path / "expected.tif")
        np.testing.assert_array_equal(found.pixels, expected.pixels)
        assert (found.place, found.bands, found.tags) == (expected.place, expected.bands, expected.tags)

    return check


@pytest.mark.parametrize("spelling", ["http://{}/scene.tif", "HTTP://{}/scene.tif", "/vsicurl/http://{}/scene.tif"])
def test_a_url_is_a_source(served, same_as_local, spelling):
    local, address = served

    same_as_local(spelling.format(address), local)


def test_a_source_may_need_a_password_and_a_query(served, same_as_local):
    local, address = served

    same_as_local(f"http://reader:pa55word@{address}/locked/scene.tif?signature={SECRET}", local)


def test_a_server_that_is_busy_for_a_moment_is_asked_again(served, same_as_local, monkeypatch):
    monkeypatch.setenv("CPL_VSIL_CURL_CHUNK_SIZE", "8192")
    local, address = served

    same_as_local(f"http://{address}/busy/scene.tif", local)


def test_an_archive_holds_sources(served, web, same_as_local, tmp_path):
    local, address = served
    for place in (tmp_path, web[0]):
        with zipfile.ZipFile(place / "scenes.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(local, "deep/scene.tif")

    same_as_local(f"/vsizip/{tmp_path}/scenes.zip/deep/scene.tif", local)
    same_as_local(f"/vsizip//vsicurl/http://{address}/scenes.zip/deep/scene.tif", local, "--overwrite")


def test_a_mosaic_of_files_on_the_web_is_a_source(served, same_as_local, tmp_path):
    local, address = served
    mosaic = tmp_path / "mosaic.vrt"
    copy_raster(local, mosaic, driver="VRT")
    text = mosaic.read_text().replace(local.name, f"/vsicurl/http://{address}/scene.tif")
    mosaic.write_text(text.replace('relativeToVRT="1"', 'relativeToVRT="0"'))

    same_as_local(mosaic, local)


@pytest.mark.parametrize("debug", [(), ("--debug",)])
@pytest.mark.parametrize("path", ["none.tif", "locked/scene.tif"])
def test_an_error_names_the_url_without_its_secrets(served, cli, tmp_path, path, debug):
    address = served[1]

    ended = cli("run", f"http://someone:{SECRET}@{address}/{path}?X-Sig={SECRET}", "-o", tmp_path / "clean.tif", *debug)

    assert ended.code == 3
    assert SECRET not in ended.out + ended.err
    assert f"http://***@{address}/{path}?***" in ended.err
    assert debug or ended.err.count("\n") == 1


def test_a_server_without_range_requests_is_told_from_a_wrong_file(served, cli, tmp_path):
    _, address = served

    ended = cli("run", f"http://{address}/whole/scene.tif", "-o", tmp_path / "clean.tif", "-q")

    assert ended.code == 3
    assert "its server gives whole files only, so download it first" in ended.err
    assert list(tmp_path.glob("clean*")) == []


def test_results_name_the_url_without_its_secrets(served, cli, tmp_path):
    url = f"http://reader:pa55word@{served[1]}/locked/scene.tif?sig={SECRET}"

    ended = cli("run", url, "-o", tmp_path / "clean.tif", "--json", "-q")

    assert ended.code == 0
    assert SECRET not in ended.out
    assert "pa55word" not in ended.out
    assert SECRET.encode() not in (tmp_path / "clean.tif").read_bytes()


def test_a_server_that_breaks_ends_a_run_in_one_line_and_leaves_nothing(
    served, web, cli, tmp_path, scratch, monkeypatch
):
    local, address = served
    # a COG has its header in front, so that it opens before the server breaks
    copy_raster(local, web[0] / "cog.tif", driver="COG", BLOCKSIZE=64, COMPRESS="NONE")
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "1")
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.01")

    ended = cli("run", f"http://{address}/broken/cog.tif?sig={SECRET}", "-o", tmp_path / "clean.tif", "-q")

    assert ended.code == 5
    assert "check the network" in ended.err
    assert SECRET not in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "clean.tif").exists()
    assert list(scratch.iterdir()) == []
