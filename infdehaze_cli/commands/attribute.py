"""``infdehaze attribute``: the Dehazing Attribution Map of a window."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from infdehaze.attribution import STEPS

from infdehaze_cli import console as c
from infdehaze_cli.attribute import attribute as attribute_raster
from infdehaze_cli.errors import UsageError
from infdehaze_cli.geometry import Window
from infdehaze_cli.plan import RunConfig, default_scratch


def parse_window(text: str) -> Window:
    """Return the window of ``x,y,w,h``: column and row of its upper-left pixel, width and height.

    Raises
    ------
    UsageError
        When the text is not four whole numbers, the last two from 1 up.
    """
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError:
        x = y = width = height = -1
    if min(x, y) < 0 or min(width, height) < 1:
        raise UsageError(
            f"{text!r} is no window. Give its left, top, width and height in pixels: --window 512,256,64,64."
        )
    return Window(y, x, height, width)


def attribute(
    src: Annotated[str, typer.Argument(help="Hazy raster.")],
    window: Annotated[str, typer.Option(metavar="X,Y,W,H", help="What to attribute: left, top, width, height in px.")],
    dst: Annotated[
        str, typer.Option("-o", "--output", metavar="DST", help="Map: float32 GeoTIFF on the grid of the scene.")
    ],
    preview: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a PNG: the scene, and the map over it.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Clear raster on the same grid; the output of `run` by default."),
    ] = None,
    objective: Annotated[
        Literal["light", "depth", "detail"],
        typer.Option(help="What of the window: the light taken away, its optical depth, or its edges."),
    ] = "light",
    steps: Annotated[int, typer.Option(min=1, help="Points on the path from the clear to the hazy picture.")] = STEPS,
    gpu_mem: c.GpuMem = None,
    ram: c.Ram = "4G",  # type: ignore[assignment]  # parsed by size_option
    scratch: c.Scratch = None,
    batch: c.Batch = None,
    device: c.DeviceName = "auto",
    overlap: c.Overlap = None,
    weights: c.Weights = "lite",
    bands: c.Bands = None,
    scale_range: c.ScaleRange = None,
    overwrite: c.Overwrite = False,
    as_json: c.AsJson = False,
    quiet: c.Quiet = False,
    debug: c.Debug = False,
) -> None:
    """Map which pixels of a scene the haze removal of a window depends on."""
    config = RunConfig(
        gpu_mem=gpu_mem,
        ram=ram,
        scratch=scratch or default_scratch(),
        batch=batch,
        device=device,
        overlap=overlap,
        weights=weights,
    )
    with c.progress(quiet) as reporter:
        result = attribute_raster(
            src,
            dst,
            parse_window(window),
            reference=reference,
            objective=objective,
            steps=steps,
            preview=preview,
            config=config,
            bands=c.parse_bands(bands),
            scale_range=c.parse_range(scale_range),
            overwrite=overwrite,
            reporter=reporter,
        )
    if as_json:
        c.print_json(result.to_dict())
    elif not quiet:
        missed = "" if result.missed is None else f", {result.missed:.1%} of the change missed"
        c.out.print(
            f"{result.dst}: {result.outside_share:.1%} of the attribution outside of the window's tiles "
            f"({result.outside_area:.1%} of the area), median distance {result.median_distance} px{missed}",
            markup=False,
        )
