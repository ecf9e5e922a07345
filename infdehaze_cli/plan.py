"""What the user allows a run, and the plan that follows from it: both frozen and printable.

``RunConfig`` is what the user said, ``Plan`` what :mod:`.planner` made of it for one scene.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from infdehaze.tiling import TileGrid

from .errors import UsageError
from .store import CODECS, RESIDUAL_DTYPES, Codec, ResidualDtype, Tier

GiB = 1024**3

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
    """Bytes of host memory for the scene: residuals, latents, queues, GDAL's cache; not for code and libraries."""
    scratch: Path = field(default_factory=default_scratch)
    residuals: Literal["auto", "dram", "ssd", "recompute"] = "auto"
    residual_dtype: ResidualDtype = "fp16"
    codec: Codec = "none"
    """How chunks in DRAM and on SSD are compressed."""
    batch: int | None = None
    device: str = "auto"
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    overlap: int | None = None
    weights: str = "lite"
    strength: float = 1.0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("residual dtype", self.residual_dtype, RESIDUAL_DTYPES),
            ("codec", self.codec, CODECS),
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
    coarse_tiles: int
    """Tiles of the scene at half its size, which are looked at first; 0 for none."""
    batch: int
    chunk_tokens: int
    tier: Tier
    device: str
    precision: Precision
    residual_dtype: ResidualDtype
    codec: Codec
    batches_in_memory: int
    """Batches whose residuals stay in DRAM; the others go to the scratch folder."""
    latents_on_disk: bool
    heads_on_disk: bool
    """Where the bottleneck's queries, keys and values lie."""
    heads_at_a_time: int
    gdal_cache_bytes: int
    predicted_device_bytes: int
    predicted_host_bytes: int
    scratch_bytes: int
    """Bytes on disk for want of memory: residuals, latents, queries, keys and values."""
    checkpoint_bytes: int
    """Bytes on disk that an interrupted run goes on from: latents before and after the bottleneck, and fields."""
    estimated_seconds: float | None = None

    @property
    def grid(self) -> TileGrid:
        """The tiles of the scene."""
        return TileGrid(self.height, self.width, self.tile, self.overlap)

    @property
    def batches(self) -> int:
        """Number of batches in a phase."""
        return -(-self.tiles // self.batch)

    def coarse(self) -> Plan:
        """Return the plan of the look at half the size: the same, for fewer tiles."""
        height, width = -(-self.height // 2), -(-self.width // 2)
        grid = TileGrid(height, width, self.tile, self.overlap)
        batch = min(self.batch, grid.count)
        return replace(
            self,
            height=height,
            width=width,
            tile_rows=grid.rows,
            tile_cols=grid.cols,
            tiles=grid.count,
            tokens=self.tokens // self.tiles * grid.count,
            coarse_tiles=0,
            batch=batch,
            batches_in_memory=min(self.batches_in_memory, -(-grid.count // batch)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self)
