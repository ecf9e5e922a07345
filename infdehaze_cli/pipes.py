"""Standard input and output as rasters: both pass through a file in the scratch folder, for GDAL has to seek."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError, StorageError, UsageError

PIPE = "-"
"""How a command's arguments name standard input and output."""

_CHUNK = 1 << 20


@contextmanager
def spooled_input(src: str, scratch: Path) -> Iterator[str]:
    """Give ``src`` on, or the name of a file that holds all of standard input and goes with the context.

    Raises
    ------
    UsageError
        When standard input is a terminal.
    InputError
        When nothing comes.
    StorageError
        When the scratch folder cannot hold it.
    """
    if src != PIPE:
        yield src
        return
    if sys.stdin.isatty():
        raise UsageError("Standard input is a terminal. Send a raster through a pipe, or name one.")
    with _folder(scratch) as folder:
        path = folder / "stdin"
        try:
            with path.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file, _CHUNK)
        except OSError as error:
            raise StorageError(
                f"Standard input does not fit into {scratch} ({error.strerror or error}). "
                "Free some space, or name another folder with --scratch."
            ) from error
        if path.stat().st_size == 0:
            raise InputError("Nothing came through standard input. Check the command before the pipe.")
        yield str(path)


@contextmanager
def piped_output(dst: str, scratch: Path) -> Iterator[str]:
    """Give ``dst`` on, or the name of a file that is sent to standard output once the context ends well.

    Raises
    ------
    UsageError
        When standard output is a terminal.
    StorageError
        When the scratch folder cannot be used, or whoever reads stops before the end.
    """
    if dst != PIPE:
        yield dst
        return
    if sys.stdout.isatty():
        raise UsageError("Standard output is a terminal. Send it to a file or a pipe, or name an output with -o.")
    with _folder(scratch) as folder:
        path = folder / "stdout.tif"
        yield str(path)
        try:
            with path.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer, _CHUNK)
            sys.stdout.buffer.flush()
        except OSError as error:
            # what Python would flush when it ends has nowhere to go either
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise StorageError(
                f"Standard output was closed before the end ({error.strerror or error}). "
                "Check the command after the pipe."
            ) from error


@contextmanager
def _folder(scratch: Path) -> Iterator[Path]:
    """Make a folder that goes with the context."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="infdehaze-pipe-", dir=scratch))
    except OSError as error:
        raise StorageError(
            f"The scratch folder {scratch} cannot be used ({error.strerror or error}). Name another with --scratch."
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
