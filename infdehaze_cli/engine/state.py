"""What the phases of a run hand on: the latents of the scene, and which tiles hold data."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from infdehaze.presets import Preset
from infdehaze.tiling import TileGrid
from torch import Tensor

from infdehaze_cli.plan import Plan
from infdehaze_cli.store import SceneArray, Workspace


@dataclass(slots=True)
class SceneState:
    """What the phases of a run hand on."""

    grid: TileGrid
    batch: int
    residual_dtype: str
    side: int
    """Tokens of a tile along one side."""
    latent_HWC: SceneArray
    """Latents of the whole scene."""
    occupied_HW: Tensor
    """bool, the tokens of tiles with data."""
    members: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Tiles with data of each batch."""
    known: dict[int, int] = field(default_factory=dict)
    """Pixels with data of each tile that has some, but not all."""

    @staticmethod
    def shape(plan: Plan, preset: Preset) -> tuple[int, int, int]:
        """Return rows, columns and channels of the latents of a scene."""
        side = preset.latent_side
        return plan.grid.rows * side, plan.grid.cols * side, preset.widths[-1]

    @classmethod
    def of(cls, plan: Plan, preset: Preset, latents: SceneArray) -> SceneState:
        """Begin with latents, and no tile with data."""
        occupied = torch.zeros(*latents.shape[:2], dtype=torch.bool)
        return cls(plan.grid, plan.batch, plan.residual_dtype, preset.latent_side, latents, occupied)

    @classmethod
    def empty(cls, plan: Plan, preset: Preset, workspace: Workspace) -> SceneState:
        """Make room for the latents of a scene."""
        return cls.of(plan, preset, workspace.latents(*cls.shape(plan, preset), preset.latent_side))

    def occupy(self, tile: int, known: int) -> None:
        """Note that a tile holds data, and in how many pixels."""
        if known < self.grid.tile**2:
            self.known[tile] = known
        row, col = divmod(tile, self.grid.cols)
        # through numpy: inference mode, in which the tensor is made, is a matter of the thread
        self.occupied_HW.numpy()[self.rows(row), self.cols(col)] = True

    def weight(self, tile: int) -> float:
        """Return how much a tile with data weighs; see :func:`infdehaze.filling.fill_and_weigh`."""
        return self.known.get(tile, self.grid.tile**2) / self.grid.tile**2

    @property
    def tiles(self) -> int:
        """Number of tiles with data."""
        return int(self.occupied_HW.sum()) // self.side**2

    def rows(self, tile_row: int) -> slice:
        """Rows of the latent grid that a row of tiles takes."""
        return slice(tile_row * self.side, (tile_row + 1) * self.side)

    def cols(self, tile_col: int) -> slice:
        """Columns of the latent grid that a column of tiles takes."""
        return slice(tile_col * self.side, (tile_col + 1) * self.side)


class LatentRows:
    """One row of tiles of the latent grid at a time, so that each band of the store is written and read once."""

    def __init__(self, state: SceneState) -> None:
        self._state = state
        self._row = -1
        self._band_HWC = torch.empty(0)

    def put(self, index: int, latent_HWC: Tensor, known: int) -> None:
        """Take the latent of a tile of ``known`` pixels; in row-major order, and none without data."""
        row, col = divmod(index, self._state.grid.cols)
        self._go_to(row)
        self._band_HWC.numpy()[:, self._state.cols(col)] = latent_HWC.numpy()
        self._state.occupy(index, known)

    def finish(self) -> None:
        """Write what is left; rows of tiles without data are zeros."""
        self._go_to(self._state.grid.rows)

    def _go_to(self, row: int) -> None:
        while self._row < row:
            if self._row >= 0:
                self._state.latent_HWC.write(self._state.rows(self._row), self._band_HWC)
            self._row += 1
            self._band_HWC = torch.zeros(self._state.side, *self._state.latent_HWC.shape[1:])

    def get(self, index: int) -> Tensor:
        """Return the latent of a tile."""
        row, col = divmod(index, self._state.grid.cols)
        if row != self._row:
            self._row, self._band_HWC = row, self._state.latent_HWC.read(self._state.rows(row))
        return self._band_HWC[:, self._state.cols(col)]
