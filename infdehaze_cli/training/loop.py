"""The training loop: L1 and LMMoE auxiliary loss, AdamW, cosine schedule, mixed precision, EMA, exact resume.

Paper, supplement section 4 ("Training Setup"): stage 1 trains everything, stage 2 the bottleneck alone.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from infdehaze.network import InfDehaze
from infdehaze.norm import CentredNorm
from infdehaze.weights import resolve_weights, save_weights
from rasterio.errors import RasterioError
from safetensors import SafetensorError
from torch import Tensor, nn

from infdehaze_cli.errors import BudgetError, InputError, StorageError, UsageError
from infdehaze_cli.out_of_memory import is_out_of_memory

from .config import TrainConfig, TrainEvent
from .data import Batch, Once, TrainingData, draw_batch, walk
from .datasets import open_data
from .losses import training_loss
from .network import make_network
from .report import Curve, write_samples
from .state import load_state, save_state
from .supply import Supply
from .world import World, join_world

SAMPLES = 4
"""Crops that sample pictures show; the same ones whatever the seed, so that runs can be compared."""

SAMPLE_HAZE = 3
"""Seed of their haze: on a CPU 0 draws four that have none."""

READ_EVERY = 10
"""Steps of a GPU after which losses are read: what an event and a row of the curve stand for."""

_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(slots=True)
class Trainer:
    """Everything that a run carries from step to step."""

    config: TrainConfig
    world: World
    model: InfDehaze
    network: nn.Module
    """The model, or the wrapper that averages its gradients over the processes."""
    averaged: dict[str, Tensor]
    optimizer: torch.optim.AdamW
    scaler: torch.amp.GradScaler
    step: int = 0
    elapsed: float = 0.0
    recent: dict[str, float] = field(default_factory=lambda: {"psnr_gain": 0.0})
    unread: list[Tensor] = field(default_factory=list)
    """What the steps since the last reading came to, still on the device."""
    since: float = field(default_factory=time.perf_counter)

    @classmethod
    def start(cls, config: TrainConfig, world: World | None = None) -> Trainer:
        """Make a fresh run, or go on with the one in ``config.out``."""
        world = world or World(torch.device(config.device))
        torch.manual_seed(config.seed)
        model = make_network(config)
        model.to(world.device).train()
        if config.bottleneck_only:
            model.encoder.requires_grad_(False)
            model.decoder.requires_grad_(False)
            if model.decoder.head.correct is not None:
                # what the bottleneck says goes through it
                model.decoder.head.correct.requires_grad_(True)
        learned = [p for p in model.parameters() if p.requires_grad]
        statistics = set() if model.encoder.statistics is None else set(model.encoder.statistics.parameters())
        optimizer = torch.optim.AdamW(
            [
                {"params": group, "weight_decay": config.weight_decay if matrices else 0.0, "factor": factor}
                for chosen, factor in ((False, 1.0), (True, config.statistics_rate))
                for matrices in (True, False)
                if (group := [p for p in learned if (p in statistics) == chosen and (p.ndim >= 2) == matrices])
            ],
            lr=config.lr,
            betas=(0.9, 0.99),
            fused=True,
        )
        averaged = {name: value.detach().clone() for name, value in model.state_dict().items()}
        # gradients of fp16 would vanish without a scale; off, it changes nothing
        scaler = torch.amp.GradScaler(world.device.type, enabled=config.precision == "fp16")
        trainer = cls(config, world, model, model, averaged, optimizer, scaler)
        if (config.out / "state.safetensors").exists():
            load_state(config.out / "state.safetensors", trainer)
        if world.mean([float(trainer.step)])[0] != trainer.step:
            raise StorageError(
                f"The processes do not see the same run in {config.out}. Name a folder that all of them share."
            )
        trainer.network = world.wrap(model)
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

    def supply(self, data: TrainingData) -> Supply:
        """Return what gives the batches from the next step on."""
        return Supply(data, self.config, self.world, self.step)

    def _autocast(self) -> AbstractContextManager[object]:
        dtype = _DTYPES[self.config.precision]
        return contextlib.nullcontext() if dtype is None else torch.autocast(self.world.device.type, dtype)

    def train_step(self, supply: Supply) -> None:
        """Take one optimizer step and follow it with the averaged weights."""
        config = self.config
        batch = supply.take()
        for group in self.optimizer.param_groups:
            group["lr"] = group["factor"] * self.learning_rate()
        with self._autocast():
            restored = self.network(batch.hazy_B3HW)
        losses = training_loss(config, restored, batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(losses.total).backward()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        # each process has moved them by its own crops
        self.world.average([module.centre for module in self.model.modules() if isinstance(module, CentredNorm)])
        self.step += 1
        with torch.no_grad():
            decay = min(config.ema, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(list(self.averaged.values()), list(self.model.state_dict().values()), 1 - decay)
            gain, counted = psnr_gain(restored.image_B3HW, batch)
            here = (losses.total, losses.image, restored.balance, gain, counted)
            self.unread.append(torch.stack([value.float() for value in here]))
        supply.look_ahead()
        # reading waits for the device, so a GPU is read every tenth step only
        if self.world.device.type != "cuda" or self.step % READ_EVERY == 0:
            self.read()

    def read(self) -> None:
        """Follow what the last steps came to, and the time they took."""
        if not self.unread:
            return
        sums_5 = torch.stack(self.unread).double().sum(0) / len(self.unread)
        now = time.perf_counter()
        # all processes see the same numbers, and so decide alike when to save and when to stop
        *means, seconds = self.world.mean([*sums_5.tolist(), now - self.since])
        total, image, balance, gains, counted = means
        # in fp16 the scaler leaves out a step that went wrong
        if not math.isfinite(total) and not self.scaler.is_enabled():
            raise InputError(
                f"The loss is no number at step {self.step}. Give a lower --lr or another --set; "
                "the last checkpoint stays."
            )
        kept = 0.98 ** len(self.unread)
        found = {"loss": total, "image_loss": image, "balance": balance}
        if counted:
            found["psnr_gain"] = gains / counted
        for name, value in found.items():
            self.recent[name] = self.recent.get(name, value) * kept + value * (1 - kept)
        self.elapsed += seconds
        self.since, self.unread = now, []

    def average(self) -> InfDehaze:
        """Return a network on the CPU with the averaged weights, for inference."""
        averaged = InfDehaze(self.model.preset)
        averaged.load_state_dict(self.averaged)
        return averaged.eval()

    def save(self, extra: dict[str, Any] | None = None) -> None:
        """Write the state to resume from, and the averaged weights; every process must call it."""
        self.read()
        if self.world.first:
            self.config.out.mkdir(parents=True, exist_ok=True)
            save_state(self.config.out / "state.safetensors", self)
            facts = {"steps": self.step, "seconds": round(self.elapsed), "processes": self.world.size}
            card = {"recipe": self.config.recipe(), **facts, **(extra or {})}
            partial = self.config.out / "weights.partial"
            save_weights(partial, self.average(), card)
            partial.replace(self.config.out / "weights.safetensors")
        # who goes on before the files are there would not find them
        self.world.wait()

    def draw_samples(self, data: TrainingData) -> Path:
        """Write what the averaged weights make of a few crops, always the same: hazy, restored, clear."""
        generator = torch.Generator(self.world.device).manual_seed(SAMPLE_HAZE)
        batch = draw_batch(data, self.config.crops[0][0], SAMPLES, np.random.default_rng(0), generator)
        with torch.inference_mode():
            restored = self.average().to(self.world.device)(batch.hazy_B3HW)
        path = self.config.out / "samples" / f"step-{self.step:06d}.png"
        write_samples(path, batch.hazy_B3HW, restored.image_B3HW, batch.clear_B3HW)
        return path


def psnr_gain(image_B3HW: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the mean gain over the input in dB and 1; zeros when every sample is clear, and has nothing to gain."""
    error = (image_B3HW.float().clamp(0, 1) - batch.clear_B3HW).square().mean((1, 2, 3)) + 1e-5
    before = (batch.hazy_B3HW - batch.clear_B3HW).square().mean((1, 2, 3)) + 1e-5
    hazed = (before > 1e-3).float()
    gain = (10 * torch.log10(before / error) * hazed).sum() / hazed.sum().clamp(min=1)
    return gain, hazed.amax()


def train(config: TrainConfig, on_event: Callable[[TrainEvent], None], on_note: Callable[[str], None]) -> Path:
    """Train until the steps or the time are used up.

    Parameters
    ----------
    config : TrainConfig
        The run. When ``config.out`` holds a run already, it goes on from there exactly.
    on_event : callable
        Called every tenth step, in the first process alone.
    on_note : callable
        Called with a line about each picture that cannot be read, and whatever else is left out; in the first process.

    Returns
    -------
    Path
        The averaged weights.

    Raises
    ------
    InputError
        When the data folder is missing, empty, or holds pictures that do not make pairs; when the loss is no number.
    CheckpointError
        When the weights to begin with, or the run to go on with, cannot be used.
    StorageError
        When the folder of the run cannot be made or written, or the processes do not share it.
    UsageError
        When that folder lies among the pictures, or would replace the weights to begin with.
    BudgetError
        When the memory does not hold a step.
    """
    with join_world(config.device) as world:
        if world.device.type == "cuda":
            # products in TF32, as is usual in training
            torch.set_float32_matmul_precision("high")
        note = Once(on_note if world.first else lambda line: None)
        _check_apart(config)
        # first what is quick to refuse
        trainer = Trainer.start(config, world)
        data = open_data(
            config.data,
            lambda line: note(f"skipped: {line}"),
            dataset=config.dataset,
            down_weight=config.down_weight,
            colours=config.colours,
            limit=config.memory_limit,
        )
        if world.first:
            _make_folder(config.out)
            if data.held_out:
                with _writing(config.out):
                    (config.out / "held-out.txt").write_text("".join(f"{name}\n" for name in data.held_out), "utf-8")
        try:
            _run(trainer, data, on_event)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise BudgetError(
                "A step does not fit into memory. Give smaller crops, or fewer at a time, with --crops, "
                "and run the same command again."
            ) from error
    return config.out / "weights.safetensors"


def _check_apart(config: TrainConfig) -> None:
    """Refuse a run folder among the pictures, whose samples would be learned from, or one that replaces its start."""
    out = config.out.resolve()
    above = {out, *out.parents}
    if any(folder.resolve() in above for folder, _, _ in walk(config.data)):
        raise UsageError(f"{config.out} lies among the pictures of {config.data}. Name a folder outside with --output.")
    weights = out / "weights.safetensors"
    fresh = weights.exists() and not (out / "state.safetensors").exists()
    if fresh and config.start is not None and resolve_weights(config.start).resolve() == weights:
        raise UsageError(f"{weights} would be replaced by what begins with it. Name another folder with --output.")


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"The folder {path} cannot be made ({error.strerror}). Name another with --output."
        ) from error


@contextlib.contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Say of what a disk refuses that it is the run's folder."""
    try:
        yield
    except (OSError, RasterioError, SafetensorError) as error:
        raise StorageError(
            f"The run cannot be written to {out} ({error}). Make room there and run the same command again."
        ) from error


def _run(trainer: Trainer, data: TrainingData, on_event: Callable[[TrainEvent], None]) -> None:
    config, first = trainer.config, trainer.world.first
    with _writing(config.out):
        curve = Curve(config.out / "curve.csv", trainer.step) if first else None

    def save() -> None:
        with _writing(config.out):
            trainer.save()
            if curve is not None:
                trainer.draw_samples(data)
                curve.draw()

    supply, saved = trainer.supply(data), trainer.elapsed
    # the time limit is for saving too, but not for opening the data
    trainer.since = time.perf_counter()
    while trainer.progress < 1.0:
        trainer.train_step(supply)
        if curve is not None and trainer.step % 10 == 0:
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
            with _writing(config.out):
                curve.append({"step": trainer.step, "lr": event.lr, "seconds": event.seconds, **trainer.recent})
        if trainer.elapsed - saved > config.checkpoint_every:
            save()
            saved = trainer.elapsed
    save()
