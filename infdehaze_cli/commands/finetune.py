"""``infdehaze finetune``: stage 2 of the training, or weights adapted to pictures of one's own."""

from __future__ import annotations

from typing import Annotated

import typer

from infdehaze_cli import console as c
from infdehaze_cli.training.config import STATISTICS_RATE, WIDE_CROPS, TrainConfig, parse_crops

from . import train as t


def finetune(
    data: t.Data,
    folder: t.Folder,
    start: Annotated[str, typer.Option("--from", metavar="WEIGHTS", help="Weights to begin with, a name or a file.")],
    everything: Annotated[
        bool, typer.Option("--all", help="Train encoder and decoder too, not the bottleneck alone.")
    ] = False,
    preset: t.PresetName = None,
    changes: t.Changes = None,
    dataset: t.Dataset = "auto",
    loss: t.Loss = "l1",
    crops: t.Crops = None,
    precision: t.Precision = "fp32",
    steps: t.Steps = 100_000,
    time_limit: t.TimeLimit = None,
    checkpoint_every: t.Checkpoints = "5m",
    lr: t.Rate = 1e-5,
    statistics_rate: t.StatisticsRate = STATISTICS_RATE,
    colours: t.Colours = 1.0,
    seed: t.Seed = 0,
    device: c.DeviceName = "auto",
    workers: t.Workers = None,
    quiet: c.Quiet = False,
    debug: c.Debug = False,
) -> None:
    """Train the bottleneck of given weights on larger crops, or with --all the whole network on your own pairs."""
    from infdehaze_cli.engine import resolve_device

    config = TrainConfig(
        data=data,
        out=folder,
        dataset=dataset,
        preset=preset,
        overrides=tuple(changes or ()),
        start=start,
        bottleneck_only=not everything,
        steps=steps,
        time_limit=None if time_limit is None else t.parse_duration(time_limit),
        checkpoint_every=t.parse_duration(checkpoint_every),
        lr=lr,
        statistics_rate=statistics_rate,
        colours=colours,
        loss=loss,
        precision=precision,
        seed=seed,
        device=(place := str(resolve_device(device))),
        workers=t.default_workers(place) if workers is None else workers,
        crops=WIDE_CROPS if crops is None else parse_crops(crops),
    )
    t.run_and_report(config, quiet)
