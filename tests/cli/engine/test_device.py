"""Names of devices, precision, copies and the measured peak on a CPU."""

import pytest
import torch

from infdehaze_cli.engine import resolve_device
from infdehaze_cli.engine.device import Device
from infdehaze_cli.errors import UsageError


def cpu(precision="fp32"):
    return Device(torch.device("cpu"), precision, None)


@pytest.mark.parametrize(("available", "expected"), [(False, "cpu"), (True, "cuda:3")])
def test_auto_takes_a_gpu_where_there_is_one(monkeypatch, available, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    assert str(resolve_device("auto")) == expected


@pytest.mark.parametrize(("name", "count"), [("cuda", 1), ("cuda:0", 1), ("cuda:1", 2), ("cpu", 0)])
def test_a_device_that_is_there_is_taken_and_a_gpu_has_its_number(monkeypatch, name, count):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert str(resolve_device(name)) == ("cuda:0" if name == "cuda" else name)


@pytest.mark.parametrize("name", ["cuda", "cuda:1", "cuda:-1", "mps", "meta", "gpu", "", "cuda:x"])
def test_a_device_that_is_not_there_is_wrong_usage(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UsageError, match="Use"):
        resolve_device(name)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)]
)
def test_the_precision_is_that_of_matrix_products(precision, dtype):
    with cpu(precision).autocast():
        assert (torch.rand(4, 4) @ torch.rand(4, 4)).dtype == dtype


def test_copies_to_a_cpu_are_the_tensors_themselves():
    device, tensor = cpu(), torch.rand(3)
    assert not device.on_gpu
    assert device.to_device(tensor) is tensor
    assert device.to_host([tensor]).wait()[0] is tensor


def test_weights_and_buffers_count_for_the_peak():
    device, model = cpu(), torch.nn.BatchNorm1d(10)
    device.place(model)
    assert device.peak_bytes == 4 * 4 * 10 + 8


def test_the_largest_metered_part_counts_for_the_peak():
    device = cpu()
    for on, size in ((True, 100), (True, 300), (True, 200), (False, 5000)):
        with device.metered(on):
            torch.zeros(size, dtype=torch.uint8)
    assert device.peak_bytes == 300


def test_what_is_brought_to_the_device_counts():
    device, host = cpu(), torch.zeros(1000, dtype=torch.uint8)
    with device.metered(True):
        device.to_device(host)
    assert device.peak_bytes == 1000


def test_an_error_ends_the_metering():
    device = cpu()
    with pytest.raises(ZeroDivisionError), device.metered(True):
        1 / 0  # noqa: B018
    device.to_device(torch.zeros(1000))
    assert device.peak_bytes == 0
