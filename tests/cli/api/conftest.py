"""A request of a small network, and a raster to send through it."""

import numpy as np
import pytest
import rasterio
import torch
from infdehaze.weights import save_weights
from rasterio.transform import Affine

from infdehaze_cli import RunConfig

HEIGHT, WIDTH = 170, 205
CRS, TRANSFORM = "EPSG:32633", Affine(2.0, 0.0, 500_000.0, 0.0, -2.0, 5_000_000.0)


@pytest.fixture(scope="module")
def model(make_model):
    return make_model(block_tokens=4, depths=(2, 1, 1, 1), coarse_share=0.4)


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, model, {}, dtype=torch.float32)
    return path


@pytest.fixture
def config(weights, tmp_path):
    """Make a request in full precision, with a scratch folder of the test's own."""
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)

    def make(**changes):
        full = {"device": "cpu", "precision": "fp32", "residual_dtype": "fp32", "residuals": "ssd", "batch": 4}
        return RunConfig(**{"weights": str(weights), "scratch": scratch, **full, **changes})

    return make


@pytest.fixture(scope="module")
def pixels(picture):
    return (picture(HEIGHT, WIDTH) * 255).round().astype(np.uint8)


@pytest.fixture
def raster(tmp_path):
    """Write (bands, rows, cols) as a georeferenced GeoTIFF in a folder of its own."""

    def write(array, colours=None, **profile):
        path = tmp_path / "in" / "scene.tif"
        path.parent.mkdir(exist_ok=True)
        count, height, width = array.shape
        shape = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": array.dtype.name}
        with rasterio.open(path, "w", crs=CRS, transform=TRANSFORM, **shape, **profile) as file:
            if colours:
                file.colorinterp = colours
            file.write(array)
        return path

    return write


@pytest.fixture
def dst(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "clean.tif"
