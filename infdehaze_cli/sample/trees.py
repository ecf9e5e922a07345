"""Trees: one at most in every cell of a fine lattice, with crowns like domes."""

from __future__ import annotations

import numpy as np

from infdehaze_cli.sample.noise import Float, Frame, unit

CELL = 6.5  # metres; a crown reaches no farther than one cell beyond its own
ABSENT = np.float32(-1e3)


def grow(frame: Frame, chance: Float) -> tuple[Float, Float]:
    """Return the height of crowns in metres (negative where there is none) and the tone of each, 0..1.

    Parameters
    ----------
    chance : ndarray
        (side, side) float32: how likely a tree stands at a place.
    """
    cell = frame.pixels(CELL)
    row, col = frame.row // cell - 1, frame.col // cell - 1
    count = frame.side // cell + 4
    i, j = np.arange(row, row + count)[:, None], np.arange(col, col + count)
    y, x = (cell * (0.1 + 0.8 * unit(frame.seed, salt, i, j)) for salt in (81, 82))  # from the corner of the cell
    at_row = np.clip((i * cell + y).astype(np.intp) - frame.row, 0, frame.side - 1)
    at_col = np.clip((j * cell + x).astype(np.intp) - frame.col, 0, frame.side - 1)
    likely = chance[at_row, at_col]
    stands = unit(frame.seed, 83, i, j) < likely
    size = unit(frame.seed, 84, i, j)
    top = np.where(stands, (4 + 12 * likely) * (0.7 + 0.3 * size), ABSENT).astype(np.float32)
    radius = (2.0 + 3.2 * size * (0.4 + 0.6 * likely) + 0.9 * (likely > 0.8)) / frame.scale
    steep = np.where(stands, np.maximum(top, 1) * 0.6 / np.square(radius), 0).astype(np.float32)
    tone = unit(frame.seed, 85, i, j)

    # only cells with a tree in reach are drawn; they come last in the arrays, for long inner loops
    inner = count - 2
    around = [stands[di : di + inner, dj : dj + inner] for di in range(3) for dj in range(3)]
    rows, cols = np.nonzero(np.any(around, axis=0))
    crown = np.full((cell, cell, len(rows)), ABSENT, np.float32)
    shade = np.zeros_like(crown)
    pixel = np.arange(cell, dtype=np.float32)[:, None] + np.float32(0.5)
    for di in range(3):
        for dj in range(3):
            at = (rows + di, cols + dj)
            # a dome splits into a part by rows and a part by columns, each far smaller than the picture
            by_row = top[at] - steep[at] * np.square(pixel - ((di - 1) * cell + y[at]))
            by_col = steep[at] * np.square(pixel - ((dj - 1) * cell + x[at]))
            dome = by_row[:, None] - by_col
            np.copyto(shade, tone[at], where=dome > crown)
            np.maximum(crown, dome, out=crown)
    up, left = frame.row - (row + 1) * cell, frame.col - (col + 1) * cell
    pictures = []
    for values, empty in ((crown, ABSENT), (shade, 0)):
        whole = np.full((inner, cell, inner, cell), empty, np.float32)
        whole[rows, :, cols, :] = values.transpose(2, 0, 1)
        pictures.append(whole.reshape(inner * cell, -1)[up : up + frame.side, left : left + frame.side])
    return pictures[0], pictures[1]
