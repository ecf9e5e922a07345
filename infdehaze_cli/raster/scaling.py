"""From a raster's own values to the network's range and back, without loss where nothing was changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infdehaze_cli.errors import InputError, UsageError
from infdehaze_cli.raster.validity import equals_nodata, tolerance

#: Scaled values beyond this are outliers, not scenery: the network sees them clipped, the output keeps them.
EXTREME = 1e4

LOW_PERCENTILE, HIGH_PERCENTILE = 0.1, 99.9

#: No light that lies further below the darkest value, in spans of the values, is none: temperatures have offsets too.
_FAR = 10.0

#: What the upper percentile becomes: hazy scenes of 8 bits, which weights are trained on, seldom reach white either.
BRIGHTEST = 0.85


@dataclass(frozen=True, slots=True)
class Limits:
    """The native values that become 0 and 1: ``values = (native - lo) / (hi - lo)``.

    Raises
    ------
    UsageError
        If ``hi`` is not above ``lo`` or one of them is not finite.
    """

    lo: float
    hi: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lo) and math.isfinite(self.hi) and self.lo < self.hi):
            raise UsageError(f"The scale range {self.lo:g},{self.hi:g} is empty; give two numbers, the lower first.")
        if not math.isfinite(self.hi - self.lo):
            raise UsageError(f"The scale range {self.lo:g},{self.hi:g} is too wide; give a narrower one.")

    @property
    def span(self) -> float:
        """The distance between the limits, above 0."""
        return self.hi - self.lo

    def __str__(self) -> str:
        return f"{self.lo!r},{self.hi!r}"


def full_limits(dtype: np.dtype[Any], bits: int | None = None) -> Limits:
    """Return the range of an integer dtype (of its lower ``bits`` if given), or 0 to 1 for floats."""
    if dtype.kind == "f":
        return Limits(0.0, 1.0)
    return Limits(0.0, float(largest(dtype, bits)))


def largest(dtype: np.dtype[Any], bits: int | None = None) -> int:
    """Return the largest integer that a band of that dtype, of which ``bits`` are used, can hold."""
    top = int(np.iinfo(dtype).max)
    return min(top, 2**bits - 1) if bits else top


def dark_value(scales: Sequence[float], offsets: Sequence[float]) -> float:
    """Return the native value that stands for nothing at all: where ``native * scale + offset`` is 0.

    Parameters
    ----------
    scales, offsets
        Of the colour bands. Bands that differ, or numbers that make no sense, give 0.
    """
    pairs = set(zip(scales, offsets, strict=True))
    if len(pairs) != 1:
        return 0.0
    (scale, offset) = pairs.pop()
    dark = -offset / scale if scale > 0 else 0.0
    return dark if math.isfinite(dark) else 0.0


def limits_from_sample(name: str, sample: NDArray[Any], dtype: np.dtype[Any], dark: float = 0.0) -> Limits:
    """Choose robust limits from a sample of the valid values.

    Parameters
    ----------
    name
        The raster's name, for messages.
    sample
        Valid, finite values of the colour bands together, any shape; may be empty.
    dtype
        Their dtype.
    dark
        The native value that stands for no light; see `dark_value`.

    Returns
    -------
    Limits
        ``lo`` is ``dark`` or the 0.1 percentile, whichever is lower; the 99.9 percentile becomes `BRIGHTEST`. The
        limits of a constant sample differ too.

    Raises
    ------
    InputError
        If the values span more than a float can hold.
    """
    if sample.size == 0:
        return full_limits(dtype)
    # "lower" and "higher" return values of the sample itself: nothing to round differently elsewhere
    low = float(np.percentile(sample, LOW_PERCENTILE, method="lower"))
    hi = float(np.percentile(sample, HIGH_PERCENTILE, method="higher"))
    # an offset that lies far from all values, as that of temperatures, says nothing about light
    lo = min(dark if dark == 0 or abs(low - dark) <= _FAR * (hi - low) else 0.0, low)
    if hi <= lo:
        hi = lo + max(1.0, abs(lo) * 1e-6)
    # near the end of what a float can hold it stays as it is
    hi = wider if math.isfinite(wider := lo + (hi - lo) / BRIGHTEST) else hi
    if not math.isfinite(hi - lo):
        raise InputError(f"{name} holds values from {lo:g} to {hi:g}; give sensible limits with --scale-range lo,hi.")
    return Limits(lo, hi)


def scale(native: NDArray[Any], limits: Limits) -> NDArray[np.float32]:
    """Bring native values to the network's range.

    Parameters
    ----------
    native
        Any shape and supported dtype.
    limits
        What becomes 0 and 1.

    Returns
    -------
    ndarray of float32
        Same shape, finite for finite input, not clipped to 0..1 but to ``EXTREME``.
    """
    if native.dtype.itemsize == 1:
        values: NDArray[np.float32] = np.subtract(native, np.float32(limits.lo), dtype=np.float32)
        values /= np.float32(limits.span)
        return values
    # invalid pixels may hold anything, NaN and infinity too
    with np.errstate(invalid="ignore", over="ignore"):
        wide: NDArray[np.float64] = np.subtract(native, limits.lo, dtype=np.float64)
        wide /= limits.span
        return np.clip(wide, -EXTREME, EXTREME, out=wide).astype(np.float32)


def unscale(
    restored: NDArray[np.float32],
    values: NDArray[np.float32],
    native: NDArray[Any],
    limits: Limits,
    *,
    nodata: float | None = None,
    top: int | None = None,
) -> NDArray[Any]:
    """Bring one restored band back to native values.

    A value that the network left as it was, to the last bit, is the native value itself; so is an outlier
    beyond ``EXTREME`` and a restored value that is no number. Every other one is scaled back, rounded and
    clipped to the dtype, and moved off the nodata value.

    Parameters
    ----------
    restored, values
        The network's output and input, ``(rows, cols)``.
    native
        What ``values`` was scaled from, ``(rows, cols)``, any supported dtype.
    limits
        The limits that ``values`` was scaled with.
    nodata
        The band's nodata value, if it has one.
    top
        The largest allowed integer; the dtype's own if None.

    Returns
    -------
    ndarray
        ``(rows, cols)`` in the dtype of ``native``.
    """
    changed = restored != values
    if not changed.any():
        return native
    if not math.isfinite(float(restored.sum(dtype=np.float64))):
        changed &= np.isfinite(restored)
        restored = np.where(changed, restored, values)
    if native.dtype.itemsize > 1:
        changed &= np.abs(values) < EXTREME
    fresh = _to_native(restored, values, native, limits, top)
    if nodata is not None:
        _leave_nodata(fresh, nodata, top)
    np.copyto(fresh, native, where=~changed)
    return fresh


def _to_native(
    restored: NDArray[np.float32],
    values: NDArray[np.float32],
    native: NDArray[Any],
    limits: Limits,
    top: int | None,
) -> NDArray[Any]:
    """Return ``restored * span + lo`` in the dtype of ``native``, rounded to even and clipped."""
    dtype = native.dtype
    # eight bits fit into float32 with room to spare, and half the bytes are half the time
    work = np.float32 if dtype.itemsize == 1 else np.float64
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype.itemsize >= 4:
            # what float32 cannot tell apart stays apart: the change is added to the native value
            scaled = np.subtract(restored, values, dtype=work)
            scaled *= limits.span
            scaled += native
        else:
            scaled = np.multiply(restored, work(limits.span), dtype=work)
            scaled += work(limits.lo)
    if dtype.kind == "f":
        bound = np.finfo(dtype).max
        return np.clip(scaled, -bound, bound, out=scaled).astype(dtype)
    np.rint(scaled, out=scaled)
    np.clip(scaled, np.iinfo(dtype).min, largest(dtype) if top is None else top, out=scaled)
    return scaled.astype(dtype)


def _leave_nodata(plane: NDArray[Any], nodata: float, top: int | None) -> None:
    """Move the values that equal nodata, in place, to the nearest value that does not."""
    hits = equals_nodata(plane, nodata)
    if not hits.any():
        return
    dtype = plane.dtype
    if dtype.kind != "f":
        highest = largest(dtype) if top is None else top
        plane[hits] = int(nodata) + 1 if nodata < highest else int(nodata) - 1
        return
    # GDAL takes the values next to it for nodata too: go beyond that tolerance, towards zero
    edge = dtype.type(nodata - math.copysign(2.0 * tolerance(nodata, dtype), nodata))
    plane[hits] = edge if edge != 0 else np.finfo(dtype).tiny
