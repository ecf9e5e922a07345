"""The plan of a run: what will happen, decided before it happens, from what the user allowed.

``RunConfig`` is what the user said, ``Plan`` what follows from it for one scene. Both are frozen and printable.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from infdehaze.presets import Preset
from infdehaze.tiling import TileGrid

from . import memory
from .errors import BudgetError, UsageError
from .sizes import format_size
from .store import STORAGE_DTYPES
from .store.residuals import Tier

GiB = 1024**3

CHUNK_TOKENS = 16384
"""Tokens of the bottleneck on the device at a time, where the budget allows."""

Precision = Literal["fp32", "fp16", "bf16"]


def default_scratch() -> Path:
    """Return the folder for work files: ``INFDEHAZE_SCRATCH``, else the system's temporary folder."""
    return Path(os.environ.get("INFDEHAZE_SCRATCH") or tempfile.gettempdir())


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """What the user asks for. ``None`` leaves a choice to the planner."""

    gpu_mem: int | None = None
    """Bytes of live tensors on the device; on a CPU, of the network phases."""
    ram: int = 4 * GiB
    """Bytes of host memory that residuals may take."""
    scratch: Path = field(default_factory=default_scratch)
    residuals: Literal["auto", "dram", "ssd", "recompute"] = "auto"
    residual_dtype: str = "fp16"
    batch: int | None = None
    device: str = "auto"
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    overlap: int | None = None
    weights: str = "lite"
    strength: float = 1.0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("residual dtype", self.residual_dtype, STORAGE_DTYPES),
            ("residual tier", self.residuals, ("auto", *get_args(Tier))),
            ("precision", self.precision, ("auto", *get_args(Precision))),
        ):
            if value not in known:
                raise UsageError(f"There is no {name} {value!r}. Use one of {', '.join(known)}.")
        if self.batch is not None and self.batch < 1:
            raise UsageError("A batch has at least one tile. Give --batch a number from 1 up.")
        if not 0.0 <= self.strength <= 1.0:
            raise UsageError("The strength lies between 0 and 1. Give --strength such a number.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run will do, and what it will take."""

    height: int
    width: int
    preset: str
    tile: int
    overlap: int
    tile_rows: int
    tile_cols: int
    tiles: int
    tokens: int
    batch: int
    chunk_tokens: int
    tier: Tier
    device: str
    precision: Precision
    residual_dtype: str
    predicted_device_bytes: int
    predicted_host_bytes: int
    scratch_bytes: int

    @property
    def grid(self) -> TileGrid:
        """The tiles of the scene."""
        return TileGrid(self.height, self.width, self.tile, self.overlap)

    @property
    def batches(self) -> int:
        """Number of batches in a phase."""
        return -(-self.tiles // self.batch)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self)


def predict_device_bytes(
    preset: Preset, parameters: int, batch: int, chunk_tokens: int, grid_cols: int, precision: Precision
) -> dict[str, int]:
    """Return the predicted peak of live device bytes of each phase, weights included.

    Parameters
    ----------
    preset : Preset
        The network.
    parameters : int
        Its number of values.
    batch : int
        Tiles at a time.
    chunk_tokens : int
        Tokens of the bottleneck at a time.
    grid_cols : int
        Columns of the scene's latent grid.
    precision : str
        Of the computation.
    """
    weights = memory.parameter_bytes(parameters)
    return {
        "encode": weights + memory.encode_bytes(preset, batch, precision),
        "bottleneck": weights + memory.bottleneck_bytes(preset, chunk_tokens, grid_cols, precision),
        "decode": weights + max(memory.decode_bytes(preset, batch, precision), memory.compose_bytes(preset)),
    }


def make_plan(config: RunConfig, height: int, width: int, preset: Preset, parameters: int, device: str) -> Plan:
    """Decide how to run a scene.

    Parameters
    ----------
    config : RunConfig
        What the user said.
    height, width : int
        The scene's size in pixels.
    preset, parameters
        The network and its number of values.
    device : str
        ``cpu`` or ``cuda``, resolved.

    Raises
    ------
    BudgetError
        When ``gpu_mem`` cannot hold a single tile; the message names the worst phase and the least that works.
    UsageError
        When the overlap does not fit the network.
    """
    overlap = preset.overlap if config.overlap is None else config.overlap
    if overlap % preset.field_stride or not 0 <= overlap <= preset.tile // 2:
        raise UsageError(
            f"An overlap of {overlap} px does not fit this network. "
            f"Use a multiple of {preset.field_stride} between 0 and {preset.tile // 2}."
        )
    grid = TileGrid(height, width, preset.tile, overlap)
    precision: Precision
    precision = ("fp32" if device == "cpu" else "fp16") if config.precision == "auto" else config.precision
    grid_cols = grid.cols * preset.latent_side

    batch = min(config.batch or preset.batch_for(max(height, width)), grid.count)
    tokens = grid.count * preset.latent_side**2
    chunk = min(CHUNK_TOKENS, max(tokens, 2 * preset.block_tokens))
    aside = 0 if device == "cpu" else memory.CUDA_WORKSPACE

    def predict() -> dict[str, int]:
        phases = predict_device_bytes(preset, parameters, batch, chunk, grid_cols, precision)
        return {name: size + aside for name, size in phases.items()}

    if config.gpu_mem is not None:
        while max(predict().values()) > config.gpu_mem:
            phases = predict()
            worst = max(phases, key=lambda name: phases[name])
            if worst == "bottleneck" and chunk > 2 * preset.block_tokens:
                chunk //= 2
            elif worst != "bottleneck" and batch > 1 and config.batch is None:
                batch //= 2
            else:
                tiles = "1 tile" if batch == 1 else f"{batch} tiles"
                amount = f"{chunk} tokens" if worst == "bottleneck" else tiles
                raise BudgetError(
                    f"A budget of {format_size(config.gpu_mem)} cannot hold the {worst} phase, which needs "
                    f"{format_size(phases[worst])} with {amount} at a time. "
                    f"Give --gpu-mem at least {_least(phases[worst])}, "
                    f"or use a smaller {'preset' if worst == 'bottleneck' or batch == 1 else '--batch'}."
                )
    residual_bytes = grid.count * preset.residual_values * STORAGE_DTYPES[config.residual_dtype][1].itemsize
    tier = _choose_tier(config, preset, residual_bytes)
    return Plan(
        height=height,
        width=width,
        preset=preset.name,
        tile=preset.tile,
        overlap=overlap,
        tile_rows=grid.rows,
        tile_cols=grid.cols,
        tiles=grid.count,
        tokens=tokens,
        batch=batch,
        chunk_tokens=chunk,
        tier=tier,
        device=device,
        precision=precision,
        residual_dtype=config.residual_dtype,
        predicted_device_bytes=max(predict().values()),
        predicted_host_bytes=_host_bytes(preset, grid, batch) + (residual_bytes if tier == "dram" else 0),
        scratch_bytes=residual_bytes if tier == "ssd" else 0,
    )


def _least(size: int) -> str:
    return f"{-(-size // 1024**2)}M"


def _choose_tier(config: RunConfig, preset: Preset, residual_bytes: int) -> Tier:
    if config.residuals == "dram" and residual_bytes > config.ram:
        raise BudgetError(
            f"The residuals of this scene take {format_size(residual_bytes)}, more than the {format_size(config.ram)} "
            f"of --ram. Give --ram at least {_least(residual_bytes)}, or use --residuals ssd."
        )
    if config.residuals != "auto":
        return config.residuals
    if residual_bytes <= config.ram:
        return "dram"
    # a preset without residual cache is made for speed: encoding again beats a disk for it
    return "ssd" if preset.cache_residuals else "recompute"


def _host_bytes(preset: Preset, grid: TileGrid, batch: int) -> int:
    """Host bytes beside the residuals: the scene's latents, queries, keys, values, result; bands; queues."""
    tokens = grid.count * preset.latent_side**2
    latents = 4 * tokens * preset.widths[-1] * 5 + tokens * preset.bottleneck_heads * (2 * 8 + 2 * 4)
    canvas = 4 * 9 * (2 * preset.tile + 512) * grid.padded_width // preset.field_stride**2
    queues = 3 * batch * (4 * 4 * preset.tile**2 + 8 * preset.residual_values)
    return latents + canvas + queues + 6 * 16 * memory.COMPOSE_PIXELS
