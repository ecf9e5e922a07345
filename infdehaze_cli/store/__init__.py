"""Where residuals wait between the encoder and the decoder."""

from .residuals import (
    STORAGE_DTYPES,
    RecomputeStore,
    ResidualStore,
    ZarrResidualStore,
    from_stored,
    open_residual_store,
    pack,
    to_stored,
    unpack,
)

__all__ = [
    "STORAGE_DTYPES",
    "RecomputeStore",
    "ResidualStore",
    "ZarrResidualStore",
    "from_stored",
    "open_residual_store",
    "pack",
    "to_stored",
    "unpack",
]
