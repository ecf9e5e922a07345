"""What a run has done so far, as lines in its work folder; an interrupted run goes on from there (design, section 3.5).

Each line is JSON and its crc32. What follows the first line that is torn or damaged is dropped: it costs work, and
never brings wrong pixels, since all that the lines speak of carries checksums of its own.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from pathlib import Path
from typing import Any

from .errors import StorageError
from .plan import Plan

FORMAT = 1
SYNC_SECONDS = 10.0
"""How much of what it was told a journal may lose when the machine, rather than the process, dies."""


class Journal:
    """The journal of one run.

    Parameters
    ----------
    path : Path
        Of the file; a missing one is an empty journal.

    Attributes
    ----------
    identity : dict or None
        What the run was begun with: its input, its weights, what was asked for.
    plan : Plan or None
        How it was to be done.
    encoded : dict
        Batches whose residuals and latents are on disk, with those of their tiles that hold data.

    Raises
    ------
    StorageError
        When it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.identity: dict[str, Any] | None = None
        self.plan: Plan | None = None
        self.encoded: dict[int, tuple[int, ...]] = {}
        self._synced = 0.0
        try:
            good = self._replay(path.read_bytes()) if path.exists() else 0
            self._file = path.open("ab")
            self._file.truncate(good)
        except OSError as error:
            raise self._failed(error) from error

    def _replay(self, content: bytes) -> int:
        """Take in the lines up to the first bad one; return where it begins."""
        good = 0
        for line in content.splitlines(keepends=True):
            text, tab, check = line.rpartition(b"\t")
            if not tab or not line.endswith(b"\n") or check.strip() != _check(text):
                break
            entry = json.loads(text)
            if self.plan is not None:
                self.encoded[entry["encoded"]] = tuple(entry["tiles"])
            elif entry.get("format") == FORMAT:
                self.identity, self.plan = entry["identity"], Plan(**entry["plan"])
            else:
                break
            good += len(line)
        return good

    @property
    def worth_keeping(self) -> bool:
        """Whether a run could go on from here with less work than from the start."""
        return bool(self.encoded)

    def begin(self, identity: dict[str, Any], plan: Plan) -> None:
        """Write down what is to be done."""
        self.identity, self.plan = identity, plan
        self._append({"format": FORMAT, "identity": identity, "plan": plan.to_dict()}, sync=True)

    def add_encoded(self, batch: int, tiles: tuple[int, ...]) -> None:
        """Write down that all of a batch is on disk."""
        self.encoded[batch] = tiles
        self._append({"encoded": batch, "tiles": tiles})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, entry: dict[str, Any], *, sync: bool = False) -> None:
        text = json.dumps(entry).encode()
        try:
            self._file.write(text + b"\t" + _check(text) + b"\n")
            # past this line a kill loses nothing
            self._file.flush()
            if sync or time.monotonic() - self._synced > SYNC_SECONDS:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> StorageError:
        return StorageError(
            f"The journal {self._path} cannot be kept ({error.strerror or error}). "
            "Free some space, or name another folder with --scratch."
        )


def _check(text: bytes) -> bytes:
    return b"%08x" % zlib.crc32(text)
