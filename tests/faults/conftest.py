"""Faults on demand: a scene that goes to disk in many batches, and a server of processes that may be killed.

``INFDEHAZE_FAULTS=long`` repeats each fault as often as docs/reliability.md promises; else each is tried a few times.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from infdehaze.network import InfDehaze
from infdehaze.weights import save_weights
from rasterio.transform import Affine

from infdehaze_cli import RunConfig, dehaze

HEIGHT, WIDTH = 230, 290


@pytest.fixture(scope="session")
def times():
    """Return how often a fault is tried: a few times, or as often as promised."""
    return lambda few, many: many if os.environ.get("INFDEHAZE_FAULTS") == "long" else few


@pytest.fixture(scope="session")
def make_weights(tmp_path_factory, tiny):
    """Write a small checkpoint whose head predicts a little of everything."""

    def make(seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = InfDehaze(replace(tiny, depths=(1, 1, 1, 1), bottleneck_depth=1, fixed_batch=16))
            model.decoder.head.linear.weight.data.normal_(std=0.05)
            model.decoder.head.linear.bias.data.normal_(std=0.05)
        path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
        save_weights(path, model, {"licence": "for tests alone"})
        return path

    return make


@pytest.fixture(scope="session")
def weights(make_weights):
    return make_weights(7)


@pytest.fixture(scope="session")
def draw(picture):
    """Write a scene of thirty tiles into a folder."""

    def make(folder):
        return _write(folder / "scene.tif", picture)

    return make


@pytest.fixture
def src(tmp_path, draw):
    folder = tmp_path / "in"
    folder.mkdir()
    return draw(folder)


@pytest.fixture(scope="session")
def whole(draw, weights, tmp_path_factory):
    """The output of a run without faults, as bytes."""
    folder = tmp_path_factory.mktemp("whole")
    settings = {"weights": str(weights), "scratch": folder, "device": "cpu", "residuals": "ssd", "batch": 2}
    dehaze(draw(folder), folder / "clean.tif", config=RunConfig(**settings))
    return (folder / "clean.tif").read_bytes()


def _write(path, picture):
    pixels = (picture(HEIGHT, WIDTH) * 255).round().astype(np.uint8)
    place = {"crs": "EPSG:32633", "transform": Affine(1, 0, 463_000, 0, -1, 5_571_000)}
    shape = {"count": 3, "height": HEIGHT, "width": WIDTH, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place) as file:
        file.write(pixels)
    return path


@pytest.fixture
def dst(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "clean.tif"


@pytest.fixture
def scratch(tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def config(weights, scratch):
    """Make a request whose residuals all go to disk, two tiles a batch."""

    def make(**changes):
        settings = {"weights": str(weights), "scratch": scratch, "device": "cpu", "residuals": "ssd", "batch": 2}
        return RunConfig(**{**settings, **changes})

    return make


class Program:
    """Runs the command line in processes that are forked from one that has loaded everything."""

    def __init__(self, folder: Path) -> None:
        self._server = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={k: v for k, v in os.environ.items() if not k.startswith("INFDEHAZE_")} | {"OMP_NUM_THREADS": "1"},
        )
        self.out, self.err = folder / "stdout", folder / "stderr"

    def start(self, *arguments, file_size=None):
        """Begin a run; return its process number."""
        request = {"arguments": [str(a) for a in arguments], "out": str(self.out), "err": str(self.err)}
        return self._ask({**request, "file_size": file_size})["pid"]

    def wait(self, pid):
        """Return the exit code, negative for the signal that killed it."""
        return self._ask({"wait": pid})["code"]

    def _ask(self, request):
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def close(self):
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork here")
    server = Program(tmp_path_factory.mktemp("program"))
    yield server
    server.close()
