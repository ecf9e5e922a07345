"""What differs between devices: precision, copies, and the measure of the peak."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from infdehaze_cli.errors import UsageError

from .meter import TensorMeter

DTYPES = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}


def resolve_device(name: str) -> torch.device:
    """Return the device of a name: ``auto``, ``cpu``, ``cuda``, ``cuda:1``; a GPU with its index.

    Raises
    ------
    UsageError
        When there is no such device here.
    """
    if name == "auto":
        return numbered(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"There is no device {name!r}. Use auto, cpu, cuda or cuda:N.") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"Runs on {device.type!r} are not supported. Use auto, cpu, cuda or cuda:N.")
    if device.type == "cuda" and not 0 <= (device.index or 0) < torch.cuda.device_count():
        raise UsageError(f"There is no CUDA device {name!r} here. Use --device cpu, or see `infdehaze doctor`.")
    return numbered(device)


def numbered(device: torch.device) -> torch.device:
    """Return a GPU with its index, which functions about its memory ask for."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


class Device:
    """Runs tensors on a CPU or a GPU within a budget, and measures what they take.

    Parameters
    ----------
    device : torch.device
        Where the network runs.
    precision : str
        ``fp32``, ``fp16`` or ``bf16``.
    budget : int, optional
        Bytes; on CUDA the process is held to it.
    """

    def __init__(self, device: torch.device, precision: str, budget: int | None) -> None:
        self.device = device = numbered(device)
        self._dtype = DTYPES[precision]
        self._weights = 0
        self._metered = 0
        self._meter: TensorMeter | None = None
        self._copy_stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._copy_stream = torch.cuda.Stream(device)
            torch.cuda.reset_peak_memory_stats(device)
            total = torch.cuda.get_device_properties(device).total_memory
            # without a budget the cap of an earlier run is lifted
            torch.cuda.set_per_process_memory_fraction(1.0 if budget is None else min(1.0, budget / total), device)

    @property
    def on_gpu(self) -> bool:
        """Whether copies can overlap with computation."""
        return self._copy_stream is not None

    def place(self, model: nn.Module) -> None:
        """Move a network here and count its weights."""
        model.to(self.device)
        tensors = [*model.parameters(), *model.buffers()]
        self._weights = sum(t.numel() * t.element_size() for t in tensors)

    def autocast(self) -> AbstractContextManager[object]:
        """Make the context that sets the precision."""
        if self._dtype is None:
            return contextlib.nullcontext()
        # each weight is used once, so that a copy of it would only take memory
        return torch.autocast(self.device.type, self._dtype, cache_enabled=False)

    def to_device(self, host: Tensor) -> Tensor:
        """Copy a host tensor here, without waiting where the device allows it."""
        if not self.on_gpu:
            if self._meter is not None:
                self._meter.hold(host)
            return host
        return host.pin_memory().to(self.device, non_blocking=True)

    def to_host(self, tensors: list[Tensor]) -> PendingCopy:
        """Start to copy tensors to the host; computation goes on meanwhile."""
        if self._copy_stream is None:
            return PendingCopy(tensors, None)
        self._copy_stream.wait_stream(torch.cuda.current_stream(self.device))
        copies = []
        with torch.cuda.stream(self._copy_stream):
            for tensor in tensors:
                pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
                pinned.copy_(tensor, non_blocking=True)
                # the allocator must not hand the memory on while the copy reads it
                tensor.record_stream(self._copy_stream)
                copies.append(pinned)
            done = torch.cuda.Event()
            done.record(self._copy_stream)
        return PendingCopy(copies, done)

    @contextlib.contextmanager
    def metered(self, on: bool) -> Iterator[TensorMeter | None]:
        """Meter live tensor bytes inside, on a CPU and if ``on``; CUDA counts by itself."""
        if not on or self.on_gpu:
            yield None
            return
        try:
            with TensorMeter() as self._meter:
                yield self._meter
            self._metered = max(self._metered, self._meter.peak)
        finally:
            self._meter = None

    @property
    def peak_bytes(self) -> int:
        """Largest number of live bytes so far, weights included."""
        if self.on_gpu:
            return torch.cuda.max_memory_allocated(self.device)
        return self._weights + self._metered


class PendingCopy:
    """Host tensors that a copy may still be filling."""

    def __init__(self, tensors: list[Tensor], done: torch.cuda.Event | None) -> None:
        self._tensors, self._done = tensors, done

    def wait(self) -> list[Tensor]:
        """Return the tensors once they are there; called by the thread that stores them."""
        if self._done is not None:
            self._done.synchronize()
        return self._tensors
