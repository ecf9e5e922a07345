"""``infdehaze bench report``: speed, memory and quality, measured one after the other, as one object."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from infdehaze.weights import resolve_weights
from rasterio.errors import RasterioError

from infdehaze_cli.engine import Reporter, resolve_device
from infdehaze_cli.errors import StorageError, UsageError
from infdehaze_cli.machine import commit, machine, versions
from infdehaze_cli.plan import GiB, RunConfig
from infdehaze_cli.sample import write_landscape

from .limits import default_limit
from .memory import Baseline, MemoryRequest, bench_memory
from .memory_rows import MemoryReport, Tier
from .quality import Case, Quality, bench_quality, clear_cases, pair_cases
from .speed import SpeedResult, bench_speed

FORMAT, FORMAT_VERSION = "infdehaze-bench", 1
"""What the JSON begins with. The version changes when a figure changes its meaning or its place."""

_DIRECT_LIMIT = 4 * GiB
"""What the whole picture at once may take on a CPU: the same everywhere, so that reports can be compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much is measured."""

    sizes: tuple[int, ...]
    """Sides of the scenes for memory, in pixels."""
    tiers: tuple[Tier, ...]
    baselines: tuple[Baseline, ...]
    speed_size: int
    """Side of the scene for speed."""
    repeats: int
    """How often speed is measured; the middle one counts."""
    pictures: int
    """Made-up landscapes for quality."""
    picture_size: int
    """Their side."""


FULL = Extent(
    sizes=(1024, 2048, 4096, 8192),
    tiers=("dram", "ssd", "recompute"),
    baselines=("direct", "patches"),
    speed_size=4096,
    repeats=3,
    pictures=6,
    picture_size=1024,
)
QUICK = Extent(
    sizes=(1024, 2048, 4096),
    tiers=("dram",),
    baselines=("direct",),
    speed_size=2048,
    repeats=1,
    pictures=2,
    picture_size=512,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRequest:
    """What to measure. Quality is that of made-up landscapes where no pictures are given."""

    config: RunConfig
    """Weights, device, budgets and scratch."""
    extent: Extent = FULL
    clear: Path | None = None
    """Clear pictures, to put haze on."""
    pairs: Path | None = None
    """A folder of hazy and clear pictures; see `find_pairs`."""
    seed: int = 0
    """Of landscapes and haze."""

    def pictures(self) -> str:
        """Return in words what quality is measured on."""
        extent, given = self.extent, []
        if self.clear is not None:
            given.append(f"clear pictures under haze of seed {self.seed}")
        if self.pairs is not None:
            given.append("pairs")
        made_up = (
            f"{extent.pictures} made-up landscapes of {extent.picture_size} x {extent.picture_size} px "
            f"under haze of seed {self.seed}"
        )
        return " and ".join(given) or made_up


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchReport:
    """What was measured, on what, and with what."""

    made: str
    """Date and time of the beginning, UTC, ISO 8601."""
    request: ReportRequest
    machine: dict[str, Any]
    versions: dict[str, str]
    commit: str | None
    weights: str
    """Name, or name of the file."""
    weights_sha256: str
    speed: SpeedResult
    memory: MemoryReport
    quality: Quality
    seconds: dict[str, float] = field(default_factory=dict)
    """What measuring took, by section and in ``total``."""

    @property
    def seconds_per_megapixel(self) -> float:
        """Wall time of the run that counts for speed."""
        return self.speed.run.seconds["total"] / (self.request.extent.speed_size**2 / 1e6)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as values for JSON; see :func:`infdehaze_cli.plain.plain`."""
        run = {key: value for key, value in self.speed.run.to_dict().items() if key not in ("src", "dst")}
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "made": self.made,
            "machine": self.machine,
            "versions": self.versions,
            "commit": self.commit,
            "weights": {"name": self.weights, "sha256": self.weights_sha256},
            "extent": asdict(self.request.extent),
            "pictures": self.request.pictures(),
            "speed": {
                "run": {**run, "weights": self.weights},
                "totals": self.speed.totals,
                "seconds_per_megapixel": self.seconds_per_megapixel,
                "bare_seconds": self.speed.bare_seconds,
                "ratio": self.speed.ratio,
            },
            "memory": self.memory.to_dict(),
            "quality": self.quality.to_dict(),
            "mean_gain": self.quality.mean_gain(),
            "seconds": self.seconds,
        }


def bench_report(request: ReportRequest, *, reporter: Reporter) -> BenchReport:
    """Measure speed, memory and quality.

    Parameters
    ----------
    request : ReportRequest
        What to measure.
    reporter : Reporter
        Hears of every phase.

    Raises
    ------
    InputError, CheckpointError, UsageError, BudgetError
        When pictures, weights, device or budget cannot be; before anything is measured, where that can be told.
    StorageError
        When the scratch folder cannot be used.
    """
    config = request.config
    device = resolve_device(config.device)
    path = resolve_weights(config.weights)
    weights, digest = (Path(config.weights).name, _digest(path))
    # pictures that are missing are told of before the minutes of measuring
    given = _given_cases(request)
    made, here = datetime.now(UTC).isoformat(timespec="seconds"), machine(device)
    # now, not at the end: the sources may change meanwhile
    program, sources = versions(), commit()
    seconds: dict[str, float] = {}
    with _timed(seconds, "speed"):
        extent = request.extent
        speed = bench_speed(extent.speed_size, config=config, reporter=reporter, repeats=extent.repeats)
    with _timed(seconds, "memory"):
        memory = bench_memory(_memory_request(request, device), reporter=reporter)
    with _timed(seconds, "quality"):
        quality = _quality(request, given, reporter)
    seconds["total"] = round(sum(seconds.values()), 2)
    return BenchReport(
        made=made,
        request=request,
        machine=here,
        versions=program,
        commit=sources,
        weights=weights,
        weights_sha256=digest,
        speed=speed,
        # the path of a file says nothing, and two reports would not match
        memory=replace(memory, rows=tuple(replace(row, weights=weights) for row in memory.rows)),
        quality=quality,
        seconds=seconds,
    )


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - started, 2)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _memory_request(request: ReportRequest, device: torch.device) -> MemoryRequest:
    extent, limit = request.extent, None
    if device.type == "cpu":
        limit = _DIRECT_LIMIT
        # some systems do not say what is free
        with suppress(UsageError):
            limit = min(limit, default_limit(device))
    return MemoryRequest(
        sizes=extent.sizes,
        weights=(request.config.weights,),
        tiers=extent.tiers,
        baselines=extent.baselines,
        limit=limit,
        config=request.config,
    )


def _given_cases(request: ReportRequest) -> list[Case]:
    cases = clear_cases(request.clear, request.seed) if request.clear is not None else []
    return cases + (pair_cases(request.pairs) if request.pairs is not None else [])


def _quality(request: ReportRequest, given: list[Case], reporter: Reporter) -> Quality:
    if given:
        return bench_quality(given, config=request.config, reporter=reporter, sheet=True)
    extent = request.extent
    try:
        folder = tempfile.TemporaryDirectory(prefix="infdehaze-bench-", dir=request.config.scratch)
    except OSError as error:
        raise StorageError(
            f"The scratch folder {request.config.scratch} cannot be used ({error.strerror or error}). "
            "Name another with --scratch."
        ) from error
    with folder as name:
        reporter.phase("landscapes", extent.pictures)
        for i in range(extent.pictures):
            path, side = Path(name) / f"landscape-{i}.tif", extent.picture_size
            try:
                write_landscape(path, side, side, seed=request.seed + i)
            except (RasterioError, OSError) as error:
                raise StorageError(
                    f"{path} cannot be written ({error}). Name another folder with --scratch."
                ) from error
            reporter.advance()
        return bench_quality(
            clear_cases(Path(name), request.seed), config=request.config, reporter=reporter, sheet=True
        )
