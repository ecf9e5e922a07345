"""The streamed bottleneck and its gradient equal autograd through the whole at once, and take what is predicted."""

from dataclasses import replace

import pytest
import torch
from infdehaze.network import InfDehaze
from infdehaze.presets import PRESETS

from infdehaze_cli.attribution.budget import bottleneck_bytes
from infdehaze_cli.engine.device import Device
from infdehaze_cli.engine.pullback import ScenePullback
from infdehaze_cli.errors import BudgetError

LITE = PRESETS["lite"]


def on_cpu():
    return Device(torch.device("cpu"), "fp32", None)


def autograd(bottleneck, x, valid, grad):
    """Return the output and the gradient of the plain bottleneck."""
    leaf = x.clone().requires_grad_()
    whole = bottleneck(leaf[None], valid[None])[0]
    return whole.detach(), torch.autograd.grad(whole, leaf, grad)[0]


def assert_equal(pullback, x, grad, expected):
    torch.testing.assert_close(pullback.forward(x), expected[0])
    torch.testing.assert_close(pullback.backward(grad), expected[1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("chunk_tokens", [1, 64, 200, 100_000])
@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("change", [{}, {"neighbours": True}, {"attention": False}, {"moe": False}])
def test_the_bottleneck_in_chunks_equals_autograd_through_it_at_once(make_model, chunk_tokens, holes, change):
    bottleneck = make_model(block_tokens=4, **change).requires_grad_(False).bottleneck
    generator = torch.Generator().manual_seed(1)
    x, grad = (torch.randn(9, 21, 32, generator=generator) for _ in range(2))
    valid = torch.ones(9, 21, dtype=torch.bool)
    if holes:
        valid[2:5, 7:] = False

    pullback = ScenePullback(bottleneck, valid, on_cpu(), chunk_tokens, pytest.fail)

    assert_equal(pullback, x, grad, autograd(bottleneck, x, valid, grad))


@pytest.mark.parametrize("tokens", [(1, 1), (1, 7), (3, 2)])
def test_few_tokens_are_one_block(make_model, tokens):
    bottleneck = make_model(block_tokens=4).requires_grad_(False).bottleneck
    x, grad, valid = torch.randn(*tokens, 32), torch.randn(*tokens, 32), torch.ones(tokens, dtype=torch.bool)

    pullback = ScenePullback(bottleneck, valid, on_cpu(), 64, pytest.fail)

    assert_equal(pullback, x, grad, autograd(bottleneck, x, valid, grad))


def test_a_scene_without_data_has_no_gradient(make_model):
    bottleneck = make_model().requires_grad_(False).bottleneck
    pullback = ScenePullback(bottleneck, torch.zeros(8, 8, dtype=torch.bool), on_cpu(), 64, pytest.fail)

    assert not pullback.forward(torch.randn(8, 8, 32)).any()
    assert not pullback.backward(torch.randn(8, 8, 32)).any()


@pytest.mark.parametrize(
    ("dimensions", "too_many", "what"), [(2, 40, "attention blocks"), (2, 100, "tokens"), (3, 10, "windows")]
)
def test_where_memory_runs_out_less_is_done_at_a_time(make_model, monkeypatch, dimensions, too_many, what):
    bottleneck = make_model(block_tokens=4).requires_grad_(False).bottleneck
    x, grad, valid = torch.randn(8, 16, 32), torch.randn(8, 16, 32), torch.ones(8, 16, dtype=torch.bool)
    expected, notes, device = autograd(bottleneck, x, valid, grad), [], on_cpu()
    copy = device.to_device

    def scarce(host):
        if host.ndim == dimensions and host.dtype == torch.float32 and host.shape[dimensions - 2] > too_many:
            raise torch.OutOfMemoryError("out of memory")
        return copy(host)

    pullback = ScenePullback(bottleneck, valid, device, 128, notes.append)
    torch.testing.assert_close(pullback.forward(x), expected[0])
    monkeypatch.setattr(device, "to_device", scarce)

    torch.testing.assert_close(pullback.backward(grad), expected[1], atol=1e-5, rtol=1e-4)
    assert any(what in note for note in notes)


def test_where_nothing_fits_it_says_so(make_model, monkeypatch):
    bottleneck = make_model(block_tokens=4).requires_grad_(False).bottleneck
    device = on_cpu()
    pullback = ScenePullback(bottleneck, torch.ones(8, 8, dtype=torch.bool), device, 64, lambda note: None)
    pullback.forward(torch.randn(8, 8, 32))

    def none_left(host):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(device, "to_device", none_left)

    with pytest.raises(BudgetError, match="--gpu-mem"):
        pullback.backward(torch.randn(8, 8, 32))


@pytest.mark.parametrize(
    ("rows", "cols", "chunk", "change"),
    [
        (4, 4, 1024, {}),
        (16, 20, 128, {}),
        (40, 52, 1024, {}),
        (40, 52, 1024, {"neighbours": True}),
        (16, 16, 64, {"block_tokens": 16}),
    ],
)
def test_the_bottleneck_takes_what_was_predicted_or_less(rows, cols, chunk, change):
    preset = replace(LITE, bottleneck_depth=1, **change)
    torch.manual_seed(0)
    module = InfDehaze(preset).eval().requires_grad_(False).bottleneck
    device = on_cpu()

    pullback = ScenePullback(module, torch.ones(rows, cols, dtype=torch.bool), device, chunk, pytest.fail)
    pullback.backward(torch.randn_like(pullback.forward(torch.randn(rows, cols, preset.widths[-1]))))

    assert 0 < device.peak_bytes <= bottleneck_bytes(preset, chunk, cols)
    if rows * cols >= chunk:
        assert bottleneck_bytes(preset, chunk, cols) <= 2.2 * device.peak_bytes
