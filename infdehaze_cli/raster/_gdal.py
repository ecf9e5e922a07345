"""What every other module here needs from rasterio: its errors, its warnings, its window type."""

from __future__ import annotations

import errno
import logging
import os
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import rasterio
import rasterio.windows
from rasterio._err import CPLE_BaseError
from rasterio.errors import NodataShadowWarning, NotGeoreferencedWarning, RasterioError

from infdehaze_cli.geometry import Window
from infdehaze_cli.raster.locations import redacted

#: Everything that GDAL, rasterio and the operating system raise on a failing read or write; rasterio has a
#: SystemError for what GDAL says nothing about.
GDAL_ERRORS: tuple[type[BaseException], ...] = (RasterioError, CPLE_BaseError, OSError, ValueError, SystemError)

# ``warnings.catch_warnings`` swaps a list of the whole process: two threads must not do so at once.
_warnings_lock = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep rasterio's remarks on georeferencing and alpha from the user, to whom they say nothing new."""
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        warnings.simplefilter("ignore", NodataShadowWarning)
        yield


_PROBES, _PROBE = 16, 1 << 16
"""How many places of a file are read to tell a failing disk from a damaged file, and their bytes."""


def open_quietly(path: str | Path, mode: str = "r", **options: Any) -> Any:
    """Open a dataset that no other caller shares, without rasterio's remarks."""
    with quiet():
        return rasterio.open(path, mode, sharing=False, **options)


def failing_disk(path: str | Path) -> OSError | None:
    """Return what the system says when it reads a local file plainly, at some places from end to end; None if well."""
    try:
        size = Path(path).stat().st_size
        with Path(path).open("rb", buffering=0) as file:
            for part in range(_PROBES + 1):
                file.seek(max(0, size - _PROBE) * part // _PROBES)
                file.read(_PROBE)
    except OSError as error:
        return error
    return None


def refusing_disk(folder: Path) -> OSError | None:
    """Return what the system says when a small file is written plainly to a folder; None if well.

    GDAL hardly ever tells a full disk from one that has failed once.
    """
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            for _ in range(_PROBES):
                if file.write(bytes(_PROBE)) != _PROBE:
                    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        return error
    return None


def abandon(dataset: Any, path: Path) -> None:
    """Close a file that is being written and is not wanted any more.

    Its descriptors lead nowhere by then: where a write had failed, libtiff 4.7 was seen to follow a chain of
    directories through pixels, without end, when the file was closed. From nowhere nothing can be read. Of a BigTIFF it
    doubts such a chain, so that what need not be read by others is one.
    """
    if os.name == "posix":
        with suppress(OSError):
            _divert(path)
    with suppress(*GDAL_ERRORS):
        dataset.close()


def _divert(path: Path) -> None:
    """Let the descriptors of this process for a file lead to the null device."""
    file = path.stat()
    nowhere = os.open(os.devnull, os.O_RDWR)
    try:
        for entry in list(Path("/dev/fd").iterdir()):
            # the listing had one of its own, which is closed
            with suppress(OSError):
                if os.path.samestat(os.fstat(int(entry.name)), file):
                    os.dup2(nowhere, int(entry.name), inheritable=False)
    finally:
        os.close(nowhere)


def reason(error: BaseException) -> str:
    """Return the first line of what GDAL said at the root of an error, without a full stop and secrets."""
    root = error
    while (cause := root.__cause__ or root.__context__) is not None:
        root = cause
    text = str(root).strip() or type(root).__name__
    return redacted(text.splitlines()[0]).rstrip(". ")


def to_rasterio(window: Window) -> rasterio.windows.Window:
    """Return the same rectangle as rasterio's window, which counts columns first."""
    return rasterio.windows.Window(window.col, window.row, window.width, window.height)


class _Collector(logging.Handler):
    """Keeps the messages that one thread logs."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.messages.append(record.getMessage())


@contextmanager
def collected_log() -> Iterator[list[str]]:
    """Collect what GDAL logs in this thread: for an unknown creation option it raises nothing."""
    handler, logger = _Collector(), logging.getLogger("rasterio")
    logger.addHandler(handler)
    try:
        yield handler.messages
    finally:
        logger.removeHandler(handler)
