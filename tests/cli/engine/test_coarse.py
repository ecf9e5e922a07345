"""The look at half the size: any window of the halved scene, and any cells of what was seen, are those of the whole."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from infdehaze.decoder import FIELDS
from infdehaze.smoothing import smooth_look
from infdehaze.tiling import TileGrid, double_cells, halve, join_fields, mix_looks

from infdehaze_cli.engine.canvas import FieldCanvas
from infdehaze_cli.engine.coarse import CoarseLook, HalvedScene, OnePhase
from infdehaze_cli.engine.tiles import read_batch
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


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(20, 90),
    width=st.integers(20, 90),
    overlap=st.sampled_from([0, 4, 8]),
    row=st.integers(0, 89),
    col=st.integers(0, 89),
    size=st.integers(1, 30),
)
def test_no_tile_with_data_is_taken_for_empty(make_engine, tmp_path_factory, height, width, overlap, row, col, size):
    valid = np.zeros((height, width), bool)
    valid[row % height :, col % width :][:size, :size] = True
    scene = make_engine.reader(np.zeros((3, height, width), np.float32), valid)
    half = HalvedScene(scene)
    fine, grid = (TileGrid(each.height, each.width, TILE, overlap) for each in (scene, half))
    look = CoarseLook(Workspace(tmp_path_factory.getbasetemp()), grid, STRIDE, 0.3)
    look.know(read_batch(half, grid, 0, grid.count).indices)

    expected = read_batch(scene, fine, 0, fine.count)
    reads, scene.reads = scene.reads, 0
    found = read_batch(scene, fine, 0, fine.count, look.holds_data)

    assert found.indices == expected.indices
    assert np.array_equal(found.valid, expected.valid)
    assert scene.reads <= reads * fine.cols


def test_what_is_known_to_be_empty_is_not_read(make_engine, model):
    reads = {}

    class Counted(make_engine.reader):
        def read(self, window):
            reads.setdefault(id(self), []).append(window)
            return super().read(window)

    valid = np.zeros((512, 512), bool)
    valid[:64] = True
    with TemporaryDirectory() as scratch:
        engine = replace(make_engine(Path(scratch)), reader=Counted)
        engine.run(model, np.full((3, 512, 512), 0.5, np.float32), valid, overlap=0, batch=4)
    # the first reader is that of the tiles: once all at half the size, then of the scene itself the first two rows,
    # which one row of tiles of the halved scene covers
    tiles = next(iter(reads.values()))
    at_half = 512 * 512
    assert sum(window.pixels for window in tiles) == at_half + 2 * 64 * 512


def test_the_phases_of_the_look_are_told_as_one(listen):
    listener = listen()
    once = OnePhase(listener, 5)
    for phase, steps in (("encode", 5), ("bottleneck", 4), ("decode", 5)):
        once.phase(phase, steps)
        for _ in range(steps):
            once.advance()
    assert (listener.phases, listener.steps) == ([("coarse", 10)], [10])
