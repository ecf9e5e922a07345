"""The two ends of the path from a clear to the hazy picture, read together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infdehaze_cli.engine import ArrayBlock, SceneReader, SourceBlock
from infdehaze_cli.geometry import Window


@dataclass(frozen=True, slots=True)
class Ends:
    """Reads windows of the hazy scene and of its clear partner on the same grid.

    What is data, the scene says; where the partner has none, the path stands still and nothing is attributed.
    """

    hazy: SceneReader[SourceBlock]
    clear: SceneReader[SourceBlock]

    @property
    def height(self) -> int:
        """Rows."""
        return self.hazy.height

    @property
    def width(self) -> int:
        """Columns."""
        return self.hazy.width

    def read(self, window: Window) -> ArrayBlock:
        """Read a window that lies inside the scene: six bands, three hazy and three clear."""
        hazy, clear = self.hazy.read(window), self.clear.read(window)
        known = hazy.valid & clear.valid
        values = np.concatenate([hazy.values, np.where(known, clear.values, hazy.values)])
        return ArrayBlock(window, values, hazy.valid)
