"""What a run is begun with: anything that its pixels come from, and nothing that a viewer leaves beside them."""

import os

import numpy as np
import pytest
import rasterio
from rasterio.shutil import copy as copy_raster

from infdehaze_cli import RunConfig
from infdehaze_cli.identity import identify
from infdehaze_cli.raster import Scene


@pytest.fixture
def identity(tiny_checkpoint):
    def of(path):
        with Scene.open(path) as scene:
            return identify(scene, RunConfig(weights=str(tiny_checkpoint), device="cpu"), None)

    return of


@pytest.fixture
def masked(make_raster):
    """A scene with a mask in a file of its own."""
    path = make_raster()
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.full(dataset.shape, 255, np.uint8))
    assert path.with_name("scene.tif.msk").is_file()
    return path


def test_it_is_the_same_twice_and_with_statistics_beside_it(masked, identity):
    before = identity(masked)
    masked.with_name("scene.tif.aux.xml").write_text("<PAMDataset></PAMDataset>")

    assert identity(masked) == before


def test_another_mask_is_another_input(masked, identity):
    before = identity(masked)
    mask = masked.with_name("scene.tif.msk")
    os.utime(mask, ns=(1, 1))

    assert identity(masked) != before


def test_another_part_of_a_mosaic_is_another_input(make_raster, identity, tmp_path):
    part = make_raster()
    mosaic = tmp_path / "mosaic.vrt"
    copy_raster(str(part), str(mosaic), driver="VRT")
    before = identity(mosaic)
    os.utime(part, ns=(1, 1))

    assert identity(mosaic) != before
