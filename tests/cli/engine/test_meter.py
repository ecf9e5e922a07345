"""The meter counts what operations allocate, as long as it lives, once."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from infdehaze_cli.engine import TensorMeter, peak_rss_bytes

KB = 1024


def test_new_tensors_are_counted_until_they_are_freed():
    with TensorMeter() as meter:
        first = torch.zeros(KB, dtype=torch.uint8)
        second = torch.ones(2 * KB, dtype=torch.uint8)
        assert meter.live == 3 * KB
        del first
        assert meter.live == 2 * KB
        third = torch.zeros(KB // 2, dtype=torch.uint8)
        del second, third
        assert meter.live == 0
    assert meter.peak == 3 * KB


def test_what_an_expression_needs_on_the_way_counts_for_the_peak():
    x = torch.ones(KB, dtype=torch.uint8)
    with TensorMeter() as meter:
        y = (x + 1) * 2 - 1
        assert meter.live == y.nbytes == KB
    assert meter.peak == 2 * KB


def test_views_are_counted_once_and_keep_their_storage():
    with TensorMeter() as meter:
        whole = torch.zeros(4, KB, dtype=torch.uint8)
        part, turned = whole[0], whole.t()
        assert meter.live == 4 * KB
        del whole, turned
        assert meter.live == 4 * KB
        del part
        assert meter.live == 0


def test_tensors_from_before_are_not_counted_nor_are_views_of_them_nor_changes_in_place():
    before, other = torch.zeros(64, KB), torch.ones(1, KB)
    with TensorMeter() as meter:
        part = before[:32]
        part += 1
        before[3] = part[4]
        before.index_add_(0, torch.tensor([0]), other)
        assert meter.peak < KB


def test_the_bytes_of_the_dtype_count():
    with TensorMeter() as meter:
        kept = [torch.zeros(100, dtype=dtype) for dtype in (torch.float32, torch.float16, torch.int64)]
        assert meter.live == 1400
    assert kept


def test_a_held_tensor_is_counted_once():
    given = torch.zeros(KB, dtype=torch.uint8)
    with TensorMeter() as meter:
        meter.hold(given)
        meter.hold(given[: KB // 2])
        assert meter.live == KB
        del given
        assert meter.live == 0


def test_fake_tensors_are_counted_without_taking_memory():
    with FakeTensorMode(), TensorMeter() as meter:
        huge = torch.empty(1 << 40, dtype=torch.uint8)
        assert meter.live == 1 << 40
        del huge
        assert meter.live == 0


def test_autocast_copies_of_weights_do_not_stay():
    layer, x = torch.nn.Linear(256, 256), torch.rand(1, 256)
    with torch.inference_mode(), TensorMeter() as meter, torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        assert meter.live == y.nbytes
        assert meter.peak > 2 * 256 * 256


def test_other_threads_are_not_counted():
    with TensorMeter() as meter:
        thread = threading.Thread(target=lambda: torch.zeros(KB))
        thread.start()
        thread.join()
    assert meter.peak == 0


def test_tensors_may_outlive_the_meter():
    with TensorMeter() as meter:
        kept = torch.zeros(KB, dtype=torch.uint8)
    del kept
    assert meter.live == 0
    assert meter.peak == KB


def test_the_resident_set_is_at_least_what_this_process_holds():
    held = torch.ones(8 << 20, dtype=torch.uint8)
    assert peak_rss_bytes() > held.nbytes


def test_a_platform_that_does_not_say_gives_0(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert peak_rss_bytes() == 0


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_the_resident_set_is_in_bytes_where_getrusage_has_to_say(monkeypatch, platform):
    resource = pytest.importorskip("resource")
    usage = type("Usage", (), {"ru_maxrss": 5000})
    monkeypatch.setattr(resource, "getrusage", lambda who: usage)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "exists", lambda path: False)
    assert peak_rss_bytes() == (5000 if platform == "darwin" else 5000 * 1024)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere getrusage counts from the start of the program")
def test_the_resident_set_of_whoever_started_the_process_is_not_counted():
    # copied, the tensor's memory would be the child's for a moment, before it becomes another program
    held = torch.ones(1 << 30, dtype=torch.uint8)
    call = "from infdehaze_cli.engine import peak_rss_bytes; print(peak_rss_bytes())"
    ended = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=True)
    assert 0 < int(ended.stdout) < held.nbytes
