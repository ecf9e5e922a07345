"""Fields joined tile by tile equal those joined at once, and rows once given are final."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from infdehaze.smoothing import smooth_fields
from infdehaze.tiling import TileGrid, enlarge, join_fields

from infdehaze_cli.engine.canvas import FieldCanvas
from infdehaze_cli.geometry import Window

TILE, FIELDS = 16, 2


@dataclass(frozen=True)
class Case:
    grid: TileGrid
    stride: int
    empty: frozenset
    sigma: float = 0.0
    texture: float = 0.0

    def tiles(self):
        torch.manual_seed(self.grid.count)
        side = self.grid.tile // self.stride
        return torch.randn(self.grid.count, self.planes, side, side)

    @property
    def planes(self):
        return FIELDS + bool(self.texture)

    def canvas(self):
        return FieldCanvas(self.grid, self.planes, self.stride, self.sigma, texture=self.texture)

    def weights(self):
        """Return how much each tile weighs, 0 where there is none."""
        weight = torch.randint(1, TILE**2 + 1, (self.grid.count,), generator=torch.Generator().manual_seed(1)) / TILE**2
        return weight * torch.tensor([index not in self.empty for index in range(self.grid.count)])

    def whole(self, tiles):
        """Return the fields of the scene in full size, joined at once."""
        weight = self.weights()[:, None, None, None]
        tiles, weight = tiles * weight, weight.expand(-1, 1, *tiles.shape[2:])
        joined, weight = (join_fields(x[None], self.grid, self.stride) for x in (tiles, weight))
        return enlarge(smooth_fields(joined, weight, self.sigma, texture=self.texture), self.stride)[0]


@st.composite
def cases(draw):
    stride = draw(st.sampled_from([1, 2, 4]))
    overlap = draw(st.integers(0, TILE // 4 // stride)) * 2 * stride
    grid = TileGrid(draw(st.integers(1, 70)), draw(st.integers(1, 70)), TILE, overlap)
    empty = draw(st.frozensets(st.integers(0, grid.count - 1), max_size=4))
    return Case(
        grid, stride, empty, *draw(st.sampled_from([(0.0, 0.0), (0.5, 0.0), (2.0, 0.0), (0.5, 0.1), (2.0, 0.1)]))
    )


def look(canvas, window, stride):
    cut, (top, left) = canvas.cut(window)
    return enlarge(cut[None], stride)[0, :, top : top + window.height, left : left + window.width]


@settings(max_examples=40, deadline=None)
@given(case=cases(), band=st.integers(1, 9).map(lambda n: 4 * n), width=st.integers(1, 40))
def test_bands_that_are_given_early_equal_the_whole(case, band, width):
    grid, tiles = case.grid, case.tiles()
    canvas, weights, whole, row = case.canvas(), case.weights(), case.whole(tiles), 0
    for index in range(grid.count):
        canvas.add(index, None if index in case.empty else tiles[index], float(weights[index]))
        while row < grid.height and canvas.finished_pixels >= min(row + band, grid.height):
            height = min(band, grid.height - row)
            for col in range(0, grid.width, width):
                window = Window(row, col, height, min(width, grid.width - col))
                expected = whole[:, row : row + height, col : col + window.width]
                torch.testing.assert_close(look(canvas, window, case.stride), expected, atol=1e-5, rtol=1e-5)
            row += band
            canvas.drop_above(row)
    assert row >= grid.height


@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_finished_rows_only_grow_and_end_with_the_scene(case):
    canvas, tiles, finished = case.canvas(), case.tiles(), [0]
    for index in range(case.grid.count):
        canvas.add(index, tiles[index])
        finished.append(canvas.finished_pixels)
    assert finished == sorted(finished)
    assert finished[-1] == case.grid.padded_height


@pytest.mark.parametrize("sigma", [0.0, 1.5])
@pytest.mark.parametrize("overlap", [0, 4, 8])
def test_a_band_holds_a_few_rows_of_tiles_however_high_the_scene(overlap, sigma):
    case = Case(TileGrid(160 * TILE, 20, TILE, overlap), 2, frozenset(), sigma)
    canvas, tiles, row, highest = case.canvas(), case.tiles(), 0, 0
    for index in range(case.grid.count):
        canvas.add(index, tiles[index])
        while row < case.grid.height and canvas.finished_pixels >= min(row + TILE, case.grid.height):
            row += TILE
            canvas.drop_above(row)
        highest = max(highest, canvas._band_Fhw.untyped_storage().nbytes())
    assert highest <= 4 * (FIELDS + 1) * (TILE // 2) * (case.grid.padded_width // 2) * 4


def test_tiles_without_data_have_no_fields():
    case = Case(TileGrid(40, 40, TILE, 0), 2, frozenset(range(9)))
    canvas = case.canvas()
    for index in range(case.grid.count):
        canvas.add(index, None)
    assert (look(canvas, Window(0, 0, 40, 40), 2) == 0).all()


def test_a_tile_beside_an_empty_one_keeps_its_full_weight():
    canvas = FieldCanvas(TileGrid(TILE, 2 * TILE - 8, TILE, 8), 1, 2)
    canvas.add(0, torch.ones(1, 8, 8))
    canvas.add(1, None)
    assert torch.allclose(look(canvas, Window(0, 0, TILE, TILE - 2), 2), torch.ones(1))


def test_tiles_out_of_order_are_a_bug():
    canvas = FieldCanvas(TileGrid(64, 64, TILE, 0), 1, 2)
    with pytest.raises(AssertionError, match="order"):
        canvas.add(1, None)
