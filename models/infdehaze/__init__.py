"""Inf-Dehaze as a PyTorch network: tiles, a global sparse bottleneck, tiles again. Needs torch and safetensors."""

from .errors import CheckpointError, InfdehazeError
from .network import InfDehaze, Restored
from .presets import PRESETS, Preset
from .weights import load_model

__all__ = ["PRESETS", "CheckpointError", "InfDehaze", "InfdehazeError", "Preset", "Restored", "load_model"]
