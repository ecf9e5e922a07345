"""``infdehaze bench context`` and ``bench even``: what the size of a scene changes, and seams on even ground."""

from __future__ import annotations

from typing import Annotated

import typer

from infdehaze_cli import console as c
from infdehaze_cli.bench.context import bench_context
from infdehaze_cli.bench.even import bench_even
from infdehaze_cli.errors import UsageError
from infdehaze_cli.plan import RunConfig, default_scratch
from infdehaze_cli.training.haze import STYLES, named_style


def context(
    size: Annotated[int, typer.Option(min=128, help="Side of the large scene in pixels.")] = 8192,
    part: Annotated[int, typer.Option(min=64, help="Side of the parts in pixels.")] = 1024,
    style: Annotated[str | None, typer.Option(help="Of the haze: veil, patches or dense; all by default.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=c.MAX_SEED, help="Of the scene and the haze.")] = 0,
    weights: c.Weights = "lite",
    scratch: c.Scratch = None,
    device: c.DeviceName = "auto",
    as_json: c.AsJson = False,
    quiet: c.Quiet = False,
    debug: c.Debug = False,
) -> None:
    """Clean a large made-up scene, parts of it alone and repeated, and compare: size alone must change nothing."""
    if style is not None:
        named_style(style)
    config = RunConfig(weights=weights, device=device, scratch=scratch or default_scratch())
    styles = list(STYLES) if style is None else [style]
    with c.progress(quiet) as reporter:
        rows = bench_context(size, part, styles, seed=seed, config=config, reporter=reporter, scratch=config.scratch)
    if as_json:
        c.print_json({"size": size, "part": part, "rows": [row.to_dict() for row in rows]})
        return
    c.print_table(
        f"five parts of {part} px, PSNR in dB",
        [
            (
                r.style,
                *(f"{x:.2f}" for x in (r.hazy, r.alone, r.repeated)),
                f"{r.size_alone:+.2f}",
                f"{r.within:.2f}",
                f"{r.difference:+.2f}",
            )
            for r in rows
        ],
        ("", "hazy", "alone", f"repeated to {size // part * part} px", "better by", f"within {size} px", "better by"),
    )


def even(
    size: Annotated[int, typer.Option(min=300, help="Side of the scenes in pixels: more than a tile.")] = 1024,
    depths: Annotated[str, typer.Option(help="Optical depths of the haze.")] = "0,0.3,0.7,1.2",
    repeats: Annotated[int, typer.Option(min=1, help="Scenes of each ground and depth.")] = 3,
    seed: Annotated[int, typer.Option(min=0, max=c.MAX_SEED, help="Of the ground and the noise.")] = 0,
    weights: c.Weights = "lite",
    device: c.DeviceName = "auto",
    overlap: c.Overlap = None,
    as_json: c.AsJson = False,
    quiet: c.Quiet = False,
    debug: c.Debug = False,
) -> None:
    """Clean sea, dunes and snow under an even haze, where borders between tiles would show most."""
    try:
        values = [float(part) for part in depths.split(",")]
        if not all(0 <= value <= 4 for value in values):
            raise ValueError(depths)
    except ValueError as error:
        raise UsageError(f"{depths!r} is no list of optical depths. Write numbers of 0 to 4, as in 0,0.5,1.") from error
    config = RunConfig(weights=weights, device=device, overlap=overlap)
    with c.progress(quiet) as reporter:
        rows = bench_even(size, values, repeats=repeats, seed=seed, config=config, reporter=reporter)
    if as_json:
        c.print_json({"size": size, "rows": [row.to_dict() for row in rows]})
        return
    c.print_table(
        f"even ground, {size} x {size} px, means of {repeats}",
        [
            (r.ground, f"{r.depth:g}", f"{r.hazy:.2f}", f"{r.restored:.2f}", "-" if r.seam is None else f"{r.seam:.3f}")
            for r in rows
        ],
        ("", "depth", "hazy dB", "restored dB", "seam index"),
    )
