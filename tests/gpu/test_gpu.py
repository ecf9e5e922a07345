"""On a GPU: the same pixels, the predicted bytes, the cap, and copies beside the computation."""

import numpy as np
import pytest
import torch
from infdehaze.network import InfDehaze, count_parameters
from infdehaze.presets import PRESETS
from infdehaze.weights import load_model

from infdehaze_cli.engine import Silent
from infdehaze_cli.engine.device import Device
from infdehaze_cli.errors import BudgetError
from infdehaze_cli.plan import RunConfig
from infdehaze_cli.planner import make_plan

MiB = 1024**2
CLOSE = 1e-4
TIERS = ["dram", "ssd", "recompute"]


def gap(first, second):
    return float(np.abs(first - second).max())


@pytest.fixture(scope="module")
def model(make_model):
    # attention over all tokens: a hash code at the edge would differ between the sums of two kernels
    return make_model(block_tokens=1000)


@pytest.fixture(scope="module")
def hazy(picture):
    return picture(310, 275)


@pytest.fixture(scope="module")
def valid(holes):
    return holes(310, 275)


@pytest.mark.parametrize("overlap", [0, 32])
@pytest.mark.parametrize("batch", [1, 3, 16])
@pytest.mark.parametrize("tier", TIERS)
def test_streaming_equals_the_plain_network_on_the_gpu(engine, model, hazy, valid, tier, batch, overlap):
    outcome = engine.run(
        model, hazy, valid, device="cuda", residuals=tier, batch=batch, overlap=overlap, chunk_tokens=8
    )
    plain = engine.plain(model, hazy, valid, overlap=overlap, device="cuda")
    assert gap(outcome.image[:, valid], plain[:, valid]) < CLOSE


def test_blocks_of_hashed_tokens_equal_the_plain_network_on_the_gpu(engine, make_model, picture):
    model, hazy = make_model(block_tokens=4), picture(620, 300)
    outcome = engine.run(model, hazy, device="cuda", overlap=0, batch=16)
    plain = engine.plain(model, hazy, overlap=0, device="cuda")
    # nearly all: a code that turns over moves one token
    assert np.quantile(np.abs(outcome.image - plain), 0.99) < CLOSE


def test_the_gpu_agrees_with_the_cpu(engine, model, hazy, valid):
    on_gpu = engine.run(model, hazy, valid, device="cuda").image
    on_cpu = engine.run(model.cpu(), hazy, valid, device="cpu").image
    assert gap(on_gpu[:, valid], on_cpu[:, valid]) < 1e-3


@pytest.mark.parametrize("residual_dtype", ["fp32", "fp16", "bf16", "int8"])
def test_tiers_give_the_same_pixels_on_the_gpu(engine, model, hazy, residual_dtype):
    first, *others = (
        engine.run(model, hazy, device="cuda", residuals=tier, residual_dtype=residual_dtype).image for tier in TIERS
    )
    assert all(gap(first, other) <= 1e-5 for other in others)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_stays_close_on_the_gpu(engine, model, hazy, precision):
    outcome = engine.run(model, hazy, device="cuda", precision=precision)
    difference = np.abs(outcome.image - engine.plain(model, hazy, device="cuda"))
    assert 0 < float(difference.mean()) < 0.05


@pytest.mark.parametrize(("precision", "limit"), [("fp16", 0.2), ("bf16", 1.0)])
def test_half_precision_of_shipped_weights_loses_less_than_a_digital_number(engine, picture, precision, limit):
    model, hazy = load_model("lite"), picture(700, 600)
    full, half = (engine.run(model, hazy, device="cuda", precision=p).image for p in ("fp32", precision))
    assert np.abs(half - full).mean() * 255 < limit


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("batch", [1, 4, 16])
@pytest.mark.parametrize("name", PRESETS)
def test_the_peak_on_the_gpu_is_what_was_predicted_or_less(engine, picture, name, batch, precision):
    model, hazy = InfDehaze(PRESETS[name]).eval(), picture(1100, 1300)
    outcome = engine.run(model, hazy, device="cuda", batch=batch, precision=precision, residual_dtype="fp16")
    assert torch.cuda.max_memory_allocated() == outcome.measured.peak_device_bytes
    assert outcome.measured.peak_device_bytes <= outcome.plan.predicted_device_bytes


@pytest.mark.parametrize("name", ["lite", "base"])
def test_a_run_stays_below_the_cap(engine, picture, name):
    model, hazy = InfDehaze(PRESETS[name]).eval(), picture(1100, 1300)
    with pytest.raises(BudgetError):
        engine.plan(model, hazy, device="cuda", gpu_mem=MiB)
    needed = engine.plan(model, hazy, device="cuda", batch=1).predicted_device_bytes
    budget = needed + needed // 4
    outcome = engine.run(model, hazy, device="cuda", gpu_mem=budget)
    assert outcome.measured.peak_device_bytes <= outcome.plan.predicted_device_bytes <= budget
    assert torch.cuda.max_memory_reserved() <= budget


def test_the_cap_is_enforced_and_lifted_by_the_next_run():
    place = torch.device("cuda")
    Device(place, "fp32", 64 * MiB)
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(128 * MiB, dtype=torch.uint8, device=place)
    Device(place, "fp32", None)
    assert torch.empty(128 * MiB, dtype=torch.uint8, device=place).nbytes == 128 * MiB


class Notes(Silent):
    """A reporter that keeps the notes."""

    def __init__(self, notes):
        self._notes = notes

    def note(self, text):
        self._notes.append(text)


ON_DISK = {"heads_on_disk": True, "heads_at_a_time": 1, "latents_on_disk": True, "batches_in_memory": 1}


def test_what_goes_to_disk_gives_the_same_pixels_on_the_gpu(engine, model, hazy, valid):
    in_memory, on_disk = (
        engine.run(model, hazy, valid, device="cuda", batch=3, changes=changes).image for changes in ({}, ON_DISK)
    )
    assert gap(in_memory, on_disk) <= 1e-5


def test_a_run_that_does_not_fit_the_cap_goes_on_with_less(engine, picture):
    model, hazy = InfDehaze(PRESETS["lite"]).eval(), picture(2100, 2100)
    least = engine.plan(model, hazy, device="cuda", batch=1).predicted_device_bytes
    # all tiles at once
    plan = engine.plan(model, hazy, device="cuda", batch=81)
    assert plan.predicted_device_bytes > 2 * least
    # the plan asks for more than the cap gives, as it would where the prediction is too low
    notes = []
    outcome = engine.run(
        model, hazy, device="cuda", batch=1, gpu_mem=int(1.3 * least), reporter=Notes(notes), changes={"batch": 81}
    )
    free = engine.run(model, hazy, device="cuda", batch=81)
    assert notes
    assert gap(outcome.image, free.image) < 1e-3


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_batches_differ_by_one_digital_number_on_few_pixels_on_the_gpu(engine, picture, batch):
    model, hazy = load_model("lite"), picture(1100, 900)
    first, other = (engine.run(model, hazy, device="cuda", batch=b).image for b in (16, batch))
    step = np.abs((first * 255).round() - (other * 255).round())
    assert step.max() <= 1
    assert (step > 0).mean() <= 1e-4


def test_copies_to_the_host_are_pinned_and_complete():
    device = Device(torch.device("cuda"), "fp32", None)
    assert device.on_gpu
    tensors = [torch.rand(1000, 1000, device="cuda") for _ in range(8)]
    copies = device.to_host(tensors).wait()
    assert all(copy.is_pinned() for copy in copies)
    assert all(torch.equal(copy, tensor.cpu()) for copy, tensor in zip(copies, tensors, strict=True))


def test_memory_that_a_copy_still_reads_is_not_handed_on():
    device = Device(torch.device("cuda"), "fp32", None)
    pending = []
    for value in range(50):
        tensor = torch.full((1 << 20,), float(value), device="cuda")
        pending.append(device.to_host([tensor]))
        del tensor
        torch.full((1 << 20,), -1.0, device="cuda")
    assert all(bool((copy.wait()[0] == value).all()) for value, copy in enumerate(pending))


def test_copies_to_the_gpu_hold_what_the_host_held():
    device, host = Device(torch.device("cuda"), "fp32", None), torch.rand(1 << 20)
    on_gpu = device.to_device(host)
    assert on_gpu.is_cuda
    assert torch.equal(on_gpu.cpu(), host)


def test_auto_precision_on_a_gpu_is_half(model):
    made = make_plan(RunConfig(), 1000, 1000, model.preset, count_parameters(model), "cuda")
    assert made.precision == "fp16"
