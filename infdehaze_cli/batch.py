"""Several sources into one folder: names, clashes, and one failure that does not stop the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .api import RunResult, dehaze
from .errors import InfdehazeError, UsageError
from .raster import is_local, redacted

BUG = 1
"""The exit code of an error that is none of ours on purpose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one source: a result, or an error."""

    src: str
    dst: str
    result: RunResult | None = None
    error: str = ""
    exit_code: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return a result's own fields, or what failed and how."""
        if self.result is not None:
            return self.result.to_dict()
        return {"src": redacted(self.src), "dst": redacted(self.dst), "error": self.error, "exit_code": self.exit_code}


def name_outputs(sources: Sequence[str], out_dir: str, *, overwrite: bool) -> list[tuple[str, str]]:
    """Pair each source with its output: the same name in ``out_dir``, with the suffix ``.tif``.

    Parameters
    ----------
    sources
        Paths or URLs.
    out_dir
        An existing folder, or a prefix of an object store such as ``s3://bucket/clean``.

    Raises
    ------
    UsageError
        When the folder is none, two outputs have the same name, or one exists and must not be replaced.
    """
    local = is_local(out_dir)
    if local and not Path(out_dir).is_dir():
        raise UsageError(f"{out_dir} is no folder. Make it first, or give another --out-dir.")
    taken: dict[str, str] = {}
    originals = {file for src in sources if (file := _file(src)) is not None}
    pairs = []
    for src in sources:
        # what follows a question mark in a URL is no part of the name
        name = Path(src).name if is_local(src) else src.split("?")[0].rstrip("/").rpartition("/")[2]
        dst = str(Path(out_dir) / f"{Path(name).stem}.tif") if local else f"{out_dir.rstrip('/')}/{Path(name).stem}.tif"
        # a file system that does not tell cases apart would mix these up
        if (key := dst.casefold()) in taken:
            raise UsageError(
                f"{redacted(taken[key])} and {redacted(src)} would both be written to {redacted(dst)}. "
                "Run them apart, into two folders."
            )
        taken[key] = src
        if _file(dst) in originals:
            raise UsageError(f"{dst} is one of the sources; give another --out-dir.")
        if local and Path(dst).exists() and not overwrite:
            raise UsageError(f"{dst} exists; give --overwrite to replace it.")
        pairs.append((src, dst))
    return pairs


def _file(path: str) -> tuple[int, int] | None:
    """Return what a path leads to, the same for all names of a file; None where there is nothing."""
    try:
        facts = Path(path).stat()
    except (OSError, ValueError):
        return None
    return facts.st_dev, facts.st_ino


def dehaze_each(pairs: Sequence[tuple[str, str]], **options: Any) -> Iterator[Outcome]:
    """Clean one source after the other; see :func:`infdehaze_cli.dehaze` for the options.

    Yields
    ------
    Outcome
        In order. An error ends only its own source; an interruption ends all.
    """
    for src, dst in pairs:
        try:
            yield Outcome(src=src, dst=dst, result=dehaze(src, dst, **options))
        except InfdehazeError as error:
            yield Outcome(src=src, dst=dst, error=str(error), exit_code=error.exit_code)
        except Exception as error:
            yield Outcome(src=src, dst=dst, error=f"a bug of ours: {type(error).__name__}: {error}", exit_code=BUG)
