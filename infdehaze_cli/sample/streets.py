"""Roads, streets, gardens and houses, painted from the plans of villages."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from infdehaze_cli.sample.fields import DIRT, GRASS, Ground, blend
from infdehaze_cli.sample.light import SUN
from infdehaze_cli.sample.noise import Float, Frame, mix
from infdehaze_cli.sample.villages import REACH, SPACING, Line, lay_out, place, road

ASPHALT = np.array((158, 156, 151, 92), np.float32)
ROOFS = np.array(
    [(156, 98, 78, 110), (138, 84, 70, 104), (126, 98, 82, 104), (128, 126, 122, 96), (92, 91, 94, 70),
     (168, 116, 92, 118), (146, 132, 120, 110), (206, 204, 198, 140)],
    np.float32,
)  # fmt: skip
LOTS = np.array(
    [(88, 116, 62, 172), (100, 118, 72, 164), (112, 116, 80, 150), (122, 108, 86, 110), (150, 144, 130, 98)],
    np.float32,
)
FAR = np.float32(99)  # metres; stands for "no road near"
VERGE = 9.0  # metres from a road within which anything is painted or planted
BANK = 3.0  # metres from the water's edge within which there are no streets and no gardens
FLOOD = 13.0  # the same for the middle of a house


def draw_villages(frame: Frame, ground: Ground, shore: Float) -> None:
    """Draw roads, gardens and houses onto the ground in place.

    Trees are cleared from roads and houses, and planted in gardens and along avenues. Roads cross water;
    streets end there.

    Parameters
    ----------
    frame : Frame
        What to draw.
    ground : Ground
        What is painted.
    shore : ndarray
        (side, side) float32: metres from the water's edge, negative in water.
    """
    origin, size = np.array((frame.col, frame.row)) * frame.scale, frame.side * frame.scale
    cols, rows = (range(int(at // SPACING) - 1, int((at + size) // SPACING) + 3) for at in origin)
    near = [(i, j) for i in rows for j in cols]
    away = [np.abs(place(frame.seed, *key) - origin - size / 2).max() - size / 2 for key in near]
    villages = [lay_out(frame.seed, *key) for key, gap in zip(near, away, strict=True) if gap < REACH]
    move = np.array((*origin, 0, 0, 0, 0, 0, 0))

    for village in villages:
        for box in village.lots - move:
            _draw_lot(frame, ground, shore, box)
    streets = np.full_like(shore, FAR)
    for village in villages:
        for street in village.streets:
            _measure(frame, street - origin, 2.2, streets)
    roads = np.where(shore < BANK, FAR, streets)
    for i, j in near:
        for down in (False, True):
            _measure(frame, road(frame.seed, i, j, down) - origin, 3.0, roads)
    if roads.min() < VERGE:
        _draw_roads(frame, ground, shore, roads)
    for village in villages:
        for box in village.roofs - move:
            _draw_roof(frame, ground, shore, box)


def _measure(frame: Frame, line: Line, half_width: float, distance: Float) -> None:
    """Lower ``distance`` (side, side) in place to the metres from the edge of a road."""
    x = frame.axis(0, 0)
    reach = half_width + VERGE
    low, high = np.minimum(line[:-1], line[1:]) - reach, np.maximum(line[:-1], line[1:]) + reach
    for part in np.flatnonzero(((high > 0) & (low < frame.side * frame.scale)).all(1)):
        start, step = line[part], line[part + 1] - line[part]
        length = float(np.hypot(*step))
        cut = _cut(frame, start + step / 2, length / 2 + reach)
        ux, uy = (step / length).astype(np.float32)
        px, py = x[cut[1]] - np.float32(start[0]), x[cut[0]][:, None] - np.float32(start[1])
        along = np.clip(px * ux + py * uy, 0, np.float32(length))
        away = np.hypot(px - along * ux, py - along * uy) - np.float32(half_width)
        np.minimum(distance[cut], away, out=distance[cut])


def _draw_roads(frame: Frame, ground: Ground, shore: Float, roads: Float) -> None:
    """Paint asphalt and verges, and plant avenues, by the metres from the edge of a road, (side, side)."""
    blend(ground.colour, GRASS * np.float32(0.95), np.clip(3.2 - roads, 0, 1) * np.float32(0.8))
    tint = 1 + np.float32(0.03) * frame.noise(60, 62) + np.float32(0.02) * frame.noise(6, 63)
    edge = roads + np.float32(0.3) * frame.noise(30, 61)
    blend(ground.colour, ASPHALT[:, None, None] * tint, np.clip(0.5 - edge / np.float32(frame.scale), 0, 1))
    ground.trees[roads < 3.5] = 0
    avenue = (np.abs(roads - 6) < 2) & (frame.noise(420, 64) > 0.9) & (shore > BANK)
    np.maximum(ground.trees, avenue * np.float32(0.7), out=ground.trees)


def _draw_lot(frame: Frame, ground: Ground, shore: Float, box: NDArray[np.float64]) -> None:
    """Paint a garden with its path and its hedge."""
    cut, inside, across = _rectangle(frame, box)
    random = float(mix(frame.seed, 65, int(box[4] * 1e6), int(box[5] * 1e6))[0] % 1000) / 1000
    amount = np.clip(inside + 0.5, 0, 1) * np.float32(0.85) * (shore[cut] > BANK)
    colour = ground.colour[(slice(None), *cut)]
    blend(colour, LOTS[int(box[7])] * np.float32(0.9 + 0.2 * random), amount)
    ground.trees[cut] = np.where(amount > 0, np.where(inside < 2.5, 0.5 * random, 0.22), ground.trees[cut])
    if random > 0.45:
        blend(colour, DIRT, amount * np.clip(3.5 - np.abs(across + 2), 0, 1) * np.float32(0.5))


def _draw_roof(frame: Frame, ground: Ground, shore: Float, box: NDArray[np.float64]) -> None:
    """Paint a gable roof, brighter on the side of the sun, and raise what casts shadows."""
    row, col = int(box[1] // frame.scale), int(box[0] // frame.scale)
    # the middle decides; a house whose middle is outside the frame has its shadow outside the block
    if not (0 <= row < frame.side and 0 <= col < frame.side) or shore[row, col] < FLOOD:
        return
    cut, inside, across = _rectangle(frame, box)
    facing = np.float32(box[2] * SUN[1] - box[3] * SUN[0])  # how far the side of positive ``across`` is lit
    slope = np.clip(across * 2, -1, 1) * facing
    paint = ROOFS[int(box[7])][:, None, None] * (0.94 + np.where(slope > 0, 0.24, 0.34) * slope)
    blend(ground.colour[(slice(None), *cut)], paint, np.clip(inside / np.float32(frame.scale) + 0.5, 0, 1))
    top = np.where(inside > 0, box[6] + 0.7 * (box[5] - np.abs(across)), 0)
    ground.roofs[cut] = np.maximum(ground.roofs[cut], top)
    ground.trees[cut][inside > -2] = 0


def _cut(frame: Frame, middle: NDArray[np.float64], reach: float) -> tuple[slice, slice]:
    """Return the pixels within ``reach`` metres of a point (x, y) of the frame, maybe none."""
    low = np.clip((middle - reach) / frame.scale, 0, frame.side).astype(int)
    high = np.clip((middle + reach) / frame.scale + 1, 0, frame.side).astype(int)
    return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))


def _rectangle(frame: Frame, box: NDArray[np.float64]) -> tuple[tuple[slice, slice], Float, Float]:
    """Return the pixels around a rectangle, the metres inside its border, and those off its long axis."""
    x, y, ux, uy, a, b = box[:6].astype(np.float32)
    cut = _cut(frame, box[:2], float(np.hypot(a, b)) + frame.scale)
    axis = frame.axis(0, 0)
    px, py = axis[cut[1]] - x, axis[cut[0]][:, None] - y
    across = py * ux - px * uy
    return cut, np.minimum(a - np.abs(px * ux + py * uy), b - np.abs(across)), across
