"""Faults on demand: a scene that goes to disk in many batches, and a server of processes that may be killed.

``INFDEHAZE_FAULTS=long`` repeats each fault as often as docs/reliability.md promises; else each is tried a few times.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from infdehaze.decoder import Decoder
from infdehaze.encoder import Encoder
from infdehaze.network import InfDehaze
from infdehaze.weights import save_weights
from rasterio.transform import Affine

from infdehaze_cli import RunConfig, dehaze
from infdehaze_cli.raster.output import OutputWriter
from infdehaze_cli.store import ZarrResidualStore

HEIGHT, WIDTH = 230, 290

# the package has a function of the same name
engine = import_module("infdehaze_cli.engine.execute")


@pytest.fixture(scope="session")
def times():
    """Return how often a fault is tried: a few times, or as often as promised."""
    return lambda few, many: many if os.environ.get("INFDEHAZE_FAULTS") == "long" else few


@pytest.fixture(scope="session")
def make_weights(tmp_path_factory, tiny):
    """Write a small checkpoint whose head predicts a little of everything."""

    @cache
    def make(seed, **changes):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            sizes = {"depths": (1, 1, 1, 1), "bottleneck_depth": 1, "fixed_batch": 16}
            # the number of tiles with data counts too
            told = {"tile_statistics": True, "bottleneck_corrects": True}
            model = InfDehaze(replace(tiny, **sizes, **told, smoothing=8.0, texture=0.001, **changes))
            model.decoder.head.correct[1].weight.data.normal_(std=0.05)
            model.decoder.head.linear.weight.data.normal_(std=0.05)
            model.decoder.head.linear.bias.data.normal_(std=0.05)
        path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
        save_weights(path, model, {"licence": "for tests alone"})
        return path

    return make


@pytest.fixture
def share():
    """Return the share of the look at half the size; tests that have both looks replace it."""
    return 0.0


@pytest.fixture
def weights(make_weights, share):
    return make_weights(7, coarse_share=share)


@pytest.fixture(scope="session")
def draw(picture):
    """Write a scene of thirty tiles, most of which lack some pixels, into a folder."""

    def make(folder):
        return _write(folder / "scene.tif", picture)

    return make


@pytest.fixture
def src(tmp_path, draw):
    folder = tmp_path / "in"
    folder.mkdir()
    return draw(folder)


@pytest.fixture(scope="session")
def make_whole(draw, make_weights, tmp_path_factory):
    """Return the output of a run without faults, as bytes."""

    @cache
    def make(share):
        folder, weights = tmp_path_factory.mktemp("whole"), str(make_weights(7, coarse_share=share))
        settings = {"weights": weights, "scratch": folder, "device": "cpu", "residuals": "ssd", "batch": 2}
        dehaze(draw(folder), folder / "clean.tif", config=RunConfig(**settings))
        return (folder / "clean.tif").read_bytes()

    return make


@pytest.fixture
def whole(make_whole, share):
    return make_whole(share)


def _slanting_stripes():
    row, col = np.ogrid[:HEIGHT, :WIDTH]
    return (3 * col + row) % 270 < 70


def _write(path, picture):
    pixels = (picture(HEIGHT, WIDTH) * 255).round().astype(np.uint8)
    pixels[:, _slanting_stripes()] = 0
    place = {"crs": "EPSG:32633", "transform": Affine(1, 0, 463_000, 0, -1, 5_571_000)}
    shape = {"count": 3, "height": HEIGHT, "width": WIDTH, "dtype": "uint8", "nodata": 0}
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


@pytest.fixture
def worked(monkeypatch):
    """Count the tiles that are encoded and decoded, and how often the bottleneck is done."""
    done = {"encoded": 0, "bottleneck": 0, "decoded": 0}

    def counted(key, works, amount):
        def call(*args, **kwargs):
            done[key] += amount(*args)
            return works(*args, **kwargs)

        return call

    monkeypatch.setattr(Encoder, "forward", counted("encoded", Encoder.forward, lambda self, x: len(x)))
    monkeypatch.setattr(Decoder, "forward", counted("decoded", Decoder.forward, lambda self, x, *rest: len(x)))
    monkeypatch.setattr(engine, "stream_bottleneck", counted("bottleneck", engine.stream_bottleneck, lambda *args: 1))
    return done


@pytest.fixture
def interrupt(src, dst, config, scratch):
    """Run until a method is called for the n-th time, which raises; return the folder that is left, if any."""

    def run(place="loading", call=None, error=None, **changes):
        error = error or KeyboardInterrupt()
        owner, name, usual = PLACES[place]
        works, calls = getattr(owner, name), []

        def broken(*args, **kwargs):
            calls.append(name)
            if len(calls) == (call or usual):
                raise error
            return works(*args, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, broken)
            with pytest.raises(type(error)) as caught:
                dehaze(src, dst, config=config(**changes))
        assert caught.value is error
        assert list(dst.parent.iterdir()) == []
        return next(scratch.iterdir(), None)

    return run


PLACES = {
    "encoding": (Encoder, "forward", 7),
    "mixing": (engine, "stream_bottleneck", 1),
    "decoding": (Decoder, "forward", 6),
    "loading": (ZarrResidualStore, "read", 5),
    "writing": (OutputWriter, "write", 1),
    "finishing": (OutputWriter, "finish", 1),
    # with both looks, five batches of nine tiles come first
    "encoding at half the size": (Encoder, "forward", 4),
    "mixing at half the size": (engine, "stream_bottleneck", 1),
    "decoding at half the size": (Decoder, "forward", 4),
    "encoding after it": (Encoder, "forward", 9),
    "mixing after it": (engine, "stream_bottleneck", 2),
    "decoding after it": (Decoder, "forward", 9),
}
"""Where runs are interrupted: a method, and its call."""


@pytest.fixture(scope="session")
def entries():
    """Return what the journal of a work folder says, line by line."""
    return lambda folder: [
        json.loads(line.rpartition("\t")[0]) for line in (folder / "journal.jsonl").read_text().splitlines()
    ]


class Listener:
    """A reporter that keeps what is said."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)

    def phase(self, name, total):
        pass

    def advance(self, steps=1):
        pass


@pytest.fixture
def listener():
    return Listener()


class Mounts:
    """Small file systems of one's own, which root may mount."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._mounted = folder, []

    def __call__(self, size):
        """Mount one of so many bytes; return where."""
        place = self._folder / "small"
        place.mkdir(exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "small", place], capture_output=True)
        if done.returncode:
            pytest.skip("only root may mount a small file system")
        self._mounted.append(place)
        return place

    def read_only(self, place):
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)

    def close(self):
        for place in self._mounted:
            subprocess.run(["umount", place], check=True)


@pytest.fixture
def mount(tmp_path):
    mounts = Mounts(tmp_path)
    yield mounts
    mounts.close()


class Program:
    """Runs the command line in processes that are forked from one that has loaded everything."""

    def __init__(self, folder: Path, **environment: str) -> None:
        usual = {k: v for k, v in os.environ.items() if not k.startswith("INFDEHAZE_")}
        self._server = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**usual, "OMP_NUM_THREADS": "1", **environment},
        )
        self.out, self.err = folder / "stdout", folder / "stderr"
        self.peak = 0
        """Resident bytes that the last run took at most, with those that it shares with the others."""

    def start(self, *arguments, file_size=None, **environment):
        """Begin a run; return its process number."""
        request = {"arguments": [str(a) for a in arguments], "out": str(self.out), "err": str(self.err)}
        return self._ask({**request, "file_size": file_size, "environment": environment})["pid"]

    def wait(self, pid):
        """Return the exit code, negative for the signal that killed it."""
        answer = self._ask({"wait": pid})
        self.peak = answer["peak"]
        return answer["code"]

    def run(self, *arguments, **environment):
        """Run to the end; return the exit code."""
        return self.wait(self.start(*arguments, **environment))

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
