"""Checkpoints: one safetensors file whose header holds the preset, the training facts and the measured scores.

Nothing is ever unpickled: a file is either safetensors or refused.
"""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .errors import CheckpointError
from .network import InfDehaze
from .presets import PRESETS, Preset

FORMAT = "infdehaze-1"
MAX_HEADER = 8 * 1024 * 1024
EXACT = ("projection", "carrier", "centre")
"""Buffers that are never rounded to half precision."""


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """What the header of a checkpoint says."""

    path: Path
    preset: Preset
    card: Mapping[str, Any]
    """Free facts: data, licences, recipe, scores."""


def shipped_weights() -> dict[str, Path]:
    """Return the checkpoints inside the package by name."""
    folder = resources.files("infdehaze") / "weights"
    paths = (Path(str(entry)) for entry in folder.iterdir()) if folder.is_dir() else iter(())
    return {path.stem: path for path in sorted(paths) if path.suffix == ".safetensors"}


def resolve_weights(name: str | Path) -> Path:
    """Return the path of a checkpoint from the name of shipped weights or a path.

    Raises
    ------
    CheckpointError
        When it is neither.
    """
    shipped = shipped_weights()
    if str(name) in shipped:
        return shipped[str(name)]
    path = Path(name)
    # a name too long for the file system is no file either
    with contextlib.suppress(OSError):
        if path.is_file():
            return path
    if str(name) in PRESETS:
        raise CheckpointError(
            f"No weights for the preset {str(name)!r} are shipped. Use one of {', '.join(shipped) or 'none'}, "
            "or name a checkpoint file that you trained."
        )
    raise CheckpointError(
        f"There are no weights {str(name)!r}. Name a .safetensors file (shipped: {', '.join(shipped) or 'none'})."
    )


def _check_header(path: Path) -> None:
    """Refuse files that are not safetensors before any parser sees them."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}). Check the path and its permissions."
        ) from error
    # the first eight bytes of safetensors are a length, which may begin like anything; then its header begins
    length = struct.unpack("<Q", start[:8])[0] if len(start) == 9 and start[8:] == b"{" else 0
    if 2 <= length <= min(MAX_HEADER, size - 8):
        return
    if start[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise CheckpointError(
            f"{path} is a pickled checkpoint, which could run code when loaded. Convert it to safetensors."
        )
    raise CheckpointError(f"{path} is not a safetensors file, or it is cut off. Copy it again or use another.")


def read_info(name: str | Path) -> CheckpointInfo:
    """Read the header of a checkpoint.

    Raises
    ------
    CheckpointError
        When the file is missing, not safetensors, or not one of ours.
    """
    path = resolve_weights(name)
    _check_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}). Copy it again or use another.") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path} was not written by infdehaze. Name a checkpoint of infdehaze.")
    try:
        return CheckpointInfo(path, Preset.from_dict(json.loads(metadata["preset"])), json.loads(metadata["card"]))
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"The header of {path} is damaged ({error}). Copy it again or use another.") from error


def save_weights(path: Path, model: InfDehaze, card: Mapping[str, Any], dtype: torch.dtype = torch.float16) -> None:
    """Write the weights of a network with its preset.

    Projections stay fp32, because hash codes depend on signs, and so do carriers, which are orthogonal, and centres,
    which may be large beside what differs from them.
    """
    tensors = {
        name: value.detach().to("cpu", torch.float32 if name.endswith(EXACT) else dtype).contiguous()
        for name, value in model.state_dict().items()
    }
    metadata = {
        "format": FORMAT,
        "preset": json.dumps(model.preset.to_dict()),
        "card": json.dumps(dict(card)),
    }
    save_file(tensors, path, metadata)
    # safetensors makes a private temporary file; weights are for whoever may read the folder
    path.chmod(0o644)


def load_model(name: str | Path = "lite", device: str | torch.device = "cpu") -> InfDehaze:
    """Load a network for inference, in fp32.

    Parameters
    ----------
    name : str or Path
        Name of shipped weights, or a path.
    device : str or torch.device
        Where it goes.

    Raises
    ------
    CheckpointError
        When the checkpoint is missing, damaged, holds values that are not finite, or does not fit its preset.
    """
    info = read_info(name)
    try:
        with torch.device("meta"):
            model = InfDehaze(info.preset)
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{info.path} describes a network that this version does not know ({error}). "
            "Use the version of infdehaze that wrote it."
        ) from error
    expected = model.state_dict()
    try:
        with safe_open(info.path, framework="pt") as file:
            if set(file.keys()) != set(expected):
                odd = sorted(set(file.keys()) ^ set(expected))
                raise CheckpointError(
                    f"{info.path} does not fit the preset {info.preset.name!r}: {len(odd)} tensors are missing or "
                    f"unknown, the first is {odd[0]}. Use the version of infdehaze that wrote it."
                )
            tensors = {}
            for key, wanted in expected.items():
                if tuple(file.get_slice(key).get_shape()) != tuple(wanted.shape):
                    raise CheckpointError(
                        f"{info.path} holds {key} in another shape than the preset {info.preset.name!r}. "
                        "Use the version of infdehaze that wrote it."
                    )
                tensors[key] = file.get_tensor(key).to(torch.float32)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{info.path} is damaged ({error}). Copy it again or use another.") from error
    for key, value in tensors.items():
        if not bool(value.isfinite().all()):
            raise CheckpointError(
                f"{info.path} holds values in {key} that are not finite. Copy it again or use another."
            )
    model.load_state_dict(tensors, assign=True)
    return model.to(device).eval()
