"""The restored scene, put together window by window from its fields while they come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Generic, TypeVar

import numpy as np
import torch
from infdehaze.presets import Preset
from infdehaze.tiling import enlarge, scatter
from numpy.typing import NDArray

from infdehaze_cli.geometry import Window, split_windows
from infdehaze_cli.host_memory import QUEUE
from infdehaze_cli.memory import COMPOSE_COLS, COMPOSE_ROWS

from .canvas import FieldCanvas
from .decode import Take
from .device import Device
from .elastic import Elastic
from .protocols import Reporter, SceneReader, SceneWriter, SourceBlock
from .threads import BusyClock, Prefetch, Sink

B = TypeVar("B", bound=SourceBlock)


class Composer(Generic[B]):
    """Applies the scattering model to the windows of the source, and hands them on; made by :func:`composing`.

    Parameters
    ----------
    preset, device
        Of the network.
    blocks : iterator
        The source's windows, from top to bottom.
    sink : Sink
        Takes them with the restored values, and the haze where it is wanted.
    width : int
        Columns of the scene.
    strength : float
        0..1.
    wants_haze : bool
        Whether the haze is wanted.
    rows : Elastic
        Rows of a window at a time.
    """

    def __init__(
        self,
        preset: Preset,
        device: Device,
        blocks: Iterator[B],
        sink: Sink[tuple[B, NDArray[np.float32], NDArray[np.float32] | None]],
        width: int,
        strength: float,
        wants_haze: bool,
        rows: Elastic,
    ) -> None:
        self._preset, self._device, self._blocks, self._sink = preset, device, blocks, sink
        self._width, self._strength, self._wants_haze, self._rows = width, strength, wants_haze, rows
        self._metered = False

    def take(self, canvas: FieldCanvas, row: int, end: int) -> None:
        """Restore the windows of the next rows, whose fields the canvas has."""
        for _ in range(0, self._width, COMPOSE_COLS):
            block = next(self._blocks)
            with self._device.metered(not self._metered):
                haze = np.zeros((6, *block.valid.shape), np.float32) if self._wants_haze else None
                restored = self._restored(canvas, block, haze)
            self._metered = self._metered or bool(block.valid.any())
            self._sink.put((block, restored, haze))

    def _restored(
        self, canvas: FieldCanvas, block: SourceBlock, haze: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """Restore a window, and fill ``haze`` with what was taken away; one without data comes back as it is."""
        if self._strength == 0.0 or not block.valid.any():
            return block.values
        restored = np.empty_like(block.values)
        self._rows.run(block.window.height, partial(self._restore_rows, canvas, block, restored, haze))
        return restored

    def _restore_rows(
        self,
        canvas: FieldCanvas,
        block: SourceBlock,
        restored: NDArray[np.float32],
        haze: NDArray[np.float32] | None,
        part: slice,
    ) -> None:
        device = self._device
        window = Window(block.window.row + part.start, block.window.col, part.stop - part.start, block.window.width)
        coarse, (top, left) = canvas.cut(window)
        fields = enlarge(device.to_device(coarse.contiguous())[None], self._preset.field_stride)
        fields = fields[:, :, top : top + window.height, left : left + window.width]
        found = scatter(device.to_device(torch.from_numpy(block.values[:, part]))[None], fields, self._strength)
        restored[:, part] = device.to_host([found[0]]).wait()[0].numpy()
        if haze is not None:
            haze[:, part] = fields[0, :6].cpu().numpy()
            haze[:3, part] *= self._strength


@contextmanager
def composing(
    preset: Preset,
    device: Device,
    second: SceneReader[B],
    writer: SceneWriter[B],
    strength: float,
    reporter: Reporter,
    clocks: dict[str, BusyClock],
) -> Iterator[Take]:
    """Read the source ahead and write behind, in threads, while windows are restored as their fields come.

    Parameters
    ----------
    second : SceneReader
        A handle of the source that one thread uses.
    writer : SceneWriter
        Takes the restored windows, from top to bottom.
    """
    windows = split_windows(second.height, second.width, COMPOSE_ROWS, COMPOSE_COLS)
    rows = Elastic("rows of the output", COMPOSE_ROWS, reporter.note)

    def write(item: tuple[B, NDArray[np.float32], NDArray[np.float32] | None]) -> None:
        writer.write(*item)

    with (
        Prefetch((second.read(window) for window in windows), QUEUE, clocks["read"]) as blocks,
        Sink(write, QUEUE, clocks["write"]) as sink,
    ):
        yield Composer(preset, device, blocks, sink, second.width, strength, writer.wants_haze, rows).take
