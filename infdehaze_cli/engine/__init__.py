"""Algorithm 1 on scenes of any size: encode, bottleneck, decode, streamed."""

from .device import resolve_device
from .execute import Measured, execute
from .meter import TensorMeter, peak_rss_bytes
from .protocols import ArrayBlock, Reporter, SceneReader, SceneWriter, Silent, SourceBlock

__all__ = [
    "ArrayBlock",
    "Measured",
    "Reporter",
    "SceneReader",
    "SceneWriter",
    "Silent",
    "SourceBlock",
    "TensorMeter",
    "execute",
    "peak_rss_bytes",
    "resolve_device",
]
