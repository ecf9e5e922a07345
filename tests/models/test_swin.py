"""Window attention: exact inside a window, nothing from outside, maps of any size."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from infdehaze.swin import SwinLayer, WindowAttention, window_merge, window_partition

WINDOW = 4


def attention(shift, dim=8, heads=2, window=WINDOW):
    torch.manual_seed(0)
    module = WindowAttention(dim, heads, window, shift)
    torch.nn.init.normal_(module.bias_table)
    return module


def group(position, size, shift, window=WINDOW):
    """Number the window of a position along one axis, without any wrapping."""
    offset = window // 2 if shift and size > window else 0
    return (position - offset) // min(window, size)


def plain_attention(module, x_HWC):
    """Attend cell by cell over the cells of the same window."""
    H, W, C = x_HWC.shape
    D = C // module.heads
    q, k, v = module.qkv(x_HWC).view(H, W, 3, module.heads, D).unbind(2)
    cells = [(i, j) for i in range(H) for j in range(W)]
    out = torch.zeros(H, W, C)
    for i, j in cells:
        mine = (group(i, H, module.shift), group(j, W, module.shift))
        seen = [c for c in cells if (group(c[0], H, module.shift), group(c[1], W, module.shift)) == mine]
        keys = torch.stack([k[c] for c in seen])
        values = torch.stack([v[c] for c in seen])
        side = 2 * module.window - 1
        bias = torch.stack(
            [module.bias_table[(i - a + module.window - 1) * side + j - b + module.window - 1] for a, b in seen]
        )
        weight = ((keys * q[i, j]).sum(-1) * D**-0.5 + bias).softmax(0)
        out[i, j] = (weight[..., None] * values).sum(0).flatten()
    return module.proj(out)


@given(
    batch=st.integers(1, 3),
    down=st.integers(1, 4),
    across=st.integers(1, 4),
    rows=st.integers(1, 5),
    cols=st.integers(1, 5),
)
@settings(deadline=None, max_examples=40)
def test_merging_undoes_partitioning(batch, down, across, rows, cols):
    x = torch.rand(batch, down * rows, across * cols, 2)
    windows = window_partition(x, rows, cols)
    assert windows.shape == (batch, down * across, rows * cols, 2)
    assert torch.equal(windows[:, 0], x[:, :rows, :cols].flatten(1, 2))
    assert torch.equal(window_merge(windows, rows, cols, down * rows, across * cols), x)


@given(height=st.integers(1, 11), width=st.integers(1, 11), shift=st.booleans())
@settings(deadline=None, max_examples=40)
def test_windows_equal_plain_attention_on_maps_of_any_size(height, width, shift):
    module = attention(shift)
    x = torch.randn(height, width, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(module(x[None])[0], plain_attention(module, x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 12), (9, 6), (3, 10)])
@torch.no_grad()
def test_a_changed_cell_reaches_its_window_and_never_wraps_around(height, width, shift):
    module = attention(shift)
    x = torch.randn(1, height, width, 8)
    before = module(x)
    for row, col in [(0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1), (height // 2, width // 2)]:
        changed = x.clone()
        changed[0, row, col] += 1
        reached = (module(changed) != before)[0].any(-1)
        expected = torch.tensor(
            [
                [
                    group(i, height, shift) == group(row, height, shift)
                    and group(j, width, shift) == group(col, width, shift)
                    for j in range(width)
                ]
                for i in range(height)
            ]
        )
        assert torch.equal(reached, expected)


@torch.no_grad()
def test_shifted_windows_cross_the_borders_of_plain_ones():
    x = torch.randn(1, 8, 8, 8)
    changed = x.clone()
    changed[0, 3, 3] += 1
    for shift, reached in ((False, False), (True, True)):
        module = attention(shift)
        assert bool((module(x) != module(changed))[0, 4, 4].any()) == reached


@torch.no_grad()
def test_a_map_smaller_than_a_window_is_one_window_with_the_same_biases():
    module = attention(shift=True)
    x = torch.randn(1, 3, 2, 8)
    torch.testing.assert_close(module(x)[0], plain_attention(module, x[0]))


@torch.no_grad()
def test_tiles_of_a_batch_do_not_see_each_other():
    layer = SwinLayer(8, 2, WINDOW, shift=True, mlp_ratio=2.0)
    x = torch.randn(3, 9, 7, 8)
    apart = torch.cat([layer(one[None]) for one in x])
    torch.testing.assert_close(layer(x), apart)


def test_training_may_follow_an_evaluation_in_inference_mode():
    module = attention(shift=True)
    x = torch.randn(1, 9, 9, 8)
    with torch.inference_mode():
        module(x)
    module(x).sum().backward()
    assert all(p.grad is not None for p in module.parameters())


def test_a_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="multiple of heads"):
        WindowAttention(10, 4, WINDOW, shift=False)
