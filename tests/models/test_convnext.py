"""ConvNeXt layers keep the shape and see three cells around."""

import pytest
import torch
from infdehaze.convnext import ConvNeXtLayer


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 9), (8, 8), (13, 5)])
@torch.no_grad()
def test_any_map_keeps_its_shape(height, width):
    layer = ConvNeXtLayer(8, 4.0)
    y = layer(torch.randn(2, height, width, 8))
    assert y.shape == (2, height, width, 8)
    assert y.isfinite().all()


@torch.no_grad()
def test_a_changed_cell_reaches_three_cells_around_and_no_further():
    layer = ConvNeXtLayer(8, 4.0)
    x = torch.randn(1, 15, 15, 8)
    changed = x.clone()
    changed[0, 7, 7] += 1
    reached = (layer(x) != layer(changed))[0].any(-1)
    expected = torch.zeros(15, 15, dtype=torch.bool)
    expected[4:11, 4:11] = True
    assert torch.equal(reached, expected)


@torch.no_grad()
def test_without_layer_scale_it_is_the_identity():
    layer = ConvNeXtLayer(8, 2.0)
    layer.scale.zero_()
    x = torch.randn(1, 6, 5, 8)
    assert torch.equal(layer(x), x)
