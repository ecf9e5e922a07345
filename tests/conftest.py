"""A network small enough for tests, scenes that are arrays, and a way to send one through the streamed engine."""

import os
import threading
from dataclasses import dataclass, replace

# workers that each use all cores stall each other
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from infdehaze.network import InfDehaze, count_parameters
from infdehaze.norm import CentredNorm
from infdehaze.presets import Preset
from infdehaze.sfca import SFCA

from infdehaze_cli.engine import Silent, execute
from infdehaze_cli.geometry import Window
from infdehaze_cli.plan import RunConfig
from infdehaze_cli.planner import make_plan

SLOW_ROOMS = (
    "api",
    "attribution",
    "bench",
    "commands",
    "faults",
    "raster",
    "remote",
    "report",
    "sample",
    "scores",
    "training",
)
SLOW_FILES = (
    "test_elastic.py",
    "test_examples.py",
    "test_execute_failures.py",
    "test_maps.py",
    "test_memory.py",
    "test_pipes.py",
    "test_pullback.py",
    "test_same_pixels.py",
    "test_same_rounding.py",
    "test_synth.py",
)
"""What works on many files or whole runs is left out of `make quick`, which is the network, the engine and the plan."""


def pytest_collection_modifyitems(items):
    for item in items:
        if set(item.path.parts) & {*SLOW_ROOMS, *SLOW_FILES}:
            item.add_marker(pytest.mark.slow)


TINY = Preset(
    name="tiny",
    stem_stride=8,
    patch_statistics=True,
    widths=(16, 16, 24, 32),
    depths=(2, 2, 1, 1),
    heads=(2, 2, 3, 4),
    window=4,
    sfca_dim=8,
    residual_norms=True,
    centred_norms=(False, False, True, True),
    bottleneck_depth=2,
    bottleneck_heads=4,
    block_tokens=16,
    expert_expansion=2,
    field_stride=4,
    tile=64,
    overlap=16,
)


@pytest.fixture(scope="session")
def tiny():
    return TINY


@pytest.fixture(scope="session")
def make_model():
    """Build a seeded network in evaluation mode; ``lively`` weights reach the output, fresh ones do not."""

    def make(lively=True, seed=0, **changes):
        torch.manual_seed(seed)
        model = InfDehaze(replace(TINY, **changes))
        if lively:
            generator = torch.Generator().manual_seed(seed)
            for module in model.modules():
                if isinstance(module, torch.nn.Linear):
                    fan = module.in_features
                    module.weight.data = torch.randn(module.weight.shape, generator=generator) / fan**0.5
                if isinstance(module, SFCA):
                    module.restore.bias.data.normal_(generator=generator)
                if isinstance(module, CentredNorm):
                    module.centre.normal_(generator=generator)
            model.decoder.head.linear.weight.data *= 0.3
            if model.encoder.last_norm is not None:
                model.encoder.last_norm.weight.data.normal_(generator=generator)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def scene():
    """Make a picture with structure on all scales, (B, 3, H, W), values 0..1."""

    def make(height, width, batch=1, seed=0):
        generator = torch.Generator().manual_seed(seed)
        rough = torch.rand(batch, 3, -(-height // 32) + 1, -(-width // 32) + 1, generator=generator)
        smooth = torch.nn.functional.interpolate(rough, size=(height, width), mode="bilinear", align_corners=True)
        return 0.8 * smooth + 0.2 * torch.rand(batch, 3, height, width, generator=generator)

    return make


@dataclass(frozen=True)
class ArrayBlock:
    window: Window
    values: np.ndarray
    valid: np.ndarray


class ArrayReader:
    """A scene in memory; ``fail_at`` makes that read (counted from 1) raise ``error``."""

    def __init__(self, picture, valid, fail_at=None, error=None):
        self.height, self.width = valid.shape
        self._picture, self._valid = picture, valid
        self._fail_at, self._error = fail_at, error
        self._busy = threading.Lock()
        self.reads = 0

    def read(self, window):
        assert self._busy.acquire(blocking=False), "two threads use one handle"
        try:
            assert window.intersect(Window(0, 0, self.height, self.width)) == window, "the window leaves the scene"
            self.reads += 1
            if self.reads == self._fail_at:
                raise self._error
            here = window.relative_to(Window(0, 0, self.height, self.width))
            return ArrayBlock(window, self._picture[:, *here].copy(), self._valid[here].copy())
        finally:
            self._busy.release()


class ArrayWriter:
    """Puts restored windows together, each pixel once and bands from top to bottom."""

    wants_haze = True

    def __init__(self, height, width, fail_at=None, error=None):
        self.haze = np.full((6, height, width), np.nan, np.float32)
        self.image = np.full((3, height, width), np.nan, np.float32)
        self._fail_at, self._error = fail_at, error
        self._row = 0
        self.writes = 0

    def write(self, block, restored, haze):
        self.writes += 1
        if self.writes == self._fail_at:
            raise self._error
        here = block.window.relative_to(Window(0, 0, *self.image.shape[1:]))
        assert restored.dtype == np.float32
        assert restored.shape == block.values.shape
        assert block.window.row >= self._row
        assert np.isnan(self.image[:, *here]).all(), "a pixel is written twice"
        self._row = block.window.row
        self.image[:, *here] = restored
        self.haze[:, *here] = haze


@dataclass
class Outcome:
    image: np.ndarray
    haze: np.ndarray
    measured: object
    plan: object


@dataclass(frozen=True)
class Engine:
    """Runs scenes that are arrays, and says what the plain network makes of them."""

    scratch: object
    reader: type = ArrayReader
    writer: type = ArrayWriter

    def plan(self, model, picture, *, chunk_tokens=None, device="cpu", **config):
        config = RunConfig(**{"precision": "fp32", "residual_dtype": "fp32", "residuals": "dram", **config})
        height, width = picture.shape[-2:]
        plan = make_plan(config, height, width, model.preset, count_parameters(model), device)
        return plan if chunk_tokens is None else replace(plan, chunk_tokens=chunk_tokens)

    def run(
        self,
        model,
        picture,
        valid=None,
        *,
        strength=1.0,
        gpu_mem=None,
        reporter=None,
        faults=None,
        changes=None,
        **config,
    ):
        """Send a picture (3, H, W) through the engine; ``faults`` go to the reader, the second reader, the writer.

        ``changes`` are made to the plan.
        """
        plan = replace(self.plan(model, picture, gpu_mem=gpu_mem, **config), **(changes or {}))
        faults = {"scene": {}, "second": {}, "writer": {}, **(faults or {})}
        valid = np.ones(picture.shape[1:], bool) if valid is None else valid
        picture = np.where(valid, picture, np.float32(0))
        writer = self.writer(*valid.shape, **faults["writer"])
        measured = execute(
            plan,
            model,
            self.reader(picture, valid, **faults["scene"]),
            self.reader(picture, valid, **faults["second"]),
            writer,
            scratch=self.scratch,
            budget=gpu_mem,
            strength=strength,
            reporter=reporter or Silent(),
        )
        assert not np.isnan(writer.image).any(), "a pixel was not written"
        return Outcome(writer.image, writer.haze, measured, plan)

    @torch.inference_mode()
    def plain(self, model, picture, valid=None, *, overlap=None, device="cpu"):
        """Restore the whole scene by one call of the network."""
        mask = None if valid is None else torch.from_numpy(valid)[None].to(device)
        hazy = torch.from_numpy(picture if valid is None else np.where(valid, picture, np.float32(0)))[None]
        return model.to(device)(hazy.to(device), valid_BHW=mask, overlap=overlap).image_B3HW[0].cpu().numpy()


@pytest.fixture
def engine(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    return Engine(scratch)


@pytest.fixture(scope="session")
def make_engine():
    """For tests that hypothesis repeats: an engine on a scratch folder of one's own."""
    return Engine


@pytest.fixture(scope="session")
def picture(scene):
    """Make a picture (3, H, W) as an array."""

    def make(height, width, seed=0):
        return scene(height, width, seed=seed)[0].numpy()

    return make


def holes(height, width, seed=0):
    """A validity mask: single pixels, a wedge, and more than a tile without data."""
    rng = np.random.default_rng(seed)
    valid = rng.random((height, width)) < 0.97
    row, col = np.mgrid[:height, :width]
    valid &= row + col > min(height, width) // 6
    valid[height // 3 : height // 3 + 140, : width // 2] = False
    return valid


@pytest.fixture(scope="session", name="holes")
def holes_maker():
    return holes


@pytest.fixture(autouse=True)
def no_thread_is_left():
    """Every test must end the engine's threads that it started."""
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("infdehaze-")]
    assert not left
