"""Speed of a run beside a bare forward pass over the same tiles, in one process."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from infdehaze.decoder import share_of_others
from infdehaze.network import InfDehaze
from infdehaze.presets import FIELDS
from infdehaze.smoothing import settle, smooth_look
from infdehaze.tiling import (
    TileGrid,
    cut_tiles,
    double_cells,
    enlarge,
    halve,
    join_fields,
    join_latents,
    mirror_pad,
    mix_looks,
    scatter,
    split_latents,
)
from infdehaze.weights import load_model

from infdehaze_cli.api import RunResult, dehaze
from infdehaze_cli.engine import Reporter, resolve_device
from infdehaze_cli.geometry import Window
from infdehaze_cli.plan import RunConfig
from infdehaze_cli.raster import Scene
from infdehaze_cli.sample import write_landscape
from infdehaze_cli.synth import synthesise


@dataclass(frozen=True, slots=True)
class SpeedResult:
    """A run and its baseline."""

    run: RunResult
    """The middle one by wall time, where it was repeated."""
    bare_seconds: float
    """The network over the same tiles in the same batches, in memory: nothing read, rounded, stored or written. The
    middle one, where it was repeated."""
    totals: tuple[float, ...] = ()
    """Wall times of all runs in seconds, as they followed each other."""

    @property
    def ratio(self) -> float:
        """Wall time of the run over that of the bare forward pass."""
        return self.run.seconds["total"] / self.bare_seconds


@torch.inference_mode()
def bare_forward_seconds(picture_1CHW: torch.Tensor, config: RunConfig, batch: int, overlap: int) -> float:
    """Time the network alone on a picture in memory, in fp32, after a warm-up."""
    device = resolve_device(config.device)
    model = load_model(config.weights, device)
    preset = model.preset
    height, width = picture_1CHW.shape[2:]
    share = preset.coarse_share_for(height, width)
    warm = picture_1CHW[:, :, : preset.tile, : preset.tile]
    _bare_look(model, torch.cat([warm] * min(batch, 4), 3), batch, overlap, device)
    _wait(device)
    started = time.perf_counter()
    look = _bare_look(model, picture_1CHW, batch, overlap, device)
    if share:
        halved, _ = halve(picture_1CHW, torch.ones(1, height, width, dtype=torch.bool))
        coarse = _bare_look(model, halved, batch, overlap, device)
        look = mix_looks(look, double_cells(coarse[:, : FIELDS + 1], *look.shape[2:]), share)
    fields = settle(look, preset.thin_haze, preset.texture)
    scatter(picture_1CHW, enlarge(fields, preset.field_stride)[:, :, :height, :width])
    _wait(device)
    return time.perf_counter() - started


def _bare_look(
    model: InfDehaze, picture_1CHW: torch.Tensor, batch: int, overlap: int, device: torch.device
) -> torch.Tensor:
    """Return the smoothed look at a picture, computed in batches of tiles."""
    preset = model.preset
    grid = TileGrid(picture_1CHW.shape[2], picture_1CHW.shape[3], preset.tile, overlap)
    tiles = cut_tiles(mirror_pad(picture_1CHW, grid.padded_height, grid.padded_width), grid)[0]
    encoded = [[r.cpu() for r in model.encoder(part.to(device))] for part in torch.split(tiles, batch)]
    latent = join_latents(torch.cat([residuals[-1] for residuals in encoded])[None], grid)
    modelled = split_latents(model.bottleneck(latent.to(device)), grid)[0]
    fields = torch.cat(
        [
            model.decoder(part, [r.to(device) for r in residuals], share_of_others(grid.count)).cpu()
            for part, residuals in zip(torch.split(modelled, batch), encoded, strict=True)
        ]
    )
    joined = join_fields(fields[None], grid, preset.field_stride)
    return smooth_look(joined, torch.ones_like(joined[:, :1]), *preset.field_sigmas, preset.texture)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def bench_speed(size: int, *, config: RunConfig, reporter: Reporter, repeats: int = 1) -> SpeedResult:
    """Make a hazy scene of ``size`` x ``size`` px, clean it, and time the bare forward pass on the same pixels.

    Both are done ``repeats`` times, an odd number of at least 1.
    """
    if repeats < 1 or repeats % 2 == 0:
        raise ValueError("the middle one of an even number of runs is none of them")
    with tempfile.TemporaryDirectory(prefix="infdehaze-bench-") as temporary:
        clear, hazy, restored = (Path(temporary) / f"{name}.tif" for name in ("clear", "hazy", "restored"))
        write_landscape(clear, size, size)
        synthesise(clear, hazy, style="patches", overwrite=True)
        runs = [dehaze(hazy, restored, config=config, overwrite=True, reporter=reporter) for _ in range(repeats)]
        run = sorted(runs, key=lambda each: each.seconds["total"])[repeats // 2]
        with Scene.open(hazy) as scene:
            picture = torch.from_numpy(scene.read(Window(0, 0, size, size)).values)[None]
        preset = load_model(config.weights).preset
        overlap = preset.overlap if config.overlap is None else config.overlap
        reporter.phase("bare forward", repeats)
        bare = []
        for _ in range(repeats):
            bare.append(bare_forward_seconds(picture, config, run.batch, overlap))
            reporter.advance()
        return SpeedResult(run, sorted(bare)[repeats // 2], tuple(each.seconds["total"] for each in runs))
