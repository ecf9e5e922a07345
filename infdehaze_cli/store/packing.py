"""How the residuals of a tile become one row of numbers: rounded on their device, so that half the bytes travel.

Axes: B tiles, H W rows and columns of a stage, C its channels, L numbers of a row.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ResidualDtype = Literal["fp32", "fp16", "bf16", "int8"]
RESIDUAL_DTYPES: tuple[str, ...] = get_args(ResidualDtype)

# numpy has no bfloat16: its bits are stored as uint16
_STORED: dict[str, tuple[torch.dtype, np.dtype[np.generic]]] = {
    "fp32": (torch.float32, np.dtype(np.float32)),
    "fp16": (torch.float16, np.dtype(np.float16)),
    "bf16": (torch.bfloat16, np.dtype(np.uint16)),
    "int8": (torch.int8, np.dtype(np.int8)),
}
_LARGEST = {"fp16": 65504.0}
_STEPS = 127
"""int8: values are kept as whole multiples, from -127 to 127, of a 127th of the largest of their tile and channel."""

Shapes = tuple[tuple[int, int, int], ...]


def stored_dtype(dtype: str) -> np.dtype[np.generic]:
    """Return the numpy dtype of a row."""
    return _STORED[dtype][1]


def row_length(shapes: Shapes, dtype: str) -> int:
    """Return L, the numbers in a row for stages of these shapes (H, W, C)."""
    values = sum(h * w * c for h, w, c in shapes)
    return values + (4 * sum(c for *_, c in shapes) if dtype == "int8" else 0)


def row_bytes(shapes: Shapes, dtype: str) -> int:
    """Return the bytes that the residuals of one tile take."""
    return row_length(shapes, dtype) * stored_dtype(dtype).itemsize


def pack(residuals: list[Tensor], dtype: str) -> Tensor:
    """Flatten and round the residuals of a batch, on their device.

    Parameters
    ----------
    residuals : list of Tensor
        r1..r4, float32 (B, H, W, C) each.
    dtype : str
        ``fp32``, ``fp16``, ``bf16`` or ``int8``. Values that fp16 cannot hold are cut at its largest; int8 has a
        float32 scale for each tile and channel at the end of the row.

    Returns
    -------
    Tensor
        (B, L) in the torch dtype of that name.
    """
    kind, _ = _STORED[dtype]
    if dtype == "int8":
        scale_BC = [r.abs().amax((1, 2)).clamp(min=torch.finfo(torch.float32).tiny) / _STEPS for r in residuals]
        whole = [(r / s[:, None, None]).round_().to(kind) for r, s in zip(residuals, scale_BC, strict=True)]
        return torch.cat([*(x.flatten(1) for x in whole), torch.cat(scale_BC, 1).contiguous().view(kind)], 1)
    flat_BL = torch.cat([r.flatten(1) for r in residuals], 1)
    return (flat_BL.clamp_(-_LARGEST[dtype], _LARGEST[dtype]) if dtype in _LARGEST else flat_BL).to(kind)


def unpack(packed_BL: Tensor, shapes: Shapes) -> list[Tensor]:
    """Undo :func:`pack`: float32 residuals, on the device of ``packed_BL``."""
    sizes = [h * w * c for h, w, c in shapes]
    scales: list[Tensor | None] = [None] * len(shapes)
    if packed_BL.dtype is torch.int8:
        # a copy in any case: floats begin at a multiple of four bytes
        tail_BL = packed_BL[:, sum(sizes) :].clone(memory_format=torch.contiguous_format).view(torch.float32)
        scales = list(torch.split(tail_BL, [c for *_, c in shapes], 1))
        packed_BL = packed_BL[:, : sum(sizes)]
    parts = torch.split(packed_BL, sizes, 1)
    # copies in any case: matrix products round differently by layout and alignment
    residuals = [
        part.to(torch.float32, copy=True, memory_format=torch.contiguous_format).unflatten(1, shape)
        for part, shape in zip(parts, shapes, strict=True)
    ]
    return [r if s is None else r * s[:, None, None] for r, s in zip(residuals, scales, strict=True)]


def to_stored(packed_BL: Tensor) -> NDArray[np.generic]:
    """View packed residuals on the host as what a store keeps."""
    bits = packed_BL.view(torch.int16) if packed_BL.dtype is torch.bfloat16 else packed_BL
    stored: NDArray[np.generic] = bits.numpy()
    return stored.view(np.uint16) if packed_BL.dtype is torch.bfloat16 else stored


def from_stored(stored: NDArray[np.generic], dtype: str) -> Tensor:
    """Undo :func:`to_stored`."""
    kind, _ = _STORED[dtype]
    return torch.from_numpy(stored.view(np.int16)).view(kind) if kind is torch.bfloat16 else torch.from_numpy(stored)
