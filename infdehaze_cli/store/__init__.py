"""Where a scene waits between the phases: residuals of tiles, latents, queries, keys and values."""

from .arrays import DiskArray, HostArray, SceneArray, Workspace
from .codecs import CODECS, Codec
from .packing import (
    RESIDUAL_DTYPES,
    ResidualDtype,
    from_stored,
    pack,
    row_bytes,
    row_length,
    stored_dtype,
    to_stored,
    unpack,
)
from .residuals import RecomputeStore, ResidualStore, Tier, ZarrResidualStore

__all__ = [
    "CODECS",
    "RESIDUAL_DTYPES",
    "Codec",
    "DiskArray",
    "HostArray",
    "RecomputeStore",
    "ResidualDtype",
    "ResidualStore",
    "SceneArray",
    "Tier",
    "Workspace",
    "ZarrResidualStore",
    "from_stored",
    "pack",
    "row_bytes",
    "row_length",
    "stored_dtype",
    "to_stored",
    "unpack",
]
