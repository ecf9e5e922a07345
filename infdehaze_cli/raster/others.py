"""Bands that are no colour, corrected with the depth that the network estimated in the colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from infdehaze_cli.errors import UsageError
from infdehaze_cli.raster.scaling import largest, scale, unscale
from infdehaze_cli.raster.source import Block, Scene
from infdehaze_cli.raster.spectral import correct_band, depth_at, nearest_airlight
from infdehaze_cli.raster.validity import equals_nodata
from infdehaze_cli.raster.wavelengths import wavelengths_of

#: Red, green and blue where the file does not tell, micrometres.
_COLOURS = (0.66, 0.56, 0.48)


class OtherBands:
    """Corrects the bands of a scene that are neither colour nor alpha.

    Parameters
    ----------
    scene
        The open source.
    wavelengths
        Of all bands, micrometres; None to take what the file tells. A band of unknown wavelength stays as it is.

    Attributes
    ----------
    corrected : dict
        The wavelength of each band that is corrected, by its number.

    Raises
    ------
    UsageError
        If the scene is grey, two colours share a wavelength, or no band has a known one.
    """

    def __init__(self, scene: Scene, wavelengths: Sequence[float] | None) -> None:
        if len(scene.colour_bands) != 3:
            raise UsageError(
                f"{scene.shown} is grey, and one depth tells nothing of other wavelengths; use --other-bands copy."
            )
        known = wavelengths_of(scene.metadata) if wavelengths is None else tuple(wavelengths)
        self._scene = scene
        self._colours = tuple(
            known[band - 1] or usual for band, usual in zip(scene.colour_bands, _COLOURS, strict=True)
        )
        if len(set(self._colours)) < 3:
            raise UsageError(
                f"Two colours of {scene.shown} share a wavelength; give the right ones with --wavelengths."
            )
        alpha = [band for band, kind in enumerate(scene.metadata.colours, 1) if kind == ColorInterp.alpha]
        others = [band for band in range(1, scene.count + 1) if band not in (*scene.colour_bands, *alpha)]
        self.corrected = {band: value for band in others if (value := known[band - 1]) is not None}
        if others and not self.corrected:
            raise UsageError(
                f"{scene.shown} does not tell the wavelengths of its other bands; give one a band with --wavelengths, "
                "or use --other-bands copy."
            )

    def correct(self, block: Block, haze: NDArray[np.float32], out: NDArray[Any]) -> None:
        """Correct the other bands of a window, in place.

        Parameters
        ----------
        block
            A window of the scene.
        haze
            float32 ``(6, rows, cols)``: the optical depth of red, green and blue, as far as it is to be taken away,
            and the airlight of the three, in the network's range.
        out
            All bands of the window, ``(bands, rows, cols)``.
        """
        scene, depth, airlight = self._scene, haze[:3], haze[3:]
        for band, wavelength in self.corrected.items():
            native = block.native[band - 1]
            valid = block.valid
            if (nodata := scene.band_nodata[band - 1]) is not None:
                valid = valid & ~equals_nodata(native, nodata)
            if native.dtype.kind == "f":
                valid = valid & np.isfinite(native)
            values = np.where(valid, scale(native, scene.limits), np.float32(0))
            restored = correct_band(
                values,
                depth_at(depth, self._colours, wavelength),
                nearest_airlight(airlight, self._colours, wavelength),
            )
            out[band - 1] = unscale(
                np.where(valid, restored, values),
                values,
                native,
                scene.limits,
                nodata=nodata,
                top=largest(scene.dtype, scene.bits) if scene.dtype.kind in "iu" else None,
            )
