"""What a run has done so far, as lines in its work folder; an interrupted run goes on from there.

Each line is JSON and its crc32. What follows the first line that is torn or damaged is dropped: it costs work, and
never brings wrong pixels, since all that the lines speak of carries checksums of its own.
"""

from __future__ import annotations

import errno
import json
import os
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from .errors import StorageError
from .plan import Plan
from .retry import persist

FORMAT = 7
"""Another one when its lines change, or what is computed from the same request: older runs then start afresh."""

SYNC_SECONDS = 10.0
"""How much of what it was told a journal may lose when the machine, rather than the process, dies."""


@dataclass(frozen=True, slots=True)
class Done:
    """What need not be done again."""

    encoded_batches: int = 0
    """Batches whose latents, and residuals unless they are not stored, are on disk."""
    bottleneck: bool = False
    decoded_batches: int = 0
    """Batches whose fields are on disk."""
    coarse_encoded_batches: int = 0
    coarse_bottleneck: bool = False
    coarse_decoded_batches: int = 0
    """The same of the look at half the size of the scene."""


class Progress(ABC):
    """What is done of one look at a scene, and is written down when it is.

    Attributes
    ----------
    encoded : dict
        Batches whose residuals and latents are on disk, with those of their tiles that hold data, and in how many
        pixels.
    mixed : dict or None
        The tiles of the scene that hold data, and in how many pixels, once its latents after the bottleneck are on
        disk.
    decoded : dict
        Batches whose fields are on disk, with the number of their tiles.
    """

    def __init__(self) -> None:
        self.encoded: dict[int, dict[int, int]] = {}
        self.mixed: dict[int, int] | None = None
        self.decoded: dict[int, int] = {}

    @abstractmethod
    def _append(self, entry: dict[str, Any], *, sync: bool = False) -> None: ...

    def _take(self, entry: dict[str, Any]) -> None:
        """Take in a line that says what is done."""
        if "encoded" in entry:
            self.encoded[entry["encoded"]] = _told(entry["tiles"])
        elif "mixed" in entry:
            self.mixed = _told(entry["mixed"])
        elif "decoded" in entry:
            self.decoded[entry["decoded"]] = entry["tiles"]

    @property
    def begun(self) -> bool:
        """Whether anything of this look is done."""
        return bool(self.encoded or self.decoded) or self.mixed is not None

    def add_encoded(self, batch: int, known: Mapping[int, int]) -> None:
        """Write down that all of a batch is on disk: its tiles with data, and their pixels that hold some."""
        self.encoded[batch] = dict(known)
        self._append({"encoded": batch, "tiles": _spans(known)})

    def add_mixed(self, known: Mapping[int, int]) -> None:
        """Write down that the latents after the bottleneck are on disk, and the same of all tiles of the scene."""
        self.mixed = dict(known)
        self._append({"mixed": _spans(known)}, sync=True)

    def add_decoded(self, batch: int, tiles: int) -> None:
        """Write down that the fields of a batch are on disk."""
        self.decoded[batch] = tiles
        self._append({"decoded": batch, "tiles": tiles})


class _Coarse(Progress):
    """The look at half the size: lines of the same file, with a mark."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def _append(self, entry: dict[str, Any], *, sync: bool = False) -> None:
        self._journal._append({"look": "coarse", **entry}, sync=sync)


class Journal(Progress):
    """The journal of one run, and the progress of its look at the scene in full size.

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
    coarse : Progress
        Of the look at half the size of the scene.

    Raises
    ------
    StorageError
        When it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.identity: dict[str, Any] | None = None
        self.plan: Plan | None = None
        self.coarse: Progress = _Coarse(self)
        self._synced = 0.0
        try:
            good = self._replay(path.read_bytes()) if path.exists() else 0
            self._end = good
            # without a buffer, a line that failed halfway can be written again
            self._file = path.open("ab", buffering=0)
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
            try:
                entry = json.loads(text)
                if self.plan is None:
                    if entry.get("format") != FORMAT:
                        break
                    self.identity, self.plan = entry["identity"], Plan(**entry["plan"])
                elif entry.get("look") == "coarse":
                    self.coarse._take(entry)
                else:
                    self._take(entry)
            except (AttributeError, KeyError, TypeError, ValueError):
                # sound, and not of this program
                break
            good += len(line)
        return good

    @property
    def worth_keeping(self) -> bool:
        """Whether a run could go on from here with less work than from the start."""
        return self.begun or self.coarse.begun

    @property
    def done(self) -> Done:
        """What a run that goes on from here need not do again."""
        return Done(
            *(len(self.encoded), self.mixed is not None, len(self.decoded)),
            *(len(self.coarse.encoded), self.coarse.mixed is not None, len(self.coarse.decoded)),
        )

    def begin(self, identity: dict[str, Any], plan: Plan) -> None:
        """Write down what is to be done."""
        self.identity, self.plan = identity, plan
        self._append({"format": FORMAT, "identity": identity, "plan": plan.to_dict()}, sync=True)

    def go_on(self) -> None:
        """Write down that a run goes on from here, and what it does not do again."""
        self._append({"not_repeated": asdict(self.done)}, sync=True)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, entry: dict[str, Any], *, sync: bool = False) -> None:
        text = json.dumps(entry).encode()
        try:
            persist(partial(self._write, text + b"\t" + _check(text) + b"\n"))
            # past this line a kill loses nothing
            if sync or time.monotonic() - self._synced > SYNC_SECONDS:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            raise self._failed(error) from error

    def _write(self, line: bytes) -> None:
        self._file.truncate(self._end)
        if self._file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._end += len(line)

    def _failed(self, error: OSError) -> StorageError:
        return StorageError(
            f"The journal {self._path} cannot be kept ({error.strerror or error}). "
            "Free some space, or name another folder with --scratch."
        )


def _spans(known: Mapping[int, int]) -> list[list[int]]:
    """Return runs of neighbours that hold as much: a scene has up to millions of tiles, most of them full."""
    runs = groupby(enumerate(sorted(known)), key=lambda pair: (pair[1] - pair[0], known[pair[1]]))
    return [[run[0][1], run[-1][1], known[run[0][1]]] for run in (list(pairs) for _, pairs in runs)]


def _told(spans: list[list[int]]) -> dict[int, int]:
    """Undo :func:`_spans`."""
    return {tile: pixels for first, last, pixels in spans for tile in range(first, last + 1)}


def _check(text: bytes) -> bytes:
    return b"%08x" % zlib.crc32(text)
