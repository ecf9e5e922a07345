"""Memory over sizes, weights and tiers, each run in a process of its own, with baselines and the paper's ablation."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from infdehaze.tiling import TileGrid
from infdehaze.weights import read_info

from infdehaze_cli.engine import Reporter, resolve_device
from infdehaze_cli.errors import BudgetError, StorageError, UsageError
from infdehaze_cli.plan import RunConfig
from infdehaze_cli.scene_plan import plan_run

from .job import Job, Method, run_job
from .limits import default_limit
from .memory_rows import MemoryReport, MemoryRow, Tier
from .scenes import SMALLEST, check_sizes, make_blank, make_scenes, prepare_weights

ABLATION_BATCHES = (1, 4, 16, 64)
ABLATION_TIERS: tuple[Tier, ...] = ("dram", "recompute")

Baseline = Literal["direct", "patches"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRequest:
    """What to measure."""

    sizes: tuple[int, ...]
    """Sides of the square scenes in pixels."""
    weights: tuple[str, ...] = ("lite",)
    """Shipped weights, checkpoints, or presets without weights, which get random ones."""
    tiers: tuple[Tier, ...] = ("dram", "ssd", "recompute")
    baselines: tuple[Baseline, ...] = ("direct", "patches")
    ablation: int | None = None
    """Side of the scene of the ablation."""
    limit: int | None = None
    """Bytes that ``direct`` may take; by default what the machine has free, or the device's memory."""
    config: RunConfig
    """Budgets, scratch, device, and the batch of all runs (by default that of the largest scene)."""

    def __post_init__(self) -> None:
        check_sizes(self.scenes)
        if not self.weights or not self.tiers:
            raise UsageError("There is nothing to measure. Name at least one with --weights, and one with --residuals.")
        if self.limit is not None and self.limit < 1:
            raise UsageError("A limit of 0 bytes lets nothing run. Give --limit a size such as 8G.")

    @property
    def scenes(self) -> tuple[int, ...]:
        """Sides of all scenes, rising."""
        return tuple(sorted({*self.sizes, *(() if self.ablation is None else (self.ablation,))}))


def bench_memory(request: MemoryRequest, *, reporter: Reporter) -> MemoryReport:
    """Measure; scenes and outputs lie in a folder below the scratch folder, which is removed.

    Raises
    ------
    UsageError, CheckpointError, BudgetError
        When weights or device are unknown or the budget cannot hold the largest scene, before anything is measured.
    StorageError
        When the scratch folder cannot be used.
    """
    config = request.config
    device = resolve_device(config.device)
    limit = request.limit or default_limit(device)
    try:
        folder = tempfile.TemporaryDirectory(prefix="infdehaze-bench-", dir=config.scratch)
    except OSError as error:
        raise StorageError(
            f"The scratch folder {config.scratch} cannot be used ({error.strerror or error}). "
            "Name another with --scratch."
        ) from error
    with folder as name:
        config = replace(config, scratch=Path(name))
        series = [_Series.of(weights, config, limit, request.scenes[-1]) for weights in request.weights]
        scenes = make_scenes(config.scratch, request.scenes, reporter)
        sweeps = [list(one.sweep_steps(request)) for one in series]
        ablations = [list(one.ablation_steps(request.ablation)) for one in series]
        reporter.phase("measure", sum(map(len, (*sweeps, *ablations))))
        rows = [row for one, steps in zip(series, sweeps, strict=True) for row in one.run(scenes, steps, reporter)]
        ablation = [
            row for one, steps in zip(series, ablations, strict=True) for row in one.run(scenes, steps, reporter)
        ]
    return MemoryReport(
        rows=tuple(rows),
        ablation=tuple(ablation),
        device=str(device),
        gpu_mem=config.gpu_mem,
        ram=config.ram,
        limit_bytes=limit,
    )


@dataclass(frozen=True, slots=True)
class _Step:
    """A run to come."""

    method: Method
    size: int
    tier: Tier | None
    batch: int | None


@dataclass(frozen=True, slots=True)
class _Series:
    """The runs of one network."""

    weights: str
    checkpoint: Path
    random: bool
    config: RunConfig
    """With the batch that all sizes share."""
    limit: int

    @classmethod
    def of(cls, weights: str, config: RunConfig, limit: int, largest: int) -> _Series:
        """Find the weights, and the batch that the planner takes for the largest scene."""
        checkpoint, random = prepare_weights(weights, config.scratch)
        config = replace(config, weights=str(checkpoint))
        # of all tiers it needs most on the device, and least elsewhere
        plan = plan_run(make_blank(config.scratch, largest), config=replace(config, residuals="recompute"))
        return cls(weights, checkpoint, random, replace(config, batch=plan.batch), limit)

    def sweep_steps(self, request: MemoryRequest) -> Iterator[_Step]:
        """Name the runs over all sizes, from small to large."""
        for size in sorted(set(request.sizes)):
            for tier in request.tiers:
                yield _Step("streamed", size, tier, self.config.batch)
            for baseline in request.baselines:
                yield _Step(baseline, size, None, self.config.batch)

    def ablation_steps(self, size: int | None) -> Iterator[_Step]:
        """Name the runs of the ablation: sequential and batched, with the cache and without it."""
        if size is None:
            return
        preset = read_info(self.checkpoint).preset
        tiles = TileGrid(size, size, preset.tile, preset.overlap).count
        for batch in ABLATION_BATCHES:
            for tier in ABLATION_TIERS if batch <= tiles else ():
                yield _Step("streamed", size, tier, batch)

    def run(self, scenes: Mapping[int, Path], steps: Sequence[_Step], reporter: Reporter) -> Iterator[MemoryRow]:
        """Carry the steps out. A baseline that failed is not tried again on larger scenes.

        Raises
        ------
        BudgetError
            When the budget cannot hold the first run, so that no other would be of use.
        """
        failed: set[Method] = set()
        for number, step in enumerate(steps):
            if step.method not in failed:
                answer = run_job(self._job(step, scenes[step.size]))
                if answer.ended == "refused" and number == 0:
                    raise BudgetError(answer.reason or "The budget cannot hold the run.")
                if answer.ended != "done" and step.method != "streamed":
                    failed.add(step.method)
                row = MemoryRow(
                    method=step.method,
                    weights=self.weights,
                    random_weights=self.random,
                    size=step.size,
                    tier=step.tier,
                    answer=answer,
                )
                reporter.note(row.describe())
                yield row
            reporter.advance()

    def _job(self, step: _Step, scene: Path) -> Job:
        config = self.config
        return Job(
            method=step.method,
            src=str(scene),
            dst=str(config.scratch / "output.tif"),
            weights=str(self.checkpoint),
            residuals=step.tier or "recompute",
            batch=step.batch,
            gpu_mem=config.gpu_mem,
            ram=config.ram,
            scratch=str(config.scratch),
            device=config.device,
            limit=self.limit,
        )


def sizes_up_to(largest: int) -> tuple[int, ...]:
    """Return 1024, 2048 and so on, doubled while they do not exceed ``largest``.

    Raises
    ------
    UsageError
        When there is none.
    """
    if largest < 1024:
        raise UsageError(
            f"No size from 1024 px up is within --max {largest}. Give --max 1024 or more, or name sides from "
            f"{SMALLEST} px up with --sizes."
        )
    return tuple(1024 << i for i in range(largest.bit_length()) if 1024 << i <= largest)
