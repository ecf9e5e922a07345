"""How a baseline is held to its memory, and how the lack of it is told from other errors."""

import sys
from pathlib import Path

import pytest
import torch

from infdehaze_cli.bench.limits import CappedMeter, default_limit, held_to, out_of_memory
from infdehaze_cli.errors import InputError, UsageError

CPU = torch.device("cpu")
MiB = 1024**2


def raised_by(work):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each library has its own
        work()
    return caught.value


def wrapped():
    try:
        raise MemoryError("no room for a block")
    except MemoryError as error:
        raise InputError("Cannot read the scene.") from error


@pytest.mark.parametrize("work", [lambda: torch.empty(1 << 60, dtype=torch.uint8), lambda: bytearray(1 << 60), wrapped])
def test_a_lack_of_memory_is_known_whoever_reports_it(work):
    assert out_of_memory(raised_by(work))


def test_of_many_lines_the_one_about_memory_is_told():
    error = RuntimeError("terminate called\n  what():  std::bad_alloc\n")

    assert out_of_memory(error) == "  what():  std::bad_alloc"


@pytest.mark.parametrize("error", [InputError("Cannot open a file."), ValueError("bad"), RuntimeError("shapes differ")])
def test_other_errors_are_no_lack_of_memory(error):
    assert out_of_memory(error) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to its address space")
def test_allocations_beyond_the_limit_fail_inside_and_work_again_outside():
    with held_to(256 * MiB, CPU):
        small = torch.zeros(64 * MiB, dtype=torch.uint8)
        error = raised_by(lambda: torch.zeros(512 * MiB, dtype=torch.uint8))
    large = torch.zeros(512 * MiB, dtype=torch.uint8)

    assert out_of_memory(error)
    assert small.nbytes + large.nbytes == 576 * MiB


def test_a_capped_meter_stops_what_takes_too_much():
    with CappedMeter(2 * MiB) as meter:
        first = torch.zeros(MiB, dtype=torch.uint8)
        error = raised_by(lambda: torch.zeros(2 * MiB, dtype=torch.uint8))

    assert isinstance(error, MemoryError)
    assert out_of_memory(error)
    assert meter.live >= first.nbytes


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say what is free")
def test_by_default_a_baseline_gets_less_than_what_is_free():
    facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total = int(facts["MemTotal"].split()[0]) * 1024

    assert 0 < default_limit(CPU) < total


def test_a_system_that_does_not_say_what_is_free_needs_a_limit(monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda path: False)

    with pytest.raises(UsageError, match="--limit"):
        default_limit(CPU)
