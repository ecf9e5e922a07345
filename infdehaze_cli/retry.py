"""Reads and writes that are tried again: what a network mount says now and then must not end a run of hours."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

WAITS = (0.05, 0.2, 0.5)
"""Seconds before each further try."""

_PASSING = {
    getattr(errno, name)
    for name in (
        *("EIO", "EAGAIN", "EINTR", "EBUSY", "ESTALE", "ETIMEDOUT", "EREMOTEIO"),
        *("ENETDOWN", "ENETUNREACH", "ENETRESET", "EHOSTDOWN", "EHOSTUNREACH", "ECONNRESET", "ECONNABORTED"),
    )
    # not every system has them all
    if hasattr(errno, name)
}


def may_pass(error: BaseException) -> bool:
    """Whether the system reports what may be over a moment later, unlike a disk that is full or read-only."""
    return isinstance(error, OSError) and error.errno in _PASSING


def persist(work: Callable[[], T], may_pass: Callable[[BaseException], bool] = may_pass) -> T:
    """Return what ``work`` gives, trying it again, a bounded number of times, while its errors may pass.

    Parameters
    ----------
    work : callable
        Can be done again after it has failed halfway.
    may_pass : callable
        Tells of an error whether it is worth another try.

    Raises
    ------
    Exception
        The last one.
    """
    for wait in WAITS:
        try:
            return work()
        except Exception as error:
            if not may_pass(error):
                raise
        time.sleep(wait)
    return work()
