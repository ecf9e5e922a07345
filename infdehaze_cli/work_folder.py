"""A run's own folder below ``--scratch``: named after the output, locked, and kept when it is worth it."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import CorruptError, StorageError
from .journal import Journal
from .plan import Plan
from .raster import is_local, redacted
from .raster.locations import gdal_name

LOCK = "lock"
_LOOK = ("residuals", "encoded", "mixed", "fields")
COARSE = "coarse"
"""The folder of the look at half the size of the scene."""
_JOURNAL = "journal.jsonl"
KEPT = (LOCK, _JOURNAL, *_LOOK, COARSE)
"""What an interrupted run leaves for the next one; all else in the folder is begun anew."""

_CHANGED = {
    "input": "its input has changed since",
    "weights": "it used other weights",
    "request": "it was asked for other things, such as another --batch or --residuals",
    "program": "it was begun by another version or on another device",
}


class WorkFolder:
    """The folder of the run into one output, whose lock this process holds.

    Attributes
    ----------
    path : Path
        The folder.
    token : str
        A part of file names, the same whenever the same output is made with the same ``--scratch``.
    journal : Journal
        Of this run and of the one before it, if that was interrupted.
    found : bool
        Whether there is work of an earlier run.
    """

    def __init__(self, path: Path, token: str, dst: str) -> None:
        self.path, self.token, self._dst = path, token, dst
        self.journal = Journal(path / _JOURNAL)
        self.tidy()
        if not self.journal.worth_keeping:
            self.restart()
        self.found = self.journal.worth_keeping

    def tidy(self) -> None:
        """Remove all from which nobody goes on."""
        begun = (*(_LOOK if self.journal.begun else ()), *((COARSE,) if self.journal.coarse.begun else ()))
        _keep_only(self.path, (LOCK, _JOURNAL, *begun))

    def restart(self) -> None:
        """Forget what an earlier run has done."""
        self.journal.close()
        for entry in self.path.iterdir():
            if entry.name != LOCK:
                _remove(entry)
        self.journal = Journal(self.path / _JOURNAL)
        self.found = False

    def check(self, identity: dict[str, Any]) -> Plan:
        """Return the plan of the earlier run, if this one asks for the same.

        Raises
        ------
        CorruptError
            When it does not, with what differs.
        """
        before, plan = self.journal.identity, self.journal.plan
        assert before is not None
        assert plan is not None
        changed = [text for key, text in _CHANGED.items() if before.get(key) != identity[key]]
        if changed:
            raise CorruptError(
                f"{self.path} holds the work of an interrupted run into {self._dst} that cannot go on here: "
                f"{'; '.join(changed)}. Give --no-resume to start afresh, or run it as it was begun."
            )
        return plan

    def missing(self, plan: Plan) -> int:
        """Return the bytes that a run still has to write here: an earlier one may have written some."""
        taken = sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file()) if self.found else 0
        return max(0, plan.scratch_bytes + plan.checkpoint_bytes - taken)

    def check_space(self, plan: Plan) -> None:
        """Check that there is room for what a run writes here, the output apart.

        Raises
        ------
        StorageError
            When there is not.
        """
        needed = self.missing(plan)
        try:
            free = shutil.disk_usage(self.path.parent).free
        except OSError as error:
            raise _unusable(self.path.parent, error) from error
        if free < needed:
            # residuals that all fit into memory take nothing here
            smaller = plan.tier != "recompute" and plan.batches_in_memory < plan.batches
            raise StorageError(
                f"The scratch folder {self.path.parent} has {free // 1024**2} MiB free, and this run needs "
                f"{-(-needed // 1024**2)}. Free some space, {'' if smaller else 'or '}name another folder with "
                f"--scratch{', or use --residuals recompute' if smaller else ''}."
            )


@contextmanager
def claim(scratch: Path, dst: str | Path, note: Callable[[str], None]) -> Iterator[WorkFolder]:
    """Lock the folder of an output, and make it if there is none.

    It is removed in the end, except when it holds finished work and the run was interrupted, a disk was full or
    failing, or the work is that of an earlier run; ``note`` is told so.

    Raises
    ------
    StorageError
        When another run holds it, or it cannot be made.
    """
    # the same for all spellings and links
    place = str(Path(dst).resolve()) if is_local(dst) else gdal_name(dst)
    key = hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()[:16]
    path = scratch / f"infdehaze-{key}"
    try:
        lock = _lock(path)
    except OSError as error:
        with suppress(OSError):
            path.rmdir()
        raise _unusable(scratch, error) from error
    if lock is None:
        raise StorageError(
            f"Another run writes {redacted(dst)} (process {_owner(path)}). Wait for it to end, or write elsewhere."
        )
    keep = False
    folder = None
    try:
        try:
            token = hashlib.sha256(f"{place}\0{scratch.resolve()}".encode(errors="surrogateescape")).hexdigest()[:8]
            folder = WorkFolder(path, token, redacted(dst))
        except OSError as error:
            raise _unusable(scratch, error) from error
        try:
            yield folder
        except (StorageError, KeyboardInterrupt, SystemExit):
            if keep := folder.journal.worth_keeping:
                note(f"What is done stays in {path}. The same command goes on from there; with --no-resume, afresh.")
            raise
        except BaseException as error:
            keep = folder.found or (isinstance(error, CorruptError) and folder.journal.worth_keeping)
            raise
    finally:
        if folder is not None:
            folder.journal.close()
        _release(path, lock, keep=keep)


def _lock(path: Path) -> int | None:
    """Return a descriptor that holds the folder's lock, or None when somebody else holds it.

    The system frees the lock of a process that dies, however it does.
    """
    for _ in range(100):
        path.mkdir(0o700, exist_ok=True)
        if path.is_symlink():
            # what is not kept is removed from the folder, and a link may lead anywhere
            raise NotADirectoryError(errno.ENOTDIR, f"{path.name} is a link", str(path))
        try:
            descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            # its last owner has removed the folder in between
            continue
        try:
            _lock_file(descriptor)
            if os.path.samestat(os.fstat(descriptor), (path / LOCK).stat()):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
                return descriptor
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    return None


if os.name == "nt":

    def _lock_file(descriptor: int) -> None:
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]

else:

    def _lock_file(descriptor: int) -> None:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _release(path: Path, descriptor: int, *, keep: bool) -> None:
    """Give the lock back; the folder goes first, so that nobody finds half of it."""
    _keep_only(path, KEPT if keep else (LOCK,))
    if os.name == "nt":
        os.close(descriptor)
    with suppress(OSError):
        (path / LOCK).unlink()
    if not keep:
        with suppress(OSError):
            path.rmdir()
    if os.name != "nt":
        os.close(descriptor)


def _keep_only(path: Path, names: tuple[str, ...]) -> None:
    try:
        entries = list(path.iterdir())
    except FileNotFoundError:
        # something has tidied up
        return
    for entry in entries:
        if entry.name not in names:
            _remove(entry)
        elif entry.name == COARSE and entry.is_dir():
            _keep_only(entry, _LOOK)


def _owner(path: Path) -> str:
    try:
        return (path / LOCK).read_text().strip() or "unknown"
    except OSError:
        return "unknown"


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        with suppress(OSError):
            entry.unlink()


def _unusable(scratch: Path, error: OSError) -> StorageError:
    return StorageError(
        f"The scratch folder {scratch} cannot be used ({error.strerror or error}). Name another with --scratch."
    )
