"""``infdehaze train``: weights from pictures; and what it shares with ``infdehaze finetune``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from infdehaze_cli import console as c
from infdehaze_cli.errors import UsageError
from infdehaze_cli.training.config import CROPS, STATISTICS_RATE, TrainConfig, TrainEvent, parse_crops
from infdehaze_cli.training.loop import train as run_training
from infdehaze_cli.training.supply import can_fork
from infdehaze_cli.training.world import leads

MOST_WORKERS = 14

_UNITS = {"s": 1, "m": 60, "h": 3600}

Data = Annotated[Path, typer.Argument(help="Folder of clear pictures, or of pairs; see docs/training.md.")]
Folder = Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder of the run; resumed if it exists.")]
Dataset = Annotated[
    Literal["auto", "clear", "pairs", "8kdehaze", "4kid", "o-haze"],
    typer.Option(help="Layout of the folder; auto tells by the names in it."),
]
PresetName = Annotated[
    Literal["lite", "fast", "base"] | None, typer.Option(help="Which network; that of --from, or lite.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change the preset, e.g. widths=32,48,64,96 or sfca=false."),
]
Loss = Annotated[Literal["l1", "l1+frequency", "l1+ssim"], typer.Option(help="What is added to L1.")]
Crops = Annotated[
    str | None, typer.Option(metavar="SIDE:BATCH[:SHARE],...", help="Crops in pixels, e.g. 256:8:0.7,480:2:0.3.")
]
Precision = Annotated[Literal["fp32", "bf16", "fp16"], typer.Option(help="Of the forward and backward pass.")]
Steps = Annotated[int, typer.Option(min=1, help="Optimizer steps at most.")]
TimeLimit = Annotated[str | None, typer.Option(metavar="TIME", help="Time at most, e.g. 25m or 2h.")]
Checkpoints = Annotated[str, typer.Option(metavar="TIME", help="Time between checkpoints.")]
Rate = Annotated[float, typer.Option(help="Highest learning rate.")]
StatisticsRate = Annotated[
    float, typer.Option(min=0.0, help="Of the statistics of tiles, as a share of --lr; 1 for batches of hundreds.")
]
Colours = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="How widely colours of clear pictures vary; 0 leaves them.")
]
Workers = Annotated[
    int | None, typer.Option(min=0, help="Processes that cut crops in advance; with a GPU as many as fit, else none.")
]
Seed = Annotated[int, typer.Option(min=0, max=c.MAX_SEED, help="Of weights, crops and haze.")]


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


def default_workers(device: str) -> int:
    """Return how many processes keep a GPU busy here; a CPU trains on the cores that they would take."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_WORKERS, cores - 1) if device.startswith("cuda") and can_fork() else 0


def train(
    data: Data,
    folder: Folder,
    preset: PresetName = None,
    changes: Changes = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="WEIGHTS", help="Weights to begin with; fresh ones without it.")
    ] = None,
    dataset: Dataset = "auto",
    loss: Loss = "l1",
    crops: Crops = None,
    precision: Precision = "fp32",
    steps: Steps = 100_000,
    time_limit: TimeLimit = None,
    checkpoint_every: Checkpoints = "5m",
    lr: Rate = 1e-3,
    statistics_rate: StatisticsRate = STATISTICS_RATE,
    colours: Colours = 1.0,
    seed: Seed = 0,
    device: c.DeviceName = "auto",
    workers: Workers = None,
    quiet: c.Quiet = False,
    debug: c.Debug = False,
) -> None:
    """Train weights on clear pictures with synthetic haze, or on pairs; a run that was stopped goes on exactly."""
    from infdehaze_cli.engine import resolve_device

    config = TrainConfig(
        data=data,
        out=folder,
        dataset=dataset,
        preset=preset,
        overrides=tuple(changes or ()),
        start=start,
        steps=steps,
        time_limit=None if time_limit is None else parse_duration(time_limit),
        checkpoint_every=parse_duration(checkpoint_every),
        lr=lr,
        statistics_rate=statistics_rate,
        colours=colours,
        loss=loss,
        precision=precision,
        seed=seed,
        device=(place := str(resolve_device(device))),
        workers=default_workers(place) if workers is None else workers,
        crops=CROPS if crops is None else parse_crops(crops),
    )
    run_and_report(config, quiet)


def run_and_report(config: TrainConfig, quiet: bool) -> None:
    """Train, with a line of progress every ten seconds; of several processes the first one prints."""
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

    path = run_training(config, report, lambda line: c.err.print(line, markup=False))
    if leads():
        c.out.print(f"weights: {path}", markup=False)
