"""The figures of a report: pictures to compare, the haze map, histograms, bars. Each is a piece of HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from infdehaze_cli.geometry import Window

from .pictures import Picture, data_uri, encode, jpeg_within
from .ramp import depth_range, palette, stops

BINS = 64

_CANDIDATES = 500
"""Places, evenly over the ranks of depth, of which details are chosen."""

_COLOURS = (("red", "#d1495b"), ("green", "#3a8f5c"), ("blue", "#3b76c4"))


def compare(before: Picture, after: Picture, name: str, most: int) -> str:
    """Return two pictures with a divider between them; each takes at most ``most`` bytes before base64."""
    height, width = before.valid.shape
    first, second = (data_uri(jpeg_within(picture.pixels(), most), "jpeg") for picture in (before, after))
    label = escape(name, quote=True)
    return (
        f'<div class="compare" style="--w:{width};--h:{height}">'
        f'<img src="{first}" width="{width}" height="{height}" alt="Before: {label}" draggable="false">'
        f'<img class="after" src="{second}" width="{width}" height="{height}" alt="After: {label}" draggable="false">'
        '<span class="tag left" aria-hidden="true">before</span><span class="tag right" aria-hidden="true">after</span>'
        f'<div class="divider" role="slider" tabindex="0" aria-label="Divider between before and after: {label}" '
        'aria-orientation="horizontal" aria-valuemin="0" aria-valuemax="100" aria-valuenow="50" '
        'aria-valuetext="50 % before, 50 % after"></div></div>'
    )


def haze_map(depth: NDArray[np.float32]) -> str:
    """Return the mean optical depth of the colours, (3, rows, cols) with NaN for no data, and its legend."""
    mean = depth.mean(axis=0)
    low, high = depth_range(mean)
    known = np.isfinite(mean)
    place = np.clip((np.where(known, mean, low) - low) / (high - low), 0.0, 1.0)
    index = np.where(known, 1 + np.rint(place * 254), 0).astype(np.uint8)
    colours = np.concatenate([np.zeros((1, 3), np.uint8), palette(255)])
    source = data_uri(encode(index[np.newaxis], "PNG", colours=colours), "png")
    rows, cols = mean.shape
    marks = stops(low, high)
    # as many digits as tell the marks apart, and no minus before nothing
    digits = min(max(2, -math.floor(math.log10((high - low) / (len(marks) - 1)))), 6)
    labels = "".join(f"<span>{value:z.{digits}f}</span>" for value, _ in marks)
    gradient = ", ".join(colour for _, colour in marks)
    return (
        f'<img class="haze" src="{source}" width="{cols}" height="{rows}" alt="Haze map: optical depth from '
        f'{low:z.{digits}f} (dark) to {high:z.{digits}f} (bright)">'
        f'<div class="ramp" style="background:linear-gradient(90deg, {gradient})"></div>'
        f'<div class="ramp-labels">{labels}</div>'
    )


def histograms(before: Picture, after: Picture, names: Sequence[str]) -> str:
    """Return a histogram a band, before as an area and after as a line, of the pixels that are data in both."""
    valid = before.valid & after.valid
    parts = []
    for channel, name in enumerate(names):
        counts = [
            np.histogram(picture.values[channel][valid], bins=BINS, range=(0.0, 1.0))[0] for picture in (before, after)
        ]
        top = max(1, *(int(count.max()) for count in counts))
        colour = dict(_COLOURS).get(name, "#777777")
        area, line = (_steps(count / top) for count in counts)
        parts.append(
            f'<figure><svg viewBox="0 0 320 110" role="img" aria-label="Histogram of {escape(name)} before and after">'
            f'<path class="before" d="M0 100 {area} L320 100 Z"/>'
            f'<path class="now" style="stroke:{colour}" d="M0 100 {line} L320 100"/>'
            '<path class="axis" d="M0 100 H320"/></svg>'
            f"<figcaption>{escape(name)}: mean {_mean(before, channel, valid)} before, "
            f"{_mean(after, channel, valid)} after</figcaption></figure>"
        )
    return "".join(parts)


def _mean(picture: Picture, channel: int, valid: NDArray[np.bool_]) -> str:
    return f"{float(picture.values[channel][valid].mean()):.3f}" if valid.any() else "unknown"


def _steps(shares: NDArray[np.float64]) -> str:
    """Return the outline of a histogram, for an SVG path."""
    width = 320 / len(shares)
    heights = [100 - 96 * float(share) for share in shares]
    return " ".join(f"L{i * width:g} {y:.1f} H{(i + 1) * width:g}" for i, y in enumerate(heights))


def time_rows(seconds: Mapping[str, float]) -> str:
    """Return table rows of the time by phase, with bars; the total is the whole bar."""
    total = max(seconds.get("total", 0.0), 1e-9)
    return "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{value:.3f} s</td>'
        f'<td class="bar"><span style="width:{min(100.0, 100 * value / total):.1f}%"></span></td></tr>'
        for name, value in seconds.items()
    )


def detail_windows(height: int, width: int, side: int, depth: NDArray[np.float32] | None, factor: int) -> list[Window]:
    """Choose up to three squares to show in full: where haze was thickest, middling and thinnest.

    Without a depth (3, rows, cols), of squares of ``factor`` pixels, they lie on the diagonal. Squares do not overlap.
    """
    rows, cols = min(side, height), min(side, width)

    def around(row: float, col: float) -> Window:
        top, left = (
            min(max(round(middle - part / 2), 0), whole - part)
            for middle, part, whole in ((row, rows, height), (col, cols, width))
        )
        return Window(top, left, rows, cols)

    ranked = [around(height * share, width * share) for share in (0.25, 0.5, 0.75)]
    if depth is not None and np.isfinite(depth).any():
        mean = depth.mean(axis=0)
        order = np.argsort(mean, axis=None, kind="stable")[: int(np.isfinite(mean).sum())]
        order = order[np.linspace(0, len(order) - 1, min(len(order), _CANDIDATES)).round().astype(int)]
        cells = zip(*np.unravel_index(order, mean.shape), strict=True)
        ranked = [around((float(row) + 0.5) * factor, (float(col) + 0.5) * factor) for row, col in cells]
    windows: list[Window] = []
    for wanted in (len(ranked) - 1, len(ranked) // 2, 0):
        # the nearest in rank that is not shown yet
        for i in sorted(range(len(ranked)), key=lambda i: abs(i - wanted)):
            if all(ranked[i].intersect(other) is None for other in windows):
                windows.append(ranked[i])
                break
    return windows
