"""``infdehaze bench``: measure it here."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from infdehaze_cli import console as c
from infdehaze_cli.bench.choices import HEADER, bench_choices, shown
from infdehaze_cli.bench.empty import bench_empty
from infdehaze_cli.bench.speed import bench_speed
from infdehaze_cli.plan import RunConfig, default_scratch
from infdehaze_cli.sizes import format_size

from .bench_memory import memory
from .bench_quality import quality
from .bench_report import compare_reports, report
from .bench_scenes import context, even

app = typer.Typer(help="Measure quality, speed and memory on this machine.", no_args_is_help=True)
app.command("memory")(memory)
app.command("quality")(quality)
app.command("context")(context)
app.command("even")(even)
app.command("report")(report)
app.command("compare")(compare_reports)


@app.command("speed")
def speed(
    size: Annotated[int, typer.Option(min=256, help="Side of the scene in pixels.")] = 4096,
    weights: c.Weights = "lite",
    gpu_mem: c.GpuMem = None,
    residuals: c.Residuals = "auto",
    device: c.DeviceName = "auto",
    overlap: c.Overlap = None,
    as_json: c.AsJson = False,
    quiet: c.Quiet = False,
    debug: c.Debug = False,
) -> None:
    """Clean a made-up scene and compare the wall time with a bare forward pass over the same tiles."""
    config = RunConfig(gpu_mem=gpu_mem, residuals=residuals, weights=weights, device=device, overlap=overlap)
    with c.progress(quiet) as reporter:
        result = bench_speed(size, config=config, reporter=reporter)
    megapixels = size * size / 1e6
    if as_json:
        c.print_json({"run": result.run.to_dict(), "bare_seconds": result.bare_seconds, "ratio": result.ratio})
        return
    total = result.run.seconds["total"]
    rows = [
        ("run", f"{total:.2f}", f"{total / megapixels:.3f}"),
        ("bare forward pass", f"{result.bare_seconds:.2f}", f"{result.bare_seconds / megapixels:.3f}"),
        ("ratio", f"{result.ratio:.3f}", ""),
    ]
    c.print_table(f"{size} x {size} px, batch {result.run.batch}, {result.run.tier}", rows, ("", "s", "s / Mpx"))
    phases = [(name, f"{seconds:.2f}") for name, seconds in result.run.seconds.items()]
    c.print_table("phases (read, store, load and write run beside the others)", phases, ("", "s"))
    c.out.print(
        f"device {format_size(result.run.peak_device_bytes)} of {format_size(result.run.predicted_device_bytes)} "
        f"predicted, RSS {format_size(result.run.peak_rss_bytes)}",
        markup=False,
    )


@app.command("empty")
def empty(
    size: Annotated[int, typer.Option(min=256, help="Side of the scenes in pixels.")] = 4096,
    share: Annotated[float, typer.Option(help="Of the mosaic's rows, those that hold data.")] = 0.1,
    co: Annotated[list[str] | None, typer.Option("--co", metavar="KEY=VALUE", help="GDAL creation option.")] = None,
    weights: c.Weights = "lite",
    scratch: c.Scratch = None,
    device: c.DeviceName = "auto",
    as_json: c.AsJson = False,
    quiet: c.Quiet = False,
    debug: c.Debug = False,
) -> None:
    """Clean a mosaic that is mostly empty, and compare the wall time with that of a full scene."""
    config = RunConfig(weights=weights, device=device, scratch=scratch or default_scratch())
    with c.progress(quiet) as reporter:
        result = bench_empty(size, share, c.parse_creation_options(co), config=config, reporter=reporter)
    if as_json:
        runs = {"full": result.full.to_dict(), "mosaic": result.mosaic.to_dict()}
        c.print_json({**runs, "valid_share": result.valid_share, "ratio": result.ratio})
        return
    both = (result.full.seconds, result.mosaic.seconds)
    rows = [(name, *(f"{seconds[name]:.2f}" for seconds in both)) for name in both[0]]
    rows.append(("ratio", "", f"{result.ratio:.3f}"))
    title = f"{size} x {size} px, {100 * result.valid_share:.1f} % of it with data"
    c.print_table(title, rows, ("", "full, s", "mosaic, s"))


@app.command("choices")
def choices(
    option: Annotated[
        Literal["residual-dtype", "codec", "overlap", "residuals"], typer.Argument(help="Which option of run.")
    ],
    size: Annotated[int, typer.Option(min=256, help="Side of the scene in pixels.")] = 2048,
    style: Annotated[str, typer.Option(help="Of the haze: veil, patches or dense.")] = "patches",
    seed: Annotated[int, typer.Option(min=0, max=c.MAX_SEED, help="Of the scene and the haze.")] = 0,
    weights: c.Weights = "lite",
    scratch: c.Scratch = None,
    device: c.DeviceName = "auto",
    as_json: c.AsJson = False,
    quiet: c.Quiet = False,
    debug: c.Debug = False,
) -> None:
    """Clean a made-up scene with every value of an option: bytes, time, PSNR, and what changes."""
    config = RunConfig(weights=weights, device=device, scratch=scratch or default_scratch())
    name = option.replace("-", "_")
    with c.progress(quiet) as reporter:
        rows = bench_choices(name, size, style=style, seed=seed, config=config, reporter=reporter)
    if as_json:
        c.print_json({"option": option, "size": size, "rows": [row.to_dict() for row in rows]})
        return
    c.print_table(f"--{option}, {size} x {size} px, {style}", shown(rows), HEADER)
