"""``infdehaze run``: the main job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from infdehaze_cli import RunResult, dehaze, plan_run
from infdehaze_cli import console as c
from infdehaze_cli.batch import dehaze_each, name_outputs
from infdehaze_cli.errors import UsageError
from infdehaze_cli.pipes import PIPE, piped_output, spooled_input
from infdehaze_cli.plan import RunConfig, default_scratch
from infdehaze_cli.sizes import format_size

from .plan import print_plan


def run(
    src: Annotated[
        list[str],
        typer.Argument(
            help="Raster to clean: anything that GDAL opens, a URL, or - for standard input. Several with --out-dir."
        ),
    ],
    dst: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="DST", help="Output raster, s3://bucket/key, or - for standard output."),
    ] = None,
    out_dir: Annotated[
        str | None,
        typer.Option("--out-dir", metavar="DIR", help="Folder for outputs; they keep their names, with .tif."),
    ] = None,
    vrt: Annotated[
        str | None, typer.Option(metavar="FILE", help="In place of an output: a VRT with gains and offsets beside it.")
    ] = None,
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
    other_bands: Annotated[
        Literal["copy", "drop", "physics"],
        typer.Option(help="What becomes of bands that are neither colour nor alpha."),
    ] = "copy",
    wavelengths: Annotated[
        str | None, typer.Option(metavar="L1,L2,...", help="Of all bands, for physics; from the file by default.")
    ] = None,
    haze_map: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the optical depth that was taken away.")
    ] = None,
    preview: Annotated[
        str | None, typer.Option(metavar="FILE", help="Also write a PNG of the scene before and after.")
    ] = None,
    report: Annotated[
        str | None, typer.Option(metavar="FILE", help="Also write a page of HTML that shows what was done.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(metavar="FILE", help="Clear raster on the same grid; the report gives scores.")
    ] = None,
    scale_range: c.ScaleRange = None,
    file_format: Annotated[
        Literal["cog", "gtiff"] | None, typer.Option("--format", help="Format of the output; cog by default.")
    ] = None,
    profile: Annotated[
        Literal["cog-deflate", "cog-zstd", "cog-jpeg", "gtiff"] | None,
        typer.Option(help="How the output is packed; cog-jpeg is lossy."),
    ] = None,
    co: Annotated[list[str] | None, typer.Option("--co", metavar="KEY=VALUE", help="GDAL creation option.")] = None,
    stac: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a STAC item; needs pystac (pip install pystac).")
    ] = None,
    overwrite: c.Overwrite = False,
    no_resume: Annotated[
        bool, typer.Option("--no-resume", help="Start afresh where an interrupted run has left its work.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on stdout; with --out-dir one a line.")
    ] = False,
    quiet: c.Quiet = False,
    debug: c.Debug = False,
) -> None:
    """Remove the haze from a raster, or from several; the map stays as it is."""
    work = scratch or default_scratch()
    config = RunConfig(
        gpu_mem=gpu_mem,
        ram=ram,
        scratch=work,
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
    if vrt is not None:
        if any((dst, out_dir, profile, file_format, co, other_bands != "copy")) or src[0] == PIPE:
            raise UsageError("--vrt stands in place of an output. Give one file as source, and no option of outputs.")
        dst = vrt
    _check_places(src, dst, out_dir, stac, haze_map)
    _check_explained(dst, preview, report, reference)
    if profile is not None and file_format is not None:
        raise UsageError("--profile says which format an output has. Leave out --format.")
    chosen_bands, limits, co_options = c.parse_bands(bands), c.parse_range(scale_range), c.parse_creation_options(co)
    if dry_run:
        for name in src:
            with spooled_input(name, work) as path:
                print_plan(plan_run(path, config=config, bands=chosen_bands, scale_range=limits), as_json)
        return
    options: dict[str, Any] = {
        "config": config,
        "bands": chosen_bands,
        "scale_range": limits,
        "format": file_format or "cog",
        "profile": profile,
        "other_bands": other_bands,
        "wavelengths": wavelengths,
        "creation_options": co_options,
        "overwrite": overwrite,
        "resume": not no_resume,
    }
    if out_dir is not None:
        pairs = name_outputs(src, out_dir, overwrite=overwrite)
        _run_each(pairs, options, as_json=as_json, quiet=quiet)
        return
    assert dst is not None
    with spooled_input(src[0], work) as source, piped_output(dst, work) as target:
        if PIPE in (src[0], dst):
            # what comes through a pipe cannot be had again: its work files go with it
            options["config"] = replace(config, scratch=Path(source if src[0] == PIPE else target).parent)
        with c.progress(quiet) as reporter:
            options |= {"vrt": vrt is not None, "preview": preview, "report": report, "reference": reference}
            result = dehaze(source, target, stac=stac, haze_map=haze_map, reporter=reporter, **options)
        # standard output is the raster's alone when it goes through a pipe
        result = replace(result, src=result.src if src[0] != PIPE else PIPE, dst=result.dst if dst != PIPE else PIPE)
        _print_result(result, as_json=as_json, quiet=quiet, to_stderr=dst == PIPE)


def _check_places(
    src: list[str], dst: str | None, out_dir: str | None, stac: Path | None, haze_map: Path | None
) -> None:
    """Check that sources and outputs go together."""
    if dst is not None and out_dir is not None:
        raise UsageError("An output has one place. Give --output or --out-dir, not both.")
    if dst is None and out_dir is None:
        raise UsageError("Missing option '-o' / '--output', or --out-dir for several sources. See --help.")
    if dst is not None and len(src) > 1:
        raise UsageError(
            f"{len(src)} sources do not fit into one output. Give --out-dir instead of --output; see --help."
        )
    if out_dir is not None and PIPE in src:
        raise UsageError("Standard input has no name that an output could keep. Name its output with --output.")
    if haze_map is not None and out_dir is not None:
        raise UsageError("A haze map belongs to one output. Give one source and --output.")
    if haze_map is not None and str(haze_map) == PIPE:
        raise UsageError("A haze map is a file, and standard output is the raster's alone. Give --haze-map a name.")
    if stac is not None and (out_dir is not None or dst == PIPE):
        raise UsageError("A STAC item describes one output that has a name. Give one source and --output.")


def _check_explained(dst: str | None, *beside: str | None) -> None:
    """Check that what explains an output belongs to one that has a name."""
    if any(path is not None for path in beside) and dst in (None, PIPE):
        raise UsageError("A preview or report shows one output that has a name. Give one source and --output.")


def _run_each(pairs: list[tuple[str, str]], options: dict[str, Any], *, as_json: bool, quiet: bool) -> None:
    """Clean several sources, say of each what became of it, and end with the worst exit code."""
    worst = 0
    with c.progress(quiet) as reporter:
        for outcome in dehaze_each(pairs, reporter=reporter, **options):
            worst = max(worst, outcome.exit_code)
            if outcome.error:
                c.complain(outcome.error)
            if as_json:
                c.print_json_line(outcome.to_dict())
            elif outcome.result is not None:
                _print_result(outcome.result, as_json=False, quiet=quiet, to_stderr=False)
    if worst:
        raise typer.Exit(worst)


def _print_result(result: RunResult, *, as_json: bool, quiet: bool, to_stderr: bool) -> None:
    """Print what a run did, as a line or as JSON."""
    if as_json:
        c.print_json(result.to_dict(), to_stderr=to_stderr)
    elif not quiet:
        (c.err if to_stderr else c.out).print(
            f"{result.dst}: {result.width} x {result.height} px in {result.seconds['total']:.1f} s, "
            f"{result.megapixels_per_second:.2f} Mpx/s, device {format_size(result.peak_device_bytes)} "
            f"of {format_size(result.predicted_device_bytes)} predicted, RSS {format_size(result.peak_rss_bytes)}",
            markup=False,
        )
