"""The state of a training run on disk, so that it resumes exactly: safetensors and JSON, no pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infdehaze.presets import Preset
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from infdehaze_cli.errors import CheckpointError

if TYPE_CHECKING:
    from .loop import Trainer


def save_state(path: Path, trainer: Trainer) -> None:
    """Write weights, averaged weights, optimizer moments and counters, whole or not at all.

    Random states are none of it: what a step draws follows from its number.
    """
    tensors: dict[str, Tensor] = {}
    for name, value in trainer.model.state_dict().items():
        tensors[f"model/{name}"] = value
    for name, value in trainer.averaged.items():
        tensors[f"averaged/{name}"] = value
    for name, parameter in trainer.model.named_parameters():
        for key, value in trainer.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{key}/{name}"] = value
    facts = {
        "preset": trainer.model.preset.to_dict(),
        "bottleneck_only": trainer.config.bottleneck_only,
        "step": trainer.step,
        "elapsed": trainer.elapsed,
        "recent": trainer.recent,
        "scaler": trainer.scaler.state_dict(),
    }
    partial = path.with_suffix(".partial")
    save_file(
        {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()},
        partial,
        {"facts": json.dumps(facts)},
    )
    partial.replace(path)


def load_state(path: Path, trainer: Trainer) -> None:
    """Put a saved state into a fresh trainer.

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
