"""The state of a training run on disk, so that it resumes exactly: safetensors and JSON, no pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from infdehaze.presets import Preset
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from infdehaze_cli.errors import CheckpointError

if TYPE_CHECKING:
    from .loop import Trainer

_NUMPY_BYTES = 1024
"""Room for the state of a NumPy stream as JSON, alike in all processes."""


def save_state(path: Path, trainer: Trainer) -> None:
    """Write weights, averaged weights, optimizer moments, counters and random states, whole or not at all.

    Every process must call it, since each gives its random states; the first one writes.
    """
    random_torch = trainer.world.gather(trainer.generator.get_state())
    random_numpy = trainer.world.gather(_to_bytes(trainer.rng.bit_generator.state))
    if not trainer.world.first:
        return
    tensors: dict[str, Tensor] = {}
    for name, value in trainer.model.state_dict().items():
        tensors[f"model/{name}"] = value
    for name, value in trainer.averaged.items():
        tensors[f"averaged/{name}"] = value
    for name, parameter in trainer.model.named_parameters():
        for key, value in trainer.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{key}/{name}"] = value
    tensors["random/torch"] = random_torch[0]
    for rank, value in enumerate(random_torch[1:], start=1):
        tensors[f"random/torch/{rank}"] = value
    numpy_states = [_from_bytes(value) for value in random_numpy]
    facts = {
        "preset": trainer.model.preset.to_dict(),
        "bottleneck_only": trainer.config.bottleneck_only,
        "step": trainer.step,
        "elapsed": trainer.elapsed,
        "recent": trainer.recent,
        "scaler": trainer.scaler.state_dict(),
        "numpy": numpy_states[0],
        "numpy_ranks": numpy_states[1:],
    }
    partial = path.with_suffix(".partial")
    save_file(
        {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()},
        partial,
        {"facts": json.dumps(facts)},
    )
    partial.replace(path)


def _to_bytes(state: Any) -> Tensor:
    text = json.dumps(state).encode()
    assert len(text) <= _NUMPY_BYTES
    return torch.from_numpy(np.frombuffer(text.ljust(_NUMPY_BYTES), np.uint8).copy())


def _from_bytes(value: Tensor) -> Any:
    return json.loads(value.cpu().numpy().tobytes())


def load_state(path: Path, trainer: Trainer) -> None:
    """Put a saved state into a fresh trainer.

    A process that was not there before, or whose random stream was one of another kind of device, draws from a fresh
    one: then the run goes on, but not exactly.

    Raises
    ------
    CheckpointError
        When the file is damaged, belongs to another preset, or trained other parts of the network.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}). Remove it to start afresh.") from error
    try:
        _restore(path, trainer, facts, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        line = str(error).splitlines()[0]
        raise CheckpointError(f"{path} is damaged ({line}). Remove it to start afresh.") from error


def _restore(path: Path, trainer: Trainer, facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    # through the class, which fills in fields that an older version did not know
    if Preset.from_dict(facts["preset"]) != trainer.model.preset:
        raise CheckpointError(
            f"{path} is a run of another network ({facts['preset'].get('name')}). Name another folder for this one."
        )
    if facts.get("bottleneck_only", False) != trainer.config.bottleneck_only:
        raise CheckpointError(
            f"{path} is a run that trains other parts of the network. Name another folder for this one."
        )

    def part(prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}

    trainer.model.load_state_dict(part("model/"))
    for name, value in part("averaged/").items():
        trainer.averaged[name].copy_(value)
    for name, parameter in trainer.model.named_parameters():
        if parameter.requires_grad:
            state = {key: tensors[f"optimizer/{key}/{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}
            # the fused optimizer counts its steps on the device
            trainer.optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in state.items()}
    if facts.get("scaler"):
        trainer.scaler.load_state_dict(facts["scaler"])
    trainer.step, trainer.elapsed, trainer.recent = facts["step"], facts["elapsed"], facts["recent"]
    _restore_random(trainer, facts, tensors)


def _restore_random(trainer: Trainer, facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    rank = trainer.world.rank
    if not trainer.world.first and f"random/torch/{rank}" not in tensors:
        trainer.rng, trainer.generator = trainer.world.streams(trainer.config.seed, trainer.step)
        return
    stream = tensors["random/torch" if rank == 0 else f"random/torch/{rank}"].to(torch.uint8)
    trainer.rng.bit_generator.state = facts["numpy"] if rank == 0 else facts["numpy_ranks"][rank - 1]
    if stream.numel() == trainer.generator.get_state().numel():
        trainer.generator.set_state(stream)
    else:
        _, trainer.generator = trainer.world.streams(trainer.config.seed, trainer.step)
