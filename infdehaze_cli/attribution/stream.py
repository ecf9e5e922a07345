"""Integrated gradients of a window over a scene of any size: tiles are encoded again, never kept.

For each point of the path all tiles are encoded, their latents pass the bottleneck, the tiles that the window's fields
are smoothed from are decoded, and the gradient of the objective goes back to their fields, through the bottleneck, to
all latents. These gradients are held. Then each batch of tiles is encoded once more for every point, with its
activations, and takes the gradient on to its pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from infdehaze.attribution import OBJECTIVES, path_points
from infdehaze.decoder import share_of_others
from infdehaze.field_window import FieldWindow
from infdehaze.filling import fill_and_weigh, fill_invalid
from infdehaze.network import InfDehaze
from numpy.typing import NDArray
from torch import Tensor

from infdehaze_cli.engine import Reporter
from infdehaze_cli.engine.device import Device
from infdehaze_cli.engine.elastic import Elastic
from infdehaze_cli.engine.pullback import ScenePullback
from infdehaze_cli.engine.threads import Prefetch
from infdehaze_cli.engine.tiles import TileBatch, read_tiles
from infdehaze_cli.errors import InputError
from infdehaze_cli.geometry import Window
from infdehaze_cli.host_memory import QUEUE

from .budget import AttributionPlan
from .ends import Ends
from .fold import FoldedBands


@dataclass(frozen=True, slots=True)
class Attributed:
    """What was found beside the map."""

    at_clear: float
    """The objective at the clear end of the path."""
    at_hazy: float
    peak_device_bytes: int


@dataclass(frozen=True, slots=True)
class _Point:
    """A point of the path, and the gradients there, on the host."""

    position: float
    weight: float
    grad_hwC: Tensor
    """At the latents of the scene."""
    latents: dict[int, Tensor]
    """What the bottleneck made of the window's tiles, (h, w, C)."""
    fields: dict[int, Tensor]
    """The gradient at the fields of these tiles, (F, h, w)."""


def stream_attribution(
    plan: AttributionPlan,
    model: InfDehaze,
    ends: Ends,
    field_window: FieldWindow,
    take: Callable[[Window, NDArray[np.float32]], None],
    *,
    objective: str,
    steps: int,
    budget: int | None,
    reporter: Reporter,
) -> Attributed:
    """Attribute a window, as :func:`infdehaze.attribution.attribute` does for a scene in memory.

    Parameters
    ----------
    plan : AttributionPlan
        How much is done at a time.
    model : InfDehaze
        In evaluation mode; it is moved to the plan's device, and its weights get no gradients.
    ends : Ends
        The scene and its clear partner.
    field_window : FieldWindow
        What is attributed.
    take : callable
        Is given the map in bands from top to bottom: the window, and float32 (3, rows, cols), in units of the
        objective, 0 where there is no data.
    objective : str
        A key of :data:`infdehaze.attribution.OBJECTIVES`.
    steps : int
        Points on the path.
    budget : int, optional
        Device bytes that must not be exceeded.
    reporter : Reporter
        Is told how it goes on.

    Raises
    ------
    BudgetError
        When memory runs out with a single tile.
    """
    device = Device(torch.device(plan.device), "fp32", budget)
    model.requires_grad_(False)
    device.place(model)
    return _Run(plan, model, device, ends, field_window, objective, reporter).attribute(steps, take)


class _Run:
    def __init__(
        self,
        plan: AttributionPlan,
        model: InfDehaze,
        device: Device,
        ends: Ends,
        field_window: FieldWindow,
        objective: str,
        reporter: Reporter,
    ) -> None:
        self._plan, self._model, self._device, self._ends = plan, model, device, ends
        self._field_window, self._objective, self._reporter = field_window, OBJECTIVES[objective], reporter
        self._grid, self._side = field_window.grid, model.preset.latent_side
        self._amount = Elastic("tiles", plan.batch, reporter.note)
        self._metered: set[str] = set()
        self._window = Window(field_window.row, field_window.col, field_window.height, field_window.width)
        shape = self._grid.rows * self._side, self._grid.cols * self._side
        self._latent_hwC = torch.zeros(*shape, model.preset.widths[-1])
        self._occupied_hw = torch.zeros(shape, dtype=torch.bool)
        block = ends.read(self._window)
        self._ends_6HW, self._valid_HW = torch.from_numpy(block.values), torch.from_numpy(block.valid)
        self._direct_3HW = torch.zeros_like(self._ends_6HW[:3])

    def attribute(self, steps: int, take: Callable[[Window, NDArray[np.float32]], None]) -> Attributed:
        points = path_points(steps)
        self._reporter.phase("path", (len(points) + 2) * self._grid.count)
        at_clear, at_hazy = (self._measure(self._pullback(), position)[0] for position in (0.0, 1.0))
        held = [self._hold(position, weight) for position, weight in points]
        self._take_on(held, take)
        return Attributed(at_clear, at_hazy, self._device.peak_bytes)

    def _pullback(self) -> ScenePullback:
        bottleneck, chunk, note = self._model.bottleneck, self._plan.chunk_tokens, self._reporter.note
        return ScenePullback(bottleneck, self._occupied_hw, self._device, chunk, note)

    def _measure(
        self, pullback: ScenePullback, position: float, weight: float = 0.0
    ) -> tuple[float, dict[int, Tensor], Tensor]:
        """Return the objective, its gradient at the fields of the window's tiles, and the modelled latents.

        With a ``weight``, the gradient at the window's own pixels is added up.
        """
        self._each("encode", range(self._grid.count), partial(self._encode, position), self._reporter.advance)
        out_hwC = pullback.forward(self._latent_hwC)
        found: dict[int, tuple[Tensor, Tensor]] = {}
        self._each("decode", self._field_window.tiles, partial(self._decode, position, out_hwC, found))
        if not found:
            raise InputError("The window and all around it are black, so nothing is looked at. Give another --window.")
        indices = tuple(found)
        fields, weights = (torch.stack(parts) for parts in zip(*found.values(), strict=True))
        with self._once("window"):
            leaf, weight_M = self._device.to_device(fields).requires_grad_(), self._device.to_device(weights)
            hazy, clear = self._device.to_device(self._ends_6HW).chunk(2)
            pixels = (clear + position * (hazy - clear))[None].requires_grad_()
            fields = self._field_window.fields(leaf, indices, weight_M)
            value = self._objective(pixels, fields, self._device.to_device(self._valid_HW)[None])
            grads = torch.autograd.grad(value, (leaf, pixels), allow_unused=True, materialize_grads=True)
            grad_MFhw, direct_13HW = self._device.to_host(list(grads)).wait()
        self._direct_3HW += weight * direct_13HW[0]
        return float(value.detach()), dict(zip(indices, grad_MFhw, strict=True)), out_hwC

    def _hold(self, position: float, weight: float) -> _Point:
        """Return the gradients at a point of the path, back to all latents."""
        pullback = self._pullback()
        _, at_fields, out_hwC = self._measure(pullback, position, weight)
        grad_hwC = torch.zeros_like(out_hwC)
        self._each("decode back", tuple(at_fields), partial(self._decode_back, position, out_hwC, at_fields, grad_hwC))
        grad_hwC = pullback.backward(grad_hwC)
        latents = {index: out_hwC[self._cells(index)].clone() for index in at_fields}
        return _Point(position, weight, grad_hwC, latents, at_fields)

    def _take_on(self, held: list[_Point], take: Callable[[Window, NDArray[np.float32]], None]) -> None:
        """Take the gradients of all points from latents and fields to pixels, tile by tile."""
        self._reporter.phase("gradient", self._grid.count)
        hazy, clear = self._ends_6HW.chunk(2)
        direct = (self._direct_3HW * (hazy - clear)).numpy()

        def add_direct(window: Window, values: NDArray[np.float32]) -> None:
            both = window.intersect(self._window)
            if both is not None:
                values[:, *both.relative_to(window)] += direct[:, *both.relative_to(self._window)]
            take(window, values)

        bands, found = FoldedBands(self._grid, add_direct), dict[int, Tensor]()

        def add(count: int) -> None:
            # outside of what is done again when memory runs out
            for index, of_tile in found.items():
                bands.add(index, of_tile.numpy())
            found.clear()
            self._reporter.advance(count)

        self._each("gradient", range(self._grid.count), partial(self._gradient, held, found), add)
        bands.finish()

    def _encode(self, position: float, tiles: TileBatch, part: slice) -> None:
        with torch.no_grad():
            latent = self._model.encoder(self._tiles_at(position, tiles, part)[0])[-1]
        for index, of_tile in zip(tiles.indices[part], self._device.to_host([latent]).wait()[0], strict=True):
            self._latent_hwC[self._cells(index)] = of_tile
            self._occupied_hw[self._cells(index)] = True

    def _decoded(self, latents_BHWC: Tensor, residuals: list[Tensor]) -> Tensor:
        tiles = int(self._occupied_hw.sum()) // self._model.preset.latent_side**2
        fields: Tensor = self._model.decoder(latents_BHWC, residuals, share_of_others(tiles))
        return fields

    def _decode(
        self,
        position: float,
        out_hwC: Tensor,
        found: dict[int, tuple[Tensor, Tensor]],
        tiles: TileBatch,
        part: slice,
    ) -> None:
        with torch.no_grad():
            pixels, weight = self._tiles_at(position, tiles, part)
            fields = self._decoded(self._stack(out_hwC, tiles.indices[part]), self._model.encoder(pixels))
        both = zip(*self._device.to_host([fields, weight]).wait(), strict=True)
        found.update(zip(tiles.indices[part], both, strict=True))

    def _decode_back(
        self,
        position: float,
        out_hwC: Tensor,
        at_fields: dict[int, Tensor],
        grad_hwC: Tensor,
        tiles: TileBatch,
        part: slice,
    ) -> None:
        """Take the gradient from the fields of tiles to what the bottleneck gave them."""
        indices = tiles.indices[part]
        with torch.no_grad():
            residuals = self._model.encoder(self._tiles_at(position, tiles, part)[0])
        leaf = self._stack(out_hwC, indices).requires_grad_()
        given = self._device.to_device(torch.stack([at_fields[index] for index in indices]))
        (grad,) = torch.autograd.grad(self._decoded(leaf, residuals), leaf, given)
        for index, of_tile in zip(indices, self._device.to_host([grad]).wait()[0], strict=True):
            grad_hwC[self._cells(index)] = of_tile

    def _gradient(self, held: list[_Point], found: dict[int, Tensor], tiles: TileBatch, part: slice) -> None:
        """Put the attribution of tiles into ``found``: their change times the mean gradient of all points."""
        indices = tiles.indices[part]
        ends, valid = (self._device.to_device(torch.from_numpy(x[part])) for x in (tiles.values, tiles.valid))
        hazy, clear = ends.chunk(2, 1)
        change = hazy - clear
        total = torch.zeros_like(change)
        for point in held:
            leaf = (clear + point.position * change).requires_grad_()
            residuals = self._model.encoder(fill_invalid(leaf, valid))
            outputs, grads = [residuals[-1]], [self._stack(point.grad_hwC, indices)]
            near = [m for m, index in enumerate(indices) if index in point.fields]
            if near:
                latents, fields = (
                    self._device.to_device(torch.stack([of_tile[indices[m]] for m in near]))
                    for of_tile in (point.latents, point.fields)
                )
                outputs.append(self._decoded(latents, [r[near] for r in residuals]))
                grads.append(fields)
            total += point.weight * torch.autograd.grad(outputs, leaf, grads)[0]
            del outputs, residuals
        found.update(zip(indices, self._device.to_host([total * change]).wait()[0], strict=True))

    def _each(
        self,
        name: str,
        members: Sequence[int],
        work: Callable[[TileBatch, slice], None],
        done: Callable[[int], None] = lambda steps: None,
    ) -> None:
        """Do work on tiles, in batches that are read ahead and in parts that fit; say how many are done."""
        batch = self._plan.batch
        parts = [members[start : start + batch] for start in range(0, len(members), batch)]
        with Prefetch((read_tiles(self._ends, self._grid, part) for part in parts), QUEUE) as ahead:
            for tiles, part in zip(ahead, parts, strict=True):
                if tiles.indices:
                    with self._once(name):
                        self._amount.run(len(tiles.indices), partial(work, tiles))
                done(len(part))

    def _once(self, name: str) -> AbstractContextManager[object]:
        """Meter the first of some calls: all are alike."""
        first = name not in self._metered
        self._metered.add(name)
        return self._device.metered(first)

    def _tiles_at(self, position: float, tiles: TileBatch, part: slice) -> tuple[Tensor, Tensor]:
        """Return tiles at a point of the path, with gaps filled, and how much they weigh."""
        ends, valid = (self._device.to_device(torch.from_numpy(x[part])) for x in (tiles.values, tiles.valid))
        hazy, clear = ends.chunk(2, 1)
        return fill_and_weigh(clear + position * (hazy - clear), valid)

    def _stack(self, grid_hwC: Tensor, indices: Sequence[int]) -> Tensor:
        """Return what a grid like that of the latents holds of tiles, (M, h, w, C), on the device."""
        return self._device.to_device(torch.stack([grid_hwC[self._cells(index)] for index in indices]))

    def _cells(self, index: int) -> tuple[slice, slice]:
        """Return the rows and columns of a tile in the latent grid."""
        i, j = divmod(index, self._grid.cols)
        return slice(i * self._side, (i + 1) * self._side), slice(j * self._side, (j + 1) * self._side)
