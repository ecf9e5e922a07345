"""Small real GeoTIFFs, and a way through `Scene` and `OutputWriter` that changes the picture or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from infdehaze_cli.geometry import split_windows
from infdehaze_cli.raster import OutputWriter, Scene
from infdehaze_cli.raster._gdal import open_quietly

Pixels = NDArray[Any]
Change = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@pytest.fixture
def make_tiff(tmp_path: Path) -> Callable[..., Path]:
    """Write an array ``(bands, rows, cols)`` as a georeferenced GeoTIFF."""

    def make(
        pixels: Pixels,
        *,
        name: str = "scene.tif",
        colours: Sequence[ColorInterp] | None = None,
        mask: Pixels | None = None,
        external_mask: bool = False,
        tags: dict[str, str] | None = None,
        **profile: Any,
    ) -> Path:
        path = tmp_path / name
        count, height, width = pixels.shape
        settings: dict[str, Any] = {
            "driver": "GTiff",
            "height": height,
            "width": width,
            "count": count,
            "dtype": pixels.dtype.name,
            "crs": "EPSG:32633",
            "transform": Affine(2.0, 0.0, 500_000.0, 0.0, -2.0, 5_000_000.0),
        }
        if colours is None or ColorInterp.alpha not in colours:
            # else the driver takes a fourth band for alpha
            settings["alpha"] = "unspecified"
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=not external_mask),
            open_quietly(path, "w", **(settings | profile)) as dataset,
        ):
            if colours is not None:
                dataset.colorinterp = tuple(colours)
            if tags:
                dataset.update_tags(**tags)
            dataset.write(pixels)
            if mask is not None:
                dataset.write_mask(mask)
        return path

    return make


@dataclass(frozen=True)
class Raster:
    """What a file holds, as read by rasterio."""

    pixels: Pixels
    nodata: float | None
    crs: Any
    transform: Any
    colours: tuple[ColorInterp, ...]
    flags: Any
    tags: dict[str, str]
    profile: dict[str, Any]
    overviews: list[int]
    mask: Pixels | None


@pytest.fixture
def load() -> Callable[[Path], Raster]:
    def read(path: Path) -> Raster:
        with open_quietly(path) as dataset:
            shared = any("per_dataset" in {flag.name for flag in flags} for flags in dataset.mask_flag_enums)
            return Raster(
                pixels=dataset.read(),
                nodata=dataset.nodata,
                crs=dataset.crs,
                transform=dataset.transform,
                colours=dataset.colorinterp,
                flags=dataset.mask_flag_enums,
                tags=dataset.tags(),
                profile=dict(dataset.profile),
                overviews=dataset.overviews(1),
                mask=dataset.read_masks(1) if shared else None,
            )

    return read


def brighten(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a picture that differs from its input nearly everywhere."""
    return values * np.float32(0.8) + np.float32(0.05)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that holds nothing but what the test writes."""
    path = tmp_path / "out [1]"
    path.mkdir()
    return path


@pytest.fixture
def restore(tmp_path: Path) -> Callable[..., Path]:
    """Send a source through `Scene` and `OutputWriter`; the picture is changed unless told otherwise."""

    def run(
        src: Path,
        *,
        change: Change = brighten,
        bands: tuple[int, ...] | None = None,
        scale_range: tuple[float, float] | None = None,
        **writing: Any,
    ) -> Path:
        dst = writing.pop("dst", tmp_path / "restored.tif")
        with (
            Scene.open(src, bands=bands, scale_range=scale_range) as scene,
            OutputWriter(scene, dst, **writing) as writer,
        ):
            for window in split_windows(scene.height, scene.width, 256, 512):
                block = scene.read(window)
                writer.write(block, change(block.values))
            return writer.finish()

    return run


@pytest.fixture
def unchanged() -> Change:
    """A network that returns its input."""

    def identity(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return values.copy()

    return identity


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260)


@pytest.fixture
def shared() -> Path:
    """The folder of sample rasters that lies beside a checkout on a developer's machine."""
    folder = Path(__file__).resolve().parents[4] / "shared"
    if not folder.is_dir():
        pytest.skip("the folder of sample rasters is not beside this checkout")
    return folder


@pytest.fixture
def odd(shared: Path) -> Callable[[str], Path]:
    """Find one of the odd rasters by its name."""

    def find(name: str) -> Path:
        found = sorted((shared / "rasters").rglob(name))
        if not found:
            pytest.skip(f"{name} is not among the sample rasters")
        return found[0]

    return find
