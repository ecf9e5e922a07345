"""On a GPU: the attribution of the shipped weights is that of the CPU, adds up, and keeps to the prediction."""

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from infdehaze_cli.attribute import attribute
from infdehaze_cli.geometry import Window
from infdehaze_cli.plan import RunConfig

WINDOW = Window(120, 300, 40, 50)


@pytest.fixture(scope="module")
def pair(picture, tmp_path_factory):
    clear, folder = picture(520, 610), tmp_path_factory.mktemp("pair")
    profile = {"driver": "GTiff", "count": 3, "height": 520, "width": 610, "dtype": "uint8", "crs": "EPSG:3857"}
    for name, pixels in (("clear", clear), ("hazy", 0.3 * clear + 0.6)):
        with rasterio.open(folder / f"{name}.tif", "w", transform=Affine.translation(1, 1), **profile) as file:
            file.write((pixels * 255).round().astype(np.uint8))
    return folder


@pytest.mark.parametrize("batch", [1, 4])
def test_the_attribution_on_the_gpu_is_that_of_the_cpu(pair, tmp_path, batch):
    maps = {}
    for device in ("cpu", "cuda"):
        found = attribute(
            pair / "hazy.tif",
            tmp_path / f"{device}.tif",
            WINDOW,
            reference=pair / "clear.tif",
            steps=4,
            config=RunConfig(device=device, batch=batch, weights="lite"),
        )
        with rasterio.open(found.dst) as file:
            maps[device] = file.read()
        assert found.peak_device_bytes <= found.predicted_device_bytes
    largest = np.abs(maps["cpu"]).max()
    assert largest > 0
    # equal values are ranked in another order there, and a rank's gradient goes to one pixel of them
    assert np.quantile(np.abs(maps["cuda"] - maps["cpu"]), 0.999) < 0.01 * largest
    assert maps["cuda"].sum(dtype=np.float64) == pytest.approx(maps["cpu"].sum(dtype=np.float64), rel=0.01)
