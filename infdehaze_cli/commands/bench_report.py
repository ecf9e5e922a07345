"""``infdehaze bench report`` and ``bench compare``: all of it on one page, and two reports side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from infdehaze_cli import console as c
from infdehaze_cli.bench import report as bench
from infdehaze_cli.bench.comparison import HEADER, compare
from infdehaze_cli.bench.report_page import check_outputs, render, write_whole
from infdehaze_cli.plain import plain
from infdehaze_cli.plan import RunConfig, default_scratch
from infdehaze_cli.sizes import format_size


def report(
    page: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The page.")] = Path("bench.html"),
    json_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The figures as JSON; beside the page by default.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Measure less, in 2 minutes instead of 15.")] = False,
    clear: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Clear pictures for quality, to put haze on.")
    ] = None,
    pairs: Annotated[Path | None, typer.Option(metavar="DIR", help="Pairs for quality, hazy/ and clear/.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=c.MAX_SEED, help="Of landscapes and haze.")] = 0,
    weights: c.Weights = "lite",
    gpu_mem: c.GpuMem = None,
    ram: c.Ram = "4G",  # type: ignore[assignment]  # parsed by size_option
    scratch: c.Scratch = None,
    device: c.DeviceName = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    as_json: c.AsJson = False,
    quiet: c.Quiet = False,
    debug: c.Debug = False,
) -> None:
    """Measure speed, memory and quality, and write tables and plots to one page, and figures to a JSON file.

    Without pictures of yours, quality is that of made-up landscapes under seeded haze.
    """
    figures = page.parent / f"{page.stem}.json" if json_file is None else json_file
    check_outputs((page, figures), overwrite=overwrite)
    config = RunConfig(gpu_mem=gpu_mem, ram=ram, scratch=scratch or default_scratch(), weights=weights, device=device)
    request = bench.ReportRequest(
        config=config, extent=bench.QUICK if quick else bench.FULL, clear=clear, pairs=pairs, seed=seed
    )
    with c.progress(quiet) as reporter:
        found = bench.bench_report(request, reporter=reporter)
    text = json.dumps(plain(found.to_dict()), indent=2) + "\n"
    write_whole({page: render(found).encode(), figures: text.encode()})
    if as_json:
        c.print_json(found.to_dict())
        return
    gain = found.quality.mean_gain()
    rows = [
        ("device memory", format_size(found.speed.run.peak_device_bytes)),
        ("seconds a megapixel", f"{found.seconds_per_megapixel:.3f}"),
        ("times a bare forward pass", f"{found.speed.ratio:.3f}"),
        *([] if gain is None else [("mean gain in PSNR", f"{gain:+.2f} dB")]),
    ]
    c.print_table(f"measured in {found.seconds['total']:.0f} s", rows, ("", ""))
    c.out.print(f"{page}, {figures}", markup=False)


def compare_reports(
    first: Annotated[Path, typer.Argument(help="JSON file of a report.")],
    second: Annotated[Path, typer.Argument(help="JSON file of another.")],
    as_json: c.AsJson = False,
    debug: c.Debug = False,
) -> None:
    """Compare two reports figure by figure, and say what else differs: machine, versions, commit, weights, pictures."""
    found = compare(first, second)
    if as_json:
        c.print_json(found.to_dict())
        return
    c.print_table(f"a: {first}, b: {second}", [row.cells() for row in found.rows], HEADER)
    for note in found.notes:
        c.out.print(note, markup=False)
