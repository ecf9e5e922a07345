"""The network of a run: a preset, changed as asked, with fresh or given weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from infdehaze.encoder import BLOCKS
from infdehaze.errors import CheckpointError
from infdehaze.network import InfDehaze
from infdehaze.presets import LITE, PRESETS, Preset
from infdehaze.weights import load_model

from infdehaze_cli.errors import UsageError

from .config import TrainConfig

_YES, _NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def make_network(config: TrainConfig) -> InfDehaze:
    """Build the network that a run begins with.

    Raises
    ------
    UsageError
        When there is no such preset, or its changes make no sense.
    CheckpointError
        When the given weights cannot be read, or are those of another network than the preset that was asked for.
    """
    if config.preset is not None and config.preset not in PRESETS:
        raise UsageError(f"There is no preset {config.preset!r}. Use one of {', '.join(PRESETS)}.")
    asked = None if config.preset is None else PRESETS[config.preset]
    if config.start is None:
        return InfDehaze(override(asked or PRESETS[LITE.name], config.overrides))
    given = load_model(config.start)
    # weights of an earlier version may have another form of the preset that is asked for
    named = given.preset if asked is None or config.preset == given.preset.name else asked
    preset = override(named, config.overrides)
    if preset == given.preset:
        return given
    model = InfDehaze(preset)
    try:
        model.load_state_dict(given.state_dict())
    except RuntimeError as error:
        raise CheckpointError(
            f"{config.start} holds weights of {given.preset.name!r}, which do not fit the network {preset.name!r} that "
            "was asked for. Leave out --preset and --set, or name other weights."
        ) from error
    return model


def override(preset: Preset, items: Sequence[str]) -> Preset:
    """Change fields of a preset.

    Parameters
    ----------
    preset : Preset
        What to start from.
    items : sequence of str
        ``key=value`` each: ``widths=32,48,64,96``, ``stem_stride=4``, ``sfca=false`` (one value for all four stages).

    Raises
    ------
    UsageError
        When a key is unknown, a value is of the wrong kind, or the whole makes no network.
    """
    known = {field.name: getattr(preset, field.name) for field in fields(preset)}
    changes: dict[str, Any] = {}
    for item in items:
        key, equals, text = (part.strip() for part in item.partition("="))
        if not equals or key not in known:
            raise UsageError(
                f"{item!r} changes nothing of a preset. Write KEY=VALUE, with a key of {', '.join(known)}."
            )
        try:
            changes[key] = _parse(text, known[key])
        except ValueError as error:
            raise UsageError(f"{text!r} is no value for {key}, which is {known[key]!r}. Give one like that.") from error
    try:
        changed = replace(preset, **changes)
    except ValueError as error:
        raise UsageError(f"{' '.join(items)} makes no network: {error}. Change the values of --set.") from error
    if changed.block not in BLOCKS:
        raise UsageError(f"There is no block {changed.block!r}. Use one of {', '.join(BLOCKS)}.")
    return changed


def _parse(text: str, like: Any) -> Any:
    """Return a value of the same kind as ``like``."""
    if isinstance(like, tuple):
        parts = text.split(",")
        return tuple(_parse(part.strip(), like[0]) for part in (parts * len(like) if len(parts) == 1 else parts))
    if isinstance(like, bool):
        if text.lower() not in _YES + _NO:
            raise ValueError(text)
        return text.lower() in _YES
    if isinstance(like, str):
        if not re.fullmatch(r"[\w.+-]+", text):
            raise ValueError(text)
        return text
    # a batch that follows the paper's rule is None
    if like is None or isinstance(like, int):
        return None if text.lower() == "none" else int(text)
    return float(text)
