"""How fast this machine is, found in a second or two: encoding, the scratch folder, and a whole run in small.

For ``auto``, which stores residuals or encodes again, whichever is faster, and for the time that ``plan`` prints.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from infdehaze.network import InfDehaze
from numpy.typing import NDArray

from .engine import ArrayBlock, Silent, execute
from .errors import StorageError
from .geometry import Window
from .plan import Plan
from .planner import Rates

PROBE_BYTES = 64 * 1024**2
ENOUGH_SECONDS = 2.5
"""A trial run that took half as long is not repeated with more tiles."""

WARM_SECONDS = 2.0
"""A first trial run that took longer counts: it was the network, not the start."""


class _Pattern:
    """A made-up scene for trial runs, and a sink for its result."""

    wants_haze = False

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self._rng = np.random.default_rng(0)

    def read(self, window: Window) -> ArrayBlock:
        """Return noise."""
        shape = (window.height, window.width)
        return ArrayBlock(window, self._rng.random((3, *shape), dtype=np.float32), np.ones(shape, bool))

    def write(self, block: ArrayBlock, restored: NDArray[np.float32], haze: NDArray[np.float32] | None = None) -> None:
        """Forget it."""


def _trial_seconds(model: InfDehaze, plan: Plan, tiles: int, scratch: Path) -> dict[str, float]:
    """Run the engine, with the plan's batch and in memory, over a row of tiles; seconds by phase."""
    side, batch = plan.tile, min(plan.batch, tiles)
    tokens = tiles * model.preset.latent_side**2
    trial = replace(
        plan,
        height=side,
        width=side * tiles,
        overlap=0,
        tile_rows=1,
        tile_cols=tiles,
        tiles=tiles,
        tokens=tokens,
        coarse_tiles=0,
        batch=batch,
        chunk_tokens=min(plan.chunk_tokens, max(tokens, 2 * model.preset.block_tokens)),
        tier="dram",
        batches_in_memory=-(-tiles // batch),
        latents_on_disk=False,
        heads_on_disk=False,
    )
    scene = _Pattern(side, side * tiles)
    measured = execute(
        trial,
        model,
        scene,
        _Pattern(side, side * tiles),
        scene,
        scratch=scratch,
        budget=None,
        strength=1.0,
        reporter=Silent(),
    )
    return measured.seconds


def _trial(model: InfDehaze, plan: Plan, scratch: Path) -> tuple[int, dict[str, float]]:
    """Return the tiles of a trial run, two batches where that is quick, and its seconds by phase.

    A run takes its folder for its own and empties it, so it gets one that is: the user's files may lie in ``scratch``.
    """
    tiles = 1
    with tempfile.TemporaryDirectory(prefix="infdehaze-", dir=scratch) as own:
        seconds = _trial_seconds(model, plan, tiles, Path(own))
        if _network(seconds) < WARM_SECONDS:
            # the first pass also loads code and makes pools of memory
            seconds = _trial_seconds(model, plan, tiles, Path(own))
        while tiles < 2 * plan.batch and 2 * _network(seconds) < ENOUGH_SECONDS:
            tiles = min(2 * plan.batch, tiles * 8)
            seconds = _trial_seconds(model, plan, tiles, Path(own))
    return tiles, seconds


def _network(seconds: dict[str, float]) -> float:
    return sum(seconds[phase] for phase in ("encode", "bottleneck", "decode"))


def probe_disk(folder: Path) -> tuple[float, float, int]:
    """Write and read a file once, synced: bytes a second of both, and the bytes that are free.

    Raises
    ------
    StorageError
        When the folder cannot be used.
    """
    block = os.urandom(1024**2)
    try:
        free = shutil.disk_usage(folder).free
        probe = min(PROBE_BYTES, free // 4)
        with tempfile.NamedTemporaryFile(prefix="infdehaze-", dir=folder) as file:
            started = time.perf_counter()
            for _ in range(-(-probe // len(block))):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            written = time.perf_counter()
            file.seek(0)
            while file.read(1024**2):
                pass
            read = time.perf_counter()
    except OSError as error:
        raise StorageError(
            f"The scratch folder {folder} cannot be used ({error.strerror or error}). Name another with --scratch."
        ) from error
    return probe / (written - started), probe / (read - written), free


def calibrate(model: InfDehaze, plan: Plan, scratch: Path) -> Rates:
    """Time encoding and the scratch folder.

    Parameters
    ----------
    model : InfDehaze
        In evaluation mode; it is moved to the plan's device.
    plan : Plan
        Its batch, device and precision count.
    scratch : Path
        The folder that would hold residuals.

    Raises
    ------
    StorageError
        When the folder cannot be used.
    """
    write, read, free = probe_disk(scratch)
    tiles, seconds = _trial(model, plan, scratch)
    return Rates(encode_tiles=tiles / seconds["encode"], write_bytes=write, read_bytes=read, scratch_free=free)


def estimate_seconds(model: InfDehaze, plan: Plan, scratch: Path, bands: int) -> float:
    """Estimate the time of a run from a trial in small: phases by tiles, the disk by bytes, packing by pixels.

    Reading and writing the source and output is left out where it runs beside the network, so a slow disk or a remote
    source takes longer than this.
    """
    write, read, _ = probe_disk(scratch)
    tiles, seconds = _trial(model, plan, scratch)
    phases = ("encode", "bottleneck", "decode", *(("encode",) if plan.tier == "recompute" else ()))
    network = sum(seconds[phase] for phase in phases) * (plan.tiles + plan.coarse_tiles) / tiles
    # queries, keys and values go to the disk and back for each layer
    layers = len(model.bottleneck.layers) if plan.heads_on_disk else 1
    disk = plan.scratch_bytes * layers * (1 / write + 1 / read)
    return network + disk + plan.height * plan.width * bands * _packing_seconds()


def _packing_seconds() -> float:
    """Return the seconds to deflate a byte of a natural picture, and its third more in overviews, and check it."""
    smooth = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    ground = torch.nn.functional.interpolate(smooth, size=(512, 512), mode="bicubic")[0, 0]
    data = (ground * 200 + torch.rand(512, 512) * 12).clamp(0, 255).to(torch.uint8).numpy().tobytes()
    started = time.perf_counter()
    zlib.compress(data, 1)
    return (time.perf_counter() - started) * 4 / 3 / len(data) / (os.cpu_count() or 1)
