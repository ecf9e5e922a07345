"""Seeded randomness by position: integer hashes, white grain and smooth noise on lattices of any spacing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float32]


def mix(*keys: ArrayLike) -> NDArray[np.uint32]:
    """Hash integers (negative ones too) that broadcast against each other into uint32."""
    state: NDArray[np.uint32] = np.zeros(1, np.uint32)
    for key in keys:
        state = (state ^ np.atleast_1d(np.asarray(key, np.int64)).astype(np.uint32)) * np.uint32(0x85EBCA6B)
        state ^= state >> np.uint32(13)
        state *= np.uint32(0xC2B2AE35)
        state ^= state >> np.uint32(16)
    return state


def unit(*keys: ArrayLike) -> Float:
    """Hash integers into float32 in [0, 1)."""
    return (mix(*keys) >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)


def spline_weights(start: int, count: int, spacing: int) -> tuple[int, Float]:
    """Return the first lattice node and the cubic B-spline weights (count, nodes) of a run of pixels.

    Splines leave no trace of the lattice, which linear or smooth-step interpolation does.
    """
    position = (np.arange(start, start + count) + 0.5) / spacing
    node = np.floor(position).astype(np.intp)
    f = position - node
    taps = ((1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3)
    first = int(node[0]) - 1
    weights = np.zeros((count, int(node[-1]) + 3 - first), np.float32)
    for tap, value in enumerate(taps):
        weights[np.arange(count), node - 1 - first + tap] = value / 6
    return first, weights


def noise_1d(start: int, count: int, spacing: int, *keys: int) -> Float:
    """Return smooth noise (count,) along a line of pixels, standard deviation near 1."""
    first, weights = spline_weights(start, count, spacing)
    nodes = unit(*keys, np.arange(first, first + weights.shape[1])) * np.float32(4.9) - np.float32(2.45)
    # not "@": for five nodes OpenBLAS reads a register that nothing has set, and numpy may warn of what was in it
    line: Float = np.einsum("ij,j->i", weights, nodes)
    return line


@dataclass(frozen=True, slots=True)
class Frame:
    """A square of the endless world that is drawn in one go.

    Attributes
    ----------
    row, col : int
        World pixel of the upper-left corner; may be negative.
    side : int
        Rows and columns.
    seed : int
        Seed of the world.
    scale : float
        Metres per pixel.
    """

    row: int
    col: int
    side: int
    seed: int
    scale: float

    def pixels(self, metres: float) -> int:
        """Return a length in whole pixels, at least one."""
        return max(1, round(metres / self.scale))

    def axis(self, origin_metres: float, start: int) -> Float:
        """Return the pixel centres (side,) from pixel ``start`` on, in metres from an origin."""
        return ((np.arange(start, start + self.side) + 0.5) * self.scale - origin_metres).astype(np.float32)

    def noise(self, metres: float, salt: int) -> Float:
        """Return smooth noise (side, side) with features of about ``metres``, standard deviation near 1."""
        spacing = self.pixels(metres)
        row, down = spline_weights(self.row, self.side, spacing)
        col, across = spline_weights(self.col, self.side, spacing)
        rows = np.arange(row, row + down.shape[1])[:, None]
        lattice = unit(self.seed, salt, rows, np.arange(col, col + across.shape[1])) - np.float32(0.5)
        return ((down * np.float32(7.2)) @ (lattice @ across.T)).astype(np.float32, copy=False)

    def grain(self, salt: int) -> NDArray[np.uint8]:
        """Return white noise (side, side, 4) of whole bytes, four from one hash per pixel."""
        rows = mix(self.seed, salt, np.arange(self.row, self.row + self.side))[:, None]
        state = rows ^ mix(salt, np.arange(self.col, self.col + self.side))
        state *= np.uint32(0x85EBCA6B)
        state ^= state >> np.uint32(13)
        state *= np.uint32(0xC2B2AE35)
        state ^= state >> np.uint32(16)
        return state.view(np.uint8).reshape(self.side, self.side, 4)
