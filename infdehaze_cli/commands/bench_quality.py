"""``infdehaze bench quality``: our weights beside the input and two classical methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infdehaze_cli import console as c
from infdehaze_cli.bench.quality import Quality, bench_quality, check_places, clear_cases, hazy_cases, pair_cases
from infdehaze_cli.bench.sheet import check_sheet, draw_sheet
from infdehaze_cli.errors import UsageError
from infdehaze_cli.plan import RunConfig

from .evaluate import HEADER, score_row


def quality(
    clear: Annotated[Path | None, typer.Option(metavar="DIR", help="Clear pictures, to put haze on.")] = None,
    pairs: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder with hazy/ and clear/ (or input/ and target/, ...).")
    ] = None,
    hazy: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Pictures under real haze without a truth, for a sheet alone.")
    ] = None,
    weights: c.Weights = "lite",
    bits: Annotated[
        int, typer.Option(min=8, max=16, help="Clean the pictures, of 8 bits, as uint16 of so many bits.")
    ] = 8,
    seed: Annotated[int, typer.Option(min=0, max=c.MAX_SEED, help="Of the haze.")] = 0,
    per_picture: Annotated[bool, typer.Option("--per-picture", help="Also print each picture.")] = False,
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw a contact sheet, PNG or JPEG, of at most 12 pictures.")
    ] = None,
    keep: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep hazy and restored rasters here.")] = None,
    device: c.DeviceName = "auto",
    overlap: c.Overlap = None,
    residual_dtype: c.ResidualDtype = "fp16",
    as_json: c.AsJson = False,
    quiet: c.Quiet = False,
    debug: c.Debug = False,
) -> None:
    """Score the weights on pairs, or on clear pictures under made-up haze, beside two classical methods."""
    if hazy is not None and (clear is not None or pairs is not None or sheet is None or as_json):
        raise UsageError(
            "Pictures without a truth have no scores. Give --hazy DIR with --sheet FILE, and nothing to score."
        )
    if hazy is None and clear is None and pairs is None:
        raise UsageError("There is nothing to score. Give --pairs DIR, --clear DIR or both, or --hazy DIR for a sheet.")
    if sheet is not None:
        check_sheet(sheet)
    config = RunConfig(weights=weights, device=device, overlap=overlap, residual_dtype=residual_dtype)
    cases = hazy_cases(hazy) if hazy else []
    cases += clear_cases(clear, seed) if clear else []
    cases += pair_cases(pairs) if pairs else []
    check_places(cases, keep, sheet)
    with c.progress(quiet) as reporter:
        result = bench_quality(cases, config=config, reporter=reporter, keep=keep, sheet=sheet is not None, bits=bits)
    if sheet is not None:
        draw_sheet(result.sheet, sheet)
        if not quiet:
            c.err.print(f"{sheet}: {len(result.sheet)} pictures", markup=False)
    if as_json:
        c.print_json(result.to_dict())
        return
    for group in result.scores:
        _print_group(result, group, per_picture)
    if (gain := result.mean_gain()) is not None:
        c.out.print(f"mean gain {gain:+.2f} dB", markup=False)
    if "pairs" in result.scores:
        c.out.print(f"gain on pairs {result.gain('pairs'):+.2f} dB", markup=False)


def _print_group(result: Quality, group: str, per_picture: bool) -> None:
    pictures = result.scores[group]
    if per_picture:
        for name, each in pictures.items():
            rows = [score_row(method.replace("_", " "), scores) for method, scores in each.items()]
            c.print_table(f"{group}, {name}", rows, HEADER)
    rows = [score_row(method.replace("_", " "), scores) for method, scores in result.means(group).items()]
    count = f"mean of {len(pictures)} pictures" if len(pictures) > 1 else "1 picture"
    c.print_table(f"{group}, {count}", rows, HEADER)
