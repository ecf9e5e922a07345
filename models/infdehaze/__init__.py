"""Inf-Dehaze as a PyTorch network: tiles, a global sparse bottleneck, tiles again. Depends on torch alone."""

from .errors import CheckpointError, InfdehazeError
from .network import InfDehaze, Restored
from .presets import PRESETS, Preset

__all__ = ["PRESETS", "CheckpointError", "InfDehaze", "InfdehazeError", "Preset", "Restored"]
