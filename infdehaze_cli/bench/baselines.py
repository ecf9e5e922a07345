"""What a run is compared with: the whole picture through the network at once, and independent patches.

Both read the source and write the output through the same code as a run, in the same precision.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from infdehaze.network import InfDehaze
from infdehaze.presets import FIELDS
from infdehaze.tiling import enlarge, mirror_pad, scatter
from infdehaze.weights import load_model

from infdehaze_cli.engine import TensorMeter, resolve_device
from infdehaze_cli.geometry import Window, split_windows
from infdehaze_cli.plan import RunConfig
from infdehaze_cli.raster import OutputWriter, Scene, gdal_environment

from .limits import CappedMeter, held_to

ROWS = 512
"""Rows of the picture that are read and written at a time."""


def _autocast(device: torch.device) -> AbstractContextManager[object]:
    """Make the context of the precision that ``auto`` means for a run."""
    return torch.autocast("cuda", torch.float16) if device.type == "cuda" else contextlib.nullcontext()


def _peak_bytes(model: InfDehaze, device: torch.device, meter: TensorMeter) -> int:
    """Return the peak of live device bytes, weights included, as a run counts them."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return meter.peak + sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))


@contextlib.contextmanager
def _files(src: str, dst: str) -> Iterator[tuple[Scene, OutputWriter]]:
    """Open source and output; an output that was not finished goes away."""
    with (
        gdal_environment(),
        Scene.open(src) as scene,
        OutputWriter(scene, dst, overwrite=True, work_dir=Path(dst).parent) as writer,
    ):
        yield scene, writer


@torch.inference_mode()
def run_direct(src: str, dst: str, config: RunConfig, limit: int) -> int:
    """Send the whole picture through ``InfDehaze.forward`` at once.

    Parameters
    ----------
    src, dst : str
        Source and output.
    config : RunConfig
        Weights and device.
    limit : int
        Bytes that it may take; see :func:`infdehaze_cli.bench.limits.held_to`.

    Returns
    -------
    int
        Peak of live device bytes.

    Raises
    ------
    MemoryError, RuntimeError
        When the memory does not suffice; :func:`infdehaze_cli.bench.limits.out_of_memory` tells.
    """
    device = resolve_device(config.device)
    model = load_model(config.weights, device)
    with _files(src, dst) as (scene, writer):
        bands = list(split_windows(scene.height, scene.width, ROWS, scene.width))
        held = device.type == "cuda" or sys.platform == "linux"
        # what libraries load at their first use is no part of the picture's memory
        model(torch.zeros(1, 3, model.preset.tile, model.preset.tile, device=device))
        with held_to(limit, device):
            hazy = torch.empty(1, 3, scene.height, scene.width)
            for band in bands:
                hazy[0, :, band.row : band.row_end] = torch.from_numpy(scene.read(band).values)
            # CUDA counts by itself
            meter = TensorMeter() if held else CappedMeter(limit)
            with meter if device.type == "cpu" else contextlib.nullcontext(), _autocast(device):
                if device.type == "cpu":
                    meter.hold(hazy)
                image = model(hazy.to(device)).image_B3HW[0]
            restored = image.float().cpu()
        for band in bands:
            writer.write(scene.read(band), restored[:, band.row : band.row_end].numpy())
        writer.finish()
    return _peak_bytes(model, device, meter)


@torch.inference_mode()
def run_patches(src: str, dst: str, config: RunConfig) -> int:
    """Restore each tile by itself, with encoder and decoder alone: no bottleneck, no overlap, nothing kept.

    Parameters
    ----------
    src, dst : str
        Source and output.
    config : RunConfig
        Weights, device and batch.

    Returns
    -------
    int
        Peak of live device bytes.
    """
    device = resolve_device(config.device)
    model = load_model(config.weights, device)
    side, batch = model.preset.tile, config.batch or 1
    meter = TensorMeter()
    with _files(src, dst) as (scene, writer):
        windows = list(split_windows(scene.height, scene.width, side, side))
        for start in range(0, len(windows), batch):
            # all batches are alike, and metering is slow
            metered = start == 0 and device.type == "cpu"
            with meter if metered else contextlib.nullcontext(), _autocast(device):
                _restore_patches(model, device, scene, writer, windows[start : start + batch])
        writer.finish()
    return _peak_bytes(model, device, meter)


def _restore_patches(
    model: InfDehaze, device: torch.device, scene: Scene, writer: OutputWriter, windows: list[Window]
) -> None:
    side = model.preset.tile
    blocks = [scene.read(window) for window in windows]
    tiles = torch.cat([mirror_pad(torch.from_numpy(block.values)[None], side, side) for block in blocks]).to(device)
    residuals = model.encoder(tiles)
    # nothing is smoothed, so that no detail is missing: the dark channel is not needed
    # each patch is a scene of one tile
    fields = model.decoder(residuals[-1], residuals, others=0.0)[:, :FIELDS].float()
    del residuals
    # one by one, as a run puts the picture together by windows: fields in full size would be the peak
    for i, block in enumerate(blocks):
        restored = scatter(tiles[i : i + 1], enlarge(fields[i : i + 1], model.preset.field_stride))[0].cpu()
        writer.write(block, restored[:, : block.window.height, : block.window.width].numpy())
