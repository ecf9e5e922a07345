"""The look at half the size: any window of the halved scene, and any cells of what was seen, are those of the whole."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from infdehaze.decoder import FIELDS
from infdehaze.tiling import TileGrid, double_cells, halve, join_fields, mix_looks, smooth_look

from infdehaze_cli.engine.canvas import FieldCanvas
from infdehaze_cli.engine.coarse import CoarseLook, HalvedScene, OnePhase
from infdehaze_cli.geometry import Window
from infdehaze_cli.host_memory import HALVED_ROWS
from infdehaze_cli.store import Workspace

TILE, STRIDE = 16, 4


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 2 * HALVED_ROWS + 90), width=st.integers(1, 40), draw=st.data(), seed=st.integers(0, 9))
def test_a_window_of_the_halved_scene_is_that_of_the_whole(make_engine, picture, holes, height, width, draw, seed):
    hazy, valid = picture(height, width, seed=seed), holes(height, width, seed=seed)
    half = HalvedScene(make_engine(None).reader(hazy, valid))
    row, col = draw.draw(st.integers(0, half.height - 1)), draw.draw(st.integers(0, half.width - 1))
    end, col_end = draw.draw(st.integers(row + 1, half.height)), draw.draw(st.integers(col + 1, half.width))
    known = torch.from_numpy(valid)[None]
    whole, whole_known = halve(torch.where(known, torch.from_numpy(hazy), 0)[None], known)

    block = half.read(Window(row, col, end - row, col_end - col))

    assert np.array_equal(block.values, whole[0, :, row:end, col:col_end].numpy())
    assert np.array_equal(block.valid, whole_known[0, row:end, col:col_end].numpy())


@pytest.mark.parametrize("on_disk", [False, True])
@settings(max_examples=25, deadline=None)
@given(height=st.integers(8, 150), width=st.integers(8, 150), overlap=st.sampled_from([0, 4, 8]), draw=st.data())
def test_cells_that_are_mixed_in_are_those_of_the_whole(on_disk, height, width, overlap, draw):
    fine, grid = (TileGrid(*size, TILE, overlap) for size in ((2 * height, 2 * width), (height, width)))
    torch.manual_seed(height)
    tiles = torch.randn(grid.count, FIELDS, TILE // STRIDE, TILE // STRIDE)
    cells = fine.padded_height // STRIDE, fine.padded_width // STRIDE
    own = torch.randn(FIELDS + 1, *cells)
    row, col = draw.draw(st.integers(0, cells[0] - 1)), draw.draw(st.integers(0, cells[1] - 1))
    rows = slice(row, draw.draw(st.integers(row + 1, cells[0])))
    cols = slice(col, draw.draw(st.integers(col + 1, cells[1])))
    joined = join_fields(torch.cat([tiles, torch.ones_like(tiles[:, :1])], 1)[None], grid, STRIDE)
    seen = smooth_look(joined[:, :-1], joined[:, -1:], 1.0, 2.0)
    whole = mix_looks(own[None], double_cells(seen, *cells), 0.3)[0]

    with TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder), latents_on_disk=on_disk)
        look = CoarseLook(workspace, grid, STRIDE, 0.3)
        canvas = FieldCanvas(grid, FIELDS, STRIDE, 1.0, 2.0)
        for index, tile in enumerate(tiles):
            canvas.add(index, tile)
        for start in range(0, height, 32):
            look.take(canvas, start, min(start + 32, height))
        mixed = look.mixed(own[:, rows, cols], rows, cols)
        workspace.close()

    torch.testing.assert_close(mixed, whole[:, rows, cols], atol=1e-5, rtol=1e-5)


def test_the_phases_of_the_look_are_told_as_one(listen):
    listener = listen()
    once = OnePhase(listener, 5)
    for phase, steps in (("encode", 5), ("bottleneck", 4), ("decode", 5)):
        once.phase(phase, steps)
        for _ in range(steps):
            once.advance()
    assert (listener.phases, listener.steps) == ([("coarse", 10)], [10])
