"""Batches of tiles read by windows equal tiles cut from the padded scene."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from infdehaze.tiling import TileGrid, cut_tiles, mirror_pad

from infdehaze_cli.engine.tiles import read_batch

TILE = 16


def pixels(height, width, seed=0):
    return np.random.default_rng(seed).random((3, height, width), np.float32)


def cut(array, grid):
    padded = mirror_pad(torch.from_numpy(array)[None], grid.padded_height, grid.padded_width)
    return cut_tiles(padded, grid)[0].numpy()


def read_all(scene, grid, batch):
    return [read_batch(scene, grid, number, batch) for number in range(-(-grid.count // batch))]


@settings(max_examples=80, deadline=None)
@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    overlap=st.integers(0, TILE // 2),
    batch=st.integers(1, 12),
    cover=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_batches_equal_tiles_of_the_padded_scene(make_engine, height, width, overlap, batch, cover, seed):
    grid, picture = TileGrid(height, width, TILE, overlap), pixels(height, width, seed)
    rng = np.random.default_rng(seed)
    valid = rng.random((height, width)) < 0.9
    valid[: int(height * cover)] = False
    batches = read_all(make_engine.reader(picture, valid), grid, batch)
    tiles, masks = cut(picture, grid), cut(valid[None], grid)[:, 0]

    assert [b.number for b in batches] == list(range(-(-grid.count // batch)))
    indices = [index for b in batches for index in b.indices]
    assert indices == [index for index in range(grid.count) if masks[index].any()]
    for b in batches:
        assert all(index // batch == b.number for index in b.indices)
        assert np.array_equal(b.values, tiles[list(b.indices)])
        assert np.array_equal(b.valid, masks[list(b.indices)])
        assert b.values.dtype == np.float32
        assert b.values.shape[1:] == (3, TILE, TILE)


@pytest.mark.parametrize(("batch", "reads"), [(1, 20), (4, 8), (5, 4), (10, 4), (64, 4)])
def test_tiles_of_a_row_are_read_at_once(make_engine, batch, reads):
    grid = TileGrid(4 * TILE, 5 * TILE, TILE, 0)
    reader = make_engine.reader(pixels(4 * TILE, 5 * TILE), np.ones((4 * TILE, 5 * TILE), bool))
    read_all(reader, grid, batch)
    assert reader.reads == reads


def test_a_batch_without_data_has_no_tiles(make_engine):
    grid = TileGrid(TILE, 3 * TILE, TILE, 0)
    tiles = read_batch(make_engine.reader(pixels(TILE, 3 * TILE), np.zeros((TILE, 3 * TILE), bool)), grid, 0, 3)
    assert tiles.indices == ()
    assert tiles.values.shape == (0, 3, TILE, TILE)
    assert tiles.valid.shape == (0, TILE, TILE)


@pytest.mark.parametrize("where", [(0, 0), (5, 9), (TILE - 1, TILE - 1)])
def test_tiles_of_nothing_but_black_are_left_out(make_engine, where):
    grid = TileGrid(TILE, 3 * TILE, TILE, 0)
    picture, valid = pixels(TILE, 3 * TILE), np.ones((TILE, 3 * TILE), bool)
    picture[:, :, TILE:] = 0
    picture[1, where[0], 2 * TILE + where[1]] = 1e-6

    assert read_batch(make_engine.reader(picture, valid), grid, 0, 3).indices == (0, 2)

    valid[where[0], 2 * TILE + where[1]] = False
    assert read_batch(make_engine.reader(picture, valid), grid, 0, 3).indices == (0,)
