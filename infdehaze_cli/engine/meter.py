"""Meters of memory: live tensor bytes on any device, and the resident set of the process."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class TensorMeter(TorchDispatchMode):
    """Count the bytes of tensors that operations allocate while the mode is on, and their peak.

    It sees what the operators return, on CPU and on fake tensors alike; scratch memory inside an operator is not seen,
    and neither are tensors from before, nor what looks into them or changes them in place.
    Slow (about 50 microseconds an operation), so a run meters one batch of each phase: all batches are alike.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peak = 0
        self._known: set[int] = set()

    def hold(self, tensor: Tensor) -> None:
        """Count a tensor until its storage is freed."""
        storage, key = tensor.untyped_storage(), _key(tensor)
        if key in self._known:
            return
        self._known.add(key)
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._release, key, storage.nbytes())

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation and count the tensors that it makes."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        given = {_key(tensor) for tensor in _tensors((*args, *kwargs.values()))}
        for tensor in _tensors((out,)):
            if _key(tensor) not in given:
                self.hold(tensor)
        return out

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # else torch imports its compiler, which takes seconds, to keep it out of the method above
        return False


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Yield the tensors among values and in lists of them, as operators take and return them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _key(tensor: Tensor) -> int:
    key: int = tensor.untyped_storage()._cdata
    return key


def peak_rss_bytes() -> int:
    """Return the largest resident set that this process has had, in bytes; 0 where the platform does not say."""
    if sys.platform == "win32":
        return 0
    status = Path("/proc/self/status")
    if sys.platform == "linux" and status.exists():
        # what getrusage says begins with the size of the program that started this one
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
