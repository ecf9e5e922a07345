"""JPEG artefacts, which most pictures from the web and many orthophotos carry."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile
from torch import Tensor

QUALITY = (55, 97)
"""Range that the quality is drawn from."""


def compress(picture_3HW: Tensor, quality: int) -> Tensor:
    """Send a uint8 picture (3, H, W) through JPEG of a quality 1..100, with the usual halved chroma."""
    _, height, width = picture_3HW.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with MemoryFile(ext=".jpg") as file:
            with file.open(
                driver="JPEG", width=width, height=height, count=3, dtype="uint8", QUALITY=str(quality)
            ) as written:
                written.write(picture_3HW.cpu().numpy())
            with file.open() as read:
                return torch.from_numpy(read.read()).to(picture_3HW.device)


def compress_some(pictures_B3HW: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Send each picture of a uint8 batch through JPEG with probability ``share``."""
    out = pictures_B3HW.clone()
    for sample in out:
        if rng.random() < share:
            sample.copy_(compress(sample, int(rng.integers(*QUALITY))))
    return out
