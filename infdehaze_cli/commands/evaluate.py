"""``infdehaze eval``: scores of results against clear references."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infdehaze_cli import console as c
from infdehaze_cli.scores import Scores, compare_folders, compare_rasters, mean_scores


def score_row(name: str, scores: Scores) -> tuple[str, ...]:
    """Return the cells of a table row."""
    seam = "" if scores.seam is None else f"{scores.seam:.3f}"
    return (
        name,
        f"{scores.psnr:.2f}",
        f"{scores.ssim:.4f}",
        f"{scores.ciede2000:.2f}",
        f"{scores.sam:.2f}",
        seam,
    )


HEADER = ("", "PSNR dB", "SSIM", "CIEDE2000", "angle deg", "seam")


def evaluate(
    result: Annotated[str, typer.Argument(help="Raster, or folder of rasters, to score.")],
    reference: Annotated[str, typer.Argument(help="Clear raster, or folder with files of the same names.")],
    hazy: Annotated[str | None, typer.Option(help="The hazy input, or its folder; gives the seam index.")] = None,
    peak: Annotated[float | None, typer.Option(help="The stored value that counts as 1.")] = None,
    bands: c.Bands = None,
    tile: Annotated[int, typer.Option(min=1, help="Tile side of the run, for the seam index.")] = 256,
    overlap: Annotated[int, typer.Option(min=0, help="Tile overlap of the run, for the seam index.")] = 0,
    as_json: c.AsJson = False,
    debug: c.Debug = False,
) -> None:
    """Score a raster against a clear one, or a folder against a folder: PSNR, SSIM, colour, angle, seams."""
    chosen = c.parse_bands(bands)
    if Path(result).is_dir():
        each = compare_folders(result, reference, hazy_dir=hazy, peak=peak, bands=chosen, tile=tile, overlap=overlap)
    else:
        each = {
            Path(result).name: compare_rasters(
                result, reference, hazy=hazy, peak=peak, bands=chosen, tile=tile, overlap=overlap
            )
        }
    mean = mean_scores(each.values())
    if as_json:
        c.print_json({"mean": mean.to_dict(), "each": {name: scores.to_dict() for name, scores in each.items()}})
        return
    rows = [score_row(name, scores) for name, scores in each.items()]
    if len(each) > 1:
        rows.append(score_row("mean", mean))
    c.print_table("scores", rows, HEADER)
