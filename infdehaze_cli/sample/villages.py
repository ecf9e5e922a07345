"""The plan of villages on a loose grid: where they lie, the roads between them, streets, lots, houses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SPACING = 1500.0  # metres between villages
REACH = 600.0  # metres from the middle of a village beyond which nothing of it lies
HOUSES, BARN = 7, 7  # kinds of roofs that houses have, and the bright one of large barns
GARDENS = 5  # kinds of lots
Line = NDArray[np.float64]  # (n, 2) of x, y in metres


@dataclass(frozen=True, slots=True)
class Village:
    """What is built in a village.

    Attributes
    ----------
    streets : tuple of ndarray
        Side streets, each (n, 2) points x, y in metres.
    lots, roofs : ndarray
        (n, 8) rectangles: x, y, direction x, y, half length, half width, height of the eaves, kind.
    """

    streets: tuple[Line, ...]
    lots: NDArray[np.float64]
    roofs: NDArray[np.float64]


def place(seed: int, i: int, j: int) -> Line:
    """Return the middle (2,) of village (i, j) in metres; the first one is at the origin of the world."""
    if (i, j) == (0, 0):
        return np.zeros(2)
    return (np.array((j, i)) + _random(seed, 1, i, j).uniform(-0.3, 0.3, 2)) * SPACING


@lru_cache(maxsize=512)
def road(seed: int, i: int, j: int, down: bool) -> Line:
    """Return the road (n, 2) from village (i, j) to its right or lower neighbour; some have no point."""
    random = _random(seed, 2, i, j, down)
    if random.random() < 0.22 and (i, j) != (0, 0):
        return np.empty((0, 2))
    ends = [(i, j), (i + down, j + (not down))]
    start, stop = (place(seed, *end) for end in ends)
    # both roads of one direction share the tangent, so that they pass smoothly through the village
    turns = [_random(seed, 3, *end, down).uniform(-0.5, 0.5) + (np.pi / 2 if down else 0) for end in ends]
    length = np.hypot(*(stop - start))
    leave, arrive = (0.36 * length * np.array((np.cos(turn), np.sin(turn))) for turn in turns)
    t = np.linspace(0, 1, 80)[:, None]
    line = (1 - t) ** 3 * start + 3 * (1 - t) ** 2 * t * (start + leave)
    line = line + 3 * (1 - t) * t**2 * (stop - arrive) + t**3 * stop
    normal = np.array((start[1] - stop[1], stop[0] - start[0])) / length
    for waves in (2, 3, 5):
        bend = np.sin(2 * np.pi * (waves * t + random.random())) * 60 / waves
        line = line + normal * bend * np.sin(np.pi * t) ** 2
    return np.asarray(line)


@lru_cache(maxsize=128)
def lay_out(seed: int, i: int, j: int) -> Village:
    """Lay out one village: side streets first, then lots and houses along all streets where there is room."""
    random = _random(seed, 4, i, j)
    middle = place(seed, i, j)
    radius = random.uniform(70, 260) if (i, j) != (0, 0) else 230.0
    roads = [road(seed, *key) for key in ((i, j, False), (i, j, True), (i, j - 1, False), (i - 1, j, True))]
    main = [part for line in roads if len(part := line[np.hypot(*(line - middle).T) < radius]) > 1]
    if not main:
        return Village((), np.empty((0, 8)), np.empty((0, 8)))
    streets: list[Line] = []
    for _ in range(round(radius / 40)):
        street = _side_street(random, main[random.integers(len(main))], radius)
        others = np.concatenate([*main, *streets])
        apart = _gaps(street[3:], others) > 32
        street = street[: 3 + (len(apart) if apart.all() else int(np.argmin(apart)))]
        if len(street) > 4:  # what runs into or along another street is no street
            streets.append(street)
    paved = np.concatenate([_walk(line, 3)[0] for line in (*main, *streets)])
    lots: list[tuple[float, ...]] = []
    roofs: list[tuple[float, ...]] = []
    for line in (*main, *streets):
        for side in (-1, 1):
            frontage = random.uniform(24, 32)
            for point, ahead in zip(*_walk(line, frontage), strict=True):
                out = np.array((-ahead[1], ahead[0])) * side  # from the street into the lot
                depth = random.uniform(26, 44)
                garden, house = point + out * (depth / 2 + 4), point + out * random.uniform(11, 16)
                taken = np.array([lot[:2] for lot in lots]).reshape(-1, 2)
                if min(_gaps(garden, paved), _gaps(house, paved) + 1) < 10 or _gaps(garden, taken) < 23.5:
                    continue
                lots.append((*garden, *ahead, frontage / 2 - 0.4, depth / 2, 0, float(random.integers(GARDENS))))
                for roof in _build(random, house, ahead, out):
                    if _gaps(np.array(roof[:2]), paved) > 9:
                        roofs.append(roof)
    return Village(tuple(streets), np.array(lots).reshape(-1, 8), np.array(roofs).reshape(-1, 8))


def _side_street(random: np.random.Generator, main: Line, radius: float) -> Line:
    """Return a gently bent street (n, 2) that branches off somewhere along a main road."""
    points, ahead = _walk(main, 10)
    at = random.integers(len(points))
    start = np.arctan2(ahead[at, 1], ahead[at, 0]) + random.choice((-1, 1)) * random.uniform(1.2, 1.9)
    turn = start + np.arange(random.integers(6, 13)) * random.uniform(-0.07, 0.07)
    steps = np.stack([np.cos(turn), np.sin(turn)], 1) * radius / 13
    return np.asarray(points[at] + np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)]))


def _build(random: np.random.Generator, house: Line, ahead: Line, out: Line) -> list[tuple[float, ...]]:
    """Return the roofs on a lot: none, a house, or a house with a shed or a barn behind it."""
    if random.random() < 0.1:
        return []
    turn = random.normal(0, 0.04) + (np.pi / 2 if random.random() < 0.4 else 0)
    along = ahead * np.cos(turn) + np.array((-ahead[1], ahead[0])) * np.sin(turn)
    size = random.uniform(4.6, 7.2), random.uniform(3.6, 4.8)
    house = house + random.uniform(-2, 2) * ahead
    roofs: list[tuple[float, ...]] = [(*house, *along, *size, random.uniform(3, 6), float(random.integers(HOUSES)))]
    if random.random() < 0.6:
        barn = random.random() < 0.25
        size = (random.uniform(7, 10), random.uniform(4, 5)) if barn else (random.uniform(2, 4.5), 2.2)
        behind = house + (15 if barn else 12) * out + random.uniform(-6, 6) * ahead
        kind = BARN if random.random() < 0.3 else float(random.integers(HOUSES))
        roofs.append((*behind, *along, *size, 3.5 if barn else 2.0, kind))
    return roofs


def _random(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng([part % 2**32 for part in (seed, *key)])


def _walk(line: Line, step: float) -> tuple[Line, Line]:
    """Return points (n, 2) every ``step`` metres along a line, and the unit tangent at each."""
    arc = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    at = np.arange(min(step, arc[-1]) / 2, arc[-1], step)
    points, ahead = (np.stack([np.interp(at + d, arc, axis) for axis in line.T], 1) for d in (0, 0.5))
    ahead -= points
    return points, ahead / np.maximum(np.hypot(*ahead.T), 1e-6)[:, None]


def _gaps(points: Line, others: Line) -> NDArray[np.float64]:
    """Return the distance of each point (..., 2) to the nearest of others (n, 2), infinite without any."""
    apart = np.hypot(*np.moveaxis(points[..., None, :] - others, -1, 0))
    return np.asarray(apart.min(-1, initial=np.inf))
