"""Dehazing Attribution Map: which pixels a restored window owes its haze removal to (paper, supplement section 7).

Integrated gradients along the straight path from a clear to the hazy picture: a pixel's attribution is its change on
that path times the mean gradient of an objective over the window. Attributions add up to the change of the objective.
The order in which IBSSA sorts tokens, and the experts that LMMoE chooses, have no gradient: they are constants.
What is attributed is the look at the scene in full size, without the one at half its size (decided here).

Axes: B scenes, H W rows and columns, F fields.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .network import InfDehaze
from .tiling import scatter

Objective = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Maps the window's hazy picture (B, 3, H, W), its fields (B, 9, H, W) and its validity (B, H, W) to a scalar."""

STEPS = 16
"""Points on the path by default; see `docs/attribution.md` for what they leave out."""


def light(hazy_B3HW: Tensor, fields_B9HW: Tensor, valid_BHW: Tensor) -> Tensor:
    """Return the mean light that is taken away, ``I - J``, over the valid pixels and bands: about -1..1."""
    return _mean(hazy_B3HW - scatter(hazy_B3HW, fields_B9HW), valid_BHW)


def depth(hazy_B3HW: Tensor, fields_B9HW: Tensor, valid_BHW: Tensor) -> Tensor:
    """Return the mean optical depth over the valid pixels and bands: -4..4."""
    return _mean(fields_B9HW[:, :3], valid_BHW)


def detail(hazy_B3HW: Tensor, fields_B9HW: Tensor, valid_BHW: Tensor) -> Tensor:
    """Return the mean length of the gradient of the restored picture, between valid neighbours: 0 and up."""
    image = scatter(hazy_B3HW, fields_B9HW)
    down = image[:, :, 1:, :-1] - image[:, :, :-1, :-1]
    right = image[:, :, :-1, 1:] - image[:, :, :-1, :-1]
    known = valid_BHW[:, :-1, :-1] & valid_BHW[:, 1:, :-1] & valid_BHW[:, :-1, 1:]
    # a root has no slope at zero
    return _mean((down.square() + right.square() + 1e-8).sqrt(), known)


def _mean(values_BCHW: Tensor, valid_BHW: Tensor) -> Tensor:
    known = valid_BHW[:, None].expand_as(values_BCHW)
    return torch.where(known, values_BCHW, 0).sum() / known.sum().clamp(min=1)


OBJECTIVES: dict[str, Objective] = {"light": light, "depth": depth, "detail": detail}
"""What may be attributed. The supplement leaves the objective open (decided here: ``light``, what dehazing changes)."""


def path_points(steps: int) -> list[tuple[float, float]]:
    """Return positions on the path, 0 clear to 1 hazy, with weights that add up to 1: Gauss-Legendre quadrature.

    Parameters
    ----------
    steps : int
        How many, from 1 up.

    Raises
    ------
    ValueError
        When there is no point.
    """
    if steps < 1:
        raise ValueError("a path has at least one point")
    order = torch.arange(1, steps, dtype=torch.float64)
    beside = order / (4 * order**2 - 1).sqrt()
    # Golub and Welsch: the nodes are the eigenvalues of the recurrence of the Legendre polynomials
    node, vector = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    weight = vector[0].square()
    return [((1 + float(x)) / 2, float(w)) for x, w in zip(node, weight / weight.sum(), strict=True)]


@dataclass(frozen=True, slots=True)
class Attribution:
    """What a window owes to each pixel."""

    map_B3HW: Tensor
    """In units of the objective; 0 where there is no data."""
    at_clear: float
    """The objective at the clear end of the path."""
    at_hazy: float
    """The objective at the hazy end."""


def attribute(
    model: InfDehaze,
    hazy_B3HW: Tensor,
    clear_B3HW: Tensor,
    window: tuple[int, int, int, int],
    *,
    valid_BHW: Tensor | None = None,
    overlap: int | None = None,
    objective: str = "light",
    steps: int = STEPS,
) -> Attribution:
    """Attribute a window of a scene in memory: the plain form that streaming must equal.

    It keeps all activations of the whole network at once.

    Parameters
    ----------
    model : InfDehaze
        In evaluation mode.
    hazy_B3HW, clear_B3HW : Tensor
        The ends of the path, float, values around 0..1.
    window : tuple of int
        Row, column, height and width.
    valid_BHW, overlap
        As :meth:`InfDehaze.forward`.
    objective : str
        A key of :data:`OBJECTIVES`.
    steps : int
        Points on the path, from 1 up.
    """
    row, col, height, width = window
    rows, cols = slice(row, row + height), slice(col, col + width)
    measure, change = OBJECTIVES[objective], hazy_B3HW - clear_B3HW
    valid = torch.ones_like(hazy_B3HW[:, 0], dtype=torch.bool) if valid_BHW is None else valid_BHW

    def value(picture_B3HW: Tensor) -> Tensor:
        fields_B9HW = model(picture_B3HW, valid_BHW=valid_BHW, overlap=overlap, coarse=False).fields_B9HW
        return measure(picture_B3HW[..., rows, cols], fields_B9HW[..., rows, cols], valid[..., rows, cols])

    total = torch.zeros_like(hazy_B3HW)
    for position, weight in path_points(steps):
        picture = (clear_B3HW + position * change).requires_grad_()
        total += weight * torch.autograd.grad(value(picture), picture)[0]
    with torch.no_grad():
        at_clear, at_hazy = float(value(clear_B3HW)), float(value(hazy_B3HW))
    return Attribution(torch.where(valid[:, None], total * change, 0), at_clear, at_hazy)
