"""Where files go that explain an output: checked before the work, written after it, whole or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from infdehaze_cli.errors import StorageError, UsageError
from infdehaze_cli.raster import is_local
from infdehaze_cli.raster._gdal import reason
from infdehaze_cli.raster.locations import redacted
from infdehaze_cli.retry import persist


def same_key(path: str | Path) -> str:
    """Return what is the same for two names of one file."""
    return str(Path(path).resolve()) if is_local(path) else str(path)


def check_place(path: str | Path, what: str, *, overwrite: bool) -> None:
    """Check that a file may be written.

    Raises
    ------
    UsageError
        When it is not local, a folder, in no folder, or exists and must not be replaced.
    """
    place = Path(path)
    if not is_local(path):
        raise UsageError(f"{redacted(path)} is not a local file. Write {what} to a local file and copy it.")
    if place.is_dir() or not place.parent.is_dir():
        raise UsageError(f"{place} is no place for {what}. Name a file in a folder that exists.")
    if place.exists() and not overwrite:
        raise UsageError(f"{place} exists; give --overwrite to replace it.")


def write_beside(output: str | Path, path: str | Path, what: str, make: Callable[[], bytes]) -> None:
    """Write a file that explains an output which has its name already.

    Raises
    ------
    StorageError
        When it could not be made or written. The output stands, and the message says so.
    """
    place = Path(path)
    partial = place.with_name(f".{place.name}.{secrets.token_hex(4)}.tmp")
    try:
        content = make()
        persist(lambda: partial.write_bytes(content))
        partial.replace(place)
    # whatever goes wrong here must not look as if the output had failed
    except Exception as error:
        partial.unlink(missing_ok=True)
        raise StorageError(
            f"{redacted(output)} is written and whole, but its {what} {place} is not ({reason(error)}); check the disk."
        ) from error
