"""The training loop: crops with synthetic haze, L1 and LMMoE auxiliary loss, cosine schedule, EMA, exact resume.

Paper, supplement section 4 ("Training Setup"). The haze is known, so its transmission and airlight are taught as well.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from infdehaze.network import InfDehaze
from infdehaze.presets import PRESETS
from infdehaze.weights import load_model, save_weights
from torch import Tensor

from infdehaze_cli.errors import StorageError, UsageError

from .data import ClearFolder
from .haze import HazeField, add_noise, draw_training_styles
from .jpeg import compress_some
from .state import load_state, save_state

JPEG_SHARE = 0.25
"""Share of the samples that have been through JPEG."""

PSNR_FLOOR = 3e-5
"""Squared error below which a sample counts as right: 45 dB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """What a training run is asked for."""

    data: Path
    out: Path
    preset: str = "lite"
    start: str | None = None
    """Weights to begin with, a name or a path; fresh ones without it."""
    steps: int = 100_000
    time_limit: float | None = None
    """Seconds of this run and the ones it resumes; the learning rate has decayed by then."""
    lr: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.01
    crops: tuple[tuple[int, int, float], ...] = ((256, 8, 0.5), (480, 2, 0.35), (704, 1, 0.15))
    """Side in pixels, batch and share of the steps. Crops of several tiles teach the bottleneck about borders."""
    ema: float = 0.998
    transmission_weight: float = 0.5
    airlight_weight: float = 0.1
    step_weight: float = 0.5
    balance_weight: float = 0.01
    psnr_weight: float = 0.03
    """Of the logarithm of each sample's squared error, as scores see it: what is nearly right counts too."""
    checkpoint_every: float = 300.0
    seed: int = 0
    device: str = "cpu"
    down_weight: tuple[str, ...] = ("dubai",)
    """Sources that are drawn less often than their number of pictures asks for."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UsageError("A run has at least one step. Give --steps a number from 1 up.")


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


@dataclass(slots=True)
class Trainer:
    """Everything that a run carries from step to step."""

    config: TrainConfig
    model: InfDehaze
    averaged: dict[str, Tensor]
    optimizer: torch.optim.AdamW
    rng: np.random.Generator
    generator: torch.Generator
    step: int = 0
    elapsed: float = 0.0
    recent: dict[str, float] = field(default_factory=lambda: {"psnr_gain": 0.0})

    @classmethod
    def start(cls, config: TrainConfig) -> Trainer:
        """Make a fresh run, or go on with the one in ``config.out``."""
        torch.manual_seed(config.seed)
        model = InfDehaze(PRESETS[config.preset]) if config.start is None else load_model(config.start)
        model.to(config.device).train()
        plain = [p for p in model.parameters() if p.ndim < 2]
        matrices = [p for p in model.parameters() if p.ndim >= 2]
        optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": config.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=config.lr,
            betas=(0.9, 0.99),
            fused=True,
        )
        averaged = {name: value.detach().clone() for name, value in model.state_dict().items()}
        generator = torch.Generator(config.device).manual_seed(config.seed)
        trainer = cls(config, model, averaged, optimizer, np.random.default_rng(config.seed), generator)
        if (config.out / "state.safetensors").exists():
            load_state(config.out / "state.safetensors", trainer)
        return trainer

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0..1."""
        by_time = self.elapsed / self.config.time_limit if self.config.time_limit else 0.0
        return min(1.0, max(self.step / self.config.steps, by_time))

    def learning_rate(self) -> float:
        """Warm up linearly, then cosine to 1 % (supplement, section 4)."""
        warm = min(1.0, (self.step + 1) / self.config.warmup)
        return self.config.lr * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.progress)))

    def draw(self, data: ClearFolder) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Draw clear and hazy pictures with the true optical depth and airlight."""
        config = self.config
        share = np.array([share for *_, share in config.crops])
        side, batch, _ = config.crops[self.rng.choice(len(config.crops), p=share / share.sum())]
        clear = np.stack([data.draw(side, self.rng, config.down_weight) for _ in range(batch)])
        clear_B3HW = torch.from_numpy(clear).to(config.device)
        feature = float(np.exp(self.rng.uniform(np.log(96), np.log(1600))))
        haze = HazeField(draw_training_styles(batch, self.generator), side, side, self.generator, feature)
        window = haze.window(0, 0, side, side)
        hazy = add_noise(window.over(clear_B3HW), self.generator, 0.01).clamp(0, 1)
        # what a file holds is rounded to 8 bits, and often compressed
        stored_B3HW = compress_some((hazy * 255).round().to(torch.uint8), JPEG_SHARE, self.rng)
        return clear_B3HW, stored_B3HW.to(hazy) / 255, window.depth_B3HW, window.airlight_B311

    def train_step(self, data: ClearFolder) -> None:
        """Take one optimizer step and follow it with the averaged weights."""
        config = self.config
        started = time.perf_counter()
        clear, hazy, depth, airlight = self.draw(data)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        restored = self.model(hazy)
        image_loss = (restored.image_B3HW - clear).abs().mean()
        found_t = torch.exp(-F.avg_pool2d(restored.fields_B9HW[:, :3], 4))
        true_t = torch.exp(-F.avg_pool2d(depth, 4))
        found_a = F.avg_pool2d(restored.fields_B9HW[:, 3:6], 4)
        loss = (
            image_loss
            + config.transmission_weight * (found_t - true_t).abs().mean()
            + config.airlight_weight * ((1 - true_t) * (found_a - airlight).abs()).mean()
            + config.step_weight * step_loss(restored.image_B3HW - clear)
            + config.balance_weight * restored.balance
            + config.psnr_weight * (restored.image_B3HW - clear).square().mean((1, 2, 3)).add(PSNR_FLOOR).log().mean()
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        with torch.no_grad():
            decay = min(config.ema, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(list(self.averaged.values()), list(self.model.state_dict().values()), 1 - decay)
            error = (restored.image_B3HW.clamp(0, 1) - clear).square().mean((1, 2, 3)) + 1e-5
            before = (hazy - clear).square().mean((1, 2, 3)) + 1e-5
            # clear samples have nothing to gain
            hazed = before > 1e-3
            gain = float((10 * torch.log10(before / error))[hazed].mean()) if bool(hazed.any()) else None
        self._follow("loss", float(loss.detach()))
        self._follow("image_loss", float(image_loss.detach()))
        if gain is not None:
            self._follow("psnr_gain", gain)
        self._follow("balance", float(restored.balance.detach()))
        self.elapsed += time.perf_counter() - started

    def _follow(self, name: str, value: float) -> None:
        self.recent[name] = self.recent.get(name, value) * 0.98 + value * 0.02

    def save(self, extra: dict[str, Any] | None = None) -> None:
        """Write the state to resume from, and the averaged weights."""
        self.config.out.mkdir(parents=True, exist_ok=True)
        save_state(self.config.out / "state.safetensors", self)
        averaged = InfDehaze(self.model.preset)
        averaged.load_state_dict(self.averaged)
        recipe = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self.config).items()}
        for private in ("data", "out"):
            recipe.pop(private)
        card = {"recipe": recipe, "steps": self.step, "seconds": round(self.elapsed), **(extra or {})}
        save_weights(self.config.out / "weights.safetensors", averaged, card)


def step_loss(error_B3HW: Tensor) -> Tensor:
    """Return the mean absolute change of the error over 4 and 32 px, along rows and columns.

    Steps of brightness between tiles show most on even ground, where the error itself may be small.
    """
    coarse = F.avg_pool2d(error_B3HW, 4)
    steps = [
        (coarse.narrow(axis, shift, coarse.shape[axis] - shift) - coarse.narrow(axis, 0, coarse.shape[axis] - shift))
        for axis in (2, 3)
        for shift in (1, 8)
    ]
    return torch.stack([step.abs().mean() for step in steps]).sum() / 2


def train(config: TrainConfig, on_event: Callable[[TrainEvent], None], on_skip: Callable[[str], None]) -> Path:
    """Train until the steps or the time are used up.

    Parameters
    ----------
    config : TrainConfig
        The run. When ``config.out`` holds a run already, it goes on from there exactly.
    on_event : callable
        Called every tenth step.
    on_skip : callable
        Called with a line about each picture that cannot be read.

    Returns
    -------
    Path
        The averaged weights.

    Raises
    ------
    InputError
        When the data folder is missing or empty.
    """
    data = ClearFolder.open(config.data, on_skip)
    trainer = Trainer.start(config)
    try:
        config.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"The folder {config.out} cannot be made ({error.strerror}). Name another with --output."
        ) from error
    curve = config.out / "curve.csv"
    saved = trainer.elapsed
    while trainer.progress < 1.0:
        trainer.train_step(data)
        if trainer.step % 10 == 0:
            event = TrainEvent(
                trainer.step,
                config.steps,
                trainer.recent["loss"],
                trainer.recent.get("psnr_gain", 0.0),
                trainer.learning_rate(),
                trainer.elapsed,
                trainer.progress,
            )
            on_event(event)
            _append(curve, {"step": trainer.step, "lr": event.lr, "seconds": event.seconds, **trainer.recent})
        if trainer.elapsed - saved > config.checkpoint_every:
            trainer.save()
            saved = trainer.elapsed
    trainer.save()
    return config.out / "weights.safetensors"


def _append(path: Path, row: dict[str, float]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow({k: round(v, 6) for k, v in row.items()})
