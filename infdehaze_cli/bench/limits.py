"""How much memory is free, and how a process is held to a part of it, so that it fails before the machine does."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import Tensor

from infdehaze_cli.engine import TensorMeter
from infdehaze_cli.errors import UsageError

SHARE = 0.9
"""Of what the host has free, so that other programs keep running while a baseline fails."""

_NO_MEMORY = re.compile(r"out of memory|not enough memory|bad_alloc|(can't|cannot|unable to|failed to) allocate", re.I)


def default_limit(device: torch.device) -> int:
    """Return the bytes that a baseline may take: the whole memory of a GPU, or most of what the host has free.

    Raises
    ------
    UsageError
        When the system does not say how much is free.
    """
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    facts = Path("/proc/meminfo")
    found = re.search(r"^MemAvailable:\s+(\d+) kB", facts.read_text(), re.M) if facts.exists() else None
    if found is None:
        raise UsageError("This system does not say how much memory is free. Give --limit, as in --limit 8G.")
    free = int(found[1]) * 1024
    group = Path("/sys/fs/cgroup")
    # no container, or one without a limit
    with suppress(OSError, ValueError):
        free = min(free, int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return int(SHARE * free)


@contextmanager
def held_to(limit: int, device: torch.device) -> Iterator[None]:
    """Let allocations inside fail beyond ``limit`` bytes: on CUDA, and on Linux; see :class:`CappedMeter` for others.

    On Linux the limit is on the address space that is mapped beside what the process has mapped already.
    """
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), device)
        yield
    elif sys.platform == "linux":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        wanted = mapped + limit
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    else:
        yield


class CappedMeter(TensorMeter):
    """A meter that stands in for the operating system where that holds no process to a limit."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def hold(self, tensor: Tensor) -> None:
        """Count a tensor.

        Raises
        ------
        MemoryError
            When the live tensors take more than the limit.
        """
        super().hold(tensor)
        if self.live > self._limit:
            raise MemoryError(f"live tensors take {self.live} bytes, out of memory at {self._limit}")


def out_of_memory(error: BaseException) -> str | None:
    """Return what an error, or one that it came from, says of memory that ran out; None when it is about another thing.

    PyTorch raises a plain RuntimeError on the CPU, and GDAL's complaint comes inside an error of ours.
    """
    seen: BaseException | None = error
    while seen is not None:
        lines = (str(seen).strip() or type(seen).__name__).splitlines()
        telling = [line for line in lines if _NO_MEMORY.search(line)]
        if telling or isinstance(seen, MemoryError | torch.OutOfMemoryError):
            return (telling or lines)[0]
        seen = seen.__cause__ or seen.__context__
    return None
