"""The look at a scene at half its size: its pixels as they are read, and what it has to say (decided here).

A tile of the halved scene shows four times the ground, so it tells the level of haze better than a tile of the scene
does. The network looks at it first; its fields wait, with `lite` 40 bytes for 32 x 32 px of the scene.

Axes: F fields and the depth around, h w rows and columns of cells.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from infdehaze.decoder import FIELDS
from infdehaze.tiling import TileGrid, double_cells, halve, mix_looks
from torch import Tensor

from infdehaze_cli.geometry import Window
from infdehaze_cli.host_memory import HALVED_ROWS
from infdehaze_cli.memory import COMPOSE_COLS, COMPOSE_ROWS
from infdehaze_cli.store import Workspace

from .canvas import FieldCanvas
from .protocols import ArrayBlock, Reporter, SceneReader, SourceBlock


@dataclass(frozen=True, slots=True)
class HalvedScene:
    """A scene at half its size, rounded up, as another scene; see :func:`infdehaze.tiling.halve`."""

    scene: SceneReader[SourceBlock]

    @property
    def height(self) -> int:
        """Rows."""
        return -(-self.scene.height // 2)

    @property
    def width(self) -> int:
        """Columns."""
        return -(-self.scene.width // 2)

    def read(self, window: Window) -> ArrayBlock:
        """Read a window that lies inside the halved scene, some rows at a time: the scene's are four times as many."""
        values = np.empty((3, window.height, window.width), np.float32)
        valid = np.empty((window.height, window.width), np.bool_)
        row, col = 2 * window.row, 2 * window.col
        width = min(2 * window.col_end, self.scene.width) - col
        for first in range(0, window.height, HALVED_ROWS):
            part = slice(first, min(first + HALVED_ROWS, window.height))
            top, end = row + 2 * part.start, min(row + 2 * part.stop, self.scene.height)
            block = self.scene.read(Window(top, col, end - top, width))
            if not block.valid.any():
                values[:, part], valid[part] = 0, False
                continue
            small, known = halve(torch.from_numpy(block.values)[None], torch.from_numpy(block.valid)[None])
            values[:, part], valid[part] = small[0].numpy(), known[0].numpy()
        return ArrayBlock(window, values, valid)


class CoarseLook:
    """What the network says of the halved scene, taken from its canvas row by row, given out on the scene's cells.

    Parameters
    ----------
    workspace : Workspace
        Makes the array that holds it, where the latents are.
    grid : TileGrid
        Tiles of the halved scene.
    stride : int
        Pixels between fields.
    share : float
        Of this look in the fields.
    """

    def __init__(self, workspace: Workspace, grid: TileGrid, stride: int, share: float) -> None:
        self._grid, self._stride, self._share = grid, stride, share
        size = grid.padded_height // stride, grid.padded_width // stride, FIELDS + 1
        self._look_hwF = workspace.look(*size, COMPOSE_ROWS // stride)
        self._rows, self._read_hwF = slice(0, 0), torch.empty(0)
        self._tiles: frozenset[int] = frozenset()

    def take(self, canvas: FieldCanvas, row: int, end: int) -> None:
        """Take the fields of pixel rows ``row`` to ``end``, with the last ones also those that lie below the scene."""
        height, width, _ = self._look_hwF.shape
        rows = slice(row // self._stride, end // self._stride if end < self._grid.height else height)
        columns = COMPOSE_COLS // self._stride
        parts = [canvas.look(rows, slice(col, min(col + columns, width))) for col in range(0, width, columns)]
        self._look_hwF.write(rows, torch.cat(parts, 2).permute(1, 2, 0))

    def know(self, tiles: Iterable[int]) -> None:
        """Learn which tiles of the halved scene hold data."""
        self._tiles = frozenset(tiles)

    def holds_data(self, window: Window) -> bool:
        """Whether a window of the scene itself may hold data: some tile of the halved one does that reaches into it."""
        grid = self._grid

        def reached(start: int, stop: int, count: int) -> range:
            first, last = start // 2, (stop - 1) // 2
            return range(max(0, (first - grid.tile) // grid.step + 1), min(count - 1, last // grid.step) + 1)

        rows = reached(window.row, window.row_end, grid.rows)
        cols = reached(window.col, window.col_end, grid.cols)
        return any(row * grid.cols + col in self._tiles for row in rows for col in cols)

    def mixed(self, fine_Fhw: Tensor, rows: slice, cols: slice) -> Tensor:
        """Mix a look at the scene, at these cells of it, with this one."""
        # a cell more on each side, to be enlarged from
        top, left = max(0, rows.start // 2 - 1), max(0, cols.start // 2 - 1)
        needed = slice(top, min(rows.stop // 2 + 2, self._look_hwF.shape[0]))
        if needed != self._rows:
            # windows side by side need the same rows, which may lie on disk
            self._rows, self._read_hwF = needed, self._look_hwF.read(needed)
        seen_Fhw = self._read_hwF[:, left : cols.stop // 2 + 2].permute(2, 0, 1)
        large_Fhw = double_cells(seen_Fhw[None], rows.stop - 2 * top, cols.stop - 2 * left)[0]
        return mix_looks(fine_Fhw, large_Fhw[:, rows.start - 2 * top :, cols.start - 2 * left :], self._share)


class OnePhase:
    """Tells of all phases of the look as one: each tile is encoded and decoded.

    Parameters
    ----------
    reporter : Reporter
        Is told.
    tiles : int
        Of the halved scene.
    """

    def __init__(self, reporter: Reporter, tiles: int) -> None:
        self._reporter, self._counts = reporter, True
        reporter.phase("coarse", 2 * tiles)

    def phase(self, name: str, total: int) -> None:
        """Note whether the steps to come are tiles."""
        self._counts = name != "bottleneck"

    def advance(self, steps: int = 1) -> None:
        """Pass tiles on."""
        if self._counts:
            self._reporter.advance(steps)

    def note(self, text: str) -> None:
        """Pass it on."""
        self._reporter.note(text)
