"""Farmland: irregular blocks of land cut into strips, each strip with its crop, rows and margins.

Blocks are the cells of a Voronoi diagram on gently warped coordinates. Every block has a direction of its
own, along which it is cut into strips (parcels) of uneven width. Crop rows follow the strips and turn at the
headlands.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infdehaze_cli.sample.noise import Float, Frame, mix, unit

CLEARING = 330.0  # metres around the first village without large woods
BLOCK = 340.0  # metres between the seeds of blocks
STRIPS, CUTS = 32, 16  # room for parcels across and along a block, in the table of parcels
TILE = 16  # pixels that share one list of near seeds
NEAR = 5  # seeds on that list
ROW_STEP, ROW_COUNT = 0.5, 4096  # metres and entries of a profile across the rows

# red, green, blue, near infrared; strength of rows; profile of rows; strength of mottles; share of the land
CROPS = np.array(
    [
        (82, 103, 60, 166, 4.0, 0, 0.5, 2.2),  # green cereals
        (98, 116, 68, 160, 4.0, 0, 0.7, 1.3),  # cereals, thinner
        (150, 141, 96, 150, 5.0, 0, 0.7, 1.6),  # cereals, turning
        (178, 162, 117, 148, 5.0, 0, 0.6, 1.5),  # ripe cereals
        (165, 150, 118, 126, 8.0, 1, 0.7, 1.4),  # stubble
        (122, 102, 78, 88, 4.5, 1, 1.2, 1.3),  # ploughed
        (100, 86, 67, 72, 4.0, 1, 1.2, 0.6),  # ploughed, wet
        (64, 91, 52, 176, 6.0, 2, 0.5, 1.4),  # maize
        (76, 107, 58, 180, 8.0, 2, 0.6, 0.9),  # beet
        (90, 110, 63, 170, 2.0, 1, 1.0, 2.4),  # meadow
        (120, 130, 84, 158, 6.0, 1, 0.8, 1.2),  # mown meadow
        (158, 152, 84, 164, 3.0, 0, 0.5, 0.15),  # rape
        (126, 122, 91, 136, 2.0, 1, 1.6, 0.7),  # fallow
    ],
    np.float32,
)
WOOD_FLOOR = np.array((50, 60, 40, 120), np.float32)
GRASS = np.array((104, 116, 72, 160), np.float32)
DIRT = np.array((176, 163, 136, 118), np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """The ground of a frame, and what stands on it.

    Attributes
    ----------
    colour : ndarray
        (4, side, side) float32: red, green, blue, near infrared in 0..255.
    trees : ndarray
        (side, side) float32: the chance that a tree stands here, 0..1; it is tall where the chance is high.
    roofs : ndarray
        (side, side) float32: height of buildings in metres, 0 where there is none.
    """

    colour: Float
    trees: Float
    roofs: Float


def blend(colour: Float, paint: NDArray[np.floating[Any]], amount: NDArray[np.floating[Any]]) -> None:
    """Lay ``paint`` over ``colour`` (4, rows, cols) in place, by ``amount`` (rows, cols) in 0..1.

    ``paint`` is one colour (4,) or a picture (4, rows, cols).
    """
    touched = np.flatnonzero(amount > 0) if colour.flags.c_contiguous else None
    sparse = touched is not None and touched.size * 6 < amount.size  # lines and patches: only their pixels
    for layer, tint in zip(colour, paint, strict=True):
        if sparse:
            flat = layer.reshape(-1)
            some = flat[touched]
            flat[touched] += ((tint.reshape(-1)[touched] if tint.ndim else tint) - some) * amount.reshape(-1)[touched]
        else:
            layer += (tint - layer) * amount


@lru_cache(maxsize=4)
def row_profiles(seed: int) -> Float:
    """Return brightness across crop rows, (3 * ROW_COUNT,) in about -1..1: drilled, streaky, planted."""
    raw = unit(seed, 71, np.arange(3 * ROW_COUNT)).reshape(3, ROW_COUNT) - 0.5
    fine = raw + np.roll(raw, 1, 1)
    wide = np.sum([np.roll(fine, shift, 1) for shift in range(14)], axis=0) * np.float32(0.28)
    metres = np.arange(ROW_COUNT) * ROW_STEP
    wheel = np.minimum(np.abs(metres % 32 - 15), np.abs(metres % 32 - 17))  # two wheels of a tractor, every 32 m
    drilled = 0.5 * fine[0] + 0.5 * wide[0] - 2.2 * np.clip(1.1 - wheel, 0, 1)
    streaky = 0.6 * fine[1] + 0.9 * wide[1]
    planted = 0.6 * fine[2] + 0.5 * wide[2] + 0.5 * np.sin(2 * np.pi * metres / 4.0)
    return np.stack([drilled, streaky, planted]).astype(np.float32).ravel()


class _Blocks:
    """The seeds of the blocks around a frame, with the direction and the strips of each."""

    def __init__(self, frame: Frame) -> None:
        low_row, low_col = (int(p * frame.scale // BLOCK) - 2 for p in (frame.row, frame.col))
        count = int(frame.side * frame.scale // BLOCK) + 6
        i = np.repeat(np.arange(low_row, low_row + count), count)
        j = np.tile(np.arange(low_col, low_col + count), count)
        self.id = mix(frame.seed, 11, i, j)
        self.y = ((i + 0.08 + 0.84 * unit(self.id, 1)) * BLOCK - frame.row * frame.scale).astype(np.float32)
        self.x = ((j + 0.08 + 0.84 * unit(self.id, 2)) * BLOCK - frame.col * frame.scale).astype(np.float32)
        # neighbours share a trend, as land does that was divided along one valley or road
        angle = np.pi * (unit(frame.seed, 12, i // 3, j // 3) + 0.5 * np.round(unit(self.id, 3)))
        angle += 0.5 * (unit(self.id, 4) - 0.5)
        self.cos, self.sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        self.width = (38 + 110 * unit(self.id, 5) ** 2).astype(np.float32)
        self.length = (190 + 260 * unit(self.id, 6)).astype(np.float32)
        self.phase = 6.28 * unit(self.id, 7)
        away = np.hypot(self.x + frame.col * frame.scale, self.y + frame.row * frame.scale)
        self.wooded = (unit(self.id, 8) < 0.11) & (away > CLEARING)


def _parcels(blocks: _Blocks) -> Float:
    """Return the parcels, (9, blocks * STRIPS * CUTS): colour, rows, profile, mottle, wood, shift of rows."""
    parcel = mix(blocks.id[:, None, None], 21, np.arange(STRIPS)[:, None], np.arange(CUTS))
    share = np.cumsum(CROPS[:, 7]) / CROPS[:, 7].sum()
    crop = CROPS[np.minimum(np.searchsorted(share, unit(parcel, 1)), len(CROPS) - 1)]
    table = np.empty((9, *parcel.shape), np.float32)
    brightness = 0.86 + 0.28 * unit(parcel, 2)
    for band in range(4):
        table[band] = crop[..., band] * brightness * (0.96 + 0.08 * unit(parcel, 3 + band))
    table[4], table[6] = crop[..., 4] * (0.5 + unit(parcel, 8)), crop[..., 6] * (0.4 + 1.2 * unit(parcel, 9))
    table[5] = crop[..., 5] * ROW_COUNT
    table[7] = blocks.wooded[:, None, None] | (unit(parcel, 10) < 0.03)
    table[8] = ROW_COUNT * unit(parcel, 11) // 1
    return table.reshape(9, -1)


def _nearest(frame: Frame, blocks: _Blocks, x: Float, y: Float) -> tuple[NDArray[np.intp], NDArray[np.intp], Float]:
    """Return the block of each pixel, the next nearest one, and the metres to the border between them."""
    tiles = frame.side // TILE
    view = (tiles, TILE, tiles, TILE)
    centre = (slice(TILE // 2, None, TILE),) * 2
    distance = (x[centre][..., None] - blocks.x) ** 2 + (y[centre][..., None] - blocks.y) ** 2
    near = np.argpartition(distance, NEAR, axis=-1)[..., :NEAR]
    xs, ys = x.reshape(view), y.reshape(view)
    best = np.full(view, np.iinfo(np.int32).max, np.int32)
    second = best.copy()
    for rank in range(NEAR):
        seed = near[:, None, :, None, rank]
        square = (xs - blocks.x[seed]) ** 2
        square += (ys - blocks.y[seed]) ** 2
        # positive floats order like integers, so the rank can ride in the lowest bits and no mask is needed
        code = square.view(np.int32)
        code &= ~7
        code |= rank
        np.minimum(second, np.maximum(best, code), out=second)
        np.minimum(best, code, out=best)
    base = (np.arange(tiles * tiles) * NEAR).reshape(tiles, 1, tiles, 1)
    flat = near.ravel()
    first, other = (flat[base + (code & 7)].reshape(x.shape) for code in (best, second))
    count = len(blocks.x)
    spread = np.hypot(blocks.x[:, None] - blocks.x, blocks.y[:, None] - blocks.y) + np.eye(count)
    gap = second.view(np.float32) - best.view(np.float32)
    return (
        first,
        other,
        gap.reshape(x.shape) * (0.5 / spread).astype(np.float32).ravel().take(first * count + other),
    )


def draw_fields(frame: Frame, wood: Float) -> Ground:
    """Draw the farmland and the floor of the woods.

    Parameters
    ----------
    frame : Frame
        What to draw.
    wood : ndarray
        (side, side) float32; there is wood where it is above 0, whatever the parcels say.
    """
    blocks = _Blocks(frame)
    x = frame.axis(frame.col * frame.scale, frame.col)[None, :] + 9 * frame.noise(210, 31) + frame.noise(40, 32)
    y = frame.axis(frame.row * frame.scale, frame.row)[:, None] + 9 * frame.noise(210, 33) + frame.noise(40, 34)
    block, other, border = _nearest(frame, blocks, x, y)

    x -= blocks.x.take(block)
    y -= blocks.y.take(block)
    cos, sin = blocks.cos.take(block), blocks.sin.take(block)
    across = x * cos + y * sin
    along = y * cos - x * sin
    width, length = blocks.width.take(block), blocks.length.take(block)
    strip = across / width
    strip += 0.35 * np.sin(1.9 * strip + blocks.phase.take(block))  # uneven widths
    cut = along / length + 0.5
    strip_index, cut_index = np.floor(strip), np.floor(cut)
    strip -= strip_index
    cut -= cut_index
    side = np.minimum(strip, 1 - strip) * width
    end = np.minimum(cut, 1 - cut) * length
    np.clip(strip_index + STRIPS // 2, 0, STRIPS - 1, out=strip_index)
    np.clip(cut_index + CUTS // 2, 0, CUTS - 1, out=cut_index)
    index = block * (STRIPS * CUTS) + (strip_index * CUTS + cut_index).astype(np.intp)
    table = _parcels(blocks)
    colour = table[:4].take(index, axis=1)

    mottle = frame.noise(70, 41) + 0.7 * frame.noise(22, 42) + 0.5 * frame.noise(7, 43)
    rows = np.where(np.minimum(end, border) < 11, along, across)
    place = (rows * (1 / ROW_STEP) + table[8].take(index)).astype(np.intp) & (ROW_COUNT - 1)
    place += table[5].take(index).astype(np.intp)
    light = row_profiles(frame.seed).take(place) * table[4].take(index)
    light *= 1 + 0.25 * mottle
    light += 3.2 * mottle * table[6].take(index)
    colour += light

    # margins of grass between parcels; along a border of blocks a hedge, a dirt track, or only grass
    is_wood = np.maximum(table[7].take(index), wood > 0)
    edge = np.minimum(np.minimum(side, end), border)
    blend(colour, GRASS, np.clip(1.4 - edge, 0, 0.7))
    blend(colour, WOOD_FLOOR, is_wood)
    trees = is_wood * np.float32(0.97)
    count = len(blocks.x)
    kind = unit(blocks.id[:, None] ^ blocks.id, 51).ravel().take(block * count + other)
    track, hedge = kind < 0.42, (kind > 0.58) & (border < 4.5)
    np.maximum(trees, hedge * np.float32(0.62), out=trees)
    verge = track * np.clip(4.2 - border, 0, 1)
    blend(colour, GRASS, verge)
    blend(colour, DIRT, track * np.clip(2.3 - border, 0, 1) * np.clip(0.35 + border, 0, 0.9))
    trees *= 1 - track * (border < 5)
    return Ground(colour=colour, trees=trees, roofs=np.zeros_like(trees))
