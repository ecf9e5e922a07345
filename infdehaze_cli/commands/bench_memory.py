"""``infdehaze bench memory``: how memory grows with the scene, here and without streaming."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from infdehaze_cli import console as c
from infdehaze_cli.bench.memory import Baseline, MemoryRequest, bench_memory, sizes_up_to
from infdehaze_cli.bench.memory_plot import check_plot, draw_memory
from infdehaze_cli.bench.memory_rows import MemoryRow, Tier
from infdehaze_cli.errors import UsageError
from infdehaze_cli.plan import RunConfig, default_scratch
from infdehaze_cli.sizes import format_size

DEFAULT_MAX = 16_384


def memory(
    sizes: Annotated[str | None, typer.Option(metavar="PX,...", help="Sides of the scenes, e.g. 1024,2048.")] = None,
    largest: Annotated[
        int | None, typer.Option("--max", help=f"Double the side from 1024 px up to this; {DEFAULT_MAX} by default.")
    ] = None,
    weights: Annotated[
        str,
        typer.Option(
            metavar="NAME,...",
            envvar="INFDEHAZE_WEIGHTS",
            help="Weights or files; a preset without weights gets random ones.",
        ),
    ] = "lite",
    residuals: Annotated[
        str, typer.Option(metavar="TIER,...", help="Where residuals are kept: dram, ssd, recompute.")
    ] = "dram,ssd,recompute",
    baselines: Annotated[
        str, typer.Option(metavar="NAME,...", help="What to compare with: direct, patches, or none.")
    ] = "direct,patches",
    limit: Annotated[
        int | None,
        typer.Option(
            parser=c.size_option,
            metavar="SIZE",
            help="Memory that `direct` may take; what is free, or the GPU's, by default.",
        ),
    ] = None,
    ablation: Annotated[
        int | None,
        typer.Option(metavar="PX", help="Also run batch 1, 4, 16 and 64, cache on and off, on a scene of this side."),
    ] = None,
    gpu_mem: c.GpuMem = None,
    ram: c.Ram = "4G",  # type: ignore[assignment]  # parsed by size_option
    scratch: c.Scratch = None,
    batch: c.Batch = None,
    device: c.DeviceName = "auto",
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it to a PNG.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing plot.")] = False,
    as_json: c.AsJson = False,
    quiet: c.Quiet = False,
    debug: c.Debug = False,
) -> None:
    """Measure peak memory over sizes of scenes, weights and tiers, beside the whole picture at once and patches.

    Each run has a process of its own; all sizes share one batch. Scenes are made up and removed again.
    """
    if sizes is not None and largest is not None:
        raise UsageError("--sizes and --max both say how large scenes are. Give one of them.")
    request = MemoryRequest(
        sizes=sizes_up_to(DEFAULT_MAX if largest is None else largest) if sizes is None else _parse_sizes(sizes),
        weights=_names(weights),
        tiers=_choose(residuals, get_args(Tier), "residual tier"),
        baselines=() if baselines == "none" else _choose(baselines, get_args(Baseline), "baseline"),
        ablation=ablation,
        limit=limit,
        config=RunConfig(gpu_mem=gpu_mem, ram=ram, scratch=scratch or default_scratch(), batch=batch, device=device),
    )
    if plot is not None:
        check_plot(plot, overwrite=overwrite)
    with c.progress(quiet) as reporter:
        report = bench_memory(request, reporter=reporter)
    if plot is not None:
        draw_memory(report, plot)
    if as_json:
        c.print_json(report.to_dict())
        return
    header = ("run", "px", "batch", "device", "predicted", "RSS", "scratch", "s / Mpx")
    c.print_table(f"memory on {report.device}", [_cells(row) for row in report.rows], header)
    if report.ablation:
        names = ("ablation", "px", "batch", "s", "s / Mpx", "device", "RSS")
        c.print_table("sequential or batched, cache on or off", [_ablated(row) for row in report.ablation], names)
    c.out.print(report.summary(), markup=False)


def _names(text: str) -> tuple[str, ...]:
    """Return the parts of a list, each once; the name of a file may hold commas."""
    parts = [part.strip() for part in text.split(",")]
    # a name too long for the file system is no file either
    with suppress(OSError):
        if Path(text).is_file():
            parts = [text]
    return tuple(dict.fromkeys(part for part in parts if part))


def _parse_sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{text!r} names no sizes. Give sides in pixels, as in --sizes 1024,2048.") from error


def _choose(text: str, known: Sequence[str], what: str) -> tuple[Any, ...]:
    names = _names(text)
    for name in names or (text,):
        if name not in known:
            raise UsageError(f"There is no {what} {name!r}. Use some of {', '.join(known)}.")
    return names


def _size(count: int | None) -> str:
    return "" if count is None else format_size(count)


def _cells(row: MemoryRow) -> tuple[str, ...]:
    a = row.answer
    return (
        row.label,
        str(row.size),
        "" if a.batch is None else str(a.batch),
        a.ended if a.peak_device_bytes is None else format_size(a.peak_device_bytes),
        _size(a.predicted_device_bytes),
        _size(a.peak_rss_bytes),
        _size(a.scratch_bytes),
        "" if row.seconds_per_megapixel is None else f"{row.seconds_per_megapixel:.3f}",
    )


def _ablated(row: MemoryRow) -> tuple[str, ...]:
    a = row.answer
    return (
        f"{row.weights}, {'sequential' if a.batch == 1 else 'batched'}, cache {'on' if row.tier == 'dram' else 'off'}",
        str(row.size),
        "" if a.batch is None else str(a.batch),
        a.ended if a.seconds is None else f"{a.seconds:.1f}",
        "" if row.seconds_per_megapixel is None else f"{row.seconds_per_megapixel:.3f}",
        _size(a.peak_device_bytes),
        _size(a.peak_rss_bytes),
    )
