"""What training minimises: L1 on the picture, the physics where they are known, and terms to choose from.

Paper, supplement section 4: L1 and LMMoE's auxiliary loss. The rest is decided here.
Axes: B samples, H W rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from infdehaze.network import Restored
from torch import Tensor

from .data import Batch

if TYPE_CHECKING:
    from .config import TrainConfig

LOSSES = ("l1", "l1+frequency", "l1+ssim")
"""`l1` has all terms but the last two; each of the others adds one of them."""

PSNR_FLOOR = 2e-4
"""Squared error below which a sample counts as right: 37 dB. A lower one leaves clear ground alone, and haze too."""

SSIM_SIDE, SSIM_SIGMA = 11, 1.5


@dataclass(frozen=True, slots=True)
class Losses:
    """The sum that is minimised, and its main part."""

    total: Tensor
    image: Tensor
    """Mean absolute error."""


def training_loss(config: TrainConfig, restored: Restored, batch: Batch) -> Losses:
    """Add up the terms in fp32; those that need the true optical depth or airlight drop out where nobody knows it."""
    clear = batch.clear_B3HW
    image = restored.image_B3HW.float()
    error = image - clear
    image_loss = error.abs().mean()
    total = image_loss
    if batch.depth_B3HW is not None:
        fields = restored.fields_B9HW.float()
        found_t = torch.exp(-F.avg_pool2d(fields[:, :3], 4))
        true_t = torch.exp(-F.avg_pool2d(batch.depth_B3HW, 4))
        total = total + config.transmission_weight * (found_t - true_t).abs().mean()
        if batch.airlight_B311 is not None:
            found_a = F.avg_pool2d(fields[:, 3:6], 4)
            # airlight shows only where there is haze
            off = (1 - true_t) * (found_a - batch.airlight_B311).abs()
            total = total + config.airlight_weight * off.mean()
    total = (
        total
        + config.step_weight * step_loss(error)
        + config.balance_weight * restored.balance
        + config.psnr_weight * error.square().mean((1, 2, 3)).add(PSNR_FLOOR).log().mean()
    )
    if config.loss == "l1+frequency":
        total = total + config.frequency_weight * frequency_loss(error)
    if config.loss == "l1+ssim":
        total = total + config.ssim_weight * (1 - ssim(image, clear))
    return Losses(total, image_loss)


def step_loss(error_B3HW: Tensor) -> Tensor:
    """Return the mean absolute change of the error over 4 and 32 px, along rows and columns.

    Steps of brightness between tiles show most on even ground, where the error itself may be small.
    """
    coarse = F.avg_pool2d(error_B3HW, 4)
    steps = [
        (coarse.narrow(axis, shift, coarse.shape[axis] - shift) - coarse.narrow(axis, 0, coarse.shape[axis] - shift))
        for axis in (2, 3)
        for shift in (1, 8)
    ]
    return torch.stack([step.abs().mean() for step in steps]).sum() / 2


def frequency_loss(error_B3HW: Tensor) -> Tensor:
    """Return the mean absolute real and imaginary part of the error's orthonormal spectrum."""
    spectrum = torch.fft.rfft2(error_B3HW, norm="ortho")
    return torch.view_as_real(spectrum).abs().mean()


def ssim(first_B3HW: Tensor, second_B3HW: Tensor) -> Tensor:
    """Return the mean structural similarity, at most 1, of pictures with values 0..1.

    Gaussian 11 x 11 with sigma 1.5, where it lies inside the picture.
    """
    position = torch.arange(SSIM_SIDE, device=first_B3HW.device) - SSIM_SIDE // 2
    weight = torch.exp(-(position.float() ** 2) / (2 * SSIM_SIGMA**2))
    weight = (weight / weight.sum()).expand(3, 1, 1, SSIM_SIDE)

    def blur(x_B3HW: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x_B3HW, weight, groups=3), weight.transpose(2, 3), groups=3)

    x, y = first_B3HW, second_B3HW
    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    both = blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_x * mean_y + c1) * (2 * both + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return similarity.mean()
