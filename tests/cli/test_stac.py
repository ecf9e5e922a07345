"""`run --stac`: an item that pystac reads, with the place, the grid and the bands of the output."""

import itertools
import sys

import pystac
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine
from rasterio.warp import transform_bounds

from infdehaze_cli import stac


def test_an_item_describes_the_output(cli, make_raster, tmp_path):
    src, dst, path = make_raster(bands=4), tmp_path / "clean.tif", tmp_path / "items" / "clean.json"
    path.parent.mkdir()

    assert cli("run", src, "-o", dst, "--stac", path).code == 0

    item = pystac.Item.from_file(str(path))
    with rasterio.open(dst) as made:
        corners = [made.transform @ (x * made.width, y * made.height) for x in (0, 1) for y in (0, 1)]
        xs, ys = zip(*corners, strict=True)
        west, south, east, north = transform_bounds(made.crs, "EPSG:4326", min(xs), min(ys), max(xs), max(ys))
        assert item.properties["proj:shape"] == [made.height, made.width]
        assert item.properties["proj:transform"] == list(made.transform)[:6]
    assert item.id == "clean"
    assert item.properties["proj:code"] == "EPSG:32633"
    # a rotated grid: its bounds hold the footprint
    assert west - 1e-6 <= item.bbox[0] < item.bbox[2] <= east + 1e-6
    assert south - 1e-6 <= item.bbox[1] < item.bbox[3] <= north + 1e-6
    ring = item.geometry["coordinates"][0]
    assert ring[0] == ring[-1]
    assert sum(a[0] * b[1] - b[0] * a[1] for a, b in itertools.pairwise(ring)) > 0
    asset = item.assets["data"]
    assert asset.media_type == pystac.MediaType.COG
    assert asset.get_absolute_href() == str(dst)
    assert asset.href == "../clean.tif"
    bands = asset.to_dict()["bands"]
    assert [band.get("eo:common_name") for band in bands] == ["red", "green", "blue", None]
    assert bands[3]["description"] == "near infrared"
    assert {band["data_type"] for band in bands} == {"uint8"}
    assert [path.name for path in path.parent.iterdir()] == ["clean.json"]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [({"TIFFTAG_DATETIME": "2019:05:04 10:20:30"}, "2019-05-04T10:20:30"), ({"TIFFTAG_DATETIME": "some day"}, None)],
)
def test_the_time_is_that_of_the_picture_if_it_is_told(make_raster, tags, expected):
    src = make_raster()
    with rasterio.open(src, "r+") as file:
        file.update_tags(**tags)

    with rasterio.open(src) as file:
        content = stac.describe(file, src.with_suffix(".json"), src)

    properties = content["properties"]
    told = properties["datetime"]
    assert told.startswith(expected) if expected else told[:19] == properties["created"][:19]


def test_ground_control_points_give_a_place(make_raster):
    points = [GroundControlPoint(r, c, 10 + c / 100, 50 - r / 100) for r in (0, 96) for c in (0, 120)]
    src = make_raster(profile={"crs": "EPSG:4326", "transform": None, "gcps": points})

    with rasterio.open(src) as file:
        box = stac.describe(file, src.with_suffix(".json"), src)["bbox"]

    assert box == pytest.approx([10, 49.04, 11.2, 50])


def test_a_raster_of_no_known_place_gets_an_item_without_geometry(cli, make_raster, tmp_path):
    src = make_raster(profile={"crs": None})

    assert cli("run", src, "-o", tmp_path / "clean.tif", "--stac", tmp_path / "clean.json").code == 0

    item = pystac.Item.from_file(str(tmp_path / "clean.json"))
    assert item.geometry is None
    assert item.bbox is None


def test_a_map_of_another_world_gets_an_item_without_geometry(make_raster):
    mars = (
        'GEOGCS["Mars 2000",DATUM["D_Mars_2000",SPHEROID["Mars_2000",3396190,169.89]],'
        'PRIMEM["Reference_Meridian",0],UNIT["degree",0.0174532925199433]]'
    )
    src = make_raster(profile={"crs": mars, "transform": Affine(0.01, 0, 10, 0, -0.01, 5)})

    with rasterio.open(src) as file:
        assert stac.footprint(file) is None


def test_what_cannot_be_written_is_said_before_the_work(cli, make_raster, tmp_path, monkeypatch):
    src, dst = make_raster(), tmp_path / "clean.tif"
    (tmp_path / "old.json").write_text("{}")
    for place in (tmp_path / "old.json", tmp_path / "none" / "item.json", tmp_path, dst, "s3://bucket/item.json"):
        assert cli("run", src, "-o", dst, "--stac", place).code == 2
    monkeypatch.setitem(sys.modules, "pystac", None)
    ended = cli("run", src, "-o", dst, "--stac", tmp_path / "item.json")
    assert ended.code == 2
    assert "infdehaze[stac]" in ended.err
    assert not dst.exists()
