"""What a training run is asked for."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infdehaze_cli.errors import UsageError

from .data import IN_MEMORY
from .losses import LOSSES

PRECISIONS = ("fp32", "bf16", "fp16")

MIN_CROP, MAX_CROP = 64, 16_384
"""Pixels; the loss on steps looks 32 px far, and larger crops fit no memory."""

MAX_BATCH = 65_536
"""Crops of a step, far beyond what any memory holds."""

CROPS = ((256, 8, 0.5), (480, 2, 0.35), (704, 1, 0.15))
"""Stage 1: crops of several tiles teach the bottleneck about borders."""

WIDE_CROPS = ((1024, 1, 1.0),)
"""Stage 2: 16 tiles at a time."""

STATISTICS_RATE = 0.1
"""Of the statistics of tiles, as a share of the rate: a batch of a few crops tells levels with much noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """What a training run is asked for.

    Raises
    ------
    UsageError
        For values that make no run.
    """

    data: Path
    out: Path
    dataset: str = "auto"
    """Layout of ``data``: see :func:`infdehaze_cli.training.datasets.open_data`."""
    preset: str | None = None
    """Name of the network; by default that of ``start``, or `lite`."""
    overrides: tuple[str, ...] = ()
    """Changes of the preset, ``key=value``: see :func:`infdehaze_cli.training.network.override`."""
    start: str | None = None
    """Weights to begin with, a name or a path; fresh ones without it."""
    bottleneck_only: bool = False
    """Stage 2 of the paper (supplement, section 4): encoder and decoder stay as they are."""
    steps: int = 100_000
    time_limit: float | None = None
    """Seconds of this run and the ones it resumes; the learning rate has decayed by then."""
    lr: float = 1e-3
    statistics_rate: float = STATISTICS_RATE
    """Factor on the rate of the statistics of tiles."""
    warmup: int = 100
    weight_decay: float = 0.01
    crops: tuple[tuple[int, int, float], ...] = CROPS
    """Side in pixels, batch and share of the steps."""
    precision: str = "fp32"
    """Of the network's forward and backward pass; weights, losses and the optimizer stay in fp32."""
    ema: float = 0.998
    loss: str = "l1"
    """One of ``LOSSES``."""
    transmission_weight: float = 0.5
    airlight_weight: float = 0.1
    step_weight: float = 0.5
    balance_weight: float = 0.01
    psnr_weight: float = 0.06
    """Of the logarithm of each sample's squared error, as scores see it: what is nearly right counts too."""
    frequency_weight: float = 0.5
    ssim_weight: float = 0.2
    checkpoint_every: float = 300.0
    """Seconds."""
    seed: int = 0
    device: str = "cpu"
    workers: int = 0
    """Processes that cut crops in advance; 0 cuts them between the steps."""
    down_weight: tuple[str, ...] = ("dubai",)
    """Sources that are drawn less often than their number of pictures asks for."""
    colours: float = 1.0
    """How widely the colours of clear pictures vary, 0..1."""
    memory_limit: int = IN_MEMORY
    """Decoded bytes up to which pictures stay in memory; larger data sets are read window by window."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise UsageError("Fewer than no workers cannot cut crops. Give --workers a number from 0 up.")
        if not 0 <= self.seed < 2**63:
            raise UsageError("A seed is a number from 0 up, of 63 bits. Give --seed such a number.")
        if self.steps < 1:
            raise UsageError("A run has at least one step. Give --steps a number from 1 up.")
        if not (self.lr >= 0 and math.isfinite(self.lr)):
            raise UsageError(f"{self.lr} is no learning rate. Give --lr a number such as 1e-3.")
        if not (self.statistics_rate >= 0 and math.isfinite(self.statistics_rate)):
            raise UsageError(
                f"{self.statistics_rate} is no share of a rate. Give --statistics-rate a number such as 0.1."
            )
        if not 0 <= self.colours <= 1:
            raise UsageError(f"Colours cannot vary by {self.colours}. Give --colours a number from 0 to 1.")
        if self.precision not in PRECISIONS:
            raise UsageError(f"There is no precision {self.precision!r}. Use one of {', '.join(PRECISIONS)}.")
        if self.loss not in LOSSES:
            raise UsageError(f"There is no loss {self.loss!r}. Use one of {', '.join(LOSSES)}.")
        if not math.isfinite(sum(share for _, _, share in self.crops)):
            raise UsageError("The shares of the crops are too large. Use numbers that add up to about 1.")
        for side, batch, share in self.crops:
            if (
                not MIN_CROP <= side <= MAX_CROP
                or not 1 <= batch <= MAX_BATCH
                or not (share > 0 and math.isfinite(share))
            ):
                raise UsageError(
                    f"Crops of {side} px in batches of {batch} with share {share} cannot be trained on. "
                    f"Use sides from {MIN_CROP} to {MAX_CROP} px, batches from 1 to {MAX_BATCH} and shares above 0."
                )

    def recipe(self) -> dict[str, Any]:
        """Return what may be told of a run, JSON-ready: everything but folders."""
        fields = asdict(self)
        for private in ("data", "out", "start"):
            fields.pop(private)
        fields["start"] = None if self.start is None else Path(self.start).name
        return fields


def parse_crops(text: str) -> tuple[tuple[int, int, float], ...]:
    """Return the crops of ``256:8:0.5,480:2:0.5``: side, batch and share of the steps, which may be left out.

    Raises
    ------
    UsageError
        When the text says something else.
    """
    crops = []
    for part in text.split(","):
        try:
            side, batch, *share = part.split(":")
            (weight,) = share or ("1",)
            crops.append((int(side), int(batch), float(weight)))
        except ValueError as error:
            raise UsageError(
                f"{part!r} is no crop. Write SIDE:BATCH or SIDE:BATCH:SHARE, as in --crops 256:8:0.7,480:2:0.3."
            ) from error
    return tuple(crops)


@dataclass(frozen=True, slots=True)
class TrainEvent:
    """One line of progress."""

    step: int
    steps: int
    loss: float
    psnr_gain: float
    """dB over the hazy input, smoothed."""
    lr: float
    seconds: float
    progress: float
    """0..1 of the steps or of the time limit, whichever is further."""
