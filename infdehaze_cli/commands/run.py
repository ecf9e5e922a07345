"""``infdehaze run``: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from infdehaze_cli import api
from infdehaze_cli import console as c
from infdehaze_cli.plan import RunConfig, default_scratch
from infdehaze_cli.sizes import format_size

from .plan import print_plan


def run(
    src: Annotated[str, typer.Argument(help="Raster to clean: anything that GDAL opens.")],
    dst: Annotated[Path, typer.Option("-o", "--output", metavar="DST", help="Output raster.")],
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
    strength: c.Strength = 1.0,
    bands: c.Bands = None,
    scale_range: c.ScaleRange = None,
    file_format: Annotated[Literal["cog", "gtiff"], typer.Option("--format", help="Format of the output.")] = "cog",
    co: Annotated[list[str] | None, typer.Option("--co", metavar="KEY=VALUE", help="GDAL creation option.")] = None,
    overwrite: c.Overwrite = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    as_json: c.AsJson = False,
    quiet: c.Quiet = False,
    debug: c.Debug = False,
) -> None:
    """Remove the haze from a raster; the map stays as it is."""
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
        strength=strength,
    )
    chosen_bands, limits, options = c.parse_bands(bands), c.parse_range(scale_range), c.parse_creation_options(co)
    if dry_run:
        print_plan(api.plan_run(src, config=config, bands=chosen_bands, scale_range=limits), as_json)
        return
    with c.progress(quiet) as reporter:
        result = api.dehaze(
            src,
            dst,
            config=config,
            bands=chosen_bands,
            scale_range=limits,
            format=file_format,
            creation_options=options,
            overwrite=overwrite,
            reporter=reporter,
        )
    if as_json:
        c.print_json(result.to_dict())
    elif not quiet:
        c.out.print(
            f"{result.dst}: {result.width} x {result.height} px in {result.seconds['total']:.1f} s, "
            f"{result.megapixels_per_second:.2f} Mpx/s, device {format_size(result.peak_device_bytes)} "
            f"of {format_size(result.predicted_device_bytes)} predicted, RSS {format_size(result.peak_rss_bytes)}",
            markup=False,
        )
