"""``infdehaze demo``: see it work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infdehaze_cli import console as c
from infdehaze_cli.plan import RunConfig
from infdehaze_cli.sample.demo import run_demo


def demo(
    folder: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for everything it makes.")
    ] = Path("demo"),
    size: Annotated[int, typer.Option(min=64, max=30000, help="Side of the scene in pixels.")] = 2048,
    seed: Annotated[int, typer.Option(min=0, max=c.MAX_SEED, help="Which landscape, and which haze.")] = 7,
    style: Annotated[str, typer.Option(help="Kind of haze: veil, patches or dense.")] = "patches",
    gpu_mem: c.GpuMem = None,
    device: c.DeviceName = "auto",
    weights: c.Weights = "lite",
    as_json: c.AsJson = False,
    quiet: c.Quiet = False,
    debug: c.Debug = False,
) -> None:
    """Make a hazy landscape, clean it, score it and draw before and after."""
    config = RunConfig(gpu_mem=gpu_mem, device=device, weights=weights)
    with c.progress(quiet) as reporter:
        result = run_demo(folder, size=size, seed=seed, style=style, config=config, reporter=reporter)
    if as_json:
        c.print_json({"before": result.before.to_dict(), "after": result.after.to_dict(), "run": result.run.to_dict()})
        return
    rows = [
        (name, f"{s.psnr:.2f}", f"{s.ssim:.3f}", f"{s.ciede2000:.2f}", f"{s.sam:.2f}")
        for name, s in (("hazy", result.before), ("infdehaze", result.after))
    ]
    c.print_table("against the truth", rows, ("", "PSNR dB", "SSIM", "CIEDE2000", "angle deg"))
    c.out.print(f"picture: {result.picture}", markup=False)
