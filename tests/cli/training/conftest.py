"""A network that trains in milliseconds, and a folder of small pictures."""

import numpy as np
import pytest
import rasterio
from infdehaze.presets import PRESETS, Preset
from rasterio.transform import Affine


def write_picture(path, picture):
    """Write (bands, rows, cols) as GeoTIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands, rows, cols = picture.shape
    profile = {"driver": "GTiff", "count": bands, "height": rows, "width": cols, "dtype": picture.dtype.name}
    with rasterio.open(
        path, "w", transform=Affine(2, 0, 500_000, 0, -2, 4_000_000), crs="EPSG:3857", **profile
    ) as file:
        file.write(picture)


@pytest.fixture(scope="session", name="write_picture")
def writer():
    return write_picture


@pytest.fixture
def tiny(monkeypatch):
    preset = Preset(
        name="tiny",
        stem_stride=8,
        widths=(8, 8, 12, 16),
        depths=(1, 1, 1, 1),
        heads=(2, 2, 3, 4),
        window=4,
        mlp_ratio=2.0,
        sfca_dim=4,
        bottleneck_depth=1,
        bottleneck_heads=2,
        block_tokens=16,
        hash_bits=4,
        expert_expansion=1,
        field_stride=4,
        tile=64,
        overlap=16,
    )
    monkeypatch.setitem(PRESETS, "tiny", preset)
    return preset


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Make a folder of two sources with smooth and rough pictures."""
    root, rng = tmp_path_factory.mktemp("clear"), np.random.default_rng(0)
    for source, count in (("fields", 3), ("town", 1)):
        for index in range(count):
            coarse = rng.integers(20, 160, (3, 10, 12))
            fine = np.kron(coarse, np.ones((1, 12, 12))) + rng.normal(0, 8, (3, 120, 144))
            write_picture(root / source / f"{index}.tif", fine.clip(0, 255).astype(np.uint8))
    return root


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """Make a folder of three pairs under an even veil."""
    root, rng = tmp_path_factory.mktemp("paired"), np.random.default_rng(1)
    for index in range(3):
        clear = np.kron(rng.integers(20, 160, (3, 10, 12)), np.ones((1, 12, 12)))
        for folder, picture in (("clear", clear), ("hazy", 0.6 * clear + 0.4 * 210)):
            write_picture(root / folder / f"{index}.tif", picture.astype(np.uint8))
    return root
