"""Where an output goes: whether it may, whether there is room, and how a finished file gets there."""

from __future__ import annotations

import glob
import os
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rasterio.drivers import raster_driver_extensions

from infdehaze_cli import retry
from infdehaze_cli.errors import StorageError, UsageError
from infdehaze_cli.raster._gdal import reason, refusing_disk
from infdehaze_cli.raster.locations import is_local, local_files, redacted
from infdehaze_cli.raster.remote import RemoteTarget
from infdehaze_cli.raster.source import Scene

#: Files that GDAL reads together with a raster; those of a replaced file would be wrong for the new one.
_SIDECARS = (".aux.xml", ".msk", ".ovr", ".msk.ovr")

_WRITE_BITS = 0o222

#: Most file systems take 255 bytes; what GDAL puts beside a raster has up to eight more than this.
_LONGEST_NAME = 240

#: What overviews that are not packed take, as a share of the plain pixels.
_OVERVIEWS_SHARE = 1 / 3


class Target(Protocol):
    """Where a finished file goes."""

    @property
    def shown(self) -> str:
        """Its name in messages."""
        ...

    @property
    def folder(self) -> Path:
        """The local folder in which the file is made."""
        ...

    def publish(self, finished: Path) -> None:
        """Give a finished file its name: it appears whole or not at all."""
        ...


@dataclass(frozen=True, slots=True)
class LocalTarget:
    """A file to be written."""

    path: Path
    overwrite: bool

    @property
    def shown(self) -> str:
        """Its name in messages."""
        return str(self.path)

    @property
    def folder(self) -> Path:
        """Its own folder: only there a finished file can be renamed in one step."""
        return self.path.parent

    def publish(self, finished: Path) -> None:
        """Rename a finished file; see `check_free` for what may be in the way."""
        check_free(self.path, overwrite=self.overwrite)
        sync_and_rename(finished, self.path)


def choose_target(
    source: str, dst: str | Path, work_dir: Path | None, *, overwrite: bool, parts: Sequence[str] = ()
) -> Target:
    """Return where an output goes, if it may.

    Raises
    ------
    UsageError
        As `check_name`, `check_destination`, and `RemoteTarget.check`.
    StorageError
        If an object store cannot be asked.
    """
    if is_local(dst):
        target = LocalTarget(check_destination(source, dst, overwrite=overwrite, parts=parts), overwrite)
        check_name(dst)
        return target
    check_name(dst)
    folder = work_dir or Path(tempfile.gettempdir())
    return RemoteTarget.check(source, str(dst), folder, overwrite=overwrite)


def check_name(dst: str | Path) -> None:
    """Check that a name does not promise another format than GeoTIFF, which a user may expect to get then.

    Raises
    ------
    UsageError
        If it ends as files of another of GDAL's formats do.
    """
    driver = raster_driver_extensions().get(Path(dst).suffix[1:].lower(), "GTiff")
    if driver != "GTiff":
        raise UsageError(
            f"{redacted(dst)} would hold a GeoTIFF, and its name says {driver}; "
            "end it with .tif, and convert that with gdal_translate."
        )


def check_destination(source: str, dst: str | Path, *, overwrite: bool, parts: Sequence[str] = ()) -> Path:
    """Return the destination as a path, if a file may be written there; of a link, the file that it leads to.

    Parameters
    ----------
    source
        The input, which must not be written over.
    dst
        The output.
    overwrite
        Whether an existing file may be replaced.
    parts
        Files that belong to the input too, such as those of a mosaic.

    Raises
    ------
    UsageError
        If it is a URL, a folder, the source or a part of it, in no folder, a link to nowhere, read-only, or exists
        and must not be replaced.
    """
    if not is_local(dst):
        raise UsageError(f"{redacted(dst)} is not a local file; write to a local file and copy it there.")
    path = Path(dst)
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        raise UsageError(f"The name of {path} is too long; give one of at most {_LONGEST_NAME} bytes.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name the file to write.")
    if str(dst).endswith("/"):
        raise UsageError(f"There is no folder {dst}; make it first, and name the file to write.")
    if not path.parent.is_dir():
        raise UsageError(f"The folder {path.parent} does not exist; make it first.")
    if path.is_symlink() and not path.exists():
        raise UsageError(f"{path} is a link that leads nowhere; remove it or write elsewhere.")
    replaced = [existing for existing in (path, *_sidecars(path)) if existing.exists()]
    for existing in replaced:
        for file in (source, *parts):
            if any(existing.samefile(own) for own in local_files(file)):
                what = "the source itself" if file == source else f"a part of the source {redacted(source)}"
                also = "" if existing == path else f", which would go with what stands beside {path}"
                raise UsageError(f"{existing} is {what}{also}; write to another file.")
    if replaced and not overwrite:
        raise UsageError(f"{replaced[0]} exists; give --overwrite to replace it.")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no file but a device or a pipe; name the file to write.")
    if path.exists() and not path.stat().st_mode & _WRITE_BITS:
        raise UsageError(f"{path} is read-only; make it writable, or write elsewhere.")
    # as cp does: a link stays, and the file that it leads to is replaced
    return path.resolve() if path.is_symlink() else path


def _sidecars(path: Path) -> list[Path]:
    """Return the names of the files that GDAL would read together with a raster."""
    return [path.with_name(path.name + suffix) for suffix in _SIDECARS]


def check_free_space(
    scene: Scene,
    count: int,
    work_dir: Path,
    folder: Path,
    *,
    cog: bool,
    overviews_first: bool = False,
    beside: int = 0,
) -> None:
    """Check that the file systems have room for ``count`` bands of the scene; GDAL would not always notice.

    Overviews of a COG that are made first lie in ``work_dir``, others in ``folder`` while they are packed; ``beside``
    are the bytes that others write to ``work_dir`` meanwhile.

    Raises
    ------
    StorageError
        If a folder is missing or too full, with the bytes that are needed.
    """
    raw = scene.height * scene.width * count * scene.dtype.itemsize
    overviews = int(raw * _OVERVIEWS_SHARE)
    # packed ones take some of that in any case
    final = raw + overviews if cog else raw
    first = (raw + overviews if overviews_first else raw) if cog else 0
    needs = [(work_dir, first + beside), (folder, final)]
    if not cog and not beside:
        needs = needs[1:]
    elif work_dir.is_dir() and work_dir.stat().st_dev == folder.stat().st_dev:
        needs = [(folder, (raw if cog else 0) + beside + final)]
    for place, need in needs:
        try:
            free = shutil.disk_usage(place).free
        except OSError as error:
            raise StorageError(f"Cannot use the folder {place} ({error.strerror}); make it first.") from error
        if free < need:
            raise StorageError(
                f"{place} has {_size(free)} free and the output needs up to {_size(need)}; "
                "make room or write to another disk."
            )


def _size(count: int) -> str:
    """Return a number of bytes as people read it."""
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):  # noqa: B007  (the last one is used below)
        if value < 1024:
            break
        value /= 1024
    return f"{value:.4g} {unit}"


def write_error(
    what: str, error: BaseException, *folders: Path, advice: str = "check the disk and the free space on it"
) -> StorageError:
    """Return the error for a write that failed: it may pass, unless a folder of its refuses whatever is written.

    Ask before what was written is removed, or a full disk has room again.
    """
    for folder in folders:
        refusal = refusing_disk(folder)
        if refusal is not None and not retry.may_pass(refusal):
            return StorageError(f"{what} ({refusal.strerror or refusal}); {advice}.")
    return StorageError(f"{what} ({reason(error)}); {advice}.", may_pass=True)


def check_free(*paths: Path, overwrite: bool) -> None:
    """Check once more, before finished files get their names, that they are free or may be taken.

    Raises
    ------
    StorageError
        If a file of such a name has come into being since the run began, and must not be replaced.
    """
    for path in paths:
        if not overwrite and path.exists():
            raise StorageError(f"{path} has come into being meanwhile; give --overwrite to replace it.")


def sync_and_rename(finished: Path, dst: Path) -> None:
    """Bring a finished file safely to the disk, then give it its name, in one step for whoever looks."""
    sidecar = finished.with_name(finished.name + ".aux.xml")
    sync(finished)
    for stale in _sidecars(dst):
        stale.unlink(missing_ok=True)
    if sidecar.exists():
        sync(sidecar)
        sidecar.replace(dst.with_name(dst.name + ".aux.xml"))
    finished.replace(dst)
    if os.name == "posix":
        sync(dst.parent)


def sync(path: Path) -> None:
    """Flush a file or folder to the disk; what fails here is lost, and has to be written again."""
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_name(dst: str | Path, token: str | None) -> str:
    """Return what the names of an output's temporary files begin with.

    With a ``token``, who has it alone may write the output, and files of that name are left from a process that was
    killed; without one the name is new.
    """
    stem = Path(str(dst).split("?")[0].rpartition("/")[2] or "output").stem
    # a long name with all that is added would be too long
    return f".{stem[:40]}.{token or secrets.token_hex(4)}"


def remove_all(path: Path) -> None:
    """Remove a temporary file and all that GDAL put beside it; its name is unique."""
    for part in path.parent.glob(f"{glob.escape(path.name)}*"):
        part.unlink(missing_ok=True)
