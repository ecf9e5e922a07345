"""Where files go that explain an output: checked before the work, written after it, whole or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from infdehaze_cli.errors import StorageError, UsageError
from infdehaze_cli.raster import is_local
from infdehaze_cli.raster._gdal import reason
from infdehaze_cli.raster.locations import local_files, redacted
from infdehaze_cli.retry import persist


def same_key(path: str | Path) -> str:
    """Return what is the same for two names of one file."""
    return str(Path(path).resolve()) if is_local(path) else str(path)


def check_apart(reads: Mapping[str, Sequence[str | Path | None]], writes: Mapping[str, str | Path | None]) -> None:
    """Check that no two names of what is read and written lead to one file; what is read may be so twice.

    Parameters
    ----------
    reads
        Names of files by what they are, such as ``the source``.
    writes
        A name each by what it is; None where it is not wanted.

    Raises
    ------
    UsageError
        Which two do.
    """
    taken: dict[str | tuple[int, int], str] = {}
    for what, names in reads.items():
        for name in names:
            for key in () if name is None else _keys(name):
                taken.setdefault(key, what)
    for what, name in writes.items():
        if name is None:
            continue
        keys = _keys(name)
        for key in keys:
            if (other := taken.get(key)) is not None:
                raise UsageError(f"{redacted(name)} cannot be both {other} and {what}. Name two files.")
        taken |= dict.fromkeys(keys, what)


def _keys(name: str | Path) -> set[str | tuple[int, int]]:
    """Return what two names of one file have in common: the path without links, and the file that it leads to."""
    keys: set[str | tuple[int, int]] = {same_key(name)}
    for file in local_files(name):
        facts = file.stat()
        keys |= {str(file.resolve()), (facts.st_dev, facts.st_ino)}
    return keys


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
