"""Sources and outputs in an object store: whole or not at all, and the credentials stay where they are."""

import json
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine
from rio_cogeo.cogeo import cog_validate

from infdehaze_cli import api
from infdehaze_cli.raster.remote import RemoteTarget

SECRET = "kept-secret-9f3a"


@pytest.mark.parametrize("spelling", ["s3://{}/deep/clean.tif", "/vsis3/{}/deep/clean.tif"])
def test_a_scene_goes_from_store_to_store_as_from_file_to_file(cli, store, make_raster, tmp_path, scratch, spelling):
    local, dst = make_raster(bands=4), spelling.format(store.bucket)
    store.put("scene.tif", local.read_bytes())
    cli("run", local, "-o", tmp_path / "expected.tif")

    ended = cli("run", f"s3://{store.bucket}/scene.tif", "-o", dst, "--json", "-q")

    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["dst"] == dst
    assert store.keys() == ["deep/clean.tif", "scene.tif"]
    assert store.get("deep/clean.tif") == (tmp_path / "expected.tif").read_bytes()
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("content", ["raster", b"no raster at all"])
def test_an_object_is_replaced_only_when_told_to(cli, store, make_raster, tmp_path, content):
    local, dst = make_raster(), f"s3://{store.bucket}/clean.tif"
    old = local.read_bytes() if content == "raster" else content
    store.put("clean.tif", old)

    refused = cli("run", local, "-o", dst)
    assert refused.code == 2
    assert "--overwrite" in refused.err
    assert store.get("clean.tif") == old

    assert cli("run", local, "-o", dst, "--overwrite").code == 0
    (tmp_path / "back.tif").write_bytes(store.get("clean.tif"))
    assert cog_validate(tmp_path / "back.tif")[0]


def test_a_bucket_that_is_not_there_is_noticed_before_the_work(cli, store, make_raster):
    ended = cli("run", make_raster(), "-o", "s3://no-such-bucket-here/clean.tif", "-q")

    assert ended.code == 5
    assert "bucket" in ended.err
    assert SECRET not in ended.err


def test_a_failed_upload_leaves_what_the_next_run_goes_on_from_and_no_raster(
    cli, store, make_raster, scratch, monkeypatch
):
    def announce(self, name, total):
        if name == "finish":
            store.remove_bucket()

    monkeypatch.setattr(api.Silent, "phase", announce)

    ended = cli("run", make_raster(), "-o", f"s3://{store.bucket}/clean.tif", "-q", "--debug")

    assert ended.code == 5
    assert SECRET not in ended.out + ended.err
    (folder,) = scratch.iterdir()
    assert folder.name.startswith("infdehaze-")
    assert not list(scratch.rglob("*.tif"))


def test_an_object_that_comes_meanwhile_stays(cli, store, make_raster, monkeypatch):
    def announce(self, name, total):
        if name == "finish":
            store.put("clean.tif", b"somebody else's")

    monkeypatch.setattr(api.Silent, "phase", announce)

    ended = cli("run", make_raster(), "-o", f"s3://{store.bucket}/clean.tif", "-q")

    assert ended.code == 5
    assert "meanwhile" in ended.err
    assert store.get("clean.tif") == b"somebody else's"


def test_an_upload_that_fails_removes_nothing_that_lies_under_the_name(cli, store, make_raster, monkeypatch):
    def fails(source, target):
        store.put("clean.tif", b"somebody else's")
        raise rasterio.errors.RasterioIOError("the connection was lost")

    monkeypatch.setattr("rasterio.shutil.copyfiles", fails)

    assert cli("run", make_raster(), "-o", f"s3://{store.bucket}/clean.tif", "-q").code == 5
    assert store.get("clean.tif") == b"somebody else's"


def test_a_failed_run_keeps_the_object_that_it_would_have_replaced(cli, store, make_raster, monkeypatch):
    store.put("clean.tif", b"precious")

    def announce(self, name, total):
        if name == "finish":
            raise KeyboardInterrupt

    monkeypatch.setattr(api.Silent, "phase", announce)

    assert cli("run", make_raster(), "-o", f"s3://{store.bucket}/clean.tif", "-q", "--overwrite").code == 130
    assert store.get("clean.tif") == b"precious"


def test_a_sidecar_that_would_be_taken_for_a_part_of_the_output_is_refused(cli, store, make_raster):
    store.put("clean.tif.msk", b"mask of another file")

    ended = cli("run", make_raster(), "-o", f"s3://{store.bucket}/clean.tif", "--overwrite")

    assert ended.code == 2
    assert "clean.tif.msk" in ended.err


def test_a_large_file_is_sent_in_parts(store, tmp_path, monkeypatch):
    monkeypatch.setenv("VSIS3_CHUNK_SIZE", "5")
    path = tmp_path / "large.tif"
    pixels = np.random.default_rng(1).integers(0, 256, (3, 2300, 2000), dtype=np.uint8)
    profile = {"driver": "GTiff", "count": 3, "height": 2300, "width": 2000, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(path, "w", transform=Affine.scale(2.0), **profile) as file:
        file.write(pixels)
    assert path.stat().st_size > 13_000_000

    target = RemoteTarget.check("elsewhere", f"s3://{store.bucket}/large.tif", tmp_path, overwrite=False)
    target.publish(path)

    assert store.keys() == ["large.tif"]
    assert store.get("large.tif") == path.read_bytes()


def test_several_sources_go_below_a_prefix(cli, store, make_raster):
    sources = [make_raster("north.tif"), make_raster("south.tif")]

    ended = cli("run", *sources, "--out-dir", f"s3://{store.bucket}/clean/", "--json", "-q")

    assert ended.code == 0, ended.err
    assert store.keys() == ["clean/north.tif", "clean/south.tif"]
    assert [json.loads(line)["dst"] for line in ended.out.splitlines()] == [
        f"s3://{store.bucket}/clean/{name}.tif" for name in ("north", "south")
    ]


def test_no_other_library_is_needed_for_stores(store, make_raster, scratch, tiny_checkpoint):
    local = make_raster()
    store.put("scene.tif", local.read_bytes())
    # boto3 is here for the tests alone
    program = "import sys; sys.modules['boto3'] = None; from infdehaze_cli.app import main; main()"
    places = (f"s3://{store.bucket}/scene.tif", "-o", f"s3://{store.bucket}/clean.tif")
    options = ("-q", "--device", "cpu", "--weights", str(tiny_checkpoint), "--scratch", str(scratch))

    ended = subprocess.run([sys.executable, "-c", program, "run", *places, *options], capture_output=True, check=False)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
    assert store.keys() == ["clean.tif", "scene.tif"]
