"""The two classical methods that weights have to beat, from their papers, over whole pictures in memory.

Axes: C colour bands (red, green, blue), H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infdehaze_cli.geometry import Window
from infdehaze_cli.raster import OutputWriter, Scene, gdal_environment

from .filters import PATCH, Mask, guided_filter, haziest_colours, invert, minimum_filter

Classical = Callable[[NDArray[np.float32], Mask], NDArray[np.float32]]


def dark_channel(hazy_CHW: NDArray[np.float32], valid_HW: Mask) -> NDArray[np.float32]:
    """Remove haze by the dark channel prior: some pixel of each patch of clear ground is dark in some band.

    He, Sun and Tang, "Single Image Haze Removal Using Dark Channel Prior", CVPR 2009, with its patch of 15 px, omega
    0.95 and t0 0.1. Two departures, both in favour of the method: the guided filter by the same authors (ECCV 2010,
    radius 60, epsilon 0.001) stands for soft matting, and the airlight is the mean of the 0.1 % of pixels with the
    brightest dark channel, not the brightest one of them, which is often a roof (1.2 dB less on RICE1).

    Parameters
    ----------
    hazy_CHW : ndarray, shape (3, h, w), float32
        Values 0..1.
    valid_HW : ndarray, shape (h, w), bool
        Pixels that hold data; others are left out of every window.

    Returns
    -------
    ndarray, shape (3, h, w), float32
        From 0 to 1, or to the largest value of the input above it.
    """
    hazy = hazy_CHW.astype(np.float64)

    def dark(x_CHW: NDArray[np.float64]) -> NDArray[np.float64]:
        # what holds no data must not be the darkest
        return minimum_filter(np.where(valid_HW, x_CHW.min(axis=0), 1.0), PATCH)

    airlight_C11 = haziest_colours(hazy, dark(hazy), valid_HW).mean(axis=1).reshape(3, 1, 1)
    # a band without any light says nothing of haze, and must not divide by 0
    coarse_HW = 1.0 - 0.95 * dark(hazy / np.maximum(airlight_C11, 1e-3))
    transmission_HW = guided_filter(hazy, coarse_HW, valid_HW, radius=60)
    return invert(hazy, np.clip(transmission_HW, 0.1, 1.0), airlight_C11)


def colour_attenuation(hazy_CHW: NDArray[np.float32], valid_HW: Mask) -> NDArray[np.float32]:
    """Remove haze by the colour attenuation prior: haze is bright and pale, so depth is linear in value and saturation.

    Zhu, Mai and Shao, "A Fast Single Image Haze Removal Algorithm Using Color Attenuation Prior", IEEE TIP 24 (11),
    2015: the learned weights of equation 8 (the random error of deviation 0.041337 is left at its mean, 0), a minimum
    filter of 15 px, a guided filter (60 px wide, epsilon 0.001, as in the authors' code), beta 1, the airlight from the
    brightest of the 0.1 % deepest pixels, the transmission cut to 0.1 and 0.9.

    Parameters and result as for `dark_channel`.
    """
    hazy = hazy_CHW.astype(np.float64)
    value_HW = hazy.max(axis=0)
    saturation_HW = (value_HW - hazy.min(axis=0)) / np.maximum(value_HW, 1e-9)
    depth_HW = 0.121779 + 0.959710 * value_HW - 0.780245 * saturation_HW
    depth_HW = minimum_filter(np.where(valid_HW, depth_HW, np.inf), PATCH)
    colours_CN = haziest_colours(hazy, depth_HW, valid_HW)
    airlight_C11 = colours_CN[:, colours_CN.sum(axis=0).argmax()].reshape(3, 1, 1)
    # a window without any data has no depth
    depth_HW = np.where(np.isfinite(depth_HW), depth_HW, 0.0)
    transmission_HW = np.exp(-guided_filter(hazy, depth_HW, valid_HW, radius=30))
    return invert(hazy, np.clip(transmission_HW, 0.1, 0.9), airlight_C11)


CLASSICAL: dict[str, Classical] = {"dark_channel": dark_channel, "colour_attenuation": colour_attenuation}
"""By the names under which the benchmark lists them."""


def clean_classically(src: Path, dst: Path, method: Classical) -> None:
    """Write what a classical method makes of a raster, scaled, masked and written as `infdehaze_cli.dehaze` does it.

    Raises
    ------
    InputError, StorageError
        When ``src`` cannot be read or ``dst`` not be written.
    """
    with (
        gdal_environment(),
        Scene.open(src) as scene,
        OutputWriter(scene, dst, format="gtiff", overwrite=True) as out,
    ):
        block = scene.read(Window(0, 0, scene.height, scene.width))
        out.write(block, method(block.values, block.valid) if block.valid.any() else block.values)
        out.finish()
