"""Fidelity scores of a result against a reference, summed window by window."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from infdehaze_cli.errors import InputError
from infdehaze_cli.scores.colour import ciede2000, srgb_to_lab

SSIM_HALO = 5
"""Pixels around a window that the 11 x 11 gaussian of the structural similarity reaches."""

_STRIP = 256  # rows a torchmetrics call: it needs about 400 bytes a pixel
_CHUNK = 1 << 16  # pixels a colour call: its three dozen float64 temporaries stay near the caches


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one raster, or the mean over several.

    Attributes
    ----------
    psnr : float
        Peak signal-to-noise ratio in dB over a data range of 1; inf for equal pictures.
    ssim : float
        Structural similarity, at most 1 (equal).
    ciede2000 : float
        Mean colour difference, sRGB under D65; 0 for equal pictures.
    sam : float
        Mean angle between the colour vectors of result and reference, in degrees, 0..180.
    seam : float or None
        Seam index, 1 when tile borders look like any other place; None when unknown.
    pixels : int
        Pixels that are valid in both.
    """

    psnr: float
    ssim: float
    ciede2000: float
    sam: float
    seam: float | None
    pixels: int

    def to_dict(self) -> dict[str, float | int | None]:
        """Return the scores by name."""
        return asdict(self)


def mean_scores(scores: Iterable[Scores]) -> Scores:
    """Return the mean of each score with every raster weighted alike, as papers do; ``pixels`` are summed.

    The mean PSNR is the mean of the dB values, so one equal pair makes it inf. Rasters without a seam index
    are left out of its mean.
    """
    rows = list(scores)
    if not rows:
        raise ValueError("no scores to average")
    seams = [row.seam for row in rows if row.seam is not None]
    return Scores(
        psnr=sum(row.psnr for row in rows) / len(rows),
        ssim=sum(row.ssim for row in rows) / len(rows),
        ciede2000=sum(row.ciede2000 for row in rows) / len(rows),
        sam=sum(row.sam for row in rows) / len(rows),
        seam=sum(seams) / len(seams) if seams else None,
        pixels=sum(row.pixels for row in rows),
    )


class ScoreAccumulator:
    """Sums PSNR, SSIM, CIEDE2000 and spectral angle over the windows of a raster.

    The result does not depend on how the raster is cut, provided that each window is added once and carries a
    halo of ``SSIM_HALO`` pixels wherever the raster goes on.
    """

    def __init__(self) -> None:
        self._pixels = 0
        self._squared_error = 0.0
        self._colour = 0.0
        self._angle = 0.0
        self._angle_pixels = 0
        self._ssim_inner = _Mean()
        self._ssim_all = _Mean()

    def add(
        self,
        result: NDArray[np.float32],
        reference: NDArray[np.float32],
        valid: NDArray[np.bool_],
        core: tuple[slice, slice] | None = None,
    ) -> None:
        """Add one window.

        Parameters
        ----------
        result, reference : ndarray, shape (3, h, w), float32
            Red, green and blue scaled to 0..1; values outside are allowed, and anything at invalid pixels.
        valid : ndarray, shape (h, w), bool
            True where both pictures hold data.
        core : tuple of slice, optional
            Rows and columns to count; the rest is halo. All by default.
        """
        rows, cols = core if core is not None else (slice(None), slice(None))
        # The same value on both sides, so that nodata (which may be NaN) takes no part.
        result = np.where(valid, result, np.float32(0))
        reference = np.where(valid, reference, np.float32(0))

        inside = valid[rows, cols]
        similarity = _ssim_map(result, reference)[rows, cols]
        whole = inside & ~_near(~valid)[rows, cols]
        self._ssim_all.add(similarity[inside])
        self._ssim_inner.add(similarity[whole])

        x, y = result[:, rows, cols][:, inside], reference[:, rows, cols][:, inside]
        self._pixels += x.shape[1]
        for start in range(0, x.shape[1], _CHUNK):
            part = slice(start, start + _CHUNK)
            self._add_pixels(x[:, part].astype(np.float64), y[:, part].astype(np.float64))

    def _add_pixels(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        self._squared_error += float(np.sum((x - y) ** 2))
        self._colour += float(np.sum(ciede2000(srgb_to_lab(x), srgb_to_lab(y))))
        # atan2 of cross and dot product: exact for equal colours, where arccos of a rounded cosine is not.
        cross = np.linalg.norm(np.cross(x, y, axis=0), axis=0)
        angle = np.degrees(np.arctan2(cross, np.sum(x * y, axis=0)))
        coloured = x.any(axis=0) & y.any(axis=0)
        self._angle += float(np.sum(angle[coloured]))
        self._angle_pixels += int(np.count_nonzero(coloured))

    def result(self, seam: float | None = None) -> Scores:
        """Return the scores of all that was added; ``seam`` is put in as given.

        SSIM is the mean over pixels whose 11 x 11 surroundings are valid throughout, or over all valid pixels
        when there are none such. Black has no direction: where either picture is black the spectral angle is
        not counted, and it is 0 when nothing is left.
        """
        if not self._pixels:
            raise InputError(
                "No pixel is valid in both rasters. Compare rasters whose valid areas overlap, "
                "or correct their nodata values."
            )
        error = self._squared_error / (3 * self._pixels)
        ssim = self._ssim_inner if self._ssim_inner.count else self._ssim_all
        return Scores(
            psnr=-10 * math.log10(error) if error > 0 else math.inf,
            ssim=ssim.total / ssim.count,
            ciede2000=self._colour / self._pixels,
            sam=self._angle / self._angle_pixels if self._angle_pixels else 0.0,
            seam=seam,
            pixels=self._pixels,
        )


class _Mean:
    """A running sum and its count."""

    __slots__ = ("count", "total")

    def __init__(self) -> None:
        self.total = 0.0
        self.count = 0

    def add(self, values: NDArray[np.float32]) -> None:
        self.total += float(np.sum(values, dtype=np.float64))
        self.count += values.size


def _ssim_map(result: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the structural similarity of each pixel, mean over the bands.

    Gaussian 11 x 11 with sigma 1.5 over a data range of 1, mirrored at the edges without repeating the edge
    pixel (as torchmetrics does); an axis shorter than the mirror needs is reflected as often as it takes.

    Parameters
    ----------
    result, reference : ndarray, shape (3, h, w), float32, finite

    Returns
    -------
    ndarray, shape (h, w), float32
    """
    # Imported here because it takes seconds, which other users of the package should not pay.
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    height, width = result.shape[1:]
    short = [SSIM_HALO if size <= SSIM_HALO else 0 for size in (height, width)]
    pads = [(0, 0), *((pad, pad) for pad in short)]
    x, y = np.pad(result, pads, mode="reflect"), np.pad(reference, pads, mode="reflect")
    similarity = np.empty(x.shape[1:], dtype=np.float32)
    for top in range(0, x.shape[1], _STRIP):
        first, last = max(top - SSIM_HALO, 0), min(top + _STRIP + SSIM_HALO, x.shape[1])
        _, image = structural_similarity_index_measure(
            torch.from_numpy(np.ascontiguousarray(x[None, :, first:last])),
            torch.from_numpy(np.ascontiguousarray(y[None, :, first:last])),
            sigma=1.5,
            data_range=1.0,
            return_full_image=True,
        )
        mean = image[0].mean(dim=0).numpy()
        similarity[top : top + _STRIP] = mean[top - first : top - first + _STRIP]
    similarity = similarity[short[0] : short[0] + height, short[1] : short[1] + width]
    # In float32 a flat bright area misses 1 by up to 1e-4 although both sides are equal.
    similarity[~_near((result != reference).any(axis=0))] = 1.0
    return similarity


def _near(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where the 11 x 11 surroundings of a pixel hold any True: shape (h, w) in and out."""
    height, width = mask.shape
    padded = np.pad(mask, SSIM_HALO)
    rows = np.zeros((height, width + 2 * SSIM_HALO), dtype=np.bool_)
    for shift in range(2 * SSIM_HALO + 1):
        rows |= padded[shift : shift + height]
    near = np.zeros_like(mask)
    for shift in range(2 * SSIM_HALO + 1):
        near |= rows[:, shift : shift + width]
    return near
