"""Sunlight: crowns and roofs that shade themselves and cast shadows, and the grain of a sensor."""

from __future__ import annotations

import numpy as np

from infdehaze_cli.sample.fields import Ground, blend
from infdehaze_cli.sample.noise import Float, Frame

SUN = (-0.88, 0.47)  # direction towards the sun, right and down: a late afternoon
SUN_FALL = 1.15  # metres down for each metre along a ray of the sun
SHADOW = 16.0  # metres; no shadow is longer
SHADE = np.array((0.42, 0.46, 0.55, 0.40), np.float32)  # what is left of the light in shadow
AIR = np.array((6, 7, 9, 2), np.float32)  # light that the air adds even on a clear day
CONIFER = np.array((50, 66, 44, 132), np.float32)
BROADLEAF = np.array((72, 94, 50, 176), np.float32)


def light(frame: Frame, ground: Ground, crowns: Float, tone: Float) -> Float:
    """Put the crowns on the ground, light and shade everything, and add grain.

    Parameters
    ----------
    frame : Frame
        What to draw.
    ground : Ground
        Its colours are used up.
    crowns, tone : ndarray
        (side, side) float32: height of trees in metres, and how light each one is, 0..1.

    Returns
    -------
    ndarray
        (4, side, side) float32 in about 0..255.
    """
    picture = ground.colour
    grain = frame.grain(121).transpose(2, 0, 1).astype(np.float32) - np.float32(127.5)
    leaves = grain[3] + np.roll(grain[3], 1, 1)  # clumps of two pixels; what rolls in at the edge is margin
    leaves += np.roll(leaves, 1, 0)
    leaves *= np.float32(1 / 150)

    crowns = crowns + leaves * np.float32(0.7)
    facing = np.zeros_like(crowns)  # how far a crown rises away from the sun
    facing[:-1, 1:] = crowns[:-1, 1:] - crowns[1:, :-1]
    stand = np.float32(1.2) * frame.noise(260, 122) + np.float32(0.4) * frame.noise(60, 123)
    leaf = CONIFER[:, None, None] + (BROADLEAF - CONIFER)[:, None, None] * np.clip(stand + tone, 0, 1)
    lit = np.clip(1 + np.float32(0.07 / frame.scale) * facing, 0.5, 1.35)
    leaf *= lit * (np.float32(0.84) + np.float32(0.32) * tone)
    blend(picture, leaf, np.clip(crowns * np.float32(0.4), 0, 1))

    heights = np.maximum(np.maximum(crowns, ground.roofs), 0)
    dark = np.clip((_shadow(frame, heights) - heights - np.float32(0.4)) * np.float32(0.6), 0, 1)
    for layer, shade, speckle, air in zip(picture, SHADE, grain, AIR, strict=True):
        layer *= 1 - (1 - shade) * dark
        layer += speckle * np.float32(0.022)
        layer *= np.float32(0.95) + np.float32(0.03) * leaves
        layer += air
    return picture


def _shadow(frame: Frame, height: Float) -> Float:
    """Return the height in metres up to which each place is in shadow, (side, side)."""
    # the shadow of n steps is that of n/2 steps, joined with itself moved on by n/2
    shadow = height.copy()
    step = 1
    while step < frame.pixels(SHADOW):
        dx, dy = round(-SUN[0] * step), round(SUN[1] * step)  # right and up
        lower = shadow[dy:, : frame.side - dx] - np.float32(SUN_FALL * frame.scale * step)
        lit = shadow[: frame.side - dy, dx:]
        np.maximum(lit, lower, out=lit)
        step *= 2
    return shadow
