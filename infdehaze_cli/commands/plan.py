"""``infdehaze plan``: what a run would do."""

from __future__ import annotations

from typing import Annotated

import typer

from infdehaze_cli import console as c
from infdehaze_cli import plan_run
from infdehaze_cli.pipes import spooled_input
from infdehaze_cli.plan import Plan, RunConfig, default_scratch
from infdehaze_cli.sizes import format_size


def print_plan(plan: Plan, as_json: bool) -> None:
    """Print a plan as a table or as JSON."""
    if as_json:
        c.print_json({**plan.to_dict(), "batches": plan.batches})
        return
    rows = [
        ("scene", f"{plan.width} x {plan.height} px"),
        ("tiles", f"{plan.tiles} ({plan.tile_cols} x {plan.tile_rows}, {plan.tile} px, overlap {plan.overlap})"),
        ("tiles at half the size", f"{plan.coarse_tiles}" if plan.coarse_tiles else "not looked at"),
        ("tokens", f"{plan.tokens}"),
        ("network", f"{plan.preset}, {plan.precision}, on {plan.device}"),
        ("batch", f"{plan.batch} tiles"),
        ("bottleneck", f"{plan.chunk_tokens} tokens at a time"),
        ("residuals", f"{plan.tier}, {plan.residual_dtype}{_split(plan)}"),
        ("latents", "on disk" if plan.latents_on_disk else "in memory"),
        (
            "queries, keys, values",
            f"on disk, {plan.heads_at_a_time} heads at a time" if plan.heads_on_disk else "in memory",
        ),
        ("device memory", format_size(plan.predicted_device_bytes)),
        ("host memory", f"{format_size(plan.predicted_host_bytes)}, beside the program"),
        ("of which GDAL's cache", format_size(plan.gdal_cache_bytes)),
        ("scratch", format_size(plan.scratch_bytes)),
        ("to go on from when stopped", format_size(plan.checkpoint_bytes)),
    ]
    if plan.estimated_seconds is not None:
        rows.append(("time", f"about {_duration(plan.estimated_seconds)}"))
    c.print_table("plan", rows, ("", ""))


def _split(plan: Plan) -> str:
    """Say how many batches are where, if they are in two places."""
    if plan.tier != "dram" or plan.batches_in_memory >= plan.batches:
        return ""
    return f" ({plan.batches_in_memory} of {plan.batches} batches, the others on disk)"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def plan(
    src: Annotated[str, typer.Argument(help="Raster to plan for, or - for standard input.")],
    gpu_mem: c.GpuMem = None,
    ram: c.Ram = "4G",  # type: ignore[assignment]  # parsed by size_option
    scratch: c.Scratch = None,
    residuals: c.Residuals = "auto",
    residual_dtype: c.ResidualDtype = "fp16",
    codec: c.Codec = "none",
    batch: c.Batch = None,
    device: c.DeviceName = "auto",
    precision: c.Precision = "auto",
    overlap: c.Overlap = None,
    weights: c.Weights = "lite",
    bands: c.Bands = None,
    as_json: c.AsJson = False,
    debug: c.Debug = False,
) -> None:
    """Print what `run` would do with a raster, and what it would take; nothing is written."""
    config = RunConfig(
        gpu_mem=gpu_mem,
        ram=ram,
        scratch=scratch or default_scratch(),
        residuals=residuals,
        residual_dtype=residual_dtype,
        codec=codec,
        batch=batch,
        device=device,
        precision=precision,
        overlap=overlap,
        weights=weights,
    )
    with spooled_input(src, config.scratch) as path:
        print_plan(plan_run(path, config=config, bands=c.parse_bands(bands)), as_json)
