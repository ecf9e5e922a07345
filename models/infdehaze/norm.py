"""Layer normalisation of what varies: the mean of each channel over the training is taken away first (decided here).

A stream of residual connections gathers constants. Once these outweigh what differs from place to place, a plain layer
norm divides that away, nothing behind it has an effect any more, and no gradient brings it back.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CentredNorm(nn.LayerNorm):
    """Layer norm over the last axis of ``x - centre``.

    Parameters
    ----------
    dim : int
        Channels.
    rate : float
        Share by which the centre, a buffer, follows the mean of each batch in training, after its use and without a
        gradient. In inference, and where the weights are frozen, it stays.
    """

    centre: Tensor

    def __init__(self, dim: int, rate: float = 0.02) -> None:
        super().__init__(dim)
        self.rate = rate
        self.register_buffer("centre", torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to the same shape."""
        centred = x - self.centre
        # a norm that is not trained keeps its centre too
        if self.training and self.weight.requires_grad:
            with torch.no_grad():
                self.centre += self.rate * centred.float().flatten(0, -2).mean(0)
        return super().forward(centred)


def centre_norms(module: nn.Module) -> None:
    """Put a :class:`CentredNorm` in the place of every plain layer norm inside a module."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.LayerNorm:
                setattr(parent, name, CentredNorm(child.normalized_shape[0]))
