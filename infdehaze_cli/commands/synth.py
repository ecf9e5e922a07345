"""``infdehaze synth``: haze over a clear raster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from infdehaze_cli import console as c
from infdehaze_cli.synth import synthesise


def synth(
    src: Annotated[str, typer.Argument(help="Clear raster.")],
    dst: Annotated[Path, typer.Option("-o", "--output", metavar="DST", help="Hazy raster.")],
    style: Annotated[str, typer.Option(help="Kind of haze: veil, patches or dense.")] = "patches",
    seed: Annotated[int, typer.Option(min=0, max=c.MAX_SEED, help="Which haze of that kind.")] = 0,
    feature: Annotated[
        float | None, typer.Option(min=16, help="Size in px of the largest structures; about the scene by default.")
    ] = None,
    transmission: Annotated[Path | None, typer.Option(help="Also write the true transmission, float32.")] = None,
    bands: c.Bands = None,
    scale_range: c.ScaleRange = None,
    file_format: Annotated[Literal["cog", "gtiff"], typer.Option("--format", help="Format of the output.")] = "cog",
    overwrite: c.Overwrite = False,
    quiet: c.Quiet = False,
    debug: c.Debug = False,
) -> None:
    """Put physically based haze over a clear raster, with its true transmission on demand."""
    with c.progress(quiet) as reporter:
        synthesise(
            src,
            dst,
            style=style,
            seed=seed,
            feature=feature,
            transmission=transmission,
            bands=c.parse_bands(bands),
            scale_range=c.parse_range(scale_range),
            format=file_format,
            overwrite=overwrite,
            reporter=reporter,
        )
    if not quiet:
        c.out.print(f"{dst}: haze of style {style}, seed {seed}", markup=False)
