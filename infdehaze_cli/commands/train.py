"""``infdehaze train``: weights from clear pictures."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from infdehaze_cli import console as c
from infdehaze_cli.errors import UsageError
from infdehaze_cli.training.loop import TrainConfig, TrainEvent
from infdehaze_cli.training.loop import train as run_training

_UNITS = {"s": 1, "m": 60, "h": 3600}


def parse_duration(text: str) -> float:
    """Return the seconds of ``90s``, ``25m``, ``2h``.

    Raises
    ------
    UsageError
        When the text is no duration.
    """
    number, unit = (text[:-1], text[-1]) if text and text[-1] in _UNITS else (text, "s")
    try:
        seconds = float(number) * _UNITS[unit]
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"{text!r} is no duration. Write a number and s, m or h, as in --time-limit 25m.")
    return seconds


def train(
    data: Annotated[Path, typer.Argument(help="Folder of clear pictures; subfolders are sources.")],
    folder: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder of the run; resumed if it exists.")
    ],
    preset: Annotated[Literal["lite", "fast", "base"], typer.Option(help="Which network.")] = "lite",
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps at most.")] = 100_000,
    time_limit: Annotated[str | None, typer.Option(metavar="TIME", help="Time at most, e.g. 25m or 2h.")] = None,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Of weights, crops and haze.")] = 0,
    device: c.DeviceName = "auto",
    quiet: c.Quiet = False,
    debug: c.Debug = False,
) -> None:
    """Train weights on clear pictures with synthetic haze; a run that was stopped goes on exactly."""
    from infdehaze_cli.engine import resolve_device

    config = TrainConfig(
        data=data,
        out=folder,
        preset=preset,
        steps=steps,
        time_limit=None if time_limit is None else parse_duration(time_limit),
        lr=lr,
        seed=seed,
        device=str(resolve_device(device)),
    )
    shown = time.monotonic() - 10

    def report(event: TrainEvent) -> None:
        nonlocal shown
        if quiet or time.monotonic() - shown < 10:
            return
        shown = time.monotonic()
        left = event.seconds * (1 / max(event.progress, 1e-6) - 1)
        c.err.print(
            f"step {event.step}  loss {event.loss:.4f}  gain {event.psnr_gain:+.2f} dB  lr {event.lr:.1e}  "
            f"{event.step / event.seconds:.2f} steps/s  {event.progress:.0%}, {left / 60:.0f} min left",
            markup=False,
        )

    path = run_training(config, report, lambda line: c.err.print(f"skipped: {line}", markup=False))
    c.out.print(f"weights: {path}", markup=False)
