"""``infdehaze plan``: what a run would do."""

from __future__ import annotations

from typing import Annotated

import typer

from infdehaze_cli import api
from infdehaze_cli import console as c
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
        ("tokens", f"{plan.tokens}"),
        ("network", f"{plan.preset}, {plan.precision}, on {plan.device}"),
        ("batch", f"{plan.batch} tiles"),
        ("bottleneck", f"{plan.chunk_tokens} tokens at a time"),
        ("residuals", f"{plan.tier}, {plan.residual_dtype}"),
        ("device memory", format_size(plan.predicted_device_bytes)),
        ("host memory", format_size(plan.predicted_host_bytes)),
        ("scratch", format_size(plan.scratch_bytes)),
    ]
    c.print_table("plan", rows, ("", ""))


def plan(
    src: Annotated[str, typer.Argument(help="Raster to plan for, or - for standard input.")],
    gpu_mem: c.GpuMem = None,
    ram: c.Ram = "4G",  # type: ignore[assignment]  # parsed by size_option
    scratch: c.Scratch = None,
    residuals: c.Residuals = "auto",
    residual_dtype: c.ResidualDtype = "fp16",
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
        batch=batch,
        device=device,
        precision=precision,
        overlap=overlap,
        weights=weights,
    )
    with spooled_input(src, config.scratch) as path:
        print_plan(api.plan_run(path, config=config, bands=c.parse_bands(bands)), as_json)
