"""A command line that runs in this process, tiny weights for it, and small georeferenced rasters."""

import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from infdehaze.network import InfDehaze
from infdehaze.presets import PRESETS
from infdehaze.weights import save_weights
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from infdehaze_cli.app import main
from infdehaze_cli.geometry import Window
from infdehaze_cli.plan import RunConfig
from infdehaze_cli.planner import make_plan
from infdehaze_cli.sample import Landscape

COLOURS = {
    1: (ColorInterp.gray,),
    2: (ColorInterp.undefined, ColorInterp.undefined),
    3: (ColorInterp.red, ColorInterp.green, ColorInterp.blue),
    4: (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.nir),
}
NAMES = ("red", "green", "blue", "near infrared")
TRANSFORM = Affine(1.5, 0.2, 463_000.0, 0.1, -1.5, 5_571_000.0)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory, tiny):
    """A checkpoint of a shallower tiny preset whose head predicts a little of everything."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = InfDehaze(replace(tiny, depths=(1, 1, 1, 1), bottleneck_depth=1, fixed_batch=16))
        model.decoder.head.linear.weight.data.normal_(std=0.05)
        model.decoder.head.linear.bias.data.normal_(std=0.05)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, model, {"licence": "for tests alone"})
    return path


@dataclass(frozen=True)
class Ended:
    """How a call of the command line ended, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def scratch(tmp_path_factory):
    """An empty folder for work files, apart from the test's own."""
    return tmp_path_factory.mktemp("scratch")


SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@pytest.fixture
def cli(monkeypatch, capsys, scratch, tiny_checkpoint):
    """Run ``infdehaze`` with arguments, tiny weights by default and the user's environment out of the way."""
    for name in [name for name in os.environ if name.startswith("INFDEHAZE_")]:
        monkeypatch.delenv(name)
    # set, so that what --debug leaves behind goes away with the test
    monkeypatch.setenv("INFDEHAZE_DEBUG", "")
    monkeypatch.setenv("INFDEHAZE_SCRATCH", str(scratch))
    monkeypatch.setenv("INFDEHAZE_WEIGHTS", str(tiny_checkpoint))
    monkeypatch.setenv("INFDEHAZE_DEVICE", "cpu")
    monkeypatch.setenv("COLUMNS", "200")
    handlers = {number: signal.getsignal(number) for number in SIGNALS}

    def run(*arguments: object) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        code = caught.value.code
        return Ended(code if isinstance(code, int) else 0, *capsys.readouterr())

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def landscape_pixels():
    """Draw a landscape under an even veil, in any of the dtypes: (bands, height, width)."""
    whole = Landscape(height=512, width=512, seed=3).window(Window(0, 0, 512, 512))
    veiled = 0.6 * whole + 0.4 * 210
    ranges = {"uint8": (0, 1), "uint16": (300, 40), "int16": (-500, 12), "float32": (0, 1 / 255)}

    def draw(bands: int = 3, height: int = 96, width: int = 120, dtype: str = "uint8") -> np.ndarray:
        offset, factor = ranges[dtype]
        part = veiled[:bands, 40 : 40 + height, 60 : 60 + width]
        return (offset + factor * part).astype(dtype)

    return draw


@pytest.fixture
def make_raster(tmp_path, landscape_pixels):
    """Write a georeferenced GeoTIFF with tags and descriptions; pixels are drawn unless given."""

    def make(name: str = "scene.tif", pixels: np.ndarray | None = None, **drawn: Any) -> Path:
        profile = drawn.pop("profile", {})
        if pixels is None:
            pixels = landscape_pixels(**drawn)
        bands, height, width = pixels.shape
        settings = {
            "driver": "GTiff",
            "count": bands,
            "height": height,
            "width": width,
            "dtype": pixels.dtype.name,
            "crs": "EPSG:32633",
            "transform": TRANSFORM,
            "alpha": "unspecified",
            "photometric": "RGB" if bands >= 3 else "MINISBLACK",
            **profile,
        }
        path = tmp_path / name
        with rasterio.open(path, "w", **settings) as file:
            file.colorinterp = COLOURS[bands]
            file.descriptions = NAMES[:bands]
            file.update_tags(sensor="a camera", flight="17")
            file.update_tags(1, wavelength="665")
            file.write(pixels)
        return path

    return make


@dataclass(frozen=True)
class Content:
    """What a raster holds."""

    pixels: np.ndarray
    place: tuple[Any, ...]
    """CRS, transform and nodata."""
    bands: tuple[Any, ...]
    """Dtypes, colour interpretation and descriptions."""
    tags: dict[str, str]
    band_tags: list[dict[str, str]]
    profile: dict[str, Any]


@pytest.fixture(scope="session")
def read_raster():
    """Read all of a raster."""

    def read(path: Path) -> Content:
        with rasterio.open(path) as file:
            return Content(
                pixels=file.read(),
                place=(file.crs, file.transform, file.nodata),
                bands=(file.dtypes, file.colorinterp, file.descriptions),
                tags=file.tags(),
                band_tags=[file.tags(band) for band in file.indexes],
                profile=dict(file.profile),
            )

    return read


@pytest.fixture(scope="session")
def listing():
    """List the files below folders with their bytes, to tell whether a call has left anything."""

    def list_files(*folders: Path) -> dict[str, bytes]:
        return {str(p): p.read_bytes() for folder in folders for p in sorted(folder.rglob("*")) if p.is_file()}

    return list_files


PARAMETERS = {"base": 340_000_000, "fast": 305_000_000, "lite": 5_000_000}


@pytest.fixture(scope="session")
def plan():
    """Plan a run of a scene; the host has plenty of memory unless ``ram`` says otherwise."""

    def make(side=2048, preset="base", *, height=None, width=None, device="cpu", source=None, rates=None, **config):
        config = RunConfig(**{"ram": 2**40, **config})
        height, width = height or side, width or side
        return make_plan(config, height, width, PRESETS[preset], PARAMETERS[preset], device, source, rates)

    return make
